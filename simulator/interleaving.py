"""Team-draft interleaving of two matching channels, at the place where channels are merged.

Two channels pick in turns, as two captains pick teams: in each round a coin decides who goes first, and each takes the
best item of its list that nobody has (Radlinski, Kurup & Joachims, CIKM 2008, Algorithm 2). The drafted list takes the
place of the first channel's, and every item belongs to the team that picked it, so that its clicks can be credited.
Ranking sees one channel: were it told the teams, it could prefer one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.draws import mixed
from simulator.ports import Candidates

Ints = NDArray[np.int64]

_COIN = np.asarray(3)
_TOP_BIT = np.uint64(63)


class Draft(NamedTuple):
    """The drafted lists of requests (B,), L places each."""

    lists: Candidates  # (B, L) in the order of picking; scores fall by place
    second: NDArray[np.bool_]  # (B, L) whether the second team picked the item


class DraftPair(NamedTuple):
    """Two of an arm's channels that draft, as columns of its list of channels.

    Attributes:
        first: Place of the first channel, which the drafted list takes.
        second: Place of the second channel.
    """

    first: int
    second: int


def team_draft(first: Candidates, second: Candidates, keys: NDArray[np.uint64]) -> Draft:
    """Draft one list out of two.

    A row ends when one of its lists has no item left that nobody has, as in the paper: what would follow is one team's
    alone. Where one list of a row is empty from the start, because its channel did not answer, the other's is served as
    it is and is that team's.

    Args:
        first: Lists of the first team, (B, K).
        second: Lists of the second team, (B, M).
        keys: Key of each request's draws, shape (B,).
    """
    batch, width = len(keys), first.items.shape[1] + second.items.shape[1]
    twin_of_first, twin_of_second = _twins(first.items, second.items), _twins(second.items, first.items)
    free = [first.items >= 0, second.items >= 0]
    lists, twins = (first.items, second.items), (twin_of_first, twin_of_second)
    alone = np.array([~part.any(axis=1) for part in free])  # (2, B) whose list is empty
    items, of_second = np.full((batch, width), -1), np.zeros((batch, width), bool)
    going = np.flatnonzero(~alone.any(axis=0))
    starter = np.zeros(batch, np.int64)
    for place in range(width):
        going = going[free[0][going].any(axis=1) & free[1][going].any(axis=1)]
        if not len(going):
            break
        if place % 2 == 0:
            starter[going] = mixed(mixed(keys[going], _COIN), np.asarray(place)) >> _TOP_BIT
        picker = starter[going] ^ (place % 2)
        for team in (0, 1):
            rows = going[picker == team]
            column = free[team][rows].argmax(axis=1)
            items[rows, place] = lists[team][rows, column]
            of_second[rows, place] = team == 1
            free[team][rows, column] = False
            twin = twins[team][rows, column]
            free[1 - team][rows[twin >= 0], twin[twin >= 0]] = False
    for team in (0, 1):
        rows = np.flatnonzero(alone[1 - team])
        items[rows, : lists[team].shape[1]] = lists[team][rows]
        of_second[rows] = team == 1
    return Draft(Candidates(*_trimmed(items)), of_second[:, : max(1, int((items >= 0).sum(axis=1).max(initial=0)))])


def drafted(
    lists: Sequence[Candidates | None], pair: DraftPair, keys: NDArray[np.uint64]
) -> tuple[list[Candidates | None], Draft | None]:
    """An arm's lists with the drafted one in place of the first team's; no draft where neither channel answered."""
    one, other = lists[pair.first], lists[pair.second]
    if one is None and other is None:
        return list(lists), None
    empty = Candidates(np.full((len(keys), 1), -1), np.full((len(keys), 1), -np.inf, np.float32))
    draft = team_draft(one or empty, other or empty, keys)
    merged = list(lists)
    merged[pair.first], merged[pair.second] = draft.lists, None
    return merged, draft


def credited(channel: NDArray[np.int8], place: NDArray[np.int16], draft: Draft, pair: DraftPair) -> NDArray[np.int8]:
    """Channel of each candidate (B, C), the second team's among them.

    Args:
        channel: Column of the channel that brought it, -1 beside padding, shape (B, C).
        place: Its place in that channel's list, shape (B, C).
        draft: The draft.
        pair: The teams.
    """
    at = np.clip(place, 0, draft.second.shape[1] - 1)
    theirs = (channel == pair.first) & np.take_along_axis(draft.second, at.astype(np.int64), axis=1)
    return np.where(theirs, np.int8(pair.second), channel).astype(np.int8)


def offered_bits(
    items: Ints, bits: NDArray[np.uint32], lists: Sequence[Candidates | None], pair: DraftPair
) -> NDArray[np.uint32]:
    """Bits of the channels that offered each candidate (B, C), where merging saw the drafted list alone."""
    for column in pair:
        part = lists[column]
        theirs = np.zeros(items.shape, bool) if part is None else _twins(items, part.items) >= 0
        bit = np.uint32(1 << column)
        bits = np.where(theirs & (items >= 0), bits | bit, bits & ~bit)
    return bits


def _twins(items: Ints, others: Ints) -> Ints:
    """Column of each item (B, K) in ``others`` (B, M), -1 where it is not there; no item is twice in a row."""
    order = np.argsort(others, axis=1, kind="stable")
    ranked = np.take_along_axis(others, order, axis=1)
    span = np.int64(max(int(items.max(initial=0)), int(others.max(initial=0))) + 2)
    offset = np.arange(len(items))[:, None] * span
    at = np.searchsorted((ranked + 1 + offset).ravel(), (items + 1 + offset).ravel()).reshape(items.shape)
    at = np.clip(at - np.arange(len(items))[:, None] * others.shape[1], 0, others.shape[1] - 1)
    same = (np.take_along_axis(ranked, at, axis=1) == items) & (items >= 0)
    return np.where(same, np.take_along_axis(order, at, axis=1), -1)


def _trimmed(items: Ints) -> tuple[Ints, NDArray[np.float32]]:
    """The columns that some row fills, and scores that fall by place."""
    items = items[:, : max(1, int((items >= 0).sum(axis=1).max(initial=0)))]
    scores = np.where(items >= 0, -np.arange(items.shape[1], dtype=np.float32), -np.inf)
    return items, scores.astype(np.float32)
