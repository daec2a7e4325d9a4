"""Users under a platform of a few lines: days, visits and requests in the order of a clock that never waits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from micrec.settings import apply_overrides, merge, validate
from simulator.draws import Draws
from simulator.population.population import Population
from simulator.population.population_config import PopulationConfig
from simulator.population.responses import DayVisits
from tests.simulator.worlds import small_world

Show = Callable[[Population, DayVisits, np.ndarray, np.ndarray, int], np.ndarray]
SIZE = 10


def keys(*overrides: str, **sections: Any) -> PopulationConfig:
    """Default keys with some changed, as ``--set`` would."""
    return validate(PopulationConfig, apply_overrides(merge({}, sections), overrides), where="test")


def population(*overrides: str, world: tuple[str, ...] = ()) -> Population:
    return Population.build(small_world(*world), keys(*overrides))


def anything(of: Population, visits: DayVisits, rows: np.ndarray, now_s: np.ndarray, request: int) -> np.ndarray:
    """Items out by then, each place by chance, keyed by visit and request so that arms see the same."""
    published = of._world.catalogue.published_s
    out = np.flatnonzero(published <= now_s.min())
    return distinct(out, visits.key[rows], request)


def distinct(pool: np.ndarray, key: np.ndarray, request: int, size: int = SIZE) -> np.ndarray:
    """Distinct items of a pool, shape (B, size): an arithmetic walk of random start and stride."""
    start, stride = Draws(5, "slates").two_uniforms(key, request)
    first, step = (start * len(pool)).astype(int), 1 + (stride * (len(pool) // size - 1)).astype(int)
    return pool[(first[:, None] + step[:, None] * np.arange(size)) % len(pool)]


def from_pool(pool: np.ndarray, size: int = SIZE) -> Show:
    """Shows items of ``pool`` only."""
    return lambda of, visits, rows, now_s, request: distinct(pool, visits.key[rows], request, size)


def live(of: Population, days: range | int, show: Show = anything) -> pl.DataFrame:
    """Every impression of some days, one row each; the first visits of the day's users run before their second ones."""
    frames = []
    for day in range(days) if isinstance(days, int) else days:
        visits = of.begin_day(day)
        for ordinal in range(visits.ordinal.max(initial=-1) + 1):
            rows = np.flatnonzero(visits.ordinal == ordinal)
            now_s, request = visits.start_s[rows], 0
            while len(rows):
                slates = show(of, visits, rows, now_s, request)
                done = of.respond(rows, slates, now_s, np.full(len(rows), request))
                frames.append(_frame(day, request, visits, rows, slates, now_s, done))
                stays = ~done.leave
                rows, now_s, request = rows[stays], (now_s + done.busy_s)[stays], request + 1
        of.end_day(day)
    return pl.concat(frames)


def _frame(
    day: int, request: int, visits: DayVisits, rows: np.ndarray, slates: np.ndarray, now_s: np.ndarray, done: Any
) -> pl.DataFrame:
    size = slates.shape[1]
    wide = {"user": visits.user[rows], "visit": rows, "now_s": now_s, "busy_s": done.busy_s, "leave": done.leave}
    columns = {name: np.repeat(values, size) for name, values in wide.items()}
    long = {name: getattr(done, name).ravel() for name in ("examined", "clicked", "dwell_s", "like", "follow", "cause")}
    place = np.tile(np.arange(size), len(rows))
    return pl.DataFrame(
        {"day": day, "request": request, **columns, "place": place, "item": slates.ravel(), **long},
        schema_overrides={"day": pl.Int64, "request": pl.Int64},
    )
