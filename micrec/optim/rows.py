"""Row kernels: merge repeated gradient rows, move rows of a table by Adam, catch up on skipped steps.

A table's rows are scattered over memory. The kernels gather a few hundred of them at a time into buffers that stay in
the processor's cache, work there, and write back, so that each row crosses the memory bus once each way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.optim.adam import adam

from micrec.models.table import sum_by_code
from micrec.shapes import is_fixed, slots_of, sums_by_slot

FUSED_DEVICES = ("cpu", "cuda")  # of torch's fused Adam
CHUNK_NUMBERS = 2**18  # numbers per buffer on a CPU: 1 MiB in float32


@dataclass
class Rows:
    """Weights and moments of a table, each of shape (size, D)."""

    weight: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor

    def read(self, rows: Tensor) -> "Rows":
        """Copies of the given rows, shape (n, D) each."""
        return Rows(*(table.index_select(0, rows) for table in (self.weight, self.exp_avg, self.exp_avg_sq)))


@dataclass(frozen=True)
class AdamStep:
    """One step of Adam: its number, from 1, and its settings."""

    step: int
    learning_rate: float
    beta1: float
    beta2: float
    eps: float

    def apply(self, weight: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor) -> None:
        """Update the tensors in place, all of one shape, in one fused pass."""
        adam(
            [weight],
            [grad],
            [exp_avg],
            [exp_avg_sq],
            [],
            [torch.full((), self.step - 1.0, device=weight.device)],
            fused=weight.device.type in FUSED_DEVICES,
            amsgrad=False,
            maximize=False,
            weight_decay=0.0,
            lr=self.learning_rate,
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
        )


def merge_rows(grad: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (n,) of a sparse COO gradient, int64, and their gradients (n, D).

    Each row is there once; with fixed shapes the last one is repeated, with the same gradient, until there are as many
    as the gradient names.
    """
    rows, values = grad._indices()[0], grad._values()
    if is_fixed(rows) and len(rows):
        distinct, slots, count = slots_of(rows)
        last = torch.minimum(torch.arange(len(rows), device=rows.device), count - 1)
        return distinct, sums_by_slot(slots, values, len(rows)).index_select(0, last)
    return (rows, values) if grad.is_coalesced() else sum_by_code(rows, values)


def step_rows(table: Rows, rows: Tensor, grad: Tensor, step: AdamStep, decay: tuple[Tensor, Tensor] | None) -> None:
    """One Adam step of some rows of a table.

    Args:
        table: Updated in place.
        rows: Which rows, shape (n,), all different, or repeated with all that belongs to them.
        grad: Their gradients, shape (n, D).
        step: Number and settings of the step.
        decay: Factors, shape (n,), that bring the first and second moments to the step before; None = 1.
    """
    for start, end in _chunks(rows, table.weight):
        some = rows[start:end]
        part = table.read(some)
        if decay is not None:
            part.exp_avg *= decay[0][start:end, None]
            part.exp_avg_sq *= decay[1][start:end, None]
        step.apply(part.weight, grad[start:end], part.exp_avg, part.exp_avg_sq)
        _write(table.weight, some, part.weight)
        _write(table.exp_avg, some, part.exp_avg)
        _write(table.exp_avg_sq, some, part.exp_avg_sq)


def move_rows(table: Rows, rows: Tensor, fractions: Tensor) -> None:
    """Move the weights of some rows by their skipped steps; the moments stay as they are.

    Args:
        table: Weights are updated in place.
        rows: Which rows, shape (n,), all different.
        fractions: The continued fraction of each row, shape (n, 2 levels); see ``SkippedSteps.gather``.
    """
    fractions = fractions.to(table.weight.dtype)
    for start, end in _chunks(rows, table.weight):
        some = rows[start:end]
        part = table.read(some)
        total, last, *levels = fractions[start:end].split(1, dim=1)  # (n, 1) each
        root = part.exp_avg_sq.sqrt_()
        below = root + last
        for minus_b, a in zip(levels[::2], levels[1::2], strict=True):
            below = torch.addcdiv(root, minus_b, below).add_(a)
        part.weight.addcdiv_(part.exp_avg.mul_(total), below, value=-1.0)
        _write(table.weight, some, part.weight)


def decay_rows(table: Rows, rows: Tensor, decay: tuple[Tensor, Tensor]) -> None:
    """Multiply the first and second moments of some rows by factors of shape (n,)."""
    for start, end in _chunks(rows, table.weight):
        some = rows[start:end]
        for moments, factor in zip((table.exp_avg, table.exp_avg_sq), decay, strict=True):
            _write(moments, some, moments.index_select(0, some).mul_(factor[start:end, None]))


def _chunks(rows: Tensor, table: Tensor) -> Iterator[tuple[int, int]]:
    size = max(1, len(rows)) if is_fixed(rows) else max(1, CHUNK_NUMBERS // table.shape[1])
    return pairwise([*range(0, len(rows), size), len(rows)])


def _write(table: Tensor, rows: Tensor, values: Tensor) -> None:
    """``table[rows] = values``, 16 bytes at a time where the width allows: index_copy_ goes number by number."""
    if table.shape[1] * table.element_size() % 16 == 0:
        table, values = table.view(torch.complex128), values.view(torch.complex128)
    table.index_copy_(0, rows, values)
