"""What does an event log cost to analyse?

Run: python tests/benchmarks/bench_event_logs.py [events] [users] [folder] [kind ...]

Time and peak memory of ``micrec analyze --no-checks`` on a log of events in no order, beside a plain streaming
group-by of the same file (clicks, dwell, first and last arm of each user), for integer and text ids, Parquet and CSV;
and the same with retention, conversion within hours, and the largest, last and distinct values of every user. Kinds
of logs are ``ints``, ``texts`` and ``ints.csv``; without any, all.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

PART = 1_000_000
DAYS = 7
METRICS = """
primary: [ACC]
secondary: [ADT, retention-1, back3, like24, longest, seconds, newest]
metrics:
  back3: {retention: 3}
  like24: {conversion: like, within_h: 24}
  longest: {value: longest_dwell}
  seconds: {value: distinct_s}
  newest: {value: last_dwell}
user_columns:
  longest_dwell: {take: max, of: dwell_s}
  distinct_s: {take: distinct, of: timestamp, event: like}
  last_dwell: {take: last, of: dwell_s}
"""
PLAIN = """
import sys, polars as pl
rows = pl.scan_csv(sys.argv[1]) if sys.argv[1].endswith(".csv") else pl.scan_parquet(sys.argv[1])
arm, dwell = pl.col("arm"), pl.col("dwell_s").sum()
clicks = (pl.col("event") == "click").cast(pl.Float64).sum()
table = rows.group_by("user_id").agg(clicks=clicks, dwell_s=dwell, first=arm.min(), last=arm.max())
print(table.collect(engine="streaming").height)
"""


def part(rng: np.random.Generator, events: int, users: int, *, text: bool) -> pl.DataFrame:
    """Events of random users at random times of a week; B stays 3 % longer."""
    user = rng.integers(0, users, events)
    arm = user % 2
    ids = pl.Series("user_id", user)
    return pl.DataFrame(
        {
            "user_id": pl.select(pl.lit("user-00000000-") + ids.cast(pl.String)).to_series() if text else ids,
            "arm": pl.Series(arm).replace_strict({0: "A", 1: "B"}, return_dtype=pl.String),
            "timestamp": 1_764_000_000 - 1_764_000_000 % 86_400 + rng.integers(0, DAYS * 86_400, events),
            "event": pl.Series(rng.integers(0, 10, events)).replace_strict(
                {**dict.fromkeys(range(10), "impression"), 8: "click", 9: "like"}, return_dtype=pl.String
            ),
            "dwell_s": rng.exponential(10.0 * (1.0 + 0.03 * arm)).astype(np.float64),
        }
    )


def write(path: Path, events: int, users: int, *, text: bool) -> None:
    """A CSV file, or a folder of Parquet parts, written a million rows at a time."""
    rng = np.random.default_rng(0)
    if path.suffix != ".csv":
        path.mkdir()
    for start in range(0, events, PART):
        table = part(rng, min(PART, events - start), users, text=text)
        if path.suffix == ".csv":
            with path.open("ab") as file:
                table.write_csv(file, include_header=start == 0)
        else:
            table.write_parquet(path / f"part-{start // PART:04}.parquet")


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds and peak gigabytes of a command, run in a child of its own."""
    program = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)"
    program += "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    started_s = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program, *command], check=True, capture_output=True, text=True)
    return time.perf_counter() - started_s, int(done.stdout.split()[-1]) * (
        1 if sys.platform == "darwin" else 1024
    ) / 1e9


def main(events: int, users: int, folder: Path, kinds: list[str]) -> None:
    for name, text in (("ints", False), ("texts", True), ("ints.csv", False)):
        if kinds and name not in kinds:
            continue
        log = folder / f"{events}-{users}-{name}"
        if not log.exists():
            write(log, events, users, text=text)
        analyze = [sys.executable, "-c", "from abtest.cli.main import main; main()", "analyze", str(log), "--no-checks"]
        analyze += ["--control", "A", "--treatment", "B"]
        metrics = folder / "metrics.yaml"
        metrics.write_text(METRICS)
        for what, command in (
            ("analyze", analyze),
            ("analyze, columns of users", [*analyze, "--metrics", str(metrics)]),
            ("plain group-by", [sys.executable, "-c", PLAIN, str(log)]),
        ):
            seconds, peak_gb = measured(command)
            print(
                f"{events:,} events of {users:,} users, {name}, {what}: {seconds:.1f} s, peak {peak_gb:.2f} GB",
                flush=True,
            )


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:3]]
    events, users = [*given, *(50_000_000, 1_000_000)[len(given) :]]
    with tempfile.TemporaryDirectory() as made:
        main(events, users, Path(sys.argv[3] if len(sys.argv) > 3 else made), sys.argv[4:])
