"""Dropouts that make a second view of an item (paper 3.3): of elements, of whole fields, of the values of a field.

Random numbers are drawn on the generator's device and moved to the data's.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from micrec.losses.info_nce import check_choice

MaskPer = Literal["item", "batch"]


def element_dropout(fields: Tensor, ratio: float, *, rescale: bool = True, generator: torch.Generator) -> Tensor:
    """Element-level dropout: each number becomes 0 with probability ``ratio``, on its own.

    Args:
        fields: Field embeddings, shape (n, F, D); any shape works.
        ratio: Share dropped, in [0, 1), no unit; rounded to a multiple of 2**-16.
        rescale: Divide what is kept by 1 - ``ratio``, as dropout layers do, so that the mean does not change.
        generator: Source of the draws.

    Returns:
        A new tensor of the same shape and dtype.

    Raises:
        ValueError: If ``ratio`` is outside [0, 1).
    """
    _check_ratio(ratio)
    keep = _random_16_bit(fields.numel(), generator) >= round(ratio * 2**16) - 2**15
    factor = keep.view(fields.shape).to(fields.device, fields.dtype)
    return fields * (factor.div_(1.0 - ratio) if rescale else factor)


def field_dropout(fields: Tensor, ratio: float, *, per: MaskPer = "item", generator: torch.Generator) -> Tensor:
    """Field-level dropout: whole fields become 0, at least one is kept, nothing is rescaled.

    Each field is dropped with probability ``ratio``, on its own, given that not all are. Draws that would empty an
    item being excluded, a field is dropped with probability (ratio - ratio**F) / (1 - ratio**F), less than ``ratio``.

    Args:
        fields: Field embeddings, shape (n, F, D).
        ratio: Probability of dropping a field, in [0, 1), no unit.
        per: Draw the fields anew for each ``item``, or once for the whole ``batch``.
        generator: Source of the draws.

    Returns:
        A new tensor of the same shape and dtype.

    Raises:
        ValueError: If ``ratio`` is outside [0, 1), ``fields`` is not (n, F, D) with F >= 1, or ``per`` is unknown.
    """
    _check_ratio(ratio)
    check_choice("per", per, get_args(MaskPer))
    if fields.ndim != 3 or fields.shape[1] == 0:
        raise ValueError(f"fields {tuple(fields.shape)} must have shape (n, F, D) with at least one field.")
    n_rows, n_fields = (fields.shape[0] if per == "item" else 1), fields.shape[1]
    lengths = torch.full((n_rows, 1), n_fields, device=generator.device)
    position = torch.arange(n_fields, device=generator.device)
    keep = _keep_some(position, _first_kept(lengths, ratio, generator), (n_rows, n_fields), ratio, generator)
    return keep_fields(fields, keep.to(fields.device))


def random_halves(n_rows: int, n_fields: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random feature masking (RFM, Yao et al., CIKM 2021, sec. 3.2): two views that share no field.

    The first view hides floor(F / 2) fields of each row, drawn without replacement; the second view hides the others.

    Args:
        n_rows: Rows with a draw of their own, n; 1 = one draw for a whole batch.
        n_fields: Fields, F.
        generator: Source of the draws.

    Returns:
        Fields kept by the first and by the second view, bool, shape (n, F) each, on the generator's device.

    Raises:
        ValueError: If there are fewer than two fields.
    """
    if n_fields < 2:
        raise ValueError(f"{n_fields} field cannot be split between two views: use element dropout.")
    rank = torch.rand(n_rows, n_fields, generator=generator, device=generator.device).argsort(dim=1).argsort(dim=1)
    keep = rank >= n_fields // 2
    return keep, ~keep


def keep_fields(fields: Tensor, keep: Tensor) -> Tensor:
    """Set whole fields to zero.

    Args:
        fields: Field embeddings, shape (n, F, D).
        keep: True where a field stays, bool, shape (F,), (1, F) or (n, F).

    Returns:
        A new tensor of the same shape and dtype.
    """
    return fields * keep.unsqueeze(-1)


def drop_tags(values: Tensor, offsets: Tensor, ratio: float, *, generator: torch.Generator) -> Tensor:
    """Categorial dropout: ignore some values of a multi-valued field, but never all values of a row.

    Each value is dropped with probability ``ratio``, on its own, given that its row keeps at least one (as
    ``field_dropout``); the only value of a row always stays.

    Args:
        values: Codes of all rows, shape (nnz,).
        offsets: Row i owns ``values[offsets[i] : offsets[i + 1]]``, int64, shape (n + 1,), from 0 to nnz.
        ratio: Probability of dropping a value, in [0, 1), no unit.
        generator: Source of the draws.

    Returns:
        True where the value is kept, bool, shape (nnz,), on the device of ``values``.

    Raises:
        ValueError: If ``ratio`` is outside [0, 1), or ``offsets`` is empty.
    """
    _check_ratio(ratio)
    _check_offsets(offsets)
    device = generator.device
    starts, lengths = offsets[:-1].to(device), offsets.diff().to(device)
    first = starts + _first_kept(lengths, ratio, generator)  # (n,) positions in values
    first_of_value = torch.repeat_interleave(first, lengths, output_size=len(values))  # (nnz,)
    position = torch.arange(len(values), device=device)
    return _keep_some(position, first_of_value, (len(values),), ratio, generator).to(values.device)


def drop_padded(mask: Tensor, ratio: float, *, generator: torch.Generator) -> Tensor:
    """``drop_tags`` for rows of fixed width: True where a value is kept, bool, shape (n, T).

    Args:
        mask: True where a value is, bool, shape (n, T).
        ratio: As in ``drop_tags``.
        generator: Source of the draws.
    """
    _check_ratio(ratio)
    shown = mask.to(generator.device)
    rank = shown.cumsum(dim=1) - 1
    first = _first_kept(shown.sum(dim=1, keepdim=True), ratio, generator)
    return (_keep_some(rank, first, tuple(mask.shape), ratio, generator) & shown).to(mask.device)


def keep_values(values: Tensor, offsets: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """The rows with only their kept values.

    Args:
        values: Values of all rows, shape (nnz,).
        offsets: Row i owns ``values[offsets[i] : offsets[i + 1]]``, int64, shape (n + 1,), from 0 to nnz.
        keep: True where a value stays, bool, shape (nnz,).

    Returns:
        Kept values, shape (kept,), and their offsets, shape (n + 1,).

    Raises:
        ValueError: If ``keep`` and ``values`` differ in shape, or ``offsets`` is empty.
    """
    _check_offsets(offsets)
    if keep.shape != values.shape:
        raise ValueError(f"keep {tuple(keep.shape)} must have the shape of values {tuple(values.shape)}.")
    kept_before = torch.zeros(len(values) + 1, dtype=offsets.dtype, device=offsets.device)
    torch.cumsum(keep, dim=0, out=kept_before[1:])
    return values[keep], kept_before[offsets]


def _random_16_bit(count: int, generator: torch.Generator) -> Tensor:
    """Uniform int16 over its whole range, (count,): four from each 64-bit draw, as drawing is what dropout costs."""
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=generator.device)
    return words.random_(-(2**63), None, generator=generator).view(torch.int16)[:count]


def _first_kept(lengths: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    """Position of the first kept entry of each row, given that one is kept.

    With probability r of dropping and n entries, P(first = j) = r^j (1 - r) / (1 - r^n), inverted at a uniform u:
    j = floor(log(1 - u (1 - r^n)) / log r).
    """
    if ratio == 0.0:
        return torch.zeros_like(lengths)
    uniform = torch.rand(lengths.shape, generator=generator, device=generator.device)
    first = torch.log1p(uniform * (ratio**lengths - 1.0)) / math.log(ratio)
    return first.long().clamp(max=lengths - 1)


def _keep_some(
    position: Tensor, first: Tensor, shape: tuple[int, ...], ratio: float, generator: torch.Generator
) -> Tensor:
    """Nothing before the first kept position of the row, that one, and each later one with probability 1 - ratio."""
    later = torch.rand(shape, generator=generator, device=generator.device) >= ratio
    return (position == first) | ((position > first) & later)


def _check_ratio(ratio: float) -> None:
    if not 0.0 <= ratio < 1.0:
        raise ValueError(f"ratio must be in [0, 1), got {ratio}: it is the share that is dropped.")


def _check_offsets(offsets: Tensor) -> None:
    if offsets.ndim != 1 or len(offsets) == 0:
        raise ValueError(f"offsets {tuple(offsets.shape)} must have shape (n + 1,): one start per row, and the end.")
