"""Segments that clicks may have been drawn from, and items in them that a session or a user does not click again."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class SegmentDraws(NamedTuple):
    """Segments that clicks may have been drawn from, M of them.

    Attributes:
        click: The click, shape (M,).
        segment: The segment, shape (M,).
        chance: Chance that the click is drawn from it, shape (M,).
    """

    click: Ints
    segment: Ints
    chance: Floats


class Repeats(NamedTuple):
    """What C clicks, in order of time, avoid to repeat.

    Attributes:
        within: Session or user, one of whose earlier items is drawn again, shape (C,).
        item: Item clicked, shape (C,).
        time_s: Time of the click, shape (C,).
        until_s: Time from which nobody would draw the item anyhow, as it has faded; inf = never; shape (C,).
        tries: Draws after the first, at most.
        last_stays: Whether the last of these is kept, whatever it is.
    """

    within: Ints
    item: Ints
    time_s: Floats
    until_s: Floats
    tries: int
    last_stays: bool


class DrawnSegments:
    """Draws of clicks from the segments of one division of the items, and what they avoid.

    Args:
        repeats: The clicks, C of them.
        segment: Segment of the item of each, shape (C,).
        draws: What they may have been drawn from; E of them.
    """

    def __init__(self, repeats: Repeats, segment: Ints, draws: SegmentDraws) -> None:
        self.draws, self._tries, self._last_stays = draws, repeats.tries, repeats.last_stays
        n = len(repeats.item)
        click, entry_segment = np.append(np.arange(n), draws.click), np.append(segment, draws.segment)
        clicked, within = np.arange(len(click)) < n, repeats.within[click]
        self._order = np.lexsort((clicked, click, entry_segment, within))  # a draw comes before the click it leads to
        ordered = click[self._order]
        opens = np.ones(len(click), bool)
        opens[1:] = (np.diff(within[self._order]) != 0) | (np.diff(entry_segment[self._order]) != 0)
        number = np.cumsum(opens) - 1  # of the session (or user) and segment
        self._start = np.flatnonzero(opens)[number]
        self._first = clicked[self._order] & _first_of(repeats.within, repeats.item)[ordered]
        end_s = float(repeats.time_s.max()) + 1.0
        time_s = number * (end_s + 1.0) + repeats.time_s[ordered]
        until_s = number * (end_s + 1.0) + np.minimum(repeats.until_s[ordered], end_s)
        self._last = np.searchsorted(time_s, until_s)  # one past the last entry that an item is kept from
        self._by_end = np.argsort(until_s, kind="stable")
        self._gone = np.searchsorted(until_s[self._by_end], time_s, side="right")  # up to here they have faded

    def expected(self, chance: Floats, share: Floats) -> tuple[Floats, Floats]:
        """What turns the shares of the items of a segment into their expected clicks.

        Args:
            chance: Chance of each draw, shape (E,).
            share: Share of each click's item in its segment, shape (C,).

        Returns:
            For each draw, by how much it multiplies the share of any item that is not to be repeated, shape (E,); for
            each click, the clicks that its own item is therefore not to expect after it, shape (C,).
        """
        n = len(share)
        chance = np.append(np.zeros(n), chance)[self._order]
        own = np.where(self._first, np.append(share, np.zeros(len(chance) - n))[self._order], 0.0)
        before, faded = np.append(0.0, np.cumsum(own)), np.append(0.0, np.cumsum(own[self._by_end]))
        taken = before[:-1] - before[self._start] - (faded[self._gone] - faded[self._start])
        taken = np.clip(taken, 0.0, 1.0 - 1e-6)
        times = sum((taken**k for k in range(self._tries + 1)), np.zeros(len(taken)))
        kept = taken**self._tries if self._last_stays else np.zeros(len(taken))
        passed = np.append(0.0, np.cumsum(chance * (times - kept)))
        drawn, lost = np.empty(len(chance)), np.empty(len(chance))
        drawn[self._order] = chance * times
        lost[self._order] = own * (passed[self._last] - passed[1:])
        return drawn[n:], lost[:n]


def _first_of(within: Ints, item: Ints) -> NDArray[np.bool_]:
    """Which clicks are the first on their item within a session or user, shape (C,)."""
    order = np.lexsort((np.arange(len(item)), item, within))
    first = np.ones(len(item), bool)
    first[order[1:]] = (np.diff(within[order]) != 0) | (np.diff(item[order]) != 0)
    return first
