"""Embeddings of all items and of users with given histories, in blocks, without gradients."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.data.recency import faded
from micrec.models.columns import FieldColumns, Ragged, range_places
from micrec.models.counted import count_items
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
    embeddings = []
    for begin in range(0, users.n, BLOCK):
        end = min(begin + BLOCK, users.n)
        rows = torch.arange(begin, end, device=_device(model))
        clicks = history.take(rows).latest(model.config.history_length)
        embeddings.append(model.user_tower(users.take(rows), clicks, item_fields).float())
    interests = [] if model.interests is None else [model.interests]
    return torch.cat(embeddings) if embeddings else item_fields.new_zeros(0, *interests, model.output_dim)


@torch.no_grad()
def own_items(model: TwoTower, history: Ragged, n_items: int) -> Ragged | None:
    """The distinct items of each history, ascending, with the personal term as weights; None without such a term.

    Histories longer than the model's ``history_length`` are cut to their latest clicks.
    """
    if model.personal is None:
        return None
    counted = count_items(history.latest(model.config.history_length), n_items)
    assert counted.weights is not None
    return counted._replace(weights=model.personal(counted.weights))


@torch.no_grad()
def item_priors(model: TwoTower, items: FieldColumns, popularity: Tensor | None) -> Tensor | None:
    """What the score of every item has beside the dot product, shape (N, m), on m days; None without a prior.

    Args:
        model: The model.
        items: Encoded fields of N items.
        popularity: Their ``DriftingPopularity`` on m days, shape (N, m); None where the model does not read it, m = 1.
    """
    if model.prior is None:
        return None
    if popularity is None:
        popularity = torch.zeros(items.n, 1, device=_device(model))
    return model.prior(model.id_codes(items), popularity).float()


def join_prior(user_emb: Tensor, item_emb: Tensor, prior: Tensor, days: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Embeddings whose dot products have the prior in them: one more dimension for each day.

    Args:
        user_emb: Shape (Q, D) or (Q, K, D).
        item_emb: Shape (N, D).
        prior: Shape (N, m).
        days: Which of the m days each user is asked on, shape (Q,); None: the first.

    Returns:
        User embeddings (Q, D + m) or (Q, K, D + m), and item embeddings (N, D + m).
    """
    m = prior.shape[1]
    chosen = user_emb.new_zeros(len(user_emb), m)
    chosen[torch.arange(len(user_emb), device=user_emb.device), 0 if days is None else days] = 1.0
    if user_emb.dim() == 3:
        chosen = chosen[:, None].expand(-1, user_emb.shape[1], -1)
    return torch.cat([user_emb, chosen], dim=-1), torch.cat([item_emb, prior.to(item_emb)], dim=1)


def histories_of(
    items: NDArray[np.int32],
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    length: int,
    device: torch.device,
    *,
    click_ms: NDArray[np.int64] | None = None,
    now_ms: NDArray[np.int64] | None = None,
    half_life_days: float | None = None,
) -> Ragged:
    """The latest ``length`` clicks of every range ``items[begin : end]``, on the device.

    With a half-life they have weights: what each click, made at ``click_ms`` (n,), counts at ``now_ms`` (Q,).
    """
    starts = torch.from_numpy(np.maximum(begin, end - length))
    where, offsets = range_places(starts, torch.from_numpy(np.asarray(end)))
    history = Ragged(torch.from_numpy(items)[where].long().to(device), offsets.to(device))
    if half_life_days is None or click_ms is None or now_ms is None:
        return history
    rows = history.rows.cpu()
    age_ms = torch.from_numpy(now_ms)[rows] - torch.from_numpy(click_ms)[where]
    return history._replace(weights=faded(age_ms, half_life_days).to(device))


def _device(model: TwoTower) -> torch.device:
    return next(model.parameters()).device
