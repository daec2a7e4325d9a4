"""Softmax over the whole catalogue, one part of the rows at a time: the scores (B, N) are never in memory as a whole.

At 512 rows and 4,000 items the scores take 8 MB, and a dozen passes over them cost more than the three matrix products.
A part of the rows fits the cache, and its gradient is computed while it is there. On a CPU with several threads each
computes parts of its own, from the first product to the last gradient.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from micrec.shapes import is_fixed
from micrec.threads import side_by_side

RowValues: TypeAlias = Callable[[slice, Tensor], Tensor]

PART_NUMBERS = {"cpu": 1 << 18, "cuda": 1 << 26}  # scores of a part: 1 MB on a CPU


def catalogue_softmax(
    user_emb: Tensor,
    item_emb: Tensor,
    rows: Tensor,
    columns: Tensor,
    *,
    bias: Tensor | None = None,
    drift: Tensor | None = None,
    popularity: RowValues | None = None,
    own: tuple[Tensor, Tensor, Tensor] | None = None,
    counts: Tensor | None = None,
    groups: tuple[Tensor, Sequence[float]] | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Mean cross-entropy of the items that each row is to find against all items; with ``groups`` one for each group.

    The score of row b and item i is ``user_emb[b] . item_emb[i] + bias[i] + drift * popularity[b, i]``, plus
    the term of (b, i) in ``own``; all of it is divided by the temperature.

    Args:
        user_emb: Shape (B, D).
        item_emb: Embeddings of all items, shape (N, D).
        rows: Row of each item to be found, int64, shape (T,), never falling.
        columns: The item, a row of ``item_emb``, int64, shape (T,).
        bias: Shape (N,).
        drift: Weight of the popularity, shape ().
        popularity: Asked for a slice of the rows, and where their values may be put, (b, N), gives the values;
            constants.
        own: Rows, never falling, columns and terms, shape (m,) each; no (row, column) twice, but with a term of 0.
        counts: True where an item counts as one to be found, bool, shape (T,); None: everywhere.
        groups: Group of each row, int64, shape (B,), and the weight of each of the L groups, > 0. The gradient of the
            sum of all groups is at hand; that of any other sum of them is computed anew. None: all rows are one group.
        temperature: tau, > 0.

    Returns:
        Loss in nats, shape (); with ``groups`` the weighted loss of each, shape (L,).
    """
    empty = user_emb.new_zeros(0)
    own_rows, own_columns, own_terms = own or (empty.long(), empty.long(), empty)
    loss: Tensor = _CatalogueSoftmax.apply(
        user_emb,
        item_emb,
        bias,
        drift,
        own_terms,
        (rows, columns, counts),
        (own_rows, own_columns),
        groups,
        popularity,
        temperature,
    )
    return loss if groups is not None else loss.squeeze(0)


class _PairsOfRows(NamedTuple):
    """The pairs of some rows: ``where`` they are among all, their places there, and a factor; None: 1."""

    where: slice
    at: tuple[Tensor, Tensor]
    factor: Tensor | None

    def scaled(self, numbers: Tensor) -> Tensor:
        return numbers if self.factor is None else numbers * self.factor


class _ScoredPairs(NamedTuple):
    """Pairs of a row and a column, one part of the rows at a time.

    The pairs of a part are a slice, as rows never fall. Where their shapes are to be fixed every part has all pairs,
    those of other parts, and what does not count, with the factor 0.
    """

    rows: Tensor
    columns: Tensor
    counts: Tensor | None
    size: int
    cuts: list[int] | None

    @classmethod
    def of(cls, rows: Tensor, columns: Tensor, n_rows: int, size: int, counts: Tensor | None = None) -> "_ScoredPairs":
        if counts is not None or is_fixed(rows):
            return cls(rows, columns, counts, size, None)
        starts = torch.arange(0, n_rows + size, size, device=rows.device)
        return cls(rows, columns, None, size, torch.searchsorted(rows.contiguous(), starts).tolist())

    def per_row(self, n_rows: int) -> Tensor:
        """Pairs of each row that count, shape (B,)."""
        if self.cuts is not None:
            return torch.bincount(self.rows, minlength=n_rows)
        ones = torch.ones_like(self.rows) if self.counts is None else self.counts.long()
        return ones.new_zeros(n_rows).index_add_(0, self.rows, ones)

    def part(self, start: int, stop: int) -> _PairsOfRows:
        if self.cuts is not None:
            where = slice(*self.cuts[start // self.size : start // self.size + 2])
            return _PairsOfRows(where, (self.rows[where] - start, self.columns[where]), None)
        inside = (self.rows >= start) & (self.rows < stop)
        inside = inside if self.counts is None else inside & self.counts
        rows = (self.rows - start).clamp(0, stop - start - 1)
        return _PairsOfRows(slice(None), (rows, self.columns), inside.float())


class _Sums(NamedTuple):
    """What is summed over parts of the rows: each group's loss before it is a mean, and gradients of all groups."""

    loss: Tensor  # (L,)
    item: Tensor  # (N, D)
    bias: Tensor  # (N,), or (0,) without one
    drift: Tensor
    own: Tensor  # (m,)


@dataclass(frozen=True)
class _Rows:
    """All rows of a step, of which some parts are computed one after the other."""

    user_emb: Tensor  # (B, D)
    item_emb: Tensor  # (N, D)
    bias: Tensor | None
    drift: Tensor | None
    own_terms: Tensor  # (m,)
    clicks: _ScoredPairs
    owned: _ScoredPairs
    popularity: RowValues | None
    temperature: float
    group: Tensor | None  # (B,); None: there is one
    share: Tensor  # (L,) what a click of each group counts in the sum of all groups, over the temperature
    user_grad: Tensor  # (B, D), filled by the parts

    def all_sums(self) -> _Sums:
        """Sums over all parts, which the threads share among them."""
        starts, threads = range(0, len(self.user_emb), self.clicks.size), _threads(self.user_emb)
        shares = [starts[first::threads] for first in range(max(1, min(threads, len(starts))))]
        found = side_by_side([partial(self.sums, share, self.clicks.size) for share in shares])
        for other in found[1:]:
            for total, part in zip(found[0], other, strict=True):
                total += part
        return found[0]

    def by_group(self, numbers: Tensor, rows: Any) -> Tensor:
        """Sums of one number of each of ``rows``, shape (L,), or () of the only group."""
        if self.group is None:
            return numbers.sum()
        return torch.zeros_like(self.share).index_add_(0, self.group[rows], numbers)

    def sums(self, starts: Sequence[int], size: int) -> _Sums:
        """Sums over the parts that begin at ``starts``, of ``size`` rows each."""
        user_emb, item_emb, bias, drift = self.user_emb, self.item_emb, self.bias, self.drift
        n_rows, n_items = len(user_emb), len(item_emb)
        row_share = self.share.expand(n_rows) if self.group is None else self.share[self.group]
        minus_share = -row_share[self.clicks.rows]  # (T,)
        found = self.clicks.per_row(n_rows).to(user_emb) * row_share  # (B,)
        scaled, by_dim = user_emb / self.temperature, item_emb.T
        own_grad = torch.zeros_like(self.own_terms)
        item_grad = torch.empty_like(item_emb) if starts else torch.zeros_like(item_emb)
        bias_grad, room = user_emb.new_zeros(n_items if bias is not None else 0), user_emb.new_empty(size, n_items)
        values = room if drift is None else torch.empty_like(room)
        loss, drift_grad = torch.zeros_like(self.share), user_emb.new_zeros(())
        for start in starts:
            stop = min(start + size, n_rows)
            targets, own = self.clicks.part(start, stop), self.owned.part(start, stop)
            scores = torch.mm(scaled[start:stop], by_dim, out=room[: stop - start])
            if bias is not None:
                scores += bias / self.temperature
            drifted = None
            if drift is not None and self.popularity is not None:
                drifted = self.popularity(slice(start, stop), values[: stop - start])
                scores.addcmul_(drifted, drift, value=1.0 / self.temperature)
            scores.index_put_(own.at, own.scaled(self.own_terms[own.where]) / self.temperature, accumulate=True)
            loss -= self.by_group(targets.scaled(scores[targets.at]), targets.at[0] + start)
            highest = scores.amax(dim=1, keepdim=True)
            scores.sub_(highest).exp_()  # in place: the probabilities, and below the gradient
            total = scores.sum(dim=1, keepdim=True)
            costs = (highest + total.log()).squeeze(1) * found[start:stop]
            loss += self.by_group(costs, slice(start, stop)) / self.share
            scores *= found[start:stop, None] / total
            scores.index_put_(targets.at, targets.scaled(minus_share[targets.where]), accumulate=True)
            torch.mm(scores, item_emb, out=self.user_grad[start:stop])
            torch.addmm(item_grad, scores.T, user_emb[start:stop], beta=int(start > starts[0]), out=item_grad)
            own_grad[own.where] += own.scaled(scores[own.at])
            if bias is not None:
                bias_grad += scores.sum(dim=0)
            if drifted is not None:
                drift_grad += torch.dot(scores.flatten(), drifted.flatten())
        return _Sums(loss, item_grad, bias_grad, drift_grad, own_grad)


class _CatalogueSoftmax(torch.autograd.Function):
    """Computes the gradients of the sum of all groups together with the losses; ``backward`` scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        user_emb: Tensor,
        item_emb: Tensor,
        bias: Tensor | None,
        drift: Tensor | None,
        own_terms: Tensor,
        to_find: tuple[Tensor, Tensor, Tensor | None],
        own_places: tuple[Tensor, Tensor],
        groups: tuple[Tensor, Sequence[float]] | None,
        popularity: RowValues | None,
        temperature: float,
    ) -> Tensor:
        n_rows, n_items = len(user_emb), len(item_emb)
        most = PART_NUMBERS.get(user_emb.device.type, 1 << 26) // n_items
        size = _part_rows(n_rows, max(1, most), _threads(user_emb))
        (rows, columns, counts), (own_rows, own_columns) = to_find, own_places
        clicks = _ScoredPairs.of(rows, columns, n_rows, size, counts)
        n_clicks, weights = _sizes_and_weights(clicks, user_emb, groups)
        whole = _Rows(
            user_emb=user_emb,
            item_emb=item_emb,
            bias=bias,
            drift=drift,
            own_terms=own_terms,
            clicks=clicks,
            owned=_ScoredPairs.of(own_rows, own_columns, n_rows, size),
            popularity=popularity,
            temperature=temperature,
            group=None if groups is None else groups[0],
            share=user_emb.new_ones(1) * (weights / (n_clicks * temperature)),
            user_grad=torch.empty_like(user_emb),
        )
        sums = whole.all_sums()
        ctx.has_bias, ctx.has_drift = bias is not None, drift is not None
        ctx.whole = None if groups is None else whole
        ctx.save_for_backward(whole.user_grad, *sums[1:])
        return weights * sums.loss / n_clicks

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        factors = set() if is_fixed(grad) else set(grad.tolist())  # a GPU is not asked, which would make it wait
        if len(grad) > 1 and len(factors) != 1:
            # the losses of these sums are not asked for, and undefined where ``grad`` is 0
            whole = replace(ctx.whole, share=ctx.whole.share * grad, user_grad=torch.empty_like(ctx.whole.user_grad))
            gradients = (whole.user_grad, *whole.all_sums()[1:])
        else:
            gradients = tuple(saved if factors == {1.0} else saved * grad[0] for saved in ctx.saved_tensors)
        user, item, bias, drift, own = gradients
        return (user, item, bias if ctx.has_bias else None, drift if ctx.has_drift else None, own, *[None] * 5)


def _sizes_and_weights(
    clicks: _ScoredPairs, user_emb: Tensor, groups: tuple[Tensor, Sequence[float]] | None
) -> tuple[Any, Any]:
    """Items that each group is to find, at least 1, and its weight, (L,) both; numbers where all rows are one group."""
    if groups is None:
        return len(clicks.rows) if clicks.counts is None else clicks.counts.sum().clamp_min(1), 1.0
    weights, per_row = user_emb.new_tensor(groups[1]), clicks.per_row(len(user_emb)).to(user_emb)
    return torch.zeros_like(weights).index_add_(0, groups[0], per_row).clamp_min(1), weights


def _threads(user_emb: Tensor) -> int:
    """Threads that share the rows among them."""
    return 1 if is_fixed(user_emb) else torch.get_num_threads()


def _part_rows(n_rows: int, most: int, threads: int) -> int:
    """Rows of a part: at most ``most``, and so that all threads have as many parts, as even as may be."""
    parts = -(-n_rows // most)
    parts += -parts % threads
    return max(1, -(-n_rows // max(1, parts)))
