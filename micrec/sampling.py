"""Draws of positives and negatives, for all rows at once and on their device.

Every draw takes a ``torch.Generator``, happens on the generator's device and moves to that of the ids it is for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from micrec.pair_set import BITMAP_BYTES, Device, Movable, PairSet
from micrec.shapes import is_fixed

Membership = Callable[[Tensor, Tensor], Tensor]
"""Which of the pairs (rows, cols), broadcast against each other, belong to a set: a bool tensor."""


class Positives(Protocol):
    """The positive sets P_i of an item-contrastive loss (Eq. 4 and 5), one per item, on a device."""

    @property
    def n_items(self) -> int: ...

    def draw(self, anchors: Tensor, num: int, generator: torch.Generator) -> Tensor:
        """Draw ``num`` positives with replacement for each of ``anchors`` (A,): item ids (A, num), -1 without any."""
        ...

    def has(self, anchors: Tensor) -> Tensor:
        """Which of ``anchors`` (A,) have a positive, shape (A,)."""
        ...

    def contains(self, rows: Tensor, cols: Tensor) -> Tensor:
        """Which pairs, broadcast, exclude each other as negatives: ``cols`` is ``rows`` itself or related to it."""
        ...

    def to(self, device: Device) -> Self: ...


@dataclass(frozen=True, eq=False)
class WeightedNeighbours(Movable):
    """``Positives`` drawn from a list per item, by weight; built by ``from_csr``.

    Attributes:
        offsets: Item i owns entries offsets[i] .. offsets[i + 1], shape (N + 1,).
        items: Partner per entry, shape (nnz + 1,), int32; the last is -1, so that entry -1 reads "none".
        cumulative: Weight of all entries before each, float64, shape (nnz + 1,); None = equal weights.
        related: Pairs that exclude each other as negatives.
    """

    offsets: Tensor
    items: Tensor
    cumulative: Tensor | None
    related: PairSet

    @classmethod
    def from_csr(
        cls,
        offsets: ArrayLike,
        items: ArrayLike,
        weights: ArrayLike | None = None,
        *,
        keys: ArrayLike | None = None,
        bitmap_bytes: int = BITMAP_BYTES,
    ) -> Self:
        """Copy CSR lists of partners.

        Args:
            offsets: Shape (N + 1,).
            items: Partner ids, shape (nnz,).
            weights: Positive weights, shape (nnz,); None = all equal.
            keys: Distinct ascending ``i * N + j``, i < j, of the unordered pairs that exclude each other as negatives,
                where they are more than the lists hold (counted pairs that were pruned); None = the lists.
            bitmap_bytes: As of ``PairSet.from_keys``.

        Raises:
            ValueError: If a weight is not positive and finite.
        """
        starts = _long(offsets)
        entries = torch.from_numpy(np.append(np.asarray(items, dtype=np.int32), np.int32(-1)))
        partners = entries[:-1]
        n_items = len(starts) - 1
        if keys is None:
            owners = torch.arange(n_items).repeat_interleave(starts.diff())
            related = PairSet.from_pairs(owners, partners, n_items, n_items, bitmap_bytes=bitmap_bytes)
        else:
            related = PairSet.from_keys(
                torch.as_tensor(keys, dtype=torch.int64), n_items, n_items, symmetric=True, bitmap_bytes=bitmap_bytes
            )
        return cls(starts, entries, None if weights is None else _cumulative(weights), related)

    @property
    def n_items(self) -> int:
        return len(self.offsets) - 1

    def draw(self, anchors: Tensor, num: int, generator: torch.Generator) -> Tensor:
        return self.items[_draw_entries(self.offsets, self.cumulative, anchors, num, generator)].long()

    def has(self, anchors: Tensor) -> Tensor:
        return self.offsets[anchors + 1] > self.offsets[anchors]

    def contains(self, rows: Tensor, cols: Tensor) -> Tensor:
        return self.related.contains(rows, cols) | (rows == cols)


@dataclass(frozen=True, eq=False)
class SharedTagNeighbours(Movable):
    """``Positives`` that share a tag (the taxonomies of paper 3.4); built by ``from_pairs``.

    The pairs of items are never listed: a draw picks one of the anchor's tags, with probability proportional to the
    number of its other items, then one of those uniformly. So all (tag, partner) combinations are equally likely, and
    a partner's probability is proportional to the number of tags it shares with the anchor.

    Attributes:
        offsets: Item i owns entries offsets[i] .. offsets[i + 1], one per tag it shares with any item, shape (N + 1,).
        tags: Tag per entry, shape (nnz,).
        cumulative: Sum over all entries before each of the other items of its tag, float64, shape (nnz + 1,).
        places: Where the entry's own item stands in ``tag_items``, shape (nnz,).
        tag_offsets: Tag t owns tag_items[tag_offsets[t] : tag_offsets[t + 1]], shape (T + 1,).
        tag_items: Items by tag, shape (nnz,).
        item_tags: The (item, tag) pairs.
        max_tags: Most tags of an item.
    """

    offsets: Tensor
    tags: Tensor
    cumulative: Tensor
    places: Tensor
    tag_offsets: Tensor
    tag_items: Tensor
    item_tags: PairSet
    max_tags: int

    @classmethod
    def from_pairs(
        cls, items: ArrayLike, tags: ArrayLike, n_items: int, n_tags: int, *, bitmap_bytes: int = BITMAP_BYTES
    ) -> Self:
        """Item items[p] has tag tags[p], both of shape (P,), in any order and with repeats."""
        keys = torch.unique(_long(items) * n_tags + _long(tags))
        keys = keys[torch.bincount(keys % n_tags, minlength=n_tags)[keys % n_tags] > 1]  # tags of one item link nothing
        owners, tag_ids = keys // n_tags, keys % n_tags
        sizes = torch.bincount(tag_ids, minlength=n_tags)
        by_tag = torch.argsort(tag_ids, stable=True)
        places = torch.empty_like(by_tag)
        places[by_tag] = torch.arange(len(by_tag))
        degrees = torch.bincount(owners, minlength=n_items)
        return cls(
            offsets=_offsets(degrees),
            tags=tag_ids,
            cumulative=_cumulative((sizes[tag_ids] - 1).numpy()),
            places=places,
            tag_offsets=_offsets(sizes),
            tag_items=owners[by_tag],
            item_tags=PairSet.from_keys(keys, n_items, n_tags, bitmap_bytes=bitmap_bytes),
            max_tags=int(degrees.max()) if n_items else 0,
        )

    @property
    def n_items(self) -> int:
        return len(self.offsets) - 1

    def draw(self, anchors: Tensor, num: int, generator: torch.Generator) -> Tensor:
        if not len(self.tags):
            return torch.full((len(anchors), num), -1, device=anchors.device)
        entries = _draw_entries(self.offsets, self.cumulative, anchors, num, generator)  # (A, num)
        tags = self.tags[entries]
        first, end = self.tag_offsets[tags], self.tag_offsets[tags + 1]
        place = first + (_uniform(entries.shape, generator, anchors.device) * (end - first - 1)).long()
        place += place >= self.places[entries]  # step over the anchor itself
        return self.tag_items[place].masked_fill_(entries < 0, -1)

    def has(self, anchors: Tensor) -> Tensor:
        return self.offsets[anchors + 1] > self.offsets[anchors]

    def contains(self, rows: Tensor, cols: Tensor) -> Tensor:
        """As in ``Positives``; one lookup per pair and tag of ``rows``."""
        found = rows == cols
        first, end = self.offsets[rows], self.offsets[rows + 1]
        for slot in range(self.max_tags):
            tags = self.tags[(first + slot).clamp_max_(len(self.tags) - 1)]  # in the shape of rows
            found |= self.item_tags.contains(cols, tags) & (first + slot < end)
        return found


class PopularitySampler(Movable):
    """Items drawn proportionally to a weight, as clicks ** power, from an alias table: two gathers per draw."""

    def __init__(self, weights: Tensor) -> None:
        """Weights of all items, shape (N,), at least 0 and not all 0; an item of weight 0 is never drawn.

        Raises:
            ValueError: If they are not.
        """
        if not (torch.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
            raise ValueError("weights must be finite, at least 0 and not all 0.")
        self._threshold, self._alias = _alias_table(weights.double())
        self._log_q = (weights.double() / weights.double().sum()).log().float()

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Item ids of this shape, independent, with replacement."""
        place = _uniform(shape, generator, self._threshold.device) * len(self._threshold)
        bucket = place.long()
        return torch.where(place - bucket < self._threshold[bucket], bucket, self._alias[bucket])

    def log_q(self, items: Tensor) -> Tensor:
        """Log of the probability of each item in one draw, in the shape of ``items``, nats."""
        return self._log_q[items]


def draw_uniform_negatives(
    n_rows: int,
    num: int,
    candidates: int | Tensor,
    *,
    forbidden: PairSet | Membership | None = None,
    rows: Tensor | None = None,
    max_rounds: int = 10,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """``draw_negatives`` uniformly from ``candidates``: N, for all items, or the item ids to draw from, shape (C,)."""
    device = rows.device if rows is not None else getattr(candidates, "device", generator.device)

    def draw(count: int) -> Tensor:
        high = candidates if isinstance(candidates, int) else len(candidates)
        found = torch.randint(high, (count,), generator=generator, device=generator.device).to(device)
        return found if isinstance(candidates, int) else candidates[found]

    return draw_negatives(draw, n_rows, num, forbidden=forbidden, rows=rows, max_rounds=max_rounds)


def draw_negatives(
    draw: Callable[[int], Tensor],
    n_rows: int,
    num: int,
    *,
    forbidden: PairSet | Membership | None = None,
    rows: Tensor | None = None,
    max_rounds: int = 10,
    fixed_rounds: int = 3,
) -> tuple[Tensor, Tensor]:
    """Negatives by rejection: only entries that collide with ``forbidden`` are drawn again.

    A valid entry follows the distribution of ``draw`` restricted to what its row allows. What still collides after
    ``max_rounds`` redraws is marked invalid and must be masked; where a share p of draws is forbidden, that befalls
    p ** (max_rounds + 1) of the entries, and all of them where everything is.

    A GPU, which would wait to be told how many collide, makes ``fixed_rounds`` draws of all entries and takes the first
    that is allowed.

    Args:
        draw: Given a count, that many independent item ids, shape (count,).
        n_rows: R.
        num: Negatives per row.
        forbidden: Pairs (row, item) that may not be drawn; None = none.
        rows: What ``forbidden`` knows the rows by, shape (R,); None = 0 .. R - 1.
        max_rounds: Redraws at most.
        fixed_rounds: Redraws on a GPU, whether needed or not.

    Returns:
        Item ids, shape (R, num), and which of them are valid, bool, shape (R, num).
    """
    items = draw(n_rows * num).view(n_rows, num)
    if forbidden is None:
        return items, torch.ones_like(items, dtype=torch.bool)
    is_forbidden = forbidden.contains if isinstance(forbidden, PairSet) else forbidden
    names = torch.arange(n_rows, device=items.device) if rows is None else rows
    valid = ~is_forbidden(names[:, None], items)
    if is_fixed(items):
        for _ in range(min(fixed_rounds, max_rounds)):
            fresh = draw(n_rows * num).view(n_rows, num)
            items = torch.where(valid, items, fresh)
            valid |= ~is_forbidden(names[:, None], fresh)
        return items, valid
    for _ in range(max_rounds):
        row, slot = (~valid).nonzero(as_tuple=True)
        if not len(row):
            break
        items[row, slot] = fresh = draw(len(row))
        valid[row, slot] = ~is_forbidden(names[row], fresh)
    return items, valid


def _long(values: ArrayLike) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.int64))


def _uniform(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Uniform in [0, 1), float64: float32 could not tell more than 2**24 entries apart."""
    return torch.rand(shape, dtype=torch.float64, generator=generator, device=generator.device).to(device)


def _cumulative(weights: ArrayLike) -> Tensor:
    """Sum of the weights before each entry and, last, of all: shape (nnz + 1,), float64."""
    weights = np.asarray(weights)
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ValueError("weights must be positive and finite.")
    sums = np.zeros(len(weights) + 1)
    np.cumsum(weights, dtype=np.float64, out=sums[1:])
    return torch.from_numpy(sums)


def _offsets(sizes: Tensor) -> Tensor:
    """Running sums that start at 0, shape (n + 1,)."""
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


def _alias_table(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Bucket b of N equal ones yields item b below ``threshold[b]`` and item ``alias[b]`` above; both (N,).

    Walker's table without its serial sweep (Huebschle-Schneider and Sanders 2019): light items, of less than the mean
    weight, are filled up by the heavy ones in order. Which heavy item fills a light one follows from the running sums
    of what is lacking and what is left over; a heavy item that gives too much is filled up by the next.
    """
    share = weights / weights.sum() * len(weights)
    light, heavy = (share < 1).nonzero().flatten(), (share >= 1).nonzero().flatten()
    if not len(light) or not len(heavy):  # all equal, but for rounding
        return torch.ones_like(share), torch.arange(len(share), device=share.device)
    lacking, left = (1 - share[light]).cumsum(0), (share[heavy] - 1).cumsum(0)
    threshold, alias = share.clone(), light.new_empty(len(share))
    giver = torch.searchsorted(left, _offsets(1 - share[light])[:-1], right=True)  # first with something left over
    alias[light] = heavy[giver.clamp_max_(len(heavy) - 1)]
    last = torch.searchsorted(lacking, left)  # the light item that uses the heavy one up
    overdrawn = lacking[last.clamp_max(len(light) - 1)] - left
    threshold[heavy] = torch.where((left > 0) & (last < len(light)), 1 - overdrawn, 1.0)
    alias[heavy] = heavy.roll(-1)
    threshold[heavy[-1]] = 1.0
    return threshold.clamp_(0, 1), alias


def _draw_entries(
    offsets: Tensor, cumulative: Tensor | None, anchors: Tensor, num: int, generator: torch.Generator
) -> Tensor:
    """Entries of the anchors' lists by weight, shape (A, num); -1 for an empty list."""
    first, end = offsets[anchors, None], offsets[anchors + 1, None]  # (A, 1)
    uniform = _uniform((len(anchors), num), generator, anchors.device)
    if cumulative is None:
        entries = first + (uniform * (end - first)).long()
    else:
        target = torch.lerp(cumulative[first], cumulative[end], uniform)
        entries = torch.searchsorted(cumulative, target, right=True) - 1
    entries = entries.clamp(first, end - 1)  # rounding may touch a neighbouring list
    return entries.masked_fill_(first == end, -1)
