"""How hard each item loss pulls at the items' embeddings, beside the matching loss: is it heard, and does it agree?

The embedding tables of the items are shared by all losses. For one training step and one weighted item loss l, with g_l
its gradient on all those tables and g_m that of the matching loss:

==============  ====================================================================================================
l_pull          |g_l| / |g_m|: above 1 the item loss outweighs the matching loss
l_agreement     cosine of g_l and g_m, in [-1, 1]: below 0 they work against each other
l_row_share     mean of |g_l| / (|g_l| + |g_m|) over the rows of the tables that either touches, in [0, 1]. Adam scales
                the step of every number by its own gradients, so that small gradients on rare items count as well
==============  ====================================================================================================

What is undefined, for want of a gradient, is left out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

FIGURES = ("pull", "agreement", "row_share")


class RowGradient(NamedTuple):
    """Gradient of one table as rows."""

    rows: Tensor  # (n,) distinct, ascending
    values: Tensor  # (n, D)
    size: int  # rows of the table


def gradient_stats(losses: Mapping[str, Tensor], tables: Sequence[nn.Parameter]) -> dict[str, float]:
    """The figures of the module's table for every loss but ``matching``, by name; the graph is kept.

    Args:
        losses: The weighted losses of one step, each of shape (), one of them ``matching``.
        tables: Embedding tables, shapes (size, D), with dense or row-sparse gradients.
    """
    gradients = {name: row_gradients(loss, tables) for name, loss in losses.items()}
    matching = gradients.pop("matching")
    figures = {}
    for name, own in gradients.items():
        pairs = list(zip(own, matching, strict=True))
        length, reference = norm(own), norm(matching)
        dot = sum(inner(a, m) for a, m in pairs)
        shares = torch.cat([row_shares(a, m) for a, m in pairs])
        if reference:
            figures[f"{name}_pull"] = length / reference
        if length * reference:
            figures[f"{name}_agreement"] = dot / (length * reference)
        if len(shares):
            figures[f"{name}_row_share"] = float(shares.mean())
    return figures


def mean_of(watched: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each figure over the steps at which it is defined."""
    names = dict.fromkeys(name for figures in watched for name in figures)
    found = {name: [figures[name] for figures in watched if name in figures] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}


def early_and_late(log: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Figures of the first and the last watched epoch of a training's last phase, as ``semantic_pull_early``."""
    watched = [entry["gradients"] for entry in log if entry.get("gradients") and entry["phase"] == log[-1]["phase"]]
    if not watched:
        return {}
    when = {"early": watched[0], "late": watched[-1]}
    return {f"{name}_{which}": value for which, figures in when.items() for name, value in figures.items()}


def row_gradients(loss: Tensor, tables: Sequence[nn.Parameter]) -> list[RowGradient]:
    """Gradients of a loss on each table; a table that it does not reach has no rows."""
    found = torch.autograd.grad(loss, tables, retain_graph=True, allow_unused=True)
    return [_rows(gradient, table) for gradient, table in zip(found, tables, strict=True)]


def norm(gradients: Sequence[RowGradient]) -> float:
    """Euclidean length over all tables."""
    return math.sqrt(sum(float(one.values.double().square().sum()) for one in gradients))


def inner(a: RowGradient, b: RowGradient) -> float:
    """Inner product of two gradients on one table."""
    if not len(a.rows) or not len(b.rows):
        return 0.0
    place = torch.searchsorted(b.rows, a.rows).clamp_max(len(b.rows) - 1)
    both = b.rows[place] == a.rows
    return float((a.values[both].double() * b.values[place[both]].double()).sum())


def row_shares(own: RowGradient, other: RowGradient) -> Tensor:
    """|own| / (|own| + |other|) of each row that one of them touches, shape (n,)."""
    first, second = _lengths(own), _lengths(other)
    touched = (first + second) > 0
    return first[touched] / (first + second)[touched]


def _lengths(gradient: RowGradient) -> Tensor:
    lengths = gradient.values.new_zeros(gradient.size)
    return lengths.index_copy_(0, gradient.rows, gradient.values.norm(dim=1))


def _rows(gradient: Tensor | None, table: nn.Parameter) -> RowGradient:
    if gradient is None:
        nothing = torch.zeros(0, dtype=torch.int64, device=table.device)
        return RowGradient(nothing, table.new_zeros(0, table.shape[1]), len(table))
    if gradient.is_sparse:
        gradient = gradient.coalesce()
        return RowGradient(gradient.indices()[0], gradient.values(), len(table))
    return RowGradient(torch.arange(len(table), device=table.device), gradient, len(table))
