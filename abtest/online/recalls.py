"""Link recall of the models that served, and how many clicks links made: by variant and arm, over replications."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from abtest.online.experiment import Replication
from abtest.online.links import CUTOFF
from abtest.online.simulate import EXPERIMENT
from abtest.online.study import TONES, dose
from abtest.report.figures import Lines, Series
from abtest.report.sections import Block, Section
from abtest.report.tables import Table
from abtest.stats.mean_interval import mean_interval


class Recall(NamedTuple):
    """A model of one arm in one variant, over replications.

    Attributes:
        variant: Its name.
        arm: Label of the arm.
        channel: The model's channel.
        recalls: Link recall in each replication.
        chance: Mean chance level.
        link_clicks: Mean share of the arm's clicks that links made, None where there are no clicks.
        own_clicks: Mean share of the arm's clicks that came through the channel.
    """

    variant: str
    arm: str
    channel: str
    recalls: tuple[float, ...]
    chance: float
    link_clicks: float | None
    own_clicks: float | None


def recalls_of(found: Sequence[Replication]) -> list[Recall]:
    """Every model: from the world where everybody is in its arm, else from the experiment."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for one in found:
        for arm, spec in one.scenario.arms.items():
            facts = one.facts.get(arm) or one.facts.get(EXPERIMENT) or {}
            causes = {row["cause"]: row["len"] for row in facts.get("causes", ()) if row["arm"] == arm}
            clicks = {row["channel"]: row["clicks"] or 0 for row in facts.get("channels", ()) if row["arm"] == arm}
            for row in facts.get("link_recall", ()):
                if row["arm"] == arm:
                    linked = causes.get("link", 0) / sum(causes.values()) if causes else None
                    own = clicks.get(row["channel"], 0) / sum(clicks.values()) if sum(clicks.values()) else None
                    key = (one.variant, spec.label, row["channel"])
                    groups.setdefault(key, []).append({**row, "linked": linked, "own": own})
    return [
        Recall(
            *key,
            tuple(row["recall"] for row in rows),
            float(np.mean([row["chance"] for row in rows])),
            _mean([row["linked"] for row in rows]),
            _mean([row["own"] for row in rows]),
        )
        for key, rows in groups.items()
    ]


def recall_section(recalls: Sequence[Recall], alpha: float, *, doses: bool) -> Section:
    """Table, and a figure over doses."""
    blocks: list[Block] = [_figure(recalls, alpha)] if doses else []
    level = f"{100 * (1 - alpha):.4g} %"
    rows = []
    for one in recalls:
        ci = mean_interval(one.recalls, alpha)
        interval = "" if ci is None else f" [{ci[0]:.4f}, {ci[1]:.4f}]"
        rows.append(
            (
                *one[:3],
                f"{np.mean(one.recalls):.4f}{interval}",
                f"{one.chance:.4f}",
                f"{np.mean(one.recalls) / one.chance:.2f}" if one.chance else "–",
                _share(one.link_clicks),
                _share(one.own_clicks),
            )
        )
    header = (
        *("variant", "arm", "channel", f"link recall@{CUTOFF} [{level}]", "chance", "times chance"),
        *("clicks by links", "clicks through the channel"),
    )
    text = (
        "Of the items that a planted link points to from an item, those among its nearest in the model that served on "
        f"the last day: the {CUTOFF} nearest of other categories, where all of them are. No trainer sees the links.",
    )
    return Section("Link recall", text, [*blocks, Table("Models on the last day", header, rows, [])])


def _figure(recalls: Sequence[Recall], alpha: float) -> Lines:
    arms = list(dict.fromkeys(one.arm for one in recalls))
    series = []
    for place, arm in enumerate(arms):
        own = sorted((one for one in recalls if one.arm == arm), key=lambda one: dose(one.variant))
        at = [dose(one.variant) for one in own]
        times = [float(np.mean(one.recalls)) / one.chance if one.chance else None for one in own]
        series.append(Series(arm, at, times, tone=TONES[place % len(TONES)]))
    key = recalls[0].variant.rsplit(" ", 1)[0]
    return Lines("Link recall by dose", key, "times chance", series, y_percent=False, level=(1.0, "chance"))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
