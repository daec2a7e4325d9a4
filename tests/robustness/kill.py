"""Kills commands at random moments and checks that nothing was lost and that the same command goes on.

    python tests/robustness/kill.py --kills 40

After each kill (SIGKILL, so that no handler runs) the target is absent, or whole, or of the former content; the same
command then succeeds, and what it writes equals the result of a command that nobody killed.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.robustness.materials import ROOT, SMALL_MODEL, TINY_WORLD, make_materials

VARYING = (
    *("runtime_s", "seconds", "train_s", "train_samples_per_s", "estimated_train_s", "peak_memory_mb"),
    *("command", "versions", "log"),
)


@dataclass(frozen=True)
class Job:
    """A command whose target must survive being killed.

    Attributes:
        arguments: Words after ``micrec``, given where to write.
        digest: What its result is, without times and paths.
    """

    arguments: Callable[[Path], list[str]]
    digest: Callable[[Path], str]


def jobs(materials: Path) -> dict[str, Job]:
    """The commands that write folders."""
    sets = [part for key in SMALL_MODEL for part in ("--set", key)]
    world_sets = [part for key in TINY_WORLD for part in ("--set", key)]
    scenarios = materials / "scenarios"
    clicks, items, users = materials / "clicks.csv", materials / "items.csv", materials / "users.parquet"
    small = ["--set", "seeds=2", *(part for key in SMALL_MODEL for part in ("--set", f"base.{key}"))]
    return {
        "convert": Job(
            lambda out: ["convert", "table", str(clicks), str(out), "--set", f"items={items}"],
            digest_files,
        ),
        "world": Job(
            lambda out: [
                "world", str(scenarios / "worlds/tiny.yaml"), "--out", str(out), "--workers", "1", *world_sets,
            ],
            digest_files,
        ),
        "train": Job(
            lambda out: ["train", str(materials / "world"), str(out), *sets, "--set", "train.epochs=3"], digest_files
        ),
        "index": Job(
            lambda out: ["index", str(materials / "model"), str(materials / "world"), str(out)], digest_files
        ),
        "analyze": Job(
            lambda out: ["analyze", str(users), "--control", "A", "--treatment", "B", "--out", str(out)],
            digest_results,
        ),
        "run": Job(
            lambda out: [
                "run", str(scenarios / "offline_ab.yaml"), "--set", f"data={materials / 'world'}", "--out", str(out),
                "--workers", "1", *small,
            ],
            digest_results,
        ),
    }  # fmt: skip


def digest_files(folder: Path) -> str:
    """Hash of the names and bytes of all files but reports of time."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode())
        content = path.read_bytes()
        if path.suffix == ".json":
            content = json.dumps(without_times(json.loads(content)), sort_keys=True).encode()
        digest.update(content)
    return digest.hexdigest()


def digest_results(folder: Path) -> str:
    """Hash of ``results.json`` without times, versions and commands."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return hashlib.sha256(json.dumps(without_times(results), sort_keys=True).encode()).hexdigest()


def without_times(data: object) -> object:
    """Plain data without the entries that differ from run to run."""
    if isinstance(data, dict):
        return {key: without_times(value) for key, value in data.items() if key not in VARYING}
    return [without_times(value) for value in data] if isinstance(data, list) else data


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """The command in a process group of its own, silent."""
    command = [sys.executable, "-m", "abtest", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(arguments: list[str]) -> tuple[int, str]:
    """Run to the end; exit code and output."""
    process = start(arguments)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output.decode(errors="replace")


def kill_once(job: Job, out: Path, after_s: float) -> bool:
    """Start the command and kill all of it after some seconds; whether it was still running."""
    process = start(job.arguments(out))
    time.sleep(after_s)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return running


def try_kills(name: str, job: Job, folder: Path, kills: int, rng: random.Random) -> list[str]:
    """Kill a command some times, let it end, compare; returns what went wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started_s = time.monotonic()
    code, output = finish(job.arguments(folder / "whole"))
    whole_s = time.monotonic() - started_s
    if code != 0:
        return [f"{name}: does not work at all: {output[-500:]}"]
    expected, found, killed = job.digest(folder / "whole"), [], 0
    for number in range(kills):
        out = folder / f"killed-{number}"
        for _ in range(rng.choice((1, 1, 2))):
            killed += kill_once(job, out, rng.uniform(0.3, 1.0) * whole_s)
        if not (out / "results.json").exists() and not complete(out):
            code, output = finish(job.arguments(out))
            if code != 0:
                found.append(f"{name}, kill {number}: the same command then fails: {output[-500:]}")
                continue
        if job.digest(out) != expected:
            found.append(f"{name}, kill {number}: the result differs from that of a run that nobody killed")
        if left := [path.name for path in folder.iterdir() if path.name.startswith(f".{out.name}")]:
            found.append(f"{name}, kill {number}: left behind {', '.join(left)}")
    print(f"{name}: {killed} kills, {len(found)} findings", flush=True)
    return found


def complete(out: Path) -> bool:
    """Whether a command that refuses to replace its target has done its work before it could be killed."""
    names = ("dataset.yaml", "manifest.json", "model/manifest.json")
    return any((out / name).exists() for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40, help="Over all commands.")
    parser.add_argument("--job", action="append", help="Only this command; repeatable.")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"seed {given.seed}")
    with tempfile.TemporaryDirectory() as scratch:
        known = jobs(make_materials(Path(scratch) / "materials"))
        names = given.job or list(known)
        found = []
        for name in names:
            rng = random.Random(f"{given.seed} {name}")
            found += try_kills(name, known[name], Path(scratch) / name, -(-given.kills // len(names)), rng)
    print(*found, f"{len(found)} findings", sep="\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
