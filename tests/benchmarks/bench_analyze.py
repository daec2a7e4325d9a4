"""How long from a Parquet file of 4M users to a verdict? Run: python tests/benchmarks/bench_analyze.py [users]"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl


def write(path: Path, users: int) -> None:
    """One row per user: four metrics, impressions, cold flag, a covariate."""
    rng = np.random.default_rng(0)
    arm, taste, cold = rng.integers(0, 2, users), rng.gamma(0.7, 1.4, users), rng.random(users) < 0.15
    clicks = rng.poisson(3.0 * taste * (1.0 + 0.03 * arm) * np.where(cold, 0.4, 1.0))
    table = {
        "user_id": rng.permutation(users),
        "arm": np.where(arm == 1, "B", "A"),
        "clicks": clicks,
        "dwell_s": clicks * rng.lognormal(3.0, 1.0, users),
        "likes": rng.binomial(clicks, 0.05),
        "follows": rng.binomial(clicks, 0.01),
        "impressions": 3 * clicks + rng.poisson(3.0 * taste),
        "cold": cold,
        "pre_clicks": np.where(cold, 0, rng.poisson(3.0 * taste)),
    }
    pl.DataFrame(table).write_parquet(path)


def main(users: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.parquet"
        write(log, users)
        command = ["micrec", "analyze", str(log), "--control", "A", "--treatment", "B"]
        for name, options in (("without checks", ["--no-checks"]), ("with checks", [])):
            seconds = []
            for _ in range(3):
                started_s = time.perf_counter()
                subprocess.run([*command, *options], check=True, capture_output=True)
                seconds.append(time.perf_counter() - started_s)
            print(f"{users:,} users, whole command {name}: best of 3 {min(seconds):.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4_000_000)
