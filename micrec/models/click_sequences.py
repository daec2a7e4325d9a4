"""Click histories as padded sequences of item vectors, for the towers that read clicks one by one."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from micrec.models.columns import Ragged
from micrec.models.lookups import take_rows
from micrec.models.padded import PaddedRows

PARTS = 4  # a batch is cut by quarters of the history length
LEAST_ROWS = 256  # smaller batches are not worth cutting


def click_vectors(item_fields: Tensor) -> Tensor:
    """What a click on each item is to the towers, shape (n, D): the mean of its field vectors (n, F, D), times sqrt(D).

    SASRec scales its embeddings so: they start near unit length, where attention and capsules tell them apart.
    """
    return item_fields.mean(dim=1) * item_fields.shape[-1] ** 0.5


def pad_clicks(history: Ragged | PaddedRows, vectors: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The clicks as sequences, newest last, zero before the first.

    Args:
        history: For each user rows of ``vectors``, oldest first; at most ``length`` each.
        vectors: Shape (n, D).
        length: T.

    Returns:
        Vectors, shape (B, T, D), and a mask that is True where a click is, shape (B, T).
    """
    if isinstance(history, PaddedRows):
        return history.sequence(vectors), history.mask
    lengths = history.offsets.diff()
    place = torch.arange(length, device=vectors.device) - (length - lengths)[:, None]  # (B, T), < 0 = padding
    mask = place >= 0
    if len(history.values) == 0:
        return vectors.new_zeros(*mask.shape, vectors.shape[1]), mask
    rows = history.values[(history.offsets[:-1, None] + place).clamp_min(0) * mask]
    padded = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])
    rows = torch.where(mask, rows, len(vectors))
    return (F.embedding(rows, padded) if torch.compiler.is_compiling() else take_rows(padded, rows)), mask


def by_length(history: Ragged, limit: int, encode: Callable[[Ragged, int], Tensor]) -> Tensor:
    """``encode(history, limit)``, but short histories go with their like, so that little padding is computed on.

    Args:
        history: At most ``limit`` clicks each, B rows.
        limit: The longest history.
        encode: Maps histories of at most ``length`` clicks to one result each: ``encode(history, length)``, (b, ...).

    Returns:
        The results in the order of ``history``, shape (B, ...).
    """
    lengths, order = history.offsets.diff().sort()
    cuts = [-(-limit * part // PARTS) for part in range(1, PARTS + 1)]
    ends = torch.searchsorted(lengths, torch.tensor(cuts), right=True).tolist()
    found, start = [], 0
    for cut, end in zip(cuts, ends, strict=True):
        if end > start:
            found.append(encode(history.take(order[start:end]), cut))
        start = max(start, end)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return torch.cat(found).index_select(0, back)


def worth_cutting(history: Ragged | PaddedRows) -> bool:
    """Whether ``by_length`` pays: on a CPU, for a training batch. A GPU would wait for the lengths."""
    if isinstance(history, PaddedRows) or history.offsets.device.type != "cpu":
        return False
    return len(history.offsets) > LEAST_ROWS and not torch.compiler.is_compiling()
