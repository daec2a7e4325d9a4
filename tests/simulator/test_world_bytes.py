"""The same bytes for any number of workers, shard order, hash seed, kill and resume; more users or days move nobody."""

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from micrec.errors import MicrecError
from micrec.parallel import pools
from micrec.progress import NoProgress
from simulator.world import parts
from simulator.world.generate import generate_world, world_key
from simulator.world.world import World
from tests.simulator.worlds import small_config

ROOT = Path(__file__).parents[2]
# One run in a process of its own: folder, workers, and after how many parts it kills itself (0 = never).
RUN = """
import os, signal, sys
from pathlib import Path
from micrec.progress import NoProgress
from simulator.world import parts
from simulator.world.generate import generate_world
from tests.simulator.worlds import small_config

class Killer(NoProgress):
    left = int(sys.argv[3])
    def advance(self, amount, note=""):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

parts.PART_CLICKS, parts.BATCH_CLICKS = 6_000, 2_500
generate_world(small_config(), Path(sys.argv[1]), workers=int(sys.argv[2]), progress=Killer())
"""


def run(out: Path, workers: int = 1, *, kill_after: int = 0, **environment: str) -> int:
    command = [sys.executable, "-c", RUN, str(out), str(workers), str(kill_after)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, timeout=120, check=False).returncode


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The small world, written by one worker in one go."""
    out = tmp_path_factory.mktemp("whole") / "world"
    assert run(out, PYTHONHASHSEED="0") == 0
    files = contents(out)
    assert sum(name.startswith("clicks/part-") for name in files) == 5
    return files


@pytest.mark.parametrize(("workers", "hash_seed", "threads"), [(2, "1", "3"), (3, "2", "1")])
def test_any_number_of_workers_writes_the_same_bytes(tmp_path, whole, workers, hash_seed, threads):
    assert run(tmp_path / "world", workers, PYTHONHASHSEED=hash_seed, POLARS_MAX_THREADS=threads) == 0
    assert contents(tmp_path / "world") == whole


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, whole, workers):
    out = tmp_path / "world"
    assert run(out, workers, kill_after=2) == -signal.SIGKILL
    assert not out.exists()
    (partial,) = tmp_path.iterdir()
    done = {path: path.stat().st_mtime_ns for path in (partial / "clicks").glob("part-*.parquet")}
    assert len(done) >= 2
    (partial / "clicks" / "part-00000.parquet").write_bytes(b"cut short by a power cut")
    (partial / "clicks" / ".part-00004.parquet.123").write_bytes(b"cut short by a kill")
    assert run(out, 3 - workers, kill_after=1) == -signal.SIGKILL
    kept = {path: time for path, time in done.items() if path.name != "part-00000.parquet"}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert run(out, workers) == 0
    assert contents(out) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_what_a_killed_worker_did_is_done_again(tmp_path, whole, monkeypatch):
    class Killer(NoProgress):
        killed = 0

        def advance(self, amount: int, note: str = "") -> None:
            if not self.killed:
                os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            self.killed += 1

    monkeypatch.setattr(parts, "PART_CLICKS", 6_000)
    killer = Killer()
    generate_world(small_config(), tmp_path / "world", workers=2, progress=killer)
    assert killer.killed > 1
    assert contents(tmp_path / "world") == whole


def test_a_part_whose_workers_are_all_killed_is_an_error_and_the_next_run_goes_on(tmp_path, whole, monkeypatch):
    submit = pools.ProcessPoolExecutor.submit
    monkeypatch.setattr(parts, "PART_CLICKS", 6_000)
    with monkeypatch.context() as patched:
        patched.setattr(pools.ProcessPoolExecutor, "submit", lambda pool, *_work: submit(pool, os._exit, 9))
        with pytest.raises(MicrecError, match="killed again and again, perhaps for want of memory: run the"):
            generate_world(small_config(), tmp_path / "world", workers=2)
    assert not (tmp_path / "world").exists()
    generate_world(small_config(), tmp_path / "world")
    assert contents(tmp_path / "world") == whole


def test_another_world_does_not_take_up_a_killed_one(tmp_path, monkeypatch):
    out = tmp_path / "world"
    assert run(out, kill_after=1) == -signal.SIGKILL
    monkeypatch.setattr(parts, "PART_CLICKS", 6_000)
    generate_world(small_config("seed=1"), out)
    generate_world(small_config("seed=1"), tmp_path / "again")
    assert contents(out) == contents(tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "world"]


def test_the_key_of_a_world_names_its_keys():
    keys = {world_key(small_config(*sets)) for sets in ((), ("seed=1",), ("links.strength=0.31",), ("days=13",))}
    assert len(keys) == 4
    assert world_key(small_config()) == world_key(small_config("seed=0"))


def test_ranges_of_users_in_any_order_make_up_the_same_log():
    world = World.build(small_config())
    whole = world.history(0, 1_500)
    pieces = {first: world.history(first, last) for first, last in ((900, 1_500), (0, 7), (7, 900))}
    for number, table in enumerate(whole):
        assert_frame_equal(pl.concat(pieces[first][number] for first in (0, 7, 900)), table)


@pytest.mark.parametrize(
    ("more", "kept"),
    [("users.count=2000", pl.col("user_id") < 1_500), ("days=20", pl.col("timestamp") < 1_704_067_200 + 14 * 86_400)],
)
def test_more_users_or_days_leave_the_records_of_the_others(tmp_path, more, kept):
    """Clicks, causes, users, hidden traits, items: what was there stays, field by field."""
    before, after = tmp_path / "before", tmp_path / "after"
    generate_world(small_config(), before)
    generate_world(small_config(more), after)
    old, new = (
        pl.concat([pl.read_parquet(out / "clicks/*.parquet"), pl.read_parquet(out / "ground_truth/clicks/*.parquet")],
                  how="horizontal")
        for out in (before, after)
    )  # fmt: skip
    assert len(new) > len(old)
    assert_frame_equal(new.filter(kept), old.filter(kept))
    for table, key in (
        ("users", "user_id"),
        ("ground_truth/users", "user_id"),
        ("items", "item_id"),
        ("ground_truth/items", "item_id"),
    ):
        first, longer = (pl.read_parquet(out / f"{table}.parquet") for out in (before, after))
        assert_frame_equal(longer.join(first.select(key), on=key, how="semi"), first)


def test_a_worker_whose_parent_is_gone_stops():
    """A second attempt must not meet workers of the first."""
    code = "import os, sys\nfrom micrec.parallel import parent\nparent.WATCH_EVERY_S = 0.01\nparent._watch(1 << 30)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 1
