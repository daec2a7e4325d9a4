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
from simulator.fit.findings import Findings
from simulator.fit.simulate import world_log
from simulator.fit.structure_moments import (
    comes_back,
    dealt_repeats,
    drift_at_last,
    drift_midway,
    drift_soon,
    first_clicks,
    hardly_clicked,
    kept_together,
    linked,
    once_a_session,
    own_repeats,
    top_share,
)
from simulator.fit.world_keys import SHARES, shares_beside, value_of, with_keys
from simulator.realism.catalogue_statistics import category_loyalty, same_category_next
from simulator.realism.log import Log
from simulator.realism.statistics import Missing
from simulator.world.clicks import build_shelf
from simulator.world.items import make_catalogue
from simulator.world.world import World
from simulator.world.world_config import WorldConfig

Floats = NDArray[np.float64]

ROUNDS = 10  # beside one for each key
ONCE_A_SESSION = 0.05  # share of clicks that repeat one of their session below which none is taken to
LEAST_REPEATS, ONCE = 50, 0.02  # repeats that chance must bring; share of them below which users click once
MOST_CLICKS = 60_000  # of a simulated log; larger worlds are scaled down
_MOST_STEP = 0.15  # of a key's range in one round
_MOST_OFF = 2.0  # of a relative difference, when rounds are compared
_LEAST_MOMENT = 0.02  # differences count relative to the real moment, or to this or to chance where that is smaller
_NOISE_DRAWS = 2  # worlds that say how much a moment varies by chance
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
    of: str = ""  # key that low and high are shares of


def _category_concentration(log: Log) -> float:
    """Root of the chance that two clicks are of one category."""
    if log.category is None or not (log.category > 0).any():
        raise Missing("no category")
    counts = np.bincount(log.category[log.item])[1:]
    return float(np.sqrt(((counts / max(counts.sum(), 1)) ** 2).sum()))


def _own_taste(log: Log) -> float:
    """How much more often a user's clicks in different sessions are of one category than those of different users.

    Clicks on what the user clicked before are left out: they tell of single items, not of a taste for the category.
    Without categories: steps from one session to the next that others made.
    """
    if log.category is None:
        return comes_back(log)
    first = first_clicks(log)
    return float(category_loyalty(first)[0]) - _category_concentration(first) ** 2


def _first(statistic: Callable[[Log], Any]) -> Callable[[Log], float]:
    return lambda log: float(statistic(log)[0])


def _no_fading(base: WorldConfig) -> str:
    if base.items.new_share == 0.0:
        return "no item appears within the log, so none is seen to fade"
    seasons = base.items.seasons
    returns = seasons.share > 0.0 and seasons.every_days < base.days
    return "popularity comes back within the log, so that its drift is that of seasons" if returns else ""


def _no_repeats(base: WorldConfig) -> str:
    return "users click an item once at most" if base.choice.once == "log" else ""


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
        drift_at_last,
        "drift: how much rarer users meet on an item nine tenths of the log apart",
        _no_fading,
    ),
    Dial(
        "popularity",
        "items.seasons.share",
        0.0,
        1.0,
        drift_midway,
        "drift: how much rarer users meet on an item half the log apart",
    ),
    Dial(
        "popularity",
        "items.seasons.days",
        0.02,
        0.6,
        drift_soon,
        "drift: how much rarer users meet on an item a twentieth to an eighth of the log apart",
        of="items.seasons.every_days",
    ),
    Dial(
        "repetition",
        "choice.repeat",
        0.0,
        0.9,
        own_repeats,
        "share of clicks on what the user clicked in an earlier session, beyond what popularity repeats",
        _no_repeats,
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
        "how often a user's clicks in different sessions, each item once, are of one category, beyond those of "
        "different users; without categories: steps from one session to the next that others made",
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


def fit_once(log: Log, base: WorldConfig, findings: Findings) -> WorldConfig:
    """Set within what users click an item once at most.

    Returns:
        The base, in which other shares of choice make room if nothing is repeated.
    """
    repeats, chance = float(log.repeated.mean()), dealt_repeats(log)
    told = f"{repeats:.2%} of the clicks repeat one of the user's; {chance:.2%} would by popularity alone"
    if chance * len(log) >= LEAST_REPEATS and repeats < ONCE * chance:
        findings.set("choice.once", "log", told)
        findings.set("choice.repeat", 0.0, "users click an item once at most")
        return with_keys(base, {"choice.once": "log", "choice.repeat": 0.0})
    within = 1.0 - len(once_a_session(log)) / len(log)
    told += f"; {within:.2%} one of the same session"
    findings.set("choice.once", "session" if within < ONCE_A_SESSION else "none", told)
    return base


class Round(NamedTuple):
    """One simulation of a refinement."""

    values: list[float]  # of the keys
    moments: list[float]  # that they gave
    error: float  # sum of squared differences, relative to the real moments


class _Search:
    """Where to look next: all in shares of the keys' ranges and relative differences of the moments."""

    def __init__(self, dials: list[Dial], targets: Floats, noise: Floats, x: Floats) -> None:
        self._low = np.array([dial.low for dial in dials])
        self._range = np.array([dial.high for dial in dials]) - self._low
        self._targets = targets
        self._unit = np.maximum(np.maximum(np.abs(targets), _LEAST_MOMENT), 2.0 * noise)
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
    x = np.array([float(np.clip(value_of(config, dial.key), dial.low, dial.high)) for dial in dials])
    search = _Search(dials, targets, _noise(dials, config), x)
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


def _noise(dials: list[Dial], config: WorldConfig) -> Floats:
    """Standard deviation of each moment between draws of a world."""
    draws = []
    for number in range(_NOISE_DRAWS):
        log = world_log(World.build(with_keys(config, {"seed": number + 1})))
        draws.append([dial.moment(log) for dial in dials])
    noise: Floats = np.std(draws, axis=0, ddof=1)
    return noise


def _set_shares(base: WorldConfig, findings: Findings) -> None:
    """Write the shares that were moved, and those that made room, so that they sum to 1 as written."""
    found = {key: finding.value for key, finding in findings.found.items()}
    for group in SHARES:
        for key, share in shares_beside(base, group, found).items():
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
        unit = value_of(base, dial.of) if dial.of else 1.0
        dials.append(dial._replace(low=dial.low * unit, high=dial.high * unit))
    return dials


def _rebuilt(world: World, config: WorldConfig) -> World:
    """The same world with keys changed that move neither visits nor the number of items: they keep their rate."""
    days = max(config.days, config.window_days)
    catalogue = make_catalogue(config.model_copy(update={"days": days}))
    return dataclasses.replace(world, config=config, catalogue=catalogue, shelf=build_shelf(config, catalogue, days))
