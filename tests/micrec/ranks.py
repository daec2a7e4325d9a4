"""Work done by several processes of one run: copies of the test's process that meet over gloo."""

import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sklearn.decomposition
import sklearn.feature_extraction.text  # noqa: F401 - these and the next are imported once here, not in every copy
import torch._dynamo  # noqa: F401
import torch.distributed as dist

from micrec.sharded.rank_group import RankGroup, working_together

TIMEOUT_S = 300  # on a machine with other work every message waits for its turn


def in_ranks(size: int, folder: Path, work: Callable[[RankGroup], Any]) -> list[Any]:
    """What ``work`` returns in each of ``size`` processes; a process that fails fails the test."""
    results, codes = run_ranks(size, folder, work)
    assert codes == [0] * size
    return results


def run_ranks(size: int, folder: Path, work: Callable[[RankGroup], Any]) -> tuple[list[Any], list[int | None]]:
    """The same with the exit codes, where some are meant to fail; whoever failed returns None."""
    folder.mkdir(parents=True, exist_ok=True)
    forked = multiprocessing.get_context("fork")
    processes = [forked.Process(target=_run, args=(rank, size, folder, work)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT_S)
        if process.is_alive():
            process.kill()
    files = [folder / f"{rank}.pickle" for rank in range(size)]  # written by our own copies a moment ago
    results = [pickle.loads(file.read_bytes()) if file.exists() else None for file in files]
    return results, [process.exitcode for process in processes]


def _run(rank: int, size: int, folder: Path, work: Callable[[RankGroup], Any]) -> None:
    store = dist.FileStore(str(folder / "store"), size)
    with working_together(store, rank, size) as group:
        found = work(group)
        (folder / f"{rank}.pickle").write_bytes(pickle.dumps(found))
