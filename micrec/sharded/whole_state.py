"""Tensors of a run gathered on rank 0, and given out again, to any number of processes.

A divided table is put together row by row, so that a checkpoint is that of one process. torch.distributed.checkpoint
would write one file per process and a pickled index; ours stays one file of safetensors with its SHA-256, replaced in
one moment, that any number of processes reads.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from micrec.sharded.rank_group import RankGroup

Divided = Mapping[str, int]
"""Names of divided tensors, with the rows of the whole."""


def gather_whole(tensors: Mapping[str, Tensor], divided: Divided, group: RankGroup) -> dict[str, Tensor]:
    """Copies on the CPU, the divided ones put together, in the first process; nothing in the others. All take part."""
    if group.alone:
        return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    whole = {}
    for name, tensor in tensors.items():
        own = tensor.detach().cpu()
        if name not in divided:
            if group.is_first:
                whole[name] = own.clone()
        elif group.is_first:
            whole[name] = _collect(own, divided[name], group)
        else:
            dist.send(own.contiguous(), 0)
    return whole


def give_out(
    tensors: Mapping[str, Tensor], skeleton: Any, divided: Divided, group: RankGroup
) -> tuple[dict[str, Tensor], Any]:
    """What ``gather_whole`` gave to the first process, to all: of divided tensors their rows. All take part.

    Args:
        tensors: In the first process; those of the others are not read.
        skeleton: A JSON value, likewise.
        divided: Names that are divided now.
        group: The processes.
    """
    if group.alone:
        return dict(tensors), skeleton
    described = [[name, list(tensor.shape), str(tensor.dtype)] for name, tensor in tensors.items()]
    described, skeleton = group.tell([described, skeleton])
    return {
        name: _hand(tensors.get(name), shape, getattr(torch, kind.removeprefix("torch.")), name in divided, group)
        for name, shape, kind in described
    }, skeleton


def _collect(own: Tensor, rows: int, group: RankGroup) -> Tensor:
    whole = own.new_empty(rows, *own.shape[1:])
    whole[:: group.size] = own
    for rank in range(1, group.size):
        part = torch.empty_like(whole[rank :: group.size])
        dist.recv(part, rank)
        whole[rank :: group.size] = part
    return whole


def _hand(whole: Tensor | None, shape: list[int], dtype: torch.dtype, is_divided: bool, group: RankGroup) -> Tensor:
    """One tensor of the first process, or this process's rows of it."""
    if not is_divided:
        tensor = torch.empty(shape, dtype=dtype) if whole is None else whole.contiguous()
        group.copy_first([tensor])
        return tensor
    if whole is not None:
        for rank in range(1, group.size):
            dist.send(whole[rank :: group.size].contiguous(), rank)
        return whole[:: group.size].contiguous()
    part = torch.empty(len(range(group.rank, shape[0], group.size)), *shape[1:], dtype=dtype)
    dist.recv(part, 0)
    return part
