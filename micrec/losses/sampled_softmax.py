"""The matching loss L_S: sampled softmax of Eq. 7, its sampling corrections, and its cheaper layouts.

Sampled negatives stand for the whole catalogue, so an item drawn often is pushed down too often unless its logit is
lowered by log Q. Everywhere in this module ``log_q`` is the log of the *expected number of times* an item occurs among
the negatives of a row: log(K q_j) for K independent draws with probability q_j. With f = score / tau:

- ``none``: logits are f. Exact only if Q is constant, as for uniform negatives, and then up to a shift of the loss.
- ``standard``: f - log_q for the negatives and the positive alike (candidate sampling; Yi et al., RecSys 2019). At its
  optimum f = log P(item | user) + constant.
- ``refined``: f - log_q for the negatives only (Khrylchenko et al., RecSys 2025, arXiv 2507.09331): the positive was
  not drawn, it is always there. Since E[sum over draws of e^(f - log_q)] = sum over items of e^f, the loss estimates
  the full softmax loss itself. Their loss is written  -sg(1 - p) log(e^f+ / Z),  Z = sum over negatives of
  e^(f - log_q),  p = e^f+ / (e^f+ + Z),  sg = stop-gradient; its gradient, (1 - p) (grad log Z - grad f+), is that of
  log(e^f+ + Z) - f+, which is what we return, because its value is >= 0 and comparable to the full softmax loss.
  Here constants matter: uniform negatives need log_q = log(K / N).

The correction comes after the division by the temperature: the other order scales log Q by 1 / tau.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from micrec.losses.info_nce import Denominator, Reduction, check_choice, check_temperature, softmax_loss, widen

LogQ = Literal["none", "standard", "refined"]


def sampled_softmax(
    positive: Tensor,
    negative: Tensor,
    *,
    negative_mask: Tensor | None = None,
    positive_log_q: Tensor | None = None,
    negative_log_q: Tensor | None = None,
    temperature: float,
    denominator: Denominator = "with_positive",
    logq: LogQ = "none",
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of each row's clicked item against its sampled negatives (Eq. 7).

    Args:
        positive: Scores of the clicked items, shape (B,).
        negative: Scores of the negatives, shape (B, K).
        negative_mask: True where ``negative`` counts, shape (B, K) or (1, K); None = everywhere. Mask negatives that
            are the row's own positive or another click of its user.
        positive_log_q: Log expected count of each positive among the negatives, shape (B,); used by ``standard``.
        negative_log_q: Log expected count of each negative, shape (K,) or (B, K); used by ``standard`` and ``refined``.
        temperature: tau, > 0, no unit.
        denominator: ``with_positive``, or ``negatives_only`` as Eq. 7 is printed; see ``info_nce``. The latter drops
            the weight 1 - p of ``refined``.
        logq: The correction, see the module's docstring.
        reduction: ``mean`` over rows or ``sum``.

    Returns:
        Loss in nats, shape (). Rows without a negative cost 0, and do not count under ``negatives_only``.

    Raises:
        ValueError: If shapes disagree, ``temperature`` is not positive, a choice is unknown, or ``logq`` needs a
            ``log_q`` that is missing.
    """
    check_temperature(temperature)
    return _softmax_loss(
        widen(positive) / temperature,
        widen(negative) / temperature,
        negative_mask,
        *_corrections(logq, positive_log_q, negative_log_q),
        denominator=denominator,
        reduction=reduction,
    )


def shared_softmax(
    user_emb: Tensor,
    positive_emb: Tensor,
    negative_emb: Tensor,
    *,
    positive_ids: Tensor | None = None,
    negative_ids: Tensor | None = None,
    user_clicked: Tensor | None = None,
    positive_log_q: Tensor | None = None,
    negative_log_q: Tensor | None = None,
    temperature: float,
    denominator: Denominator = "with_positive",
    logq: LogQ = "none",
    reduction: Reduction = "mean",
) -> Tensor:
    """``sampled_softmax`` where all rows share one draw of negatives: one matrix product instead of B * K gathers.

    For mixed negatives pass the batch's items and the draw, concatenated, as negatives, with
    log(expected count in the batch + expected count in the draw) as ``log_q``.

    Args:
        user_emb: User embeddings, shape (B, D).
        positive_emb: Embeddings of the clicked items, shape (B, D).
        negative_emb: Embeddings of the shared negatives, shape (K, D).
        positive_ids: Item ids of the clicks, shape (B,). A negative with the same id is masked in that row.
        negative_ids: Item ids of the negatives, shape (K,); with ``positive_ids`` or not at all.
        user_clicked: True where the row's user has clicked the negative, which is then masked, bool, shape (B, K).
        positive_log_q: As in ``sampled_softmax``, shape (B,).
        negative_log_q: As in ``sampled_softmax``, shape (K,).
        temperature: tau, > 0, no unit.
        denominator: As in ``sampled_softmax``.
        logq: As in ``sampled_softmax``.
        reduction: As in ``sampled_softmax``.

    Returns:
        Loss in nats, shape ().

    Raises:
        ValueError: As ``sampled_softmax``, and if only one of the id tensors is given.
    """
    check_temperature(temperature)
    if user_emb.shape != positive_emb.shape:
        raise ValueError(
            f"user_emb {tuple(user_emb.shape)} and the clicked items' embeddings {tuple(positive_emb.shape)} "
            "must have the same shape (B, D): pass one clicked item per user."
        )
    _check_pool(user_emb, "negative_emb", negative_emb)
    user_emb = user_emb / temperature  # scale (B, D) rather than (B, K)
    return _softmax_loss(
        (user_emb * positive_emb).sum(dim=1),
        user_emb @ negative_emb.T,  # (B, K)
        _collision_mask(positive_ids, negative_ids, user_clicked),
        *_corrections(logq, positive_log_q, negative_log_q),
        denominator=denominator,
        reduction=reduction,
    )


def in_batch_softmax(
    user_emb: Tensor,
    item_emb: Tensor,
    *,
    item_ids: Tensor | None = None,
    user_clicked: Tensor | None = None,
    log_q: Tensor | None = None,
    temperature: float,
    denominator: Denominator = "with_positive",
    logq: LogQ = "none",
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of each user's clicked item against the other items of the batch (Eq. 7).

    Args:
        user_emb: User embeddings, shape (B, D).
        item_emb: Item embeddings, shape (B, D); row i is what user i clicked.
        item_ids: Ids of the clicked items, shape (B,): a column with the row's own item is masked. None = all differ.
        user_clicked: True at (i, j) where user i has clicked item j, which is then masked, bool, shape (B, B).
        log_q: Log expected count of each item among the other rows, shape (B,): log((B - 1) * its share of clicks).
        temperature: tau, > 0, no unit.
        denominator: As in ``sampled_softmax``.
        logq: As in ``sampled_softmax``. Batch negatives are drawn by popularity, so ``none`` penalises popular items.
        reduction: As in ``sampled_softmax``.

    Returns:
        Loss in nats, shape ().

    Raises:
        ValueError: As ``sampled_softmax``.
    """
    ids = torch.arange(len(item_emb), device=item_emb.device) if item_ids is None else item_ids
    return shared_softmax(
        user_emb,
        item_emb,
        item_emb,
        positive_ids=ids,
        negative_ids=ids,
        user_clicked=user_clicked,
        positive_log_q=log_q,
        negative_log_q=log_q,
        temperature=temperature,
        denominator=denominator,
        logq=logq,
        reduction=reduction,
    )


def full_softmax(
    user_emb: Tensor,
    item_emb: Tensor,
    targets: Tensor,
    *,
    negative_mask: Tensor | None = None,
    temperature: float,
    denominator: Denominator = "with_positive",
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of each user's clicked item against every other item (Eq. 7 with S- = the catalogue).

    Exact, with B * N logits in memory: for catalogues of up to some 10^4 items.

    Args:
        user_emb: User embeddings, shape (B, D).
        item_emb: Embeddings of all items, shape (N, D).
        targets: Row of ``item_emb`` each user clicked, int64, shape (B,).
        negative_mask: True where an item counts as a negative, shape (B, N) or (1, N); None = everywhere. The target
            is never its own negative.
        temperature: tau, > 0, no unit.
        denominator: As in ``sampled_softmax``.
        reduction: As in ``sampled_softmax``.

    Returns:
        Loss in nats, shape ().

    Raises:
        ValueError: If shapes disagree, ``temperature`` is not positive, or a choice is unknown.
    """
    check_temperature(temperature)
    _check_pool(user_emb, "item_emb", item_emb)
    shape = (len(user_emb), len(item_emb))
    if targets.shape != shape[:1]:
        raise ValueError(
            f"targets {tuple(targets.shape)} and user_emb {tuple(user_emb.shape)} must have shapes (B,) and (B, D): "
            "pass one clicked item per user."
        )
    if negative_mask is None:
        negative_mask = torch.ones((1, 1), dtype=torch.bool, device=user_emb.device)
    elif negative_mask.shape not in (shape, (1, shape[1])):
        raise ValueError(f"negative_mask {tuple(negative_mask.shape)} must have shape (B, N) = {shape} or (1, N).")
    logits = (user_emb / temperature) @ item_emb.T  # (B, N)
    column = targets[:, None]
    return _softmax_loss(
        logits.gather(1, column).squeeze(1),
        logits,
        negative_mask.expand(shape).scatter(1, column, False),
        None,
        None,
        denominator=denominator,
        reduction=reduction,
    )


def row_softmax(
    positive: Tensor,
    negative: Tensor,
    rows: Tensor,
    *,
    negative_mask: Tensor | None = None,
    own_columns: Tensor | None = None,
    positive_log_q: Tensor | None = None,
    negative_log_q: Tensor | None = None,
    denominator: Denominator = "with_positive",
    logq: LogQ = "none",
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of several clicked items of each row against the negatives of the row (Eq. 7 for each click).

    A row is a user at one moment, such as the start of a session, whose scores are computed once for all T clicks.

    Args:
        positive: Scores of the clicked items, divided by the temperature, shape (T,).
        negative: Scores of the negatives of each row, likewise, shape (B, K).
        rows: Row of each clicked item, int64, shape (T,).
        negative_mask: True where ``negative`` counts, shape (B, K); mask the clicked items of the row.
        own_columns: Where ``negative`` holds the scores of all items, the clicked items among them: the column of each,
            int64, shape (T,). An item then meets all others, the row's other clicks too; without a mask.
        positive_log_q: As in ``sampled_softmax``, shape (T,).
        negative_log_q: As in ``sampled_softmax``, shape (K,).
        denominator: As in ``sampled_softmax``.
        logq: As in ``sampled_softmax``.
        reduction: ``mean`` over the clicked items, or ``sum``.

    Returns:
        Loss in nats, shape ().

    Raises:
        ValueError: If shapes disagree, a choice is unknown, or ``logq`` needs a ``log_q`` that is missing.
    """
    if positive.ndim != 1 or rows.shape != positive.shape or negative.ndim != 2:
        raise ValueError(
            f"positive {tuple(positive.shape)}, rows {tuple(rows.shape)} and negative {tuple(negative.shape)} must "
            "have shapes (T,), (T,) and (B, K): pass the row of each clicked item."
        )
    check_choice("denominator", denominator, get_args(Denominator))
    positive_log_q, negative_log_q = _corrections(logq, positive_log_q, negative_log_q)
    positive = _subtract("positive", widen(positive), positive_log_q)
    negative = _subtract("negative", widen(negative), negative_log_q)
    if own_columns is not None and denominator == "with_positive":
        losses = torch.logsumexp(negative, dim=1)[rows] - positive
        return losses.sum() if reduction == "sum" else losses.mean()
    if own_columns is not None or denominator == "negatives_only":  # each click has negatives of its own, (T, K)
        used = torch.ones_like(negative, dtype=torch.bool) if negative_mask is None else negative_mask
        used = used[rows] if own_columns is None else used[rows].scatter(1, own_columns[:, None], False)
        return softmax_loss(
            positive[:, None], negative[rows], negative_mask=used, denominator=denominator, reduction=reduction
        )
    lowest = torch.finfo(negative.dtype).min
    others = torch.logsumexp(negative if negative_mask is None else negative.masked_fill(~negative_mask, lowest), dim=1)
    losses = F.softplus(others[rows] - positive, threshold=40.0)
    return losses.sum() if reduction == "sum" else losses.mean()


def _softmax_loss(
    positive: Tensor,
    negative: Tensor,
    negative_mask: Tensor | None,
    positive_log_q: Tensor | None,
    negative_log_q: Tensor | None,
    *,
    denominator: Denominator,
    reduction: Reduction,
) -> Tensor:
    """The common core: logits (B,) and (B, K), already divided by the temperature, minus log_q where given."""
    if positive.ndim != 1 or negative.ndim != 2 or len(positive) != len(negative):
        raise ValueError(
            f"positive {tuple(positive.shape)} and negative {tuple(negative.shape)} must have shapes (B,) and (B, K): "
            "pass one clicked item per row."
        )
    return softmax_loss(
        _subtract("positive", positive, positive_log_q)[:, None],  # (B, 1)
        _subtract("negative", negative, negative_log_q),
        negative_mask=negative_mask,
        denominator=denominator,
        reduction=reduction,
    )


def _subtract(name: str, logits: Tensor, log_q: Tensor | None) -> Tensor:
    """Logits minus log_q, which is broadcast over rows; in float32 or wider."""
    if log_q is None:
        return logits
    if log_q.shape not in (logits.shape, logits.shape[-1:]):
        raise ValueError(
            f"{name}_log_q {tuple(log_q.shape)} must have the shape of {name} {tuple(logits.shape)}, or of its rows."
        )
    logits = widen(logits)
    return logits - log_q.to(logits.dtype)


def _corrections(
    logq: LogQ, positive_log_q: Tensor | None, negative_log_q: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """What ``logq`` subtracts from the logits of the positives and of the negatives; None = nothing."""
    check_choice("logq", logq, get_args(LogQ))
    if logq == "none":
        return None, None
    if negative_log_q is None or (logq == "standard" and positive_log_q is None):
        needed = "positive_log_q and negative_log_q" if logq == "standard" else "negative_log_q"
        raise ValueError(f"logq={logq} needs {needed}: pass the log of the expected counts, or logq=none.")
    return (positive_log_q if logq == "standard" else None), negative_log_q


def _collision_mask(
    positive_ids: Tensor | None, negative_ids: Tensor | None, user_clicked: Tensor | None
) -> Tensor | None:
    """True where a shared negative is neither the row's own positive nor another click of its user, (B, K)."""
    if (positive_ids is None) != (negative_ids is None):
        raise ValueError("positive_ids and negative_ids go together: pass both, or neither.")
    mask = None if user_clicked is None else ~user_clicked
    if positive_ids is None or negative_ids is None:
        return mask
    differ = positive_ids[:, None] != negative_ids  # (B, K)
    return differ if mask is None else differ & mask


def _check_pool(user_emb: Tensor, name: str, pool_emb: Tensor) -> None:
    if user_emb.ndim != 2 or pool_emb.ndim != 2 or pool_emb.shape[1] != user_emb.shape[1]:
        raise ValueError(
            f"user_emb {tuple(user_emb.shape)} and {name} {tuple(pool_emb.shape)} must be matrices of the same width D."
        )
