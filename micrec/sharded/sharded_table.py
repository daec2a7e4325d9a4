"""Embedding tables divided by row: process r of W keeps rows r, r + W, r + 2 W and so on, and their optimiser state.

A look-up sends each process the rows it is asked for and receives their vectors; after the backward pass the gradients
take the same way back. Between the two, a step works on a small table of the vectors that it reads.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from micrec.models.table import EmbeddingTable, sum_by_code, table_grad
from micrec.sharded.rank_group import RankGroup


class TableRead(NamedTuple):
    """One look-up of n distinct rows, and m rows that the others asked of this process."""

    vectors: Tensor  # (n, D) a leaf of the graph, by owner
    given: list[int]  # rows asked of each process
    asked: Tensor  # (m,) rows of this process, by who asked
    taken: list[int]  # rows that each process asked


class ShardedTable(EmbeddingTable):
    """This process's rows of a table; every look-up is one of all processes, with codes of their own each.

    Attributes:
        weight: Row i is row ``rank + i * size`` of the whole table.
        rows: Rows of the whole table.
    """

    def __init__(self, whole: EmbeddingTable, group: RankGroup) -> None:
        nn.Module.__init__(self)
        self.group, self.rows = group, len(whole.weight)
        self.weight = nn.Parameter(whole.weight.detach()[group.rank :: group.size].clone())
        self.sparse = whole.sparse
        self.before_read = None
        self._reads: list[TableRead] = []

    @property
    def numbers(self) -> int:
        return self.rows * self.weight.shape[1]

    @torch.no_grad()
    def put(self, codes: Tensor, vectors: Tensor) -> None:
        """The first process's vectors count; ``codes`` must be the same in all."""
        vectors = vectors.to(self.weight, copy=True)
        self.group.copy_first([vectors])
        own = codes % self.group.size == self.group.rank
        self.weight[codes[own] // self.group.size] = vectors[own]

    def forget_reads(self) -> None:
        """Before a step: what was read so far gets no gradient."""
        self._reads.clear()

    @torch.no_grad()
    def take_gradients(self) -> None:
        """After the backward pass: the gradient of ``weight``, summed over all processes; all take part."""
        if not self._reads:
            return
        received = [self.group.exchange(_gradient(read.vectors), read.given, read.taken) for read in self._reads]
        asked = torch.cat([read.asked for read in self._reads])
        self._reads.clear()
        if len(asked):
            rows, sums = sum_by_code(asked, torch.cat(received))
        else:
            rows, sums = asked, self.weight.new_zeros(0, self.weight.shape[1])
        self.weight.grad = table_grad(asked, rows, sums, self.weight.shape, self.sparse)

    def _source(self, codes: Tensor) -> tuple[Tensor, Tensor, bool]:
        """The vectors that are read, (n, D), and where the vector of each code is, (m,)."""
        size = self.group.size
        distinct, places = torch.unique(codes, return_inverse=True)
        by_owner = torch.argsort(distinct % size, stable=True)
        place = torch.empty_like(by_owner)
        place[by_owner] = torch.arange(len(by_owner), device=codes.device)
        wanted = distinct[by_owner]
        counts = torch.bincount(wanted % size, minlength=size)
        given, taken = [int(count) for count in counts.tolist()], self.group.counts(counts)
        asked = self.group.exchange(wanted // size, given, taken)
        self._announce(asked)
        vectors = self.group.exchange(self.weight.detach().index_select(0, asked), taken, given)
        if self.training and torch.is_grad_enabled():
            vectors.requires_grad_()
            self._reads.append(TableRead(vectors, given, asked, taken))
        return vectors, place[places], False


def divide_tables(model: nn.Module, group: RankGroup, *, least_rows: int, most_numbers: int) -> None:
    """Divide the tables of a model that have ``least_rows`` rows, or more than ``most_numbers`` numbers."""
    if group.alone:
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, EmbeddingTable) or isinstance(child, ShardedTable):
                continue
            rows = len(child.weight)
            if rows >= group.size and (rows >= least_rows or child.numbers > most_numbers):
                parent._modules[name] = ShardedTable(child, group)


def divided_tables(model: nn.Module) -> dict[str, ShardedTable]:
    """The divided tables of a model, by the names of their weights."""
    return {f"{name}.weight": table for name, table in model.named_modules() if isinstance(table, ShardedTable)}


def _gradient(vectors: Tensor) -> Tensor:
    return torch.zeros_like(vectors) if vectors.grad is None else vectors.grad
