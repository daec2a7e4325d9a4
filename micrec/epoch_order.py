"""The order in which an epoch goes through the rows: shuffled as a whole, or block by block."""

from typing import Protocol

import torch
from torch import Tensor

from micrec.config import TrainConfig
from micrec.train_data import TrainData

_SEEDS = 1 << 62
_KEPT = 2  # windows: a batch may lie in two


class EpochOrder(Protocol):
    """The rows of an epoch by the positions of their first clicks; a tensor is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


def epoch_order(rows: Tensor, data: TrainData, config: TrainConfig, generator: torch.Generator) -> EpochOrder:
    """An order from a random stream alone: the same for data in memory and on disk, on any device.

    Args:
        rows: Positions of the rows, ascending, int64, shape (R,).
        data: Where they are rows of.
        config: ``shuffle`` and its blocks.
        generator: On the CPU.
    """
    if config.shuffle == "blocks":
        return BlockOrder(rows, config.block_rows, config.window_blocks, generator)
    shuffled = torch.from_numpy(data.space.empty(len(rows), "int64"))
    torch.randperm(len(rows), generator=generator, out=shuffled)
    shuffled = shuffled.to(rows.device)
    if config.rows == "click":
        return shuffled  # row r stands at position r
    return torch.index_select(rows, 0, shuffled, out=data.long_tensor(len(rows)))


class BlockOrder:
    """Blocks of consecutive rows in random order; the rows of each window of blocks are shuffled among themselves.

    Rows are ordered by user, so that a window reads a bounded part of the clicks: its blocks.
    """

    def __init__(self, rows: Tensor, block_rows: int, window_blocks: int, generator: torch.Generator) -> None:
        """Draw an order.

        Args:
            rows: Positions of the rows, int64, shape (R,).
            block_rows: Rows of a block.
            window_blocks: Blocks of a window.
            generator: On the CPU.
        """
        self._rows, self._size = rows, block_rows
        self._windows = torch.randperm(-(-len(rows) // block_rows), generator=generator).split(window_blocks)
        self._seeds = torch.randint(_SEEDS, (len(self._windows),), generator=generator).tolist()
        sizes = torch.full((-(-len(rows) // block_rows),), block_rows)
        sizes[-1:] -= len(sizes) * block_rows - len(rows)  # the last block may be short
        self._ends = torch.stack([sizes[window].sum() for window in self._windows]).cumsum(0)
        self._kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, part: slice, /) -> Tensor:
        """Positions of the rows at consecutive places of the order, int64, shape (stop - start,)."""
        start, stop, step = part.indices(len(self))
        if step != 1:
            raise ValueError(f"an order by blocks is read in steps of 1, got {step}.")
        found = []
        while start < stop:
            number = int(torch.searchsorted(self._ends, start, right=True))
            end = int(self._ends[number])
            window = self._window(number)
            begin = end - len(window)
            found.append(window[start - begin : min(stop, end) - begin])
            start = min(stop, end)
        return torch.cat(found) if found else self._rows[:0]

    def _window(self, number: int) -> Tensor:
        if number not in self._kept:
            while len(self._kept) >= _KEPT:
                self._kept.pop(next(iter(self._kept)))
            blocks = [self._rows[block * self._size :][: self._size] for block in self._windows[number].tolist()]
            rows = torch.cat(blocks)
            generator = torch.Generator().manual_seed(self._seeds[number])
            self._kept[number] = rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
        return self._kept[number]
