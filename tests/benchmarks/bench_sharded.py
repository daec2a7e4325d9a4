"""Seconds a step of a table of 1M x 64 numbers on several processes: divided by row, or a copy in each under DDP.

Each process reads 4,096 x 20 random rows a step, means of 20 go through a dense layer, and both are trained. Divided:
``ShardedTable`` with ``RowSparseAdam``, which equals Adam. Copies: torch's ``EmbeddingBag`` with row-sparse gradients,
which DistributedDataParallel sums, and ``SparseAdam``, which forgets the steps in which a row is not touched.
The two take turns, so that the load of the machine falls on both; the ratio is that of the medians.

    torchrun --nproc-per-node 2 tests/benchmarks/bench_sharded.py --steps 5 --rounds 3
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from micrec.models.table import EmbeddingTable
from micrec.optim import RowSparseAdam
from micrec.sharded.batch_share import GradientExchange
from micrec.sharded.rank_group import RankGroup, joined
from micrec.sharded.sharded_table import divide_tables

CLICKS = 20


class MeanOfRows(nn.Module):
    """The mean of the vectors of 20 clicks, and a dense layer."""

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.table = EmbeddingTable(rows, dim, sparse=True, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(0)
        self.dense = nn.Linear(dim, dim)

    def forward(self, codes: Tensor) -> Tensor:
        offsets = torch.arange(0, codes.numel() + 1, CLICKS)
        return self.dense(self.table.bag(codes.flatten(), offsets)).square().mean()


def divided_step(group: RankGroup, rows: int, dim: int) -> tuple[Callable[[Tensor], None], int]:
    """One step on a divided table, and the bytes of the table and its state in this process."""
    model = MeanOfRows(rows, dim)
    divide_tables(model, group, least_rows=1, most_numbers=0)
    table = model.table
    optimizer = RowSparseAdam(model.dense.parameters(), [table])
    exchange = GradientExchange(group, [model])

    def step(codes: Tensor) -> None:
        optimizer.zero_grad()
        exchange.begin()
        loss = model(codes) / group.size
        loss.backward()
        exchange.finish(loss.detach()[None])
        optimizer.step()

    return step, len(table.weight) * (3 * 4 * dim + 2 * 4)


class MeanOfCopiedRows(nn.Module):
    """The same by torch's own layer, which DistributedDataParallel knows to be sparse."""

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(rows, dim, mode="mean", sparse=True)
        self.dense = nn.Linear(dim, dim)

    def forward(self, codes: Tensor) -> Tensor:
        return self.dense(self.table(codes)).square().mean()


def copied_step(rows: int, dim: int) -> tuple[Callable[[Tensor], None], int]:
    """One step on a copy in every process."""
    model = MeanOfCopiedRows(rows, dim)
    copies = DistributedDataParallel(model)
    tables, dense = torch.optim.SparseAdam([model.table.weight]), torch.optim.Adam(model.dense.parameters())

    def step(codes: Tensor) -> None:
        tables.zero_grad()
        dense.zero_grad()
        copies(codes).backward()
        tables.step()
        dense.step()

    return step, rows * 3 * 4 * dim


def main() -> None:
    """Time both in turns and print medians, their ratio and the bytes of the table in each process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4_096, help="rows of each process")
    parser.add_argument("--steps", type=int, default=5, help="of each way in a round")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with joined() as group:
        ways = {"divided": divided_step(group, args.rows, args.dim), "copies": copied_step(args.rows, args.dim)}
        draws = torch.Generator().manual_seed(group.rank)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, (step, _) in ways.items():
                for _ in range(args.steps):
                    codes = torch.randint(args.rows, (args.batch, CLICKS), generator=draws)
                    group.add_up(torch.zeros(1))  # all begin together
                    started_s = time.perf_counter()
                    step(codes)
                    group.add_up(torch.zeros(1))
                    seconds[name].append(time.perf_counter() - started_s)
        if group.is_first:
            medians = {name: float(np.median(times[1:])) for name, times in seconds.items()}
            for name, (_, size) in ways.items():
                print(f"{name}: {medians[name]:.3f} s a step, {size / 1e6:,.0f} MB of table and state in each process")
            print(f"copies / divided: {medians['copies'] / medians['divided']:.2f} on {group.size} processes")


if __name__ == "__main__":
    main()
