"""How long do all moments of 4M users take, beside tea-tasting on polars and scipy's ttest_ind?

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_moments.py --users 4000000 --rounds 5

Four metrics with a covariate each, two arms. ``ours, 2 cells`` and ``ours, 4 cells`` (arm x cold) take the full 8 x 8
moments per cell and then run Welch and CUPED on every metric; ``tea-tasting`` runs ``Mean`` with a covariate on the
same polars frame; ``scipy`` runs four ``ttest_ind(equal_var=False)`` without covariates on arms split beforehand.
``from Parquet`` streams a file with text arms to the same verdicts, or gives it to tea-tasting as a lazy scan. ``read
once`` sums the eight columns, and ``read Parquet`` decodes those of the file: the floors.
Rounds alternate between the methods; the median is shown, and ratios are within the run.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

from abtest.stats import BucketSums, CellMoments, calibrate, cuped, welch

METRICS = ["clicks", "dwell_s", "likes", "follows"]
COLUMNS = [*METRICS, *(f"pre_{name}" for name in METRICS)]


def users(n: int) -> pl.DataFrame:
    """A log of n users."""
    rng = np.random.default_rng(0)
    taste = rng.gamma(2.0, 1.0, n)
    columns = {
        name: taste * scale + rng.exponential(1.0, n) for name, scale in zip(COLUMNS, (3, 9, 1, 1) * 2, strict=True)
    }
    arm, cold = (rng.random(n) < 0.5).astype(np.int8), rng.random(n) < 0.3
    return pl.DataFrame({"user_id": np.arange(n), "variant": arm, "cold": cold, **columns})


def verdicts(source: pl.DataFrame | Path, keys: list[str]) -> list[float | None]:
    """p of Welch and of CUPED for every metric."""
    cells = CellMoments.of(source, COLUMNS, keys)
    c, t = (cells.total(**{keys[0]: label}) for label in cells.labels(keys[0]))
    p = [welch(c, t, name).p for name in METRICS]
    return [*p, *(cuped(c, t, name, [f"pre_{name}"]).estimate.p for name in METRICS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=4_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    frame = users(options.users)
    arms = [[frame.filter(pl.col("variant") == arm)[name].to_numpy() for name in METRICS] for arm in (0, 1)]
    columns = [frame[name].to_numpy() for name in COLUMNS]
    sums = BucketSums.of(frame, METRICS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        text = pl.when(pl.col("variant") == 0).then(pl.lit("A")).otherwise(pl.lit("B")).alias("arm")
        frame.with_columns(text).write_parquet(path)
        methods: dict[str, Callable[[], object]] = {
            "ours, 2 cells": lambda: verdicts(frame, ["variant"]),
            "ours, 4 cells": lambda: verdicts(frame, ["variant", "cold"]),
            "ours, from Parquet": lambda: verdicts(path, ["arm"]),
            "scipy, no covariates": lambda: [
                stats.ttest_ind(t, c, equal_var=False) for c, t in zip(*arms, strict=True)
            ],
            "read Parquet": lambda: pl.read_parquet(path, columns=["arm", *COLUMNS]),
            "read once": lambda: [column.sum() for column in columns],
            "A/A, 10,000 splits": lambda: calibrate(sums, METRICS),
        }
        try:
            import tea_tasting as tt
        except ImportError:
            print("tea-tasting is not installed: left out")
        else:
            experiment = tt.Experiment({name: tt.Mean(name, f"pre_{name}") for name in METRICS})
            methods["tea-tasting, polars"] = lambda: experiment.analyze(frame)
            from_file = tt.Experiment({name: tt.Mean(name, f"pre_{name}") for name in METRICS}, variant="arm")
            methods["tea-tasting, from Parquet"] = lambda: from_file.analyze(pl.scan_parquet(path))
        times: dict[str, list[float]] = {name: [] for name in methods}
        for method in methods.values():
            method()  # imports, page faults
        for _ in range(options.rounds):
            for name, method in methods.items():
                start = time.perf_counter()
                method()
                times[name].append(time.perf_counter() - start)
    memory, file = times["ours, 2 cells"], times["ours, from Parquet"]
    print(f"{options.users:,} users, {options.rounds} rounds\n| method | median s | times ours | from Parquet |")
    print("|---|---|---|---|")
    for name, taken in times.items():
        ratios = [
            statistics.median(other / own for other, own in zip(taken, ours, strict=True)) for ours in (memory, file)
        ]
        print(f"| {name} | {statistics.median(taken):.3f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
