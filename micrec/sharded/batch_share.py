"""The part of a batch that one process computes, and the exchange of gradients after it.

All processes draw the same batch, histories and negatives, since their random streams are the same, and each computes
the matching loss of its rows. With T clicks in the batch and T_r of them in rank r's rows, the mean over all is the sum
over r of (T_r / T) times the mean of r. Item losses say how they are divided (``ItemLoss.part``).
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from micrec.losses.info_nce import Reduction
from micrec.sharded.rank_group import RankGroup
from micrec.sharded.sharded_table import ShardedTable
from micrec.train_data import Batch


class BatchShare(NamedTuple):
    """Consecutive rows of a batch, their clicks, and what their loss counts in that of the batch."""

    rows: slice
    clicks: slice
    weight: float


def share_of(batch: Batch, group: RankGroup, reduction: Reduction) -> BatchShare:
    """The share of this process. Of a batch with fewer rows than processes, some compute the first row for nothing."""
    n_rows = len(batch.tower_users)
    start, stop = (n_rows * rank // group.size for rank in (group.rank, group.rank + 1))
    borrowed = start == stop
    if borrowed:
        start, stop = 0, 1
    clicks = slice(start, stop)
    if batch.rows is not None:
        edges = torch.searchsorted(batch.rows, torch.tensor([start, stop], device=batch.rows.device)).tolist()
        clicks = slice(*edges)
    share = (clicks.stop - clicks.start) / len(batch.targets) if reduction == "mean" else 1.0
    return BatchShare(slice(start, stop), clicks, 0.0 if borrowed else share)


class GradientExchange:
    """Sums the gradients of one step over all processes; those of divided tables reach the rows' owners."""

    def __init__(self, group: RankGroup, modules: Iterable[nn.Module]) -> None:
        self._group = group
        modules = list(modules)
        self._tables = [one for module in modules for one in module.modules() if isinstance(one, ShardedTable)]
        divided = {table.weight for table in self._tables}
        parameters = dict.fromkeys(parameter for module in modules for parameter in module.parameters())
        self._shared = [one for one in parameters if one.requires_grad and one not in divided]

    def begin(self) -> None:
        """Before the forward pass of a step."""
        for table in self._tables:
            table.forget_reads()

    @torch.no_grad()
    def finish(self, losses: Tensor) -> Tensor:
        """After the backward pass: sums the gradients, and this process's shares of the losses, shape (L,)."""
        if self._group.alone:
            return losses
        gradients = [parameter.grad for parameter in self._shared if parameter.grad is not None]
        flat = torch.cat([losses.detach().float(), *(gradient.reshape(-1) for gradient in gradients)])
        self._group.add_up(flat)
        total, *summed = flat.split([len(losses), *(gradient.numel() for gradient in gradients)])
        for gradient, values in zip(gradients, summed, strict=True):
            gradient.copy_(values.view_as(gradient))
        for table in self._tables:
            table.take_gradients()
        return total
