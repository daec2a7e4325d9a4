"""Keys whose moments have no closed form: the world is simulated, and each key moved until its moment fits.

Each key has one moment that it moves most. All are moved together, each by its own secant; that is Broyden's method
with a diagonal matrix, and a few rounds suffice because the cross effects are weak.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from micrec.progress import NoProgress, Progress
from micrec.settings import merge, validate
from simulator.fit.findings import Findings
from simulator.fit.simulate import world_log
from simulator.realism.catalogue_statistics import category_loyalty, item_gini, repeat_share, same_category_next
from simulator.realism.log import Log
from simulator.realism.statistics import Missing
from simulator.world.clicks import build_shelf
from simulator.world.items import make_catalogue
from simulator.world.world import World
from simulator.world.world_config import WorldConfig

ROUNDS = 5
MOST_CLICKS = 400_000  # of a simulated log; larger worlds are scaled down
_MOST_STEP = 0.3  # of a key's range in one round
_TRUST = 8.0  # how far a measured slope may lie from the guess, as a factor


class Dial(NamedTuple):
    """A key that is moved, and the moment that it moves."""

    group: str  # of the statistic: not moved if that is left out
    key: str
    low: float
    high: float
    slope: float  # a first guess of how the moment answers
    moment: Callable[[Log], float]
    source: str


def _category_concentration(log: Log) -> float:
    """Root of the chance that two clicks are of one category."""
    if log.category is None or not (log.category > 0).any():
        raise Missing("no category")
    counts = np.bincount(log.category[log.item])[1:]
    return float(np.sqrt(((counts / max(counts.sum(), 1)) ** 2).sum()))


def _first(statistic: Callable[[Log], Any]) -> Callable[[Log], float]:
    return lambda log: float(statistic(log)[0])


DIALS = (
    Dial("popularity", "items.popularity_exponent", 0.0, 1.9, 0.5, _first(item_gini), "Gini of clicks over items"),
    Dial(
        "repetition",
        "choice.repeat",
        0.0,
        0.9,
        0.8,
        _first(repeat_share),
        "share of clicks on what the user clicked before",
    ),
    Dial(
        "items",
        "taste.category_exponent",
        0.0,
        3.0,
        0.15,
        _category_concentration,
        "concentration of clicks over categories",
    ),
    Dial(
        "repetition",
        "choice.taste",
        0.05,
        0.95,
        0.4,
        _first(category_loyalty),
        "category of a user's clicks in different sessions",
    ),
    Dial(
        "co_clicks",
        "sessions.focus",
        0.0,
        1.0,
        0.3,
        _first(same_category_next),
        "steps within sessions that stay in the category",
    ),
)


class Round(NamedTuple):
    """One simulation of a refinement."""

    values: list[float]  # of the keys
    moments: list[float]  # that they gave
    error: float  # sum of squared relative differences, each 0 … 4


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
    dials = _readable(real, findings, without)
    if not dials:
        return []
    expected = base.users.count * base.sessions.per_user * base.sessions.clicks
    share = min(1.0, MOST_CLICKS / expected)
    config = with_keys(base, {"users.count": max(1, round(base.users.count * share))})
    real = real.thinned(config.users.count)
    targets = [dial.moment(real) for dial in dials]
    x = np.array([float(np.clip(_get(config, dial.key), dial.low, dial.high)) for dial in dials])
    slopes = np.array([dial.slope for dial in dials])
    world: World | None = None
    rounds: list[Round] = []
    progress.start("fit", ROUNDS, "rounds")
    for _ in range(ROUNDS):
        tried = with_keys(config, dict(zip((dial.key for dial in dials), map(float, x), strict=True)))
        world = World.build(tried) if world is None else _rebuilt(world, tried)
        log = world_log(world)
        moments = [dial.moment(log) for dial in dials]
        error = sum(_error(got, want) for got, want in zip(moments, targets, strict=True))
        rounds.append(Round(list(map(float, x)), moments, float(error)))
        progress.advance(1, f"error {error:.4f}")
        if len(rounds) > 1:
            slopes = _secants(rounds[-2], rounds[-1], slopes, dials)
        step = (np.array(targets) - np.array(moments)) / slopes
        most = np.array([_MOST_STEP * (dial.high - dial.low) for dial in dials])
        x = np.clip(x + np.clip(step, -most, most), [d.low for d in dials], [d.high for d in dials])
    progress.finish()
    best = min(rounds, key=lambda r: r.error)
    for dial, value, got, want in zip(dials, best.values, best.moments, targets, strict=True):
        findings.set(dial.key, round(value, 4), f"simulated: {dial.source}: {got:.4f}, real {want:.4f}")
    _set_choice(base, findings)
    return rounds


def with_keys(config: WorldConfig, keys: dict[str, Any]) -> WorldConfig:
    """The world with dotted keys changed; the other choice shares make room for ``choice.taste`` and ``repeat``.

    Raises:
        MicrecError: If the keys do not fit together.
    """
    changes = Findings()
    for key, value in keys.items():
        changes.set(key, value, "")
    given = {name: keys[f"choice.{name}"] for name in _MOVED if f"choice.{name}" in keys}
    if given:
        for name, share in _choice(config, given).items():
            changes.set(f"choice.{name}", share, "")
    return validate(WorldConfig, merge(config.model_dump(mode="json"), changes.nested()), where="fit")


_MOVED = ("taste", "repeat")


def _choice(config: WorldConfig, given: dict[str, float]) -> dict[str, float]:
    """All choice shares: those given, at most 1 together, and the others in the proportions they have."""
    names = ("taste", "popular", "fresh", "similar", "repeat")
    total = sum(given.values())
    shares = {name: share / max(1.0, total) for name, share in given.items()}
    rest = {name: float(getattr(config.choice, name)) for name in names if name not in shares}
    scale = (1.0 - sum(shares.values())) / sum(rest.values()) if sum(rest.values()) else 0.0
    return shares | {name: share * scale for name, share in rest.items()}


def _set_choice(base: WorldConfig, findings: Findings) -> None:
    """Write the choice shares that were moved, and those that made room, so that they sum to 1 as written."""
    given = {name: findings.found[f"choice.{name}"].value for name in _MOVED if f"choice.{name}" in findings.found}
    if not given:
        return
    for name, share in _choice(base, given).items():
        old = findings.found.get(f"choice.{name}")
        source = old.source if old and name in given else "makes room in the base's proportions; not identifiable"
        findings.set(f"choice.{name}", round(share, 7), source)


def _readable(real: Log, findings: Findings, without: tuple[str, ...]) -> list[Dial]:
    dials = []
    for dial in DIALS:
        if dial.group in without:
            findings.keep(f"{dial.group} left out", dial.key)
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


def _secants(before: Round, after: Round, slopes: np.ndarray, dials: list[Dial]) -> np.ndarray:
    """The slopes measured between two rounds, where a key moved enough, near the guess."""
    moved = np.array(after.values) - np.array(before.values)
    answered = np.array(after.moments) - np.array(before.moments)
    guess = np.array([dial.slope for dial in dials])
    measured = np.where(np.abs(moved) > 1e-3, answered / np.where(moved == 0.0, 1.0, moved), slopes)
    return np.clip(measured, guess / _TRUST, guess * _TRUST)


def _error(got: float, want: float) -> float:
    return (2.0 * (got - want) / (got + want)) ** 2 if got + want > 0 else 0.0


def _get(config: WorldConfig, key: str) -> float:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return float(value)
