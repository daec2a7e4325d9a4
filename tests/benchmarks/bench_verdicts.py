"""Does the test ship what is better, stop what is worse, and hold where nothing differs?

    PYTHONPATH=. python tests/benchmarks/bench_verdicts.py --worlds 3 --users 16000 --splits 200

In each world everybody lives the same days with the same noise three times, and the arms differ in one thing: in which
share of the requests their matching channel knows what the user likes (``--shares``; the oracle of the simulator). Both
outcomes of every user are then known, and so is the true lift. An experiment is a split of the users by a salted hash:
each shows what they did in the world of their arm, and the log goes the way of a real one, to the verdict of a plan
with clicks per user as its primary metric, dwell time as its guardrail, and CUPED. Splits of one world share its users,
as repeated experiments on one platform do; worlds share nothing. What arms would learn from one another's clicks is not
in such a log: ``--real`` also runs the first world's experiment as a platform does, for comparison.
"""

import argparse
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from abtest.analysis.analysis import Analysis, analyse
from abtest.analysis.results import results_of
from abtest.analysis.userlog import log_of
from abtest.online.experiment import plan_of
from abtest.online.measures import DAYS_FILE
from abtest.online.online_scenario import OnlineScenario
from abtest.online.simulate import EXPERIMENT, MEASURES, WARM_UP, Simulation, simulate
from abtest.online.truth import true_lifts
from abtest.scenario_files import scenario_of
from simulator.draws import Draws

EXPECTED = {"better": "ship", "the same": "hold", "worse": "stop"}
MATCHING = {"kind": "oracle", "k": 60, "quota": 30}
CHANNELS: dict[str, Any] = {
    "popular": {"kind": "popular", "k": 30, "quota": 15},
    "fresh": {"kind": "fresh", "k": 20, "quota": 10},
    "follow": {"kind": "follow", "k": 20, "quota": 5},
}


def scenario(users: int, shares: Sequence[float]) -> OnlineScenario:
    """The platform and users of the quickstart; its channel under test knows users in a share of the requests."""
    quickstart, _ = scenario_of({"extends": "quickstart"})
    world = quickstart.world.model_dump()
    production, *others = [{**MATCHING, "options": {"share": share}} for share in shares]
    arms = {"control": {"label": "control"}} | {
        name: {"label": name, "pipeline": {"channels": {"matching": one}}}
        for name, one in zip(("better", "worse"), others, strict=True)
    }
    keys = {
        "kind": "online_ab",
        "world": {**world, "name": "verdicts", "users": {**world["users"], "count": users}},
        "population": quickstart.population.model_dump(),
        "history_days": quickstart.history_days,
        "days": quickstart.days,
        "platform": {
            "warmup_days": 1,
            "pipeline": {
                "channels": {"matching": production, **CHANNELS},
                "ranking": {"every_days": 2, "options": {"most_rows": 50_000}},
                "merge": {"candidates": 60},
            },
        },
        "possible": None,
        "primary": ["ACC"],
        "guardrails": ["ADT"],
        "estimator": "cuped",
        "looks": "final",
        "arms": arms,
    }
    return scenario_of(keys)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=3)
    parser.add_argument("--users", type=int, default=16_000)
    parser.add_argument("--splits", type=int, default=200, help="experiments of each kind in each world")
    parser.add_argument("--shares", type=float, nargs=3, default=(0.3, 0.4, 0.2), help="of control, better and worse")
    parser.add_argument("--real", action="store_true", help="also run the first world's experiment with its arms")
    args = parser.parse_args()
    chosen = scenario(args.users, args.shares)
    verdicts = {kind: Counter() for kind in EXPECTED}
    found: dict[str, list[tuple[float, bool]]] = {kind: [] for kind in EXPECTED}
    for number in range(args.worlds):
        with tempfile.TemporaryDirectory(prefix="bench-verdicts-") as folder:
            days = lived(chosen, Path(folder), number, real=args.real and not number)
        for kind in EXPECTED:
            judge_splits(chosen, days, kind, number, args.splits, verdicts[kind], found[kind])
        if args.real and not number:
            print(f"world 0, arms of one platform: {told(analysed(chosen, days[EXPERIMENT], 'better'))}", flush=True)
    for kind, expected in EXPECTED.items():
        hits, n = verdicts[kind][expected], verdicts[kind].total()
        low, high = wilson(hits, n)
        errors = np.array([one[0] for one in found[kind]])
        covered = sum(one[1] for one in found[kind])
        print(
            f"{kind:9s} {expected.upper()} {hits} of {n} ({100 * hits / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}]); "
            f"{dict(verdicts[kind])}; estimate - truth {100 * errors.mean():+.2f} points, sd {100 * errors.std():.2f}; "
            f"truth in interval {covered} ({100 * covered / n:.1f} %)"
        )


def lived(chosen: OnlineScenario, root: Path, number: int, *, real: bool) -> dict[str, pl.DataFrame]:
    """User-days of a world's lives, by arm; of the experiment with all arms, if it is ``real``."""
    found = {}
    for part in (WARM_UP, *chosen.arms, *([EXPERIMENT] if real else [])):
        one = Simulation("main", number, part)
        simulate(chosen, root, one)
        if part != WARM_UP:
            found[part] = pl.read_parquet(root / one.path / MEASURES / DAYS_FILE)
    return found


def judge_splits(
    chosen: OnlineScenario,
    days: Mapping[str, pl.DataFrame],
    kind: str,
    number: int,
    splits: int,
    verdicts: Counter[str],
    found: list[tuple[float, bool]],
) -> None:
    """Count the verdicts over splits of one world's users, and note how far estimates were off, and what they hold."""
    arm = "better" if kind == "the same" else kind  # names of the plan's arms; where nothing differs both are control's
    other = days["control" if kind == "the same" else kind].with_columns(arm=pl.lit(arm))
    truth = 0.0
    if kind != "the same":
        plan = plan_of(chosen, (arm,), "")
        truth = true_lifts(days["control"], other, plan)["ACC", "all", arm].lift
    exposed = days["control"]["user_id"].n_unique()
    print(f"world {number}, {kind}: true lift of ACC {100 * truth:+.2f} %, {exposed:,} users", flush=True)
    for split in range(splits):
        treated = Draws(number, f"split {split}").uniform(np.arange(chosen.world_config(number).users.count)) < 0.5
        rows = pl.concat([of(days["control"], ~treated), of(other, treated)])
        analysis = analysed(chosen, rows, arm)
        verdicts[results_of(analysis)["verdicts"][0]["decision"]] += 1
        effect = next(one for one in analysis.effects if (one.metric.name, one.slice) == ("ACC", "all"))
        assert effect.estimate.lift is not None
        assert effect.estimate.lift_ci is not None
        low, high = effect.estimate.lift_ci
        found.append((effect.estimate.lift - truth, low <= truth <= high))


def of(days: pl.DataFrame, chosen: np.ndarray) -> pl.DataFrame:
    """The days of some users."""
    return days.filter(pl.Series(chosen[days["user_id"].to_numpy()]))


def analysed(chosen: OnlineScenario, rows: pl.DataFrame, arm: str) -> Analysis:
    """One experiment's log, judged."""
    others = tuple(name for name in chosen.treatments if name != arm)
    plan = replace(plan_of(chosen, (arm,), ""), ignored_arms=others, checks=False)
    return analyse(log_of(rows, plan), plan)


def told(analysis: Analysis) -> str:
    effect = next(one for one in analysis.effects if (one.metric.name, one.slice) == ("ACC", "all"))
    low, high = effect.estimate.lift_ci or (math.nan, math.nan)
    return f"{100 * (effect.estimate.lift or math.nan):+.2f} % [{100 * low:+.2f}, {100 * high:+.2f}]"


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share (Wilson 1927)."""
    middle = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return max(middle - half, 0.0), min(middle + half, 1.0)


if __name__ == "__main__":
    main()
