"""Values of items on days, kept for whole days, of which training steps read the same over and over."""

from typing import Self

import torch
from torch import Tensor


class DayTable:
    """Values of N items on days 0, 1, ..., shape (days, N), float32."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self._latest: tuple[Tensor, Tensor | None] | None = None  # items asked for last, and their columns if again

    def __len__(self) -> int:
        return len(self.values)

    def to(self, device: torch.device | str) -> Self:
        """The same on a device."""
        return type(self)(self.values.to(device))

    def on(self, days: Tensor, items: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Values on each of ``days`` (B,), int64, of each of ``items`` (K,), None = all N, shape (B, K).

        Items that are asked for again, as the same tensor, have their columns put aside: then only rows are gathered.

        Args:
            days: Rows of the table.
            items: Columns of the table, not to be changed afterwards.
            out: Where the values may be put, shape (B, K).
        """
        if items is None:
            return torch.index_select(self.values, 0, days, out=out)
        latest = self._latest
        if latest is None or latest[0] is not items:
            self._latest = items, None
            return self.values[days][:, items]
        columns = self.values[:, items] if latest[1] is None else latest[1]
        self._latest = items, columns
        return torch.index_select(columns, 0, days, out=out)
