"""One list of candidates out of several channels' lists: no item twice, and who offered what."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from simulator.ports import Candidates

Method = Literal["quota", "snake", "score"]
METHODS: tuple[Method, ...] = get_args(Method)
MOST_CHANNELS = 32
_UNIT = float(1 << 20)
_LOW = (1 << 32) - 1


class Merged(NamedTuple):
    """Candidates of each request, C of them, padded by -1 at the end of a row; S channels."""

    items: NDArray[np.int64]  # (B, C)
    channel: NDArray[np.int8]  # (B, C) through which the item came in, -1 beside padding
    offered_by: NDArray[np.uint32]  # (B, C) bit s is set if channel s offered the item, 0 beside padding
    scores: NDArray[np.float32]  # (B, C) that channel's score, or the summed one; -inf beside padding


def merge(candidates: Sequence[Candidates | None], method: Method, quotas: Sequence[int] | None, size: int) -> Merged:
    """Merge the lists of all channels.

    - ``quota``: the first ``quotas[s]`` items of each channel, channel by channel; then what is left, as in a snake.
    - ``snake``: turn p takes the p-th item of each channel, forth through the channels in even turns, back in odd ones.
    - ``score``: by the sum of the channels' scores, each scaled to [0, 1] between the ends of its list (CombSUM of Fox
      & Shaw, 1994); equal sums go by item id, and the item came through the first channel that offers it.

    An item that is in already is passed over: it takes up its channel's place all the same, so that a quota bounds
    what a channel is looked at for, and every other channel's items stay where they were.

    Args:
        candidates: List of each channel, for the same B requests; None = late or down.
        method: How.
        quotas: Quota of each channel; only ``quota`` reads them.
        size: C.

    Raises:
        ValueError: If no channel answered, there are more than 32, or the quotas do not fit.
    """
    present = [s for s, lists in enumerate(candidates) if lists is not None]
    if not present or len(candidates) > MOST_CHANNELS:
        raise ValueError(f"{len(candidates)} channels, {len(present)} of them answered: give 1 to {MOST_CHANNELS}.")
    lists = [part for part in candidates if part is not None]
    channel = np.repeat(np.array(present), [part.items.shape[1] for part in lists])  # (L,)
    place = np.concatenate([np.arange(part.items.shape[1]) for part in lists])
    items = np.concatenate([part.items for part in lists], axis=1)
    if method == "score":
        scores = np.concatenate([_scaled(part) for part in lists], axis=1)
        return _by_score(items, scores, channel, size)
    scores = np.concatenate([part.scores for part in lists], axis=1)
    order = _turns(channel, place, _limits(method, quotas, len(candidates)))
    return _by_order(items[:, order], scores[:, order], channel[order], size)


def _limits(method: Method, quotas: Sequence[int] | None, n_channels: int) -> NDArray[np.int64]:
    """Places of each channel that come before all others', shape (S,)."""
    if method == "snake":
        return np.zeros(n_channels, np.int64)
    if method != "quota":
        raise ValueError(f"no way of merging {method!r}: choose from {', '.join(METHODS)}.")
    if quotas is None or len(quotas) != n_channels or min(quotas) < 0:
        raise ValueError(f"quotas {quotas} for {n_channels} channels: give one per channel, at least 0.")
    return np.asarray(quotas, np.int64)


def _turns(channel: NDArray[np.int64], place: NDArray[np.int64], limits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order in which the entries are taken, shape (L,)."""
    later = place >= limits[channel]
    back = np.where(place % 2 == 0, channel, -channel)
    return np.lexsort((np.where(later, back, place), np.where(later, place, channel), later))


def _by_order(items: NDArray[np.int64], scores: NDArray[np.float32], channel: NDArray[np.int64], size: int) -> Merged:
    """The first ``size`` distinct items of each row in the order of the columns, shape (B, L)."""
    batch, width = items.shape
    entries = (items << 32) | np.arange(width)
    entries.sort(axis=1)
    item, column = entries >> 32, entries & _LOW
    first = np.ones(item.shape, np.bool_)
    np.not_equal(item[:, 1:], item[:, :-1], out=first[:, 1:])
    masks = _masks(first, channel[column])
    taken = np.zeros(item.shape, np.bool_)
    offered = np.zeros(item.shape, np.uint32)
    row, at = np.nonzero(first & (item >= 0))
    taken[row, column[row, at]] = True
    offered[row, column[row, at]] = masks[row, at]
    rank = np.cumsum(taken, axis=1, dtype=np.int32)
    row, at = np.nonzero(taken & (rank <= size))
    to = rank[row, at] - 1
    merged = _nothing(batch, size)
    merged.items[row, to] = items[row, at]
    merged.channel[row, to] = channel[at]
    merged.offered_by[row, to] = offered[row, at]
    merged.scores[row, to] = scores[row, at]
    return merged


def _by_score(items: NDArray[np.int64], scores: NDArray[np.float64], channel: NDArray[np.int64], size: int) -> Merged:
    """The ``size`` items of the highest summed scores, which are whole numbers of 2^-20 so that the order is exact."""
    batch = len(items)
    fixed = np.rint(scores * _UNIT).astype(np.int64)
    entries = (items << 32) | (channel << 24) | fixed
    entries.sort(axis=1)
    item, by = entries >> 32, (entries >> 24) & 0xFF
    first = np.ones(item.shape, np.bool_)
    np.not_equal(item[:, 1:], item[:, :-1], out=first[:, 1:])
    masks = _masks(first, by)
    starts = np.flatnonzero(first)
    sums = np.zeros(item.shape, np.int64)
    sums.flat[starts] = np.add.reduceat((entries & 0xFFFFFF).ravel(), starts)
    key = np.where(first & (item >= 0), (sums << 32) | (_LOW - item), -1)
    order = np.argsort(-key, axis=1, kind="stable")[:, :size]
    row = np.arange(batch)[:, None]
    merged = _nothing(batch, size)
    found = key[row, order] >= 0
    width = order.shape[1]
    merged.items[:, :width] = np.where(found, item[row, order], -1)
    merged.channel[:, :width] = np.where(found, by[row, order], -1)
    merged.offered_by[:, :width] = np.where(found, masks[row, order], 0)
    merged.scores[:, :width] = np.where(found, sums[row, order] / _UNIT, -np.inf)
    return merged


def _masks(first: NDArray[np.bool_], channel: NDArray[np.int64]) -> NDArray[np.uint32]:
    """At the first entry of each item the bits of all channels that offer it, 0 elsewhere; rows of sorted entries."""
    starts = np.flatnonzero(first)
    masks = np.zeros(first.shape, np.uint32)
    bits = np.uint32(1) << channel.astype(np.uint32)
    if len(starts):
        masks.flat[starts] = np.bitwise_or.reduceat(bits.ravel(), starts)
    return masks


def _scaled(lists: Candidates) -> NDArray[np.float64]:
    """Scores scaled to [0, 1] between the ends of each list; 1 where all are equal, 0 beside padding."""
    scores = lists.scores.astype(np.float64)
    inside = lists.items >= 0
    best = np.where(inside, scores, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    worst = np.where(inside, scores, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    spread = best - worst
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(inside, np.where(spread > 0, (scores - worst) / spread, 1.0), 0.0)


def _nothing(batch: int, size: int) -> Merged:
    return Merged(
        items=np.full((batch, size), -1),
        channel=np.full((batch, size), -1, np.int8),
        offered_by=np.zeros((batch, size), np.uint32),
        scores=np.full((batch, size), -np.inf, np.float32),
    )
