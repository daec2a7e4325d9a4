"""InfoNCE over scores, the common form of Eq. 3-5, and the scores of anchors that share negatives."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Denominator = Literal["with_positive", "negatives_only"]
Reduction = Literal["mean", "sum"]


def info_nce(
    positive: Tensor,
    negative: Tensor,
    *,
    positive_mask: Tensor | None = None,
    negative_mask: Tensor | None = None,
    temperature: float,
    denominator: Denominator = "with_positive",
    reduction: Reduction = "mean",
) -> Tensor:
    """Pull each anchor to each of its positives, away from its negatives (Eq. 3-5).

    The term of anchor i and positive k is -s_ik / tau + log(sum of exp(s_ij / tau)), summed over

    - ``with_positive``: that positive and the negatives, as in SimCLR, which the paper follows. The term is >= 0.
    - ``negatives_only``: the negatives, as Eq. 3-5 are printed (decoupled contrastive learning, arXiv 2110.06848).
      The term may be negative, and is unbounded below unless the scores are bounded: longer embeddings lower it.

    Args:
        positive: Scores g(d_i, d_k), shape (A, P).
        negative: Scores g(d_i, d_j), shape (A, K).
        positive_mask: True where ``positive`` counts, shape (A, P); None = everywhere.
        negative_mask: True where ``negative`` counts, shape (A, K) or (1, K); None = everywhere.
        temperature: tau, > 0, no unit.
        denominator: What the sum runs over, see above.
        reduction: ``sum`` of all terms as printed, or ``mean`` over anchors of the mean over their positives.

    Returns:
        Loss in nats, shape (), float32 or wider. Anchors without a positive do not count, and neither do anchors
        without a negative under ``negatives_only``, where the term is undefined; if none is left the loss is 0.
        Masked entries may hold anything, NaN included, and get zero gradient.

    Raises:
        ValueError: If shapes disagree, ``temperature`` is not positive, or a choice is unknown.
    """
    check_temperature(temperature)
    return softmax_loss(
        widen(positive) / temperature,
        widen(negative) / temperature,
        positive_mask=positive_mask,
        negative_mask=negative_mask,
        denominator=denominator,
        reduction=reduction,
    )


def softmax_loss(
    positive: Tensor,
    negative: Tensor,
    *,
    positive_mask: Tensor | None = None,
    negative_mask: Tensor | None = None,
    denominator: Denominator = "with_positive",
    reduction: Reduction = "mean",
) -> Tensor:
    """``info_nce`` on finished logits: scores already divided by the temperature and corrected."""
    _check_logits(positive, negative, positive_mask, negative_mask)
    check_choice("denominator", denominator, get_args(Denominator))
    valid = torch.ones_like(positive, dtype=torch.bool) if positive_mask is None else positive_mask
    gap = _log_sum_exp(widen(negative), negative_mask) - widen(positive).masked_fill(~valid, 0.0)  # (A, P)
    if denominator == "with_positive":
        terms = F.softplus(gap, threshold=40.0)  # log(1 + e^gap) = -s + log(e^s + sum of e^negative), safe for any gap
    else:
        used = torch.ones_like(negative, dtype=torch.bool) if negative_mask is None else negative_mask
        terms, valid = gap, valid & used.any(dim=1, keepdim=True)
    return _reduce(terms, valid, reduction)


def grouped_scores(anchor_emb: Tensor, negative_emb: Tensor, group_size: int) -> Tensor:
    """Dot products of anchors with the negatives that their group shares.

    Anchors 0 .. group_size - 1 share ``negative_emb[0]``, the next ``group_size`` share ``negative_emb[1]``, and so
    on; the last group may be shorter. One batched matrix product reads G * K rows instead of gathering A * K.
    For cosine scores pass embeddings of unit length.

    Args:
        anchor_emb: Anchors, shape (A, D).
        negative_emb: Negatives of each group, shape (G, K, D) with G = ceil(A / group_size).
        group_size: Anchors per group, >= 1.

    Returns:
        Scores, shape (A, K).

    Raises:
        ValueError: If the shapes do not fit together or ``group_size`` is not positive.
    """
    if group_size < 1:
        raise ValueError(f"group_size must be >= 1, got {group_size}.")
    n_anchors, dim = anchor_emb.shape
    n_groups = -(-n_anchors // group_size)
    if negative_emb.ndim != 3 or negative_emb.shape[0] != n_groups or negative_emb.shape[2] != dim:
        raise ValueError(
            f"negative_emb {tuple(negative_emb.shape)} must have shape (G, K, D) = ({n_groups}, K, {dim}) for "
            f"anchor_emb {tuple(anchor_emb.shape)} in groups of {group_size}: pass one set of negatives per group."
        )
    padding = n_groups * group_size - n_anchors
    padded = F.pad(anchor_emb, (0, 0, 0, padding)) if padding else anchor_emb
    groups = padded.reshape(n_groups, group_size, dim)  # (G, S, D)
    scores = groups @ negative_emb.transpose(1, 2)  # (G, S, K)
    return scores.flatten(0, 1)[:n_anchors]  # (A, K)


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless ``temperature`` is positive."""
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}.")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")


def widen(scores: Tensor) -> Tensor:
    """Half-precision scores as float32; wider ones as they are."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _log_sum_exp(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Row-wise log-sum-exp of the entries in use, shape (A, 1).

    Entries not in use become the lowest finite number rather than -inf, whose gradient is NaN in a row of nothing else.
    """
    lowest = torch.finfo(logits.dtype).min
    if logits.shape[1] == 0:
        return logits.sum(dim=1, keepdim=True) + lowest  # keeps the graph
    used = logits if mask is None else logits.masked_fill(~mask, lowest)
    return torch.logsumexp(used, dim=1, keepdim=True)


def _reduce(terms: Tensor, valid: Tensor, reduction: Reduction) -> Tensor:
    """Sum of the valid terms (A, P), or mean over anchors of the mean over their valid terms."""
    check_choice("reduction", reduction, get_args(Reduction))
    terms = torch.where(valid, terms, 0.0)
    if reduction == "sum":
        return terms.sum()
    count = valid.sum(dim=1)  # (A,)
    per_anchor = terms.sum(dim=1) / count.clamp(min=1)
    return per_anchor.sum() / (count > 0).sum().clamp(min=1)


def _check_logits(
    positive: Tensor, negative: Tensor, positive_mask: Tensor | None, negative_mask: Tensor | None
) -> None:
    if positive.ndim != 2 or negative.ndim != 2 or len(positive) != len(negative):
        raise ValueError(
            f"positive {tuple(positive.shape)} and negative {tuple(negative.shape)} must have shapes (A, P) and "
            "(A, K): pass one row of positives and one of negatives per anchor."
        )
    for name, mask, scores in (("positive", positive_mask, positive), ("negative", negative_mask, negative)):
        if mask is None:
            continue
        if mask.dtype != torch.bool:
            raise ValueError(f"{name}_mask must be bool (True = use), got {mask.dtype}.")
        if mask.ndim != 2 or any(m not in (1, s) for m, s in zip(mask.shape, scores.shape, strict=True)):
            raise ValueError(
                f"{name}_mask {tuple(mask.shape)} must fit {name} {tuple(scores.shape)}: one entry per score."
            )
