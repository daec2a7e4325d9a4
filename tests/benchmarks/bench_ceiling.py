"""How near is the ceiling's closed form to a million sessions of the generator, and what do its lists lose?

For ten users of a small world with links, topics, favourites and staples: Pearson's test of the first clicks, for which
the closed form is exact; total variation of all clicks from their expectation, beside the noise of the draws; and the
clicks that lists of N hold, as a share of those of the best lists in hindsight.

    python tests/benchmarks/bench_ceiling.py                       # 100,000 sessions a user, a minute on one core
    python tests/benchmarks/bench_ceiling.py --sessions 20000 --clicks 10
"""

import argparse
import dataclasses
import time

import numpy as np
from scipy.stats import chisquare

from micrec.settings import validate
from simulator.ceiling.expected_clicks import expected_clicks
from simulator.ceiling.known_users import KnownUsers
from simulator.ceiling.world_period import session_model
from simulator.world.clicks import ClickDraws
from simulator.world.users import UserDraws
from simulator.world.visits import Visits
from simulator.world.world import World
from simulator.world.world_config import WorldConfig

TIME_S = 301 * 3_600.0


def world(clicks: float) -> World:
    keys = {
        "users": {"count": 1_500},
        "items": {"count": 800, "categories": 8, "subcategories": 2, "groups": 3, "topics": 3},
        "sessions": {"per_user": 4.0, "clicks": clicks},
        "taste": {"depth": {"category": 0.1, "subcategory": 0.3, "topic": 0.4, "item": 0.2}},
        "links": {"strength": 0.5, "density": 0.5, "targets": 2},
    }
    return World.build(validate(WorldConfig, keys, where="benchmark"))


def drawn(of: World, users: np.ndarray, sessions: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Clicks and first clicks of each user on each item, shape (users, items)."""
    draws = UserDraws(of.config)
    habits = draws.habits(users)
    click_draws = ClickDraws(of.config, of.catalogue, of.shelf, draws)
    row = np.repeat(np.arange(len(users)), sessions)
    visits = Visits(row, np.full(len(row), TIME_S), np.tile(first + np.arange(sessions), len(users)))
    started = click_draws.sessions(users, visits, habits, of.config.days)
    clicks = click_draws.draw(users, started, habits)
    opens = np.cumsum(started.length) - started.length
    shape, size = (len(users), len(of.catalogue)), len(users) * len(of.catalogue)
    place = row[clicks.session] * len(of.catalogue) + clicks.item
    return tuple(np.bincount(at, minlength=size).reshape(shape) for at in (place, place[opens]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--clicks", type=float, default=5.0)
    arguments = parser.parse_args()
    of, users = world(arguments.clicks), np.arange(10)
    started_s = time.perf_counter()
    half = arguments.sessions // 2
    (first, opening), (second, opening_2) = (drawn(of, users, half, 1_000 + start) for start in (0, half))
    counts, openings = first + second, opening + opening_2
    print(f"{2 * half * len(users):,} sessions, {counts.sum():,} clicks, {time.perf_counter() - started_s:.0f} s")
    model = session_model(of.config, of.catalogue, np.array([TIME_S]), np.ones(1))
    traits = KnownUsers(of.config, of.catalogue, of.shelf).traits(users, TIME_S)
    single = expected_clicks(model, dataclasses.replace(traits, goes_on=np.zeros(len(users)))).astype(float)
    values = []
    for seen, share in zip(openings, single, strict=True):
        large = share * 2 * half >= 5.0
        foreseen = np.append(share[large], share[~large].sum())
        pooled = np.append(seen[large], seen[~large].sum())
        values.append(chisquare(pooled, foreseen / foreseen.sum() * pooled.sum()).pvalue)
    print("p of first clicks:", " ".join(f"{p:.3f}" for p in sorted(values)))
    expected = expected_clicks(model, traits)
    frequency = counts / (2 * half)
    away = 0.5 * np.abs(expected - frequency).sum(axis=1) / frequency.sum(axis=1)
    noise = 0.5 * np.abs(first - second).sum(axis=1) / counts.sum(axis=1)
    print(f"total variation of all clicks: {away.mean():.4f} (most {away.max():.4f}); noise about {noise.mean():.4f}")
    for n in (10, 50, 100):
        best = np.sort(frequency, axis=1)[:, -n:].sum()
        found = np.take_along_axis(frequency, np.argsort(-expected, axis=1)[:, :n], axis=1).sum()
        print(f"lists of {n}: {found / best:.4%} of the clicks of the best in hindsight")


if __name__ == "__main__":
    main()
