"""One list of candidates out of several channels' lists: no item twice, and who offered what."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from simulator.ports import Candidates

Method = Literal["quota", "snake", "score"]
METHODS: tuple[Method, ...] = get_args(Method)
MOST_CHANNELS = 32
Ints = NDArray[np.int64]
Lists = dict[int, Candidates]  # of the channels that answered

_UNIT = float(1 << 20)
_LOW = (1 << 32) - 1


class Merged(NamedTuple):
    """Candidates of each request, C of them, padded by -1 at the end of a row; S channels."""

    items: NDArray[np.int64]  # (B, C)
    channel: NDArray[np.int8]  # (B, C) through which the item came in, -1 beside padding
    offered_by: NDArray[np.uint32]  # (B, C) bit s is set if channel s offered the item, 0 beside padding
    scores: NDArray[np.float32]  # (B, C) that channel's score, or the summed one; -inf beside padding
    place: NDArray[np.int16]  # (B, C) of the item in that channel's list, from 0; merged by score, in the merged list


def merge(candidates: Sequence[Candidates | None], method: Method, quotas: Sequence[int] | None, size: int) -> Merged:
    """Merge the lists of all channels.

    - ``quota``: the first ``quotas[s]`` items of each channel, channel by channel; then what is left, as in a snake.
    - ``snake``: turn p takes the p-th item of each channel, forth through the channels in even turns, back in odd ones.
    - ``score``: by the sum of the channels' scores, each scaled to [0, 1] between the ends of its list (CombSUM of Fox
      & Shaw, 1994) and rounded to 2^-20; equal sums go by item id, and the item came through the first channel that
      offers it.

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
    lists = {s: part for s, part in enumerate(candidates) if part is not None}
    if not lists or len(candidates) > MOST_CHANNELS:
        raise ValueError(f"{len(candidates)} channels, {len(lists)} of them answered: give 1 to {MOST_CHANNELS}.")
    widths = [part.items.shape[1] for part in lists.values()]
    channel = np.repeat(list(lists), widths)  # (L,)
    if method == "score":
        return _by_score(lists, channel, size)
    place = np.concatenate([np.arange(width) for width in widths])
    return _by_turns(lists, channel, place, _turns(channel, place, _limits(method, quotas, len(candidates))), size)


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


def _by_turns(lists: Lists, channel: Ints, place: Ints, order: Ints, size: int) -> Merged:
    """The first ``size`` distinct items of each row; ``order`` is the column to look at first, second …, shape (L,)."""
    turn = np.empty_like(order)
    turn[order] = np.arange(len(order))
    entries, stops = _entries(lists, len(order)), np.cumsum([part.items.shape[1] for part in lists.values()])
    for part, stop in zip(lists.values(), stops, strict=True):
        columns = slice(stop - part.items.shape[1], stop)
        entries[:, columns] = (part.items << 32) | turn[columns]
    entries.sort(axis=1)
    item, turns = entries >> 32, entries & _LOW
    is_first = item >= 0
    is_first[:, 1:] &= item[:, 1:] != item[:, :-1]
    is_first[:, -1] = False  # beyond all items
    row, at, found = _chosen(turns, is_first, size)
    turns[turns >= len(order)] = 0  # the entry beyond
    source = order[turns[row, at]]
    bits = (np.uint32(1) << channel.astype(np.uint32))[order]
    scores = np.concatenate([part.scores for part in lists.values()], axis=1)
    offered = _offered(item, lambda row, at: bits[turns[row, at]], row, at, step=1)
    return _merged(item[row, at], channel[source], offered, scores[row, source], place[source], found, size)


def _by_score(lists: Lists, channel: Ints, size: int) -> Merged:
    """The ``size`` items of the highest summed scores, which are whole numbers of 2^-20 so that the order is exact."""
    entries, stop = _entries(lists, len(channel)), 0
    for s, part in lists.items():
        start, stop = stop, stop + part.items.shape[1]
        fixed = np.rint(_scaled(part) * _UNIT).astype(np.int64)
        entries[:, start:stop] = (part.items << 32) | (MOST_CHANNELS - 1 - s) << 24 | fixed
    entries[:, -1] = -2 << 32  # before all items
    entries.sort(axis=1)
    item, by, fixed = entries >> 32, MOST_CHANNELS - 1 - (entries >> 24 & 0xFF), entries & 0xFFFFFF
    is_last = item >= 0
    is_last[:, :-1] &= item[:, 1:] != item[:, :-1]
    upto = np.where(item >= 0, fixed, 0).cumsum(axis=1)
    sums = upto.copy()
    sums[:, 1:] -= np.maximum.accumulate(np.where(is_last, upto, 0), axis=1)[:, :-1]
    row, at, found = _chosen(_LOW - sums, is_last, size)
    offered = _offered(item, lambda row, at: np.uint32(1) << by[row, at].astype(np.uint32), row, at, step=-1)
    place = np.broadcast_to(np.arange(found.shape[1]), found.shape)
    return _merged(item[row, at], by[row, at], offered, sums[row, at] / _UNIT, place, found, size)


def _entries(lists: Lists, width: int) -> Ints:
    """Room for all entries and one that no list holds, the largest there is, shape (B, L + 1)."""
    batch = len(next(iter(lists.values())).items)
    return np.full((batch, width + 1), np.iinfo(np.int64).max)


def _chosen(keys: Ints, usable: NDArray[np.bool_], size: int) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Rows (B, 1), columns (B, C) of the lowest usable keys, the first column among equals; and which there are."""
    ranked = np.where(usable, (keys << 24) | np.arange(keys.shape[1]), np.iinfo(np.int64).max)
    if ranked.shape[1] > 2 * size:
        ranked = np.partition(ranked, size, axis=1)[:, :size]
    ranked.sort(axis=1)
    ranked = ranked[:, :size]
    found = ranked != np.iinfo(np.int64).max
    return np.arange(len(keys))[:, None], np.where(found, ranked & 0xFFFFFF, 0), found


def _offered(
    item: Ints, bits: Callable[[Ints, Ints], NDArray[np.uint32]], row: Ints, at: Ints, *, step: int
) -> NDArray[np.uint32]:
    """Bits of all entries of the chosen ones' items, which follow or precede them."""
    masks, wanted, n = bits(row, at), item[row, at], item.shape[1]
    while True:
        at = np.clip(at + step, 0, n - 1)
        same = (item[row, at] == wanted) & (wanted >= 0)
        if not same.any():
            return masks
        masks |= np.where(same, bits(row, at), np.uint32(0))


def _merged(
    items: Ints,
    channel: Ints,
    offered: NDArray[np.uint32],
    scores: NDArray,
    place: Ints,
    found: NDArray[np.bool_],
    size: int,
) -> Merged:
    def padded(values: NDArray, filler: float, dtype: type) -> NDArray:
        whole: NDArray = np.full((len(values), size), filler, dtype)
        whole[:, : values.shape[1]] = np.where(found, values, filler)
        return whole

    return Merged(
        items=padded(items, -1, np.int64),
        channel=padded(channel, -1, np.int8),
        offered_by=padded(offered, 0, np.uint32),
        scores=padded(scores, -np.inf, np.float32),
        place=padded(place, -1, np.int16),
    )


def _scaled(lists: Candidates) -> NDArray[np.float64]:
    """Scores scaled to [0, 1] between the ends of each list; 1 where all are equal, 0 beside padding."""
    scores = lists.scores.astype(np.float64)
    inside = lists.items >= 0
    best = np.where(inside, scores, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    worst = np.where(inside, scores, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    spread = best - worst
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(inside, np.where(spread > 0, (scores - worst) / spread, 1.0), 0.0)
