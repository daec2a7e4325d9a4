"""What titles, tags and providers tell, and what clicks of one session tell of each other, as ``micrec headroom`` does.

Each signal of the log is one figure: how often a later click is nearer to the user's earlier ones than an item of like
popularity and coarser level that the user never clicked (.5 = chance). The dials of ``signals`` are moved, all at once
since each moves its own figure alone, until the world's figures are those of the log.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from micrec.config import SessionsConfig, SplitConfig
from micrec.data.dataset import Dataset
from micrec.data.store import dataset_of_frames
from micrec.errors import MicrecError
from micrec.progress import NoProgress, Progress
from micrec.signals.headroom_result import measure
from simulator.fit.findings import Findings
from simulator.fit.world_keys import with_keys
from simulator.realism.log import keyed_share
from simulator.world.in_memory import draw_world
from simulator.world.item_table import dataset_schema, item_frame, published_items
from simulator.world.world_config import WorldConfig

MOST_CLICKS = 40_000  # of a trial world
ROUNDS = 3  # halvings of each dial's range, after its two ends
CHANCE = 0.5
LEAST_RISE = 0.005  # of the figure from dial 0 to 1, for the dial to be told from it


class _Carrier(NamedTuple):
    """A dial of ``signals`` with its column in a world and in the log."""

    dial: str
    column: str  # of a world
    of_log: str | None  # name of the signal in the log; None = the log has none


def fit_signals(dataset: Dataset, config: WorldConfig, findings: Findings, progress: Progress | None = None) -> None:
    """Set the dials of ``signals`` whose carrier the log has; call it when all other keys are set.

    Args:
        dataset: The dataset of the log.
        config: The world with every other key set.
        findings: Where to set the dials.
        progress: Where to report.
    """
    progress = progress or NoProgress()
    known = [one for one in _carriers(dataset) if one.of_log is not None]
    for one in _carriers(dataset):
        if one.of_log is None:
            findings.keep(f"the log has no {one.column}", f"signals.{one.dial}")
    if config.items.topics == 1:
        findings.keep("the world has no topics for them to tell", *(f"signals.{one.dial}" for one in known))
        return
    trial = _Trial(config, dataset)
    try:
        wanted = _figures(trial.log)
    except MicrecError as fault:
        findings.keep(f"not measured ({fault})", *(f"signals.{one.dial}" for one in known))
        return
    known = [one for one in known if one.of_log in wanted]
    progress.start("signals", 2 + ROUNDS, "worlds")
    low, high = dict.fromkeys((one.dial for one in known), 0.0), dict.fromkeys((one.dial for one in known), 1.0)
    ends = [trial.figures(low, progress), trial.figures(high, progress)]
    found: dict[str, tuple[float, float]] = {}
    for _ in range(ROUNDS):
        middle = {name: 0.5 * (low[name] + high[name]) for name in low}
        figures = trial.figures(middle, progress)
        for one in known:
            if one.column not in figures:
                continue
            found[one.dial] = (middle[one.dial], figures[one.column])
            (low if figures[one.column] < wanted[one.of_log or ""] else high)[one.dial] = middle[one.dial]
    progress.finish()
    for one in known:
        key = f"signals.{one.dial}"
        target, at = wanted[one.of_log or ""], [figures.get(one.column, CHANCE) for figures in ends]
        if at[1] - at[0] < LEAST_RISE:
            findings.keep(
                f"{one.of_log}: the dial moves what micrec headroom measures by less than {LEAST_RISE:g}", key
            )
            continue
        dial, figure = found.get(one.dial, (0.0, at[0]))
        if target <= at[0]:
            dial, figure = 0.0, at[0]
        elif target >= at[1]:
            dial, figure = 1.0, at[1]
        source = (
            f"{one.of_log}: nearness to later clicks as micrec headroom measures it: {figure:.3f}, real {target:.3f}"
        )
        findings.set(key, round(dial, 4), source)


def _carriers(dataset: Dataset) -> list[_Carrier]:
    """What the log has for each dial."""
    roles, items = dataset.schema.roles, dataset.items.columns
    provider = next((name for name, column in items.items() if column.type.value == "id"), None)
    return [
        _Carrier("titles", "titles", "titles" if roles.title else None),
        _Carrier("tags", "tags", roles.taxonomy),
        _Carrier("provider", "provider", provider),
        _Carrier("sessions", "sessions", "sessions"),
    ]


def _figures(dataset: Dataset) -> dict[str, float]:
    """Nearness of each signal; those that could not be measured are left out."""
    found = measure(dataset, SplitConfig(), SessionsConfig())
    figures = {one.name: one.everything.auc for one in found.signals}
    return {name: auc for name, auc in figures.items() if auc == auc}


class _Trial:
    """The log and worlds with other dials, of as many users each."""

    def __init__(self, config: WorldConfig, log: Dataset) -> None:
        expected = config.users.count * config.sessions.per_user * config.sessions.clicks
        share = min(1.0, MOST_CLICKS / expected)
        users = max(1, round(config.users.count * share))
        keep = keyed_share(np.arange(len(log.users)), "fit signals") < share
        self.log = dataclasses.replace(log, clicks=log.clicks[keep[log.clicks.user_ids]])
        self._config = with_keys(config, {"users.count": users})
        self._hidden = [] if log.schema.roles.category else ["category", "subcategory"]

    def figures(self, dials: dict[str, float], progress: Progress) -> dict[str, float]:
        """Nearness of each signal at the given dials."""
        config = with_keys(self._config, {f"signals.{name}": value for name, value in dials.items()})
        drawn = draw_world(config)
        items = item_frame(config, drawn.world.catalogue).head(published_items(config))
        schema = dataset_schema(config)
        if self._hidden:  # the log has no categories: its signals are measured beyond popularity alone
            items = items.drop(self._hidden)
            kinds = {name: kind for name, kind in schema.items.items() if name not in self._hidden}
            roles = schema.roles.model_copy(update={"category": None})
            schema = schema.model_copy(update={"items": kinds, "roles": roles})
        progress.advance(1)
        try:
            return _figures(dataset_of_frames(schema, drawn.users, items, drawn.clicks))
        except MicrecError:
            return {}
