"""How many clicks per second does ``micrec world`` write, in how much memory, and how long does a large world take?

    python tests/benchmarks/bench_world.py speed --scale 0.1         # clicks/s of video, 1 and 2 workers in turn
    python tests/benchmarks/bench_world.py memory                    # peak memory of a worker at 1 and 4 million users
    python tests/benchmarks/bench_world.py whole --scale 0.1         # end to end: 63 million clicks, time and size

``speed`` is the steady state, Parquet included: from the moment every worker has written its first part until the first
worker runs out of parts. Beside it stand the clicks per second of processor time, the start of the workers included: on
a machine that others use, this times the workers is nearer to what free cores would give. ``memory`` is each worker's
peak resident set, what it maps of the shared catalogue included
(Linux only), on worlds of short sessions, so that only the number of users differs.
"""

import argparse
import multiprocessing
import resource
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from micrec.progress import LineProgress
from simulator.world.disk import folder_bytes
from simulator.world.files import load_world
from simulator.world.generate import generate_world
from simulator.world.parts import make_folders, plan
from simulator.world.workers import draw_parts
from simulator.world.world import World
from simulator.world.world_config import WorldConfig

PRESETS = Path(__file__).parents[2] / "scenarios" / "worlds"


class Rates(NamedTuple):
    """Clicks per second."""

    steady: float  # of wall time, while every worker is at work
    processor: float  # of processor time of all processes


def processor_s() -> float:
    """Processor time of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def rates_of(world: World, folder: Path, workers: int, most_parts: int) -> Rates:
    """How fast the first ``most_parts`` parts are drawn and written."""
    make_folders(folder)
    before_s = processor_s()
    parts = plan(world.config)[:-1][:most_parts]  # the last part is shorter
    done: list[tuple[float, int]] = []
    for _, tally in draw_parts(world, folder, parts, workers):
        done.append((time.perf_counter(), tally.clicks))
    used_s = processor_s() - before_s
    shutil.rmtree(folder)
    busy = done[workers - 1 : len(done) - workers + 1]
    if len(busy) < 3:
        raise SystemExit(f"{len(parts)} parts are too few for {workers} workers: raise --scale or --parts.")
    steady = sum(clicks for _, clicks in busy[1:]) / (busy[-1][0] - busy[0][0])
    return Rates(steady, sum(clicks for _, clicks in done) / used_s)


def speed(options: argparse.Namespace) -> None:
    config = load_world(PRESETS / f"{options.preset}.yaml", scale=options.scale)
    started_s = time.perf_counter()
    world = World.build(config)
    seconds = time.perf_counter() - started_s
    print(f"{options.preset} at scale {options.scale:g}: catalogue and calibration {seconds:.1f} s")
    rates: dict[int, list[Rates]] = {workers: [] for workers in options.workers}
    for _ in range(options.rounds):
        for workers, found in rates.items():
            with tempfile.TemporaryDirectory() as folder:
                found.append(rates_of(world, Path(folder) / "world", workers, options.parts))
    for workers, found in rates.items():
        rounds = ", ".join(f"{rate.steady:,.0f}" for rate in found)
        middle = [statistics.median(values) for values in zip(*found, strict=True)]
        print(
            f"{workers} workers: {middle[0]:,.0f} clicks/s (rounds: {rounds}), {middle[1]:,.0f} clicks per second of "
            "processor time"
        )


def memory(options: argparse.Namespace) -> None:
    for users in options.users:
        keys = {"users": {"count": users}, "sessions": {"per_user": 1.2, "clicks": 1.5}}
        world = World.build(WorldConfig.model_validate(keys))
        with tempfile.TemporaryDirectory() as folder, _Peaks() as peaks:
            make_folders(Path(folder))
            clicks = sum(
                tally.clicks for _, tally in draw_parts(world, Path(folder), plan(world.config), options.workers[-1])
            )
        worst = max(peaks.kb.values()) / 1e3
        print(f"{users:,} users, {clicks:,} clicks, {len(peaks.kb)} workers: peak {worst:,.0f} MB per worker")


def whole(options: argparse.Namespace) -> None:
    config = load_world(PRESETS / f"{options.preset}.yaml", scale=options.scale)
    with tempfile.TemporaryDirectory() as folder:
        made = generate_world(config, Path(folder) / "world", workers=options.workers[-1], progress=LineProgress())
        clicks = folder_bytes(made.folder / "clicks")
        print(
            f"{options.preset} at scale {options.scale:g}: {made.users:,} users, {made.items:,} items, {made.clicks:,} "
            f"clicks in {made.seconds:.1f} s, {made.bytes / 1e6:,.0f} MB ({clicks / made.clicks:.2f} bytes per click), "
            f"{made.clicks_per_s:,.0f} clicks/s while drawing"
        )


class _Peaks:
    """Peak resident set of each child process, in kB, asked for ten times a second."""

    def __enter__(self) -> "_Peaks":
        self.kb: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            for child in multiprocessing.active_children():
                try:
                    status = Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
                except OSError:
                    continue
                if "VmHWM:" in status and child.pid is not None:
                    self.kb[child.pid] = int(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=["speed", "memory", "whole"])
    parser.add_argument("--preset", default="video", help="world of scenarios/worlds")
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", type=int, default=12, help="parts of 2 million clicks drawn in each round")
    parser.add_argument("--users", type=int, nargs="+", default=[1_000_000, 4_000_000])
    options = parser.parse_args()
    {"speed": speed, "memory": memory, "whole": whole}[options.question](options)


if __name__ == "__main__":
    main()
