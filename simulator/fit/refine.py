"""Keys whose moments have no closed form: the world is simulated, and each key moved until its moment fits.

Each key has one moment that it moves most. How all moments answer to each key is measured first, one key at a time;
then all are moved together by damped steps (Levenberg 1944, Marquardt 1963), and what each round shows corrects the
matrix (Broyden 1965). Worlds of the same seed draw the same numbers, so that small differences are no noise.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.progress import NoProgress, Progress
from micrec.settings import merge, validate
from simulator.fit.findings import Findings
from simulator.fit.simulate import world_log
from simulator.fit.structure_moments import (
    comes_back,
    hardly_clicked,
    kept_together,
    linked,
    own_repeats,
    popularity_drift,
    top_share,
)
from simulator.realism.catalogue_statistics import category_loyalty, same_category_next
from simulator.realism.log import Log
from simulator.realism.statistics import Missing
from simulator.world.clicks import build_shelf
from simulator.world.items import make_catalogue
from simulator.world.world import World
from simulator.world.world_config import WorldConfig

Floats = NDArray[np.float64]

ROUNDS = 10  # beside one for each key
MOST_CLICKS = 250_000  # of a simulated log; larger worlds are scaled down
_MOST_STEP = 0.25  # of a key's range in one round
_MOST_OFF = 2.0  # of a relative difference, when rounds are compared
_LEAST_MOMENT = 0.02  # differences count relative to the real moment, or to this where that is smaller
_PROBE = 0.1  # of a key's range, when its effect is measured
_DAMPING = 0.1  # of the first step: squared relative differences that a step over a key's whole range costs


class Dial(NamedTuple):
    """A key that is moved, and the moment that it moves."""

    group: str  # of the statistic: not moved if that is left out
    key: str
    low: float
    high: float
    moment: Callable[[Log], float]
    source: str
    idle: Callable[[WorldConfig], str] = lambda base: ""  # why the key moves nothing in such a world; "" = it does


def _category_concentration(log: Log) -> float:
    """Root of the chance that two clicks are of one category."""
    if log.category is None or not (log.category > 0).any():
        raise Missing("no category")
    counts = np.bincount(log.category[log.item])[1:]
    return float(np.sqrt(((counts / max(counts.sum(), 1)) ** 2).sum()))


def _own_taste(log: Log) -> float:
    """How much more often a user's clicks in different sessions are of one category than those of different users.

    Without categories: steps from one session to the next that others made.
    """
    if log.category is None:
        return comes_back(log)
    return float(category_loyalty(log)[0]) - _category_concentration(log) ** 2


def _first(statistic: Callable[[Log], Any]) -> Callable[[Log], float]:
    return lambda log: float(statistic(log)[0])


def _no_fading(base: WorldConfig) -> str:
    return "" if base.items.new_share > 0 else "no item appears within the log, so none is seen to fade"


def _no_links(base: WorldConfig) -> str:
    return "" if base.links.density > 0 else "the base has no links"


def _no_topics(base: WorldConfig) -> str:
    return "" if base.items.topics > 1 else "too few items in a subcategory for topics"


DIALS = (
    Dial(
        "popularity",
        "items.popularity_exponent",
        0.0,
        1.9,
        top_share,
        "share of the clicks on the most clicked hundredth of the items",
    ),
    Dial(
        "popularity",
        "items.rare_share",
        0.0,
        0.95,
        hardly_clicked,
        "share of items with fewer clicks than a tenth of the mean",
    ),
    Dial(
        "popularity",
        "items.evergreen_share",
        0.0,
        1.0,
        popularity_drift,
        "drift: how much rarer users meet on an item half the log apart",
        _no_fading,
    ),
    Dial(
        "repetition",
        "choice.repeat",
        0.0,
        0.9,
        own_repeats,
        "share of clicks on what the user clicked before, beyond what popularity repeats",
    ),
    Dial(
        "items",
        "taste.category_exponent",
        0.0,
        3.0,
        _category_concentration,
        "concentration of clicks over categories",
    ),
    Dial(
        "repetition",
        "choice.taste",
        0.0,
        0.95,
        _own_taste,
        "how often a user's clicks in different sessions are of one category, beyond those of different users; without "
        "categories: steps from one session to the next that others made",
    ),
    Dial(
        "repetition",
        "taste.depth.topic",
        0.0,
        1.0,
        comes_back,
        "steps from one session to the next that others made, beyond popularity and category",
        _no_topics,
    ),
    Dial(
        "co_clicks",
        "sessions.focus",
        0.0,
        1.0,
        _first(same_category_next),
        "steps within sessions that stay in the category",
    ),
    Dial(
        "co_clicks",
        "choice.similar",
        0.0,
        0.95,
        kept_together,
        "steps within a session and category that others made, beyond popularity",
    ),
    Dial(
        "co_clicks",
        "links.strength",
        0.0,
        0.9,
        linked,
        "steps within a session to another category that others made, beyond popularity",
        _no_links,
    ),
)


class Round(NamedTuple):
    """One simulation of a refinement."""

    values: list[float]  # of the keys
    moments: list[float]  # that they gave
    error: float  # sum of squared differences, relative to the real moments


class _Search:
    """Where to look next: all in shares of the keys' ranges and relative differences of the moments."""

    def __init__(self, dials: list[Dial], targets: Floats, x: Floats) -> None:
        self._low = np.array([dial.low for dial in dials])
        self._range = np.array([dial.high for dial in dials]) - self._low
        self._targets = targets
        self._unit = np.maximum(np.abs(targets), _LEAST_MOMENT)
        self._matrix = np.zeros((len(dials), len(dials)))
        self._damping = _DAMPING
        self._start = (x - self._low) / self._range
        self._from: tuple[Floats, Floats] | None = None
        self._best: tuple[float, Floats, Floats] = (np.inf, np.empty(0), np.empty(0))

    def probes(self) -> Iterator[Floats]:
        """The keys to start from, then each key a little away, all others as they were."""
        yield self._keys(self._start)
        for key, at in enumerate(self._start):
            place = self._start.copy()
            place[key] += -_PROBE if at > 0.5 else _PROBE
            yield self._keys(place)

    def learn(self, x: Floats, moments: Floats, *, probe: bool) -> Round:
        """A round: keys x gave the moments; it is compared with the start if it is a probe, else with the last."""
        place, off = (x - self._low) / self._range, (moments - self._targets) / self._unit
        if self._from is not None:
            moved = place - self._from[0]
            surprise = off - self._from[1] - self._matrix @ moved
            if (length := float(moved @ moved)) > 1e-12:
                self._matrix += np.outer(surprise, moved) / length
        error = float((np.minimum(np.abs(off), _MOST_OFF) ** 2).sum())
        better = error < self._best[0]
        if better:
            self._best = (error, place, off)
        if not probe:
            self._damping *= 0.4 if better else 3.0
        if not probe or self._from is None:
            self._from = (place, off)
        return Round(list(map(float, x)), list(map(float, moments)), error)

    def next(self) -> Floats:
        """The keys of the next round: a damped step from the best so far, within the ranges."""
        from scipy.optimize import lsq_linear

        _, place, off = self._best
        damped = np.vstack([self._matrix, np.sqrt(self._damping) * np.eye(len(place))])
        low, high = np.maximum(-place, -_MOST_STEP), np.minimum(1.0 - place, _MOST_STEP)
        step = lsq_linear(damped, np.append(-off, np.zeros(len(place))), (low, np.maximum(high, low + 1e-9))).x
        return self._keys(place + step)

    def _keys(self, place: Floats) -> Floats:
        result: Floats = self._low + np.clip(place, 0.0, 1.0) * self._range
        return result


def refine(
    real: Log, base: WorldConfig, findings: Findings, without: tuple[str, ...] = (), progress: Progress | None = None
) -> list[Round]:
    """Move the dials until their moments are those of the real log, and set them in ``findings``.

    Args:
        real: The log to match.
        base: The world with everything in closed form already set.
        findings: Where to set the keys; those of dials that cannot be read in the real log are kept.
        without: Groups of statistics left out.
        progress: Where to report.

    Returns:
        Every round, for tests and reports.
    """
    progress = progress or NoProgress()
    dials = _readable(real, base, findings, without)
    if not dials:
        return []
    expected = base.users.count * base.sessions.per_user * base.sessions.clicks
    share = min(1.0, MOST_CLICKS / expected)
    config = with_keys(base, {"users.count": max(1, round(base.users.count * share))})
    real = real.thinned(config.users.count)
    targets = np.array([dial.moment(real) for dial in dials])
    x = np.array([float(np.clip(_get(config, dial.key), dial.low, dial.high)) for dial in dials])
    search = _Search(dials, targets, x)
    world: World | None = None
    rounds: list[Round] = []

    def simulate(x: Floats, *, probe: bool) -> None:
        nonlocal world
        tried = with_keys(config, dict(zip((dial.key for dial in dials), map(float, x), strict=True)))
        world = World.build(tried) if world is None else _rebuilt(world, tried)
        log = world_log(world)
        rounds.append(search.learn(x, np.array([dial.moment(log) for dial in dials]), probe=probe))
        progress.advance(1, f"error {rounds[-1].error:.4f}")

    progress.start("fit", 1 + len(dials) + ROUNDS, "rounds")
    for x in search.probes():
        simulate(x, probe=True)
    for _ in range(ROUNDS):
        simulate(search.next(), probe=False)
    progress.finish()
    best = min(rounds, key=lambda r: r.error)
    for dial, value, got, want in zip(dials, best.values, best.moments, targets, strict=True):
        findings.set(dial.key, round(value, 4), f"simulated: {dial.source}: {got:.4f}, real {want:.4f}")
    _set_shares(base, findings)
    return rounds


def with_keys(config: WorldConfig, keys: dict[str, Any]) -> WorldConfig:
    """The world with dotted keys changed; the other shares of choice and depth make room for those that are given.

    Raises:
        MicrecError: If the keys do not fit together.
    """
    changes = Findings()
    for key, value in keys.items():
        changes.set(key, value, "")
    for group in _SHARES:
        for key, share in _shares(config, group, keys).items():
            changes.set(key, share, "")
    return validate(WorldConfig, merge(config.model_dump(mode="json"), changes.nested()), where="fit")


_SHARES = {
    "choice": ("taste", "popular", "fresh", "similar", "repeat"),
    "taste.depth": ("category", "subcategory", "topic", "item"),
}  # keys that sum to 1


def _shares(config: WorldConfig, group: str, keys: dict[str, Any]) -> dict[str, float]:
    """All shares of a group: those given, at most 1 together, and the others in the proportions they have.

    Empty if none is given. If the others are all 0 they share alike what is left.
    """
    names = [f"{group}.{name}" for name in _SHARES[group]]
    given = {name: float(keys[name]) for name in names if name in keys}
    if not given:
        return {}
    total = sum(given.values())
    shares = {name: share / max(1.0, total) for name, share in given.items()}
    rest = {name: _get(config, name) for name in names if name not in shares}
    if rest and not sum(rest.values()):
        rest = dict.fromkeys(rest, 1.0)
    scale = (1.0 - sum(shares.values())) / sum(rest.values()) if rest else 0.0
    return shares | {name: share * scale for name, share in rest.items()}


def _set_shares(base: WorldConfig, findings: Findings) -> None:
    """Write the shares that were moved, and those that made room, so that they sum to 1 as written."""
    found = {key: finding.value for key, finding in findings.found.items()}
    for group in _SHARES:
        for key, share in _shares(base, group, found).items():
            room = "makes room in the base's proportions; not identifiable"
            findings.set(key, round(share, 7), findings.found[key].source if key in findings.found else room)


def _readable(real: Log, base: WorldConfig, findings: Findings, without: tuple[str, ...]) -> list[Dial]:
    dials = []
    for dial in DIALS:
        if dial.group in without:
            findings.keep(f"{dial.group} left out", dial.key)
            continue
        if reason := dial.idle(base):
            findings.keep(reason, dial.key)
            continue
        try:
            dial.moment(real)
        except Missing as missing:
            findings.keep(str(missing), dial.key)
            continue
        dials.append(dial)
    return dials


def _rebuilt(world: World, config: WorldConfig) -> World:
    """The same world with keys changed that move neither visits nor the number of items: they keep their rate."""
    days = max(config.days, config.window_days)
    catalogue = make_catalogue(config.model_copy(update={"days": days}))
    return dataclasses.replace(world, config=config, catalogue=catalogue, shelf=build_shelf(config, catalogue, days))


def _get(config: WorldConfig, key: str) -> float:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return float(value)
