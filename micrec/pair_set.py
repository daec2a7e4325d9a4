"""A set of (row, col) pairs on a device, asked for many pairs at once."""

from copy import copy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

Device = str | torch.device

BITMAP_BYTES = 64 << 20
_PART_KEYS = 1 << 22  # that are looked at together


class Movable:
    """Something made of tensors and of other such things."""

    def to(self, device: Device) -> Self:
        """A copy with every tensor on the device."""
        moved = copy(self)
        vars(moved).update({name: part.to(device) for name, part in vars(self).items() if hasattr(part, "to")})
        return moved


@dataclass(frozen=True, eq=False)
class PairSet(Movable):
    """A set of (row, col) pairs that is asked for many pairs at once; built by ``from_keys`` or ``from_pairs``.

    A grid that fits is a bitmap: one gather per question. A larger one is looked up in its sorted keys. Of a symmetric
    set, in which (row, col) stands for (col, row) too, the keys hold each pair once.

    Attributes:
        n_rows: Rows of the grid.
        n_cols: Columns of the grid.
        bits: One bit per cell, eight to a byte, every row starting a new byte, shape (n_rows * stride,), or None.
        keys: Ascending ``row * n_cols + col``, shape (P,), where there is no bitmap.
        symmetric: Whether (row, col) and (col, row) are the same; ``keys`` then have row < col.
    """

    n_rows: int
    n_cols: int
    bits: Tensor | None = None
    keys: Tensor | None = None
    symmetric: bool = False

    @classmethod
    def from_keys(
        cls, keys: Tensor, n_rows: int, n_cols: int, *, symmetric: bool = False, bitmap_bytes: int = BITMAP_BYTES
    ) -> Self:
        """The pairs ``row * n_cols + col`` of distinct, ascending ``keys``, shape (P,) int64, on their device.

        A grid that takes more than ``bitmap_bytes`` is not made a bitmap. With ``symmetric``, each key has row < col
        and stands for (col, row) as well.

        Raises:
            ValueError: If the keys do not ascend, lie outside the grid, or a symmetric one has row >= col.
        """
        cells = n_rows * n_cols
        if len(keys) and (keys[0] < 0 or keys[-1] >= cells or not _ascend(keys)):
            raise ValueError(f"keys must be distinct, ascending and below n_rows * n_cols = {cells}.")
        if symmetric and (
            n_rows != n_cols or any((part // n_cols >= part % n_cols).any() for part in keys.split(_PART_KEYS))
        ):
            raise ValueError("a symmetric set is square, and its keys have row < col.")
        stride = _bytes_for(n_cols)
        if n_rows * stride > bitmap_bytes:
            return cls(n_rows, n_cols, keys=keys, symmetric=symmetric)
        bits = torch.zeros(n_rows * stride, dtype=torch.uint8, device=keys.device)
        for part in keys.split(_PART_KEYS):
            rows, cols = part // n_cols, part % n_cols
            for one, other in ((rows, cols), (cols, rows))[: 1 + symmetric]:
                bit = torch.bitwise_left_shift(1, other & 7).to(torch.uint8)
                bits.scatter_add_(0, one * stride + (other >> 3), bit)
        return cls(n_rows, n_cols, bits=bits, symmetric=symmetric)

    @classmethod
    def from_pairs(
        cls, rows: Tensor, cols: Tensor, n_rows: int, n_cols: int, *, bitmap_bytes: int = BITMAP_BYTES
    ) -> Self:
        """The pairs (rows[p], cols[p]), each of shape (P,), in any order and with repeats."""
        keys = torch.unique(rows.long() * n_cols + cols)
        return cls.from_keys(keys, n_rows, n_cols, bitmap_bytes=bitmap_bytes)

    def contains(self, rows: Tensor, cols: Tensor) -> Tensor:
        """Which pairs are in the set, for ``rows`` and ``cols`` inside the grid, broadcast against each other."""
        if self.bits is not None:
            byte = self.bits.take(rows.long() * _bytes_for(self.n_cols) + (cols >> 3))
            return (byte >> (cols & 7).to(torch.uint8)).bitwise_and_(1).bool()
        assert self.keys is not None
        if self.symmetric:
            rows, cols = torch.minimum(rows, cols), torch.maximum(rows, cols)
        keys = rows.long() * self.n_cols + cols
        if not len(self.keys):
            return torch.zeros_like(keys, dtype=torch.bool)
        place = torch.searchsorted(self.keys, keys.contiguous()).clamp_max_(len(self.keys) - 1)
        return self.keys.take(place) == keys

    def grid(self, rows: Tensor, cols: Tensor) -> Tensor:
        """Every one of ``rows`` (R,) with every one of ``cols`` (C,), shape (R, C): ``contains``, sooner."""
        if self.bits is None:
            return self.contains(rows[:, None], cols[None, :])
        bytes_of = self.bits.view(self.n_rows, -1).index_select(0, rows.long())  # (R, stride)
        wanted = torch.bitwise_left_shift(1, cols & 7).to(torch.uint8)
        return bytes_of.index_select(1, cols.long() >> 3).bitwise_and_(wanted).bool()


def _ascend(keys: Tensor) -> bool:
    """Whether each of the keys is above the one before it."""
    starts = range(0, len(keys), _PART_KEYS)
    return not any((part[1:] <= part[:-1]).any() for part in (keys[at : at + _PART_KEYS + 1] for at in starts))


def _bytes_for(n_cols: int) -> int:
    """Bytes of a bitmap row."""
    return n_cols // 8 + 1
