"""Where a model puts its items: uniformity, alignment, anisotropy, rank, and what length has to do with popularity.

Accuracy says whether a loss helps; these say what it does. All but ``norm_popularity`` look at directions, as
embeddings of unit length u, and only at items with training clicks.

=====================  =============================================================================================
uniformity             log of the mean of exp(-2 |u_i - u_j|^2) over pairs of distinct items, all alike (Wang and
                       Isola 2020, arXiv 2005.10242, t = 2); <= 0, and the lower the more evenly spread
uniformity_clicks      the same over pairs drawn by training clicks: the spread of what is popular
alignment_X            mean |u - v|^2 over pairs that belong together (same paper, alpha = 2), in [0, 4]: 0 = the same
                       place, 2 = at right angles. X: ``clicks`` (test user and clicked item), ``sessions`` (clicked
                       in one session of the test part), ``titles`` (nearest titles), ``categories``, ``links``
nearer_X               share of those pairs that are nearer to each other than the first is to a random item, ties
                       half, in [0, 1]; 0.5 = chance. Unlike alignment, it gains nothing if all items move together
anisotropy             mean cosine of two distinct items (Ethayarajh 2019, arXiv 1909.00512), in [-1, 1]
effective_rank         exp of the entropy of the singular values of the centred u, normalised to sum 1 (Roy and
                       Vetterli 2007), in [1, D]: how many directions the items really use
norm_popularity        Spearman's correlation of an embedding's length with the item's training clicks, in [-1, 1]
=====================  =============================================================================================

A figure that is undefined is left out: unknown links have no alignment, equal lengths no correlation. The cost does
not grow with the catalogue beyond ``MOST_ITEMS`` items, an even sample of which stands for all; uniformity looks at all
pairs of at most ``MOST_PAIRED`` items.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.evaluation.pairs import Pairs, even_sample
from micrec.evaluation.task import EvalTask

MOST_ITEMS = 100_000
MOST_PAIRED = 4_096
_T = 2.0  # of the Gaussian potential
_BLOCK = 1_024  # rows of a block of distances


def geometry(
    user_emb: Tensor, item_emb: Tensor, task: EvalTask, pairs: Mapping[str, Pairs], *, rng: np.random.Generator
) -> dict[str, float]:
    """All figures of the module's table, by name.

    Args:
        user_emb: One row per query of the task, shape (Q, D), or K interests each, (Q, K, D), of which the one nearest
            to the clicked item counts.
        item_emb: One row per item of the catalogue, shape (N, D).
        task: Candidates and training clicks.
        pairs: What belongs together, by kind, from ``positive_pairs``; under ``clicks`` the first of a pair is a query.
        rng: Draws samples and random items: equal for all models that are compared.
    """
    known = np.flatnonzero(task.candidates)
    figures = {"uniformity": uniformity(unit(_rows(item_emb, even_sample(known, MOST_PAIRED))))}
    drawn, weights = by_clicks(known, task.train_clicks, rng)
    figures["uniformity_clicks"] = uniformity(unit(_rows(item_emb, drawn)), weights=weights)
    for kind, found in pairs.items():
        second, random = (unit(_rows(item_emb, ids)) for ids in (found.second, rng.choice(known, len(found.first))))
        first = unit(_rows(user_emb if kind == "clicks" else item_emb, found.first))
        if first.dim() == 3:
            first = nearest_interest(first, second)
        figures[f"alignment_{kind}"] = alignment(first, second)
        figures[f"nearer_{kind}"] = nearer(first, second, random)
    shown = even_sample(known, MOST_ITEMS)
    embeddings = _rows(item_emb, shown)
    figures["anisotropy"] = anisotropy(unit(embeddings))
    figures["effective_rank"] = effective_rank(unit(embeddings))
    lengths = embeddings.double().norm(dim=1).cpu().numpy()
    figures["norm_popularity"] = rank_correlation(lengths, task.train_clicks[shown])
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def unit(embeddings: Tensor) -> Tensor:
    """Rows of length 1, float32; a zero row stays zero."""
    return torch.nn.functional.normalize(embeddings.detach().float(), dim=-1)


def uniformity(units: Tensor, *, weights: NDArray[np.float64] | None = None) -> float:
    """Log mean Gaussian potential over ordered pairs of distinct rows, streamed.

    Args:
        units: Rows of length 1, shape (n, D).
        weights: A pair counts with the product of its rows' weights, shape (n,); None = all alike.

    Returns:
        nats; nan for less than two rows.
    """
    w = np.ones(len(units)) if weights is None else weights.astype(np.float64)
    total_weight = float(w.sum() ** 2 - (w**2).sum())
    if len(units) < 2 or total_weight <= 0:
        return float("nan")
    share = torch.from_numpy(w).to(units.device)
    total = 0.0
    for start in range(0, len(units), _BLOCK):
        rows = slice(start, start + _BLOCK)
        distance = (2.0 - 2.0 * units[rows] @ units.T).clamp_min_(0.0)  # (B, n), |u_i - u_j|^2
        potential = distance.mul_(-_T).exp_()
        potential[torch.arange(len(potential)), torch.arange(start, start + len(potential))] = 0.0
        total += float(share[rows] @ (potential.double() @ share))
    return float(np.log(total / total_weight))


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of the rows (P, D) of two matrices; nan without rows."""
    if not len(first):
        return float("nan")
    return float((first - second).double().square().sum(dim=1).mean())


def nearer(first: Tensor, second: Tensor, random: Tensor) -> float:
    """Share of rows in which ``first`` is nearer to ``second`` than to ``random``, all unit rows, shape (P, D)."""
    if not len(first):
        return float("nan")
    gap = (first * second).sum(dim=1) - (first * random).sum(dim=1)  # of cosines
    return float(((gap > 0).double() + 0.5 * (gap == 0).double()).mean())


def nearest_interest(interests: Tensor, items: Tensor) -> Tensor:
    """The one of K unit rows, shape (P, K, D), that is nearest to the item in the same row (P, D); shape (P, D)."""
    best = torch.einsum("pkd,pd->pk", interests, items).argmax(dim=1)
    return interests[torch.arange(len(best), device=best.device), best]


def anisotropy(units: Tensor) -> float:
    """Mean cosine of two distinct rows of ``units`` (n, D), exact in one pass; nan for less than two rows."""
    n = len(units)
    if n < 2:
        return float("nan")
    total, own = units.new_zeros(units.shape[1], dtype=torch.float64), 0.0
    for block in units.split(MOST_PAIRED):
        total += block.double().sum(dim=0)
        own += float(block.double().square().sum())
    return (float(total.square().sum()) - own) / (n * (n - 1))


def effective_rank(embeddings: Tensor) -> float:
    """Exp of the entropy of the singular values of the centred rows (n, D); nan if all rows are alike."""
    mean = embeddings.double().mean(dim=0)
    dim = embeddings.shape[1]
    gram = torch.zeros(dim, dim, dtype=torch.float64, device=embeddings.device)
    for block in embeddings.split(MOST_PAIRED):
        centred = block.double() - mean
        gram += centred.T @ centred
    values = torch.linalg.eigvalsh(gram).clamp_min(0.0).sqrt().cpu().numpy()  # singular values
    if values[-1] <= 1e-9 * np.sqrt(len(embeddings)):
        return float("nan")
    shares = values[values > 1e-7 * values[-1]]  # below that, rounding of the Gram matrix
    shares = shares / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def rank_correlation(a: NDArray[np.floating], b: NDArray[np.number]) -> float:
    """Spearman's correlation, ties at their mean rank; nan if one of them does not vary beyond rounding."""
    from scipy.stats import rankdata

    if len(a) < 2 or np.ptp(a) <= 1e-6 * np.abs(a).max() or np.ptp(b) == 0:
        return float("nan")
    x, y = rankdata(a), rankdata(b)
    x, y = x - x.mean(), y - y.mean()
    return float((x @ y) / np.sqrt((x @ x) * (y @ y)))


def by_clicks(
    items: NDArray[np.int64], clicks: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Distinct items with weights that stand for a draw by clicks: all items where they are few, else a sample."""
    weights = clicks[items].astype(np.float64)
    if len(items) <= MOST_PAIRED:
        return items, weights
    drawn = rng.choice(items, MOST_PAIRED, p=weights / weights.sum())
    distinct, times = np.unique(drawn, return_counts=True)
    return distinct, times.astype(np.float64)


def _rows(embeddings: Tensor, rows: NDArray[np.int64]) -> Tensor:
    return embeddings.detach()[torch.from_numpy(rows).to(embeddings.device)]
