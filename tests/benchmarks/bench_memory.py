"""How much memory a click costs: reading, describe, and everything before the first training step.

    micrec world scenarios/worlds/video.yaml --out data/video20 --scale 0.0315    # 20 million clicks
    python tests/benchmarks/bench_memory.py data/video20

Each task runs in a process of its own, whose peak is taken after every phase (Linux: the kernel's high-water mark,
which is reset between phases). Bytes a click include the interpreter and its libraries, some 260 MB.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

TASKS = ("describe", "paper", "modern")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="Dataset folder.")
    parser.add_argument("--task", choices=TASKS, help="Only this one, in this process.")
    given = parser.parse_args()
    if given.task:
        measure(given.data, given.task)
        return
    for task in TASKS:
        subprocess.run([sys.executable, __file__, str(given.data), "--task", task], check=True)


def measure(folder: Path, task: str) -> None:
    """Print the peak of each phase of one task."""
    from micrec.config import SessionsConfig, SplitConfig
    from micrec.data.describe import describe
    from micrec.data.split import temporal_split
    from micrec.data.store import read_dataset
    from micrec.presets import PRESETS
    from micrec.training import Trainer

    reset_peak()
    started_s = time.monotonic()
    dataset = read_dataset(folder)
    n_clicks = len(dataset.clicks)
    report(f"{task}: read", started_s, n_clicks)
    started_s = time.monotonic()
    if task == "describe":
        describe(dataset, SplitConfig(), SessionsConfig())
        report("describe: count", started_s, n_clicks)
        return
    config = PRESETS[task]
    Trainer(dataset, dataset.clicks[temporal_split(dataset.clicks, config.split).train], config)
    report(f"{task}: all before the first step", started_s, n_clicks)


def report(phase: str, started_s: float, n_clicks: int) -> None:
    """Print time and peak of a phase, and begin the next."""
    peak = status("VmHWM")
    seconds = time.monotonic() - started_s
    print(
        f"{phase:36} {n_clicks:12,} clicks {seconds:7.1f} s {peak / 1e6:8,.0f} MB {peak / n_clicks:6.0f} bytes a click"
    )
    reset_peak()


def status(name: str) -> int:
    """A figure of this process in bytes, from the kernel."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def reset_peak() -> None:
    """Let the high-water mark start again from the present size."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


if __name__ == "__main__":
    main()
