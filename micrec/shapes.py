"""Shapes that are known before anything is computed.

A GPU runs behind the program that feeds it. Whatever makes the shape of a tensor depend on the values of another, such
as a list of distinct items, makes the program wait until the GPU has caught up. On a CPU nothing waits, and exact
lists are less work. So there are two layouts of a training step:

=========  ==========================================================  =============================================
           exact (CPU)                                                 fixed (GPU)
=========  ==========================================================  =============================================
lists      as long as they are, in a row (``Ragged``)                  as wide as the longest (``PaddedRows``)
sets       the distinct ones                                           room for all, and a mask of what is real
gradients  summed over what occurs, in a fixed order on the CPU        torch's own kernels
=========  ==========================================================  =============================================

Both give the same losses and gradients up to rounding, given the same draws.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_forced: ContextVar[bool] = ContextVar("fixed_shapes", default=False)


@contextmanager
def fixed_shapes(wanted: bool = True) -> Iterator[None]:
    """Within it, tensors on a CPU are treated as those of a GPU are; what tests need no GPU for."""
    token = _forced.set(wanted)
    try:
        yield
    finally:
        _forced.reset(token)


def is_fixed(tensor: Tensor) -> bool:
    """Whether what is made of the tensor must have a shape that does not depend on its values."""
    return tensor.device.type != "cpu" or _forced.get()


def marked(marks: Tensor, room: int) -> tuple[Tensor, Tensor]:
    """Where ``marks`` are True, ascending, in a tensor of fixed length.

    Args:
        marks: Bool, shape (N,), with at most ``room`` True.
        room: Length of the result.

    Returns:
        Places, int64, shape (room,), the first of them repeated behind the last, and which of them are real, bool.
    """
    rank = marks.cumsum(0) - 1  # (N,)
    places = torch.arange(len(marks), device=marks.device)
    first = marks.int().argmax()
    found = first.repeat(room + 1).scatter_(0, rank.masked_fill(~marks, room), places)[:room]
    return torch.where(real := torch.arange(room, device=marks.device) <= rank[-1], found, first), real


def slots_of(codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct codes in a tensor as long as ``codes`` itself.

    Args:
        codes: Shape (m,), int64, m > 0, with repeats.

    Returns:
        The distinct codes, ascending, shape (m,), the last one repeated to the end; the place of each of ``codes``
        among them, shape (m,); and how many there are, shape ().
    """
    ordered, order = torch.sort(codes, stable=True)
    is_new = torch.cat([torch.ones_like(ordered[:1], dtype=torch.bool), ordered[1:] != ordered[:-1]])
    rank = is_new.cumsum(0) - 1
    distinct = ordered[-1].repeat(len(codes)).scatter_(0, rank, ordered)
    return distinct, torch.empty_like(rank).scatter_(0, order, rank), rank[-1] + 1


def sums_by_slot(
    slots: Tensor, values: Tensor, n: int, picks: Tensor | None = None, shares: Tensor | None = None
) -> Tensor:
    """Sums of values that share a slot, shape (n, D); zeros where nothing falls. By torch's gradient of a look-up.

    Args:
        slots: Below ``n``, shape (m,), int64.
        values: Shape (m, D); with ``picks``, summand i is row ``picks[i]`` of ``values``.
        n: Slots there are.
        picks: Shape (m,), int64.
        shares: Factor of each summand, shape (m,); None: 1.
    """
    summands = values if picks is None else values.index_select(0, picks)
    summands = summands if shares is None else summands * shares.to(summands.dtype)[:, None]
    return torch.ops.aten.embedding_dense_backward(summands.contiguous(), slots, n, -1, False)
