"""What does each kind of index find, and how many users does it answer in a second?

Every kind over the same item vectors, for the same users, in turn in one process; the ratio is to the flat index of the
same round. Vectors are those of a bundle, or generated: clusters of fifty items whose lengths differ.

    python tests/benchmarks/bench_index.py                              # 3,000, 30,000 and 300,000 generated items
    python tests/benchmarks/bench_index.py --items 1000000 --kinds flat ivf ivfpq --queries 200 --rounds 1
    python tests/benchmarks/bench_index.py --bundle runs/bundle         # what micrec index wrote
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from micrec.retrieval import INDEX_KINDS, build_index, load_bundle, measure_recall, search
from micrec.retrieval.index import index_tensors
from micrec.retrieval.query import query_of_known

DIM = 64


def generated(n: int, queries: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors of items, shape (n, 64), and of users, each near one of the items' clusters."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(max(1, n // 50), DIM))
    chosen, asked = (centres[rng.integers(0, len(centres), size)] for size in (n, queries))
    items = (chosen + 0.7 * rng.normal(size=chosen.shape)) * np.exp(rng.normal(0, 0.3, (n, 1)))
    return items.astype(np.float32), (asked + 0.7 * rng.normal(size=asked.shape)).astype(np.float32)


def of_bundle(folder: Path, queries: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors of a bundle's items, and of some of its users."""
    bundle = load_bundle(folder)
    rows = np.linspace(0, bundle.users.n - 1, min(queries, bundle.users.n)).astype(np.int64)
    return np.array(bundle.vectors), query_of_known(bundle, rows).embeddings


def measure(vectors: NDArray[np.float32], queries: NDArray[np.float32], kinds: Sequence[str], *, rounds: int) -> None:
    """Recall and users/s of every kind at 10, 100 and 500."""
    built = {}
    for kind in kinds:
        started_s = time.perf_counter()
        built[kind] = build_index(vectors, kind)
        seconds_s = time.perf_counter() - started_s
        held = sum(tensor.numel() * tensor.element_size() for tensor in index_tensors(built[kind]).values())
        print(f"{kind:5s} built in {seconds_s:8.2f} s, {held / len(vectors):6.1f} bytes an item", flush=True)
    for k in (10, 100, 500):
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind in kinds:
                started_s = time.perf_counter()
                search(built[kind], queries, k)
                seconds[kind].append(time.perf_counter() - started_s)
        for kind in kinds:
            (depth,) = measure_recall(built[kind], kind, vectors, queries, [k]).depths
            ratio = statistics.median(flat / own for own, flat in zip(seconds[kind], seconds["flat"], strict=True))
            speed = len(queries) / statistics.median(seconds[kind])
            print(
                f"  k {k:4d}  {kind:5s} recall {depth.recall:.4f}  {speed:9,.0f} users/s  {ratio:6.2f} x flat",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="bundle folder instead of generated vectors")
    parser.add_argument("--items", type=int, nargs="+", default=[3_000, 30_000, 300_000])
    parser.add_argument("--kinds", nargs="+", choices=INDEX_KINDS, default=list(INDEX_KINDS))
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    if options.bundle:
        vectors, queries = of_bundle(options.bundle, options.queries)
        print(f"{len(vectors):,} items of {options.bundle}, {len(queries):,} users")
        measure(vectors, queries, options.kinds, rounds=options.rounds)
        return
    for n in options.items:
        print(f"{n:,} generated items, {options.queries:,} users")
        measure(*generated(n, options.queries), options.kinds, rounds=options.rounds)


if __name__ == "__main__":
    main()
