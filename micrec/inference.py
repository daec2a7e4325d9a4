"""Embeddings of all items and of users with given histories, in blocks, without gradients."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.models.columns import FieldColumns, Ragged, gather_ranges
from micrec.models.two_tower import TwoTower

BLOCK = 16_384  # rows per forward pass


@torch.no_grad()
def encode_items(model: TwoTower, items: FieldColumns) -> tuple[Tensor, Tensor]:
    """Raw fields (N, F, D) and tower outputs (N, D), float32, of all rows of ``items``."""
    model.eval()
    device = _device(model)
    fields, embeddings = [], []
    for start in range(0, items.n, BLOCK):
        rows = torch.arange(start, min(start + BLOCK, items.n), device=device)
        block = model.embed_items(items.take(rows))
        fields.append(block)
        embeddings.append(model.item_tower(block).float())
    return torch.cat(fields), torch.cat(embeddings)


@torch.no_grad()
def encode_users(model: TwoTower, users: FieldColumns, history: Ragged, item_fields: Tensor) -> Tensor:
    """User embeddings, shape (Q, D), float32: row i has the fields ``users[i]`` and clicked ``history[i]``.

    With K interests the shape is (Q, K, D). Histories longer than the model's ``history_length`` are cut to their
    latest clicks.
    """
    model.eval()
    length = model.config.history_length
    stops = history.offsets[1:]
    starts = torch.maximum(history.offsets[:-1], stops - length)
    embeddings = []
    for begin in range(0, users.n, BLOCK):
        end = min(begin + BLOCK, users.n)
        rows = torch.arange(begin, end, device=_device(model))
        clicks = gather_ranges(history.values, starts[begin:end], stops[begin:end])
        embeddings.append(model.user_tower(users.take(rows), clicks, item_fields).float())
    interests = [] if model.interests is None else [model.interests]
    return torch.cat(embeddings) if embeddings else item_fields.new_zeros(0, *interests, model.output_dim)


def histories_of(
    items: NDArray[np.int32], begin: NDArray[np.int64], end: NDArray[np.int64], length: int, device: torch.device
) -> Ragged:
    """The latest ``length`` clicks of every range ``items[begin : end]``, on the device."""
    starts = torch.from_numpy(np.maximum(begin, end - length))
    ragged = gather_ranges(torch.from_numpy(items), starts, torch.from_numpy(np.asarray(end)))
    return Ragged(ragged.values.long().to(device), ragged.offsets.to(device))


def _device(model: TwoTower) -> torch.device:
    return next(model.parameters()).device
