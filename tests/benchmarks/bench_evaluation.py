"""How many users per second does exact evaluation rank, and in how much memory, beside matmul + top-k?

    python tests/benchmarks/bench_evaluation.py --sizes 10000 100000 1000000 --threads 2

Every method scores the same random embeddings (D = 64), one target per user. ``top-k`` is what most evaluators do:
blocks of 64 MiB of scores, ``torch.topk(500)``, and a look-up of the target in the list. ``counting`` is
``micrec.evaluation.rank_targets``, which gives exact ranks at any depth; ``counting + coverage`` also collects the
distinct items of all top-500 lists, as ``top-k`` does here. Rounds alternate between the methods; medians are shown,
and ratios are within the run. Memory is the peak above what is held before (Linux only).
"""

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from micrec.data.histories import Histories
from micrec.evaluation import CoverageCounter, EmbeddingScores, EvalTask, embedding_scores, rank_targets

TOP = 500


def one_target_each(n_queries: int, n_items: int, rng: np.random.Generator) -> EvalTask:
    """A task with one random target per query and no histories."""
    none = np.zeros(0, dtype=np.int32)
    return EvalTask(
        part="test",
        histories=Histories(none, none, none.astype(np.int64), np.zeros(n_queries + 1, dtype=np.int64)),
        user_ids=np.arange(n_queries, dtype=np.int32),
        begin=np.zeros(n_queries, dtype=np.int64),
        end=np.zeros(n_queries, dtype=np.int64),
        target_offsets=np.arange(n_queries + 1),
        target_items=rng.integers(n_items, size=n_queries).astype(np.int32),
        target_counts=np.ones(n_queries, dtype=np.int64),
        target_repeats=np.zeros(n_queries, dtype=bool),
        candidates=np.ones(n_items, dtype=bool),
        train_clicks=np.ones(n_items, dtype=np.int64),
        user_train_clicks=np.ones(n_queries, dtype=np.int64),
        seen=None,
        skipped_users=0,
        skipped_lines=0,
    )


def top_k_hits(scores: EmbeddingScores, task: EvalTask) -> int:
    """HIT@500 lines by materialised blocks and top-k, with the distinct items of all lists."""
    n_items, rows = len(scores.item_emb), max(1, (64 << 20) // (4 * len(scores.item_emb)))
    targets = torch.from_numpy(task.target_items).long().to(scores.item_emb.device)
    shown = torch.zeros(n_items, dtype=torch.bool, device=scores.item_emb.device)
    hits = torch.zeros((), dtype=torch.int64, device=scores.item_emb.device)
    for start in range(0, len(task), rows):
        top = scores(start, start + rows).topk(TOP, dim=1).indices
        shown[top] = True
        hits += (top == targets[start : start + rows, None]).sum()
    return int(hits)


def counted_hits(scores: EmbeddingScores, task: EvalTask, coverage: CoverageCounter | None = None) -> int:
    return int((rank_targets(scores, task, coverage=coverage).greater < TOP).sum())


def peak_mib(run: Callable[[], int]) -> tuple[int, float]:
    """Result of ``run`` and its peak resident memory above what is held before, in MiB; NaN off Linux."""
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not clear.exists():
        return run(), float("nan")

    def read(name: str) -> float:
        return next(float(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name)) / 1024

    ctypes.CDLL(None).malloc_trim(0)  # give back what the run before has freed
    clear.write_text("5")
    before = read("VmRSS")
    result = run()
    return result, read("VmHWM") - before


def seconds(run: Callable[[], int]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def bench(n_items: int, n_queries: int, rounds: int, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = embedding_scores(
        torch.randn(n_queries, 64, generator=generator).to(device),
        torch.randn(n_items, 64, generator=generator).to(device),
    )
    task = one_target_each(n_queries, n_items, np.random.default_rng(0))
    methods: dict[str, Callable[[], int]] = {
        "top-k": lambda: top_k_hits(scores, task),
        "counting": lambda: counted_hits(scores, task),
        "counting + coverage": lambda: counted_hits(scores, task, CoverageCounter((50, 100, 200, TOP))),
    }
    for run in methods.values():
        run()
    hits, peaks = zip(*(peak_mib(run) for run in methods.values()), strict=True)
    assert max(hits) - min(hits) <= 2, hits  # near-ties at place 500 may round either way
    times = {name: [] for name in methods}
    for _ in range(rounds):
        for name, run in methods.items():
            times[name].append(seconds(run))
    slowest = statistics.median(times["top-k"])
    for (name, values), peak in zip(times.items(), peaks, strict=True):
        median = statistics.median(values)
        print(f"{n_items:>9,} {name:<20} {n_queries / median:>10,.0f} {slowest / median:>7.2f} {peak:>9,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000], help="items")
    parser.add_argument("--scores", type=float, default=1e8, help="scores per round: users = scores / items")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} threads, {args.device}, D = 64, median of {args.rounds} rounds")
    print(f"{'items':>9} {'method':<20} {'users/s':>10} {'ratio':>7} {'peak MiB':>9}")
    for n_items in args.sizes:
        bench(n_items, max(256, int(args.scores / n_items)), args.rounds, torch.device(args.device))


if __name__ == "__main__":
    main()
