"""How many slates per second do simulated users answer, by batch size, beside the floor of their random numbers?

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_population.py --sizes 8 32 256 4096 --kinds position cascade choice

Users of a world of 20,000 items answer slates of 10 (half from their interests, half by appeal), request after request
until they leave. ``floor`` draws what the responses cannot do without: one hash and two uniforms per item, and per
click three more hashes and normal quantiles. Rounds alternate between the methods; medians are shown, and the share is
of the same round. Every batch holds visits under way in the midst of a day of 20,000 visits.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from scipy.special import ndtri

from simulator.draws import halves, mixed, to_uniform
from simulator.population.pilot import reference_slates
from simulator.population.population import Population
from simulator.population.population_config import PopulationConfig
from simulator.world.world import World
from simulator.world.world_config import WorldConfig

VISITS = 20_000
REQUESTS = 3


def make_world() -> World:
    config = WorldConfig.model_validate(
        {"users": {"count": 60_000}, "items": {"count": 20_000}, "sessions": {"per_user": 6.0}}
    )
    return World.build(config)


def floor(key: np.ndarray, items: np.ndarray, clicked: np.ndarray) -> None:
    """One hash and two uniforms per item; three hashes and normal quantiles per click."""
    bits = mixed(key, items)
    halves(bits)
    of_clicks = bits[clicked]
    for word in range(3):
        ndtri(to_uniform(mixed(of_clicks, np.asarray(word))))


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 32, 256, 4096], help="slates per call")
    parser.add_argument("--kinds", nargs="+", default=["position", "cascade", "choice"], help="examination models")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    world = make_world()
    print(f"{'model':9} {'batch':>6} {'user-slates/s':>14} {'floor/s':>12} {'share of floor':>15}")
    for kind in options.kinds:
        keys = PopulationConfig.model_validate({"examination": {"kind": kind}})
        measured = {size: ([], []) for size in options.sizes}
        for _ in range(options.rounds):
            population = Population.build(world, keys)
            visits = population.begin_day(0)
            rows = np.random.default_rng(0).permutation(len(visits.user))[:VISITS]
            subcategory = population._visiting.topic[:, rows]
            for size, (ours, least) in measured.items():
                spent, floor_spent, slates = 0.0, 0.0, 0
                count = min(len(rows), max(size, min(VISITS, 150 * size))) // size * size
                fresh = Population.build(world, keys)
                fresh.begin_day(0)
                for request in range(REQUESTS):
                    now_s = visits.start_s[rows] + 60.0 * request
                    items = reference_slates(world, keys, subcategory, now_s, visits.key[rows] + np.uint64(request))
                    for first in range(0, count, size):
                        part = slice(first, first + size)
                        of, slate, now = rows[part], np.ascontiguousarray(items[:, part].T), now_s[part]
                        number = np.full(size, request)
                        began = time.perf_counter()
                        done = fresh.respond(of, slate, now, number)
                        spent += time.perf_counter() - began
                        key, columns, clicked = visits.key[of], items[:, part].copy(), done.clicked.T.copy()
                        floor_spent += seconds(lambda k=key, i=columns, c=clicked: floor(k, i, c))
                        slates += size
                ours.append(slates / spent)
                least.append(slates / floor_spent)
        for size, (ours, least) in measured.items():
            share = statistics.median(a / b for a, b in zip(ours, least, strict=True))
            print(
                f"{kind:9} {size:6d} {statistics.median(ours):14,.0f} {statistics.median(least):12,.0f} {share:15.0%}"
            )


if __name__ == "__main__":
    main()
