"""Seasons: the appeal of an item comes and goes again and again, as that of a shop's articles does with the year.

A seasonal item is in season for ``items.seasons.days``, every ``items.seasons.every_days``, from a start of its own
that is spread evenly. Out of season its appeal is ``items.seasons.off_season`` of what it is in season, and the mean
over all times is that of an item without seasons: :func:`season_appeal`. Whoever draws an item of a segment draws again
while the item is out of season and a uniform number is not below ``off_season``, ``TRIES`` times at most; the last draw
is kept. With p_i the share of the item in its segment by appeal in season and m_i its factor, 1 or ``off_season``,

    P(i) = p_i [ m_i (1 - (1 - A)^(TRIES - 1)) / A + (1 - A)^(TRIES - 1) ],    A = sum of p_j m_j over the segment.

Staples and favourites are the users' own and know no season.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Draws, mixed, to_uniform
from simulator.world.visits import DAY_S
from simulator.world.world_config import SeasonsConfig, WorldConfig

TRIES = 12  # draws of an item in season; the last is kept
_CHANCE, _AGAIN = 100, 200  # with the number of the try, what the bits of a draw are mixed with

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def season_appeal(keys: SeasonsConfig) -> float:
    """Appeal of a seasonal item in season, over its mean."""
    in_season = keys.days / keys.every_days
    return 1.0 / (in_season + (1.0 - in_season) * keys.off_season)


class Seasons:
    """Which items are in season when.

    Args:
        config: The world.
    """

    def __init__(self, config: WorldConfig) -> None:
        self._keys = config.items.seasons
        self._seasonal = Draws(config.seed, "seasonal")
        self._start = Draws(config.seed, "season")
        self.any = self._keys.share > 0.0 and self._keys.off_season < 1.0

    def seasonal(self, items: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which items have seasons."""
        return self._seasonal.uniform(items) < self._keys.share

    def factor(self, items: NDArray[np.integer], time_s: Floats | float) -> Floats:
        """What is left of the appeal of items at a time: 1, or ``off_season``; shape of the two together.

        Args:
            items: Ids.
            time_s: Seconds since the start of the log.
        """
        every_s = self._keys.every_days * DAY_S
        since_s = (time_s - self._start.uniform(items) * every_s) % every_s
        off = self.seasonal(items) & (since_s >= self._keys.days * DAY_S)
        return np.where(off, self._keys.off_season, 1.0)

    def keep(
        self, items: Ints, time_s: Floats, uniform: Floats, again: Callable[[NDArray[np.intp], Floats], Ints]
    ) -> Ints:
        """Items (B,) of draws, those out of season drawn anew.

        Args:
            items: First draws, shape (B,).
            time_s: Time of each, shape (B,).
            uniform: What each was drawn by, which all further draws of it follow from, shape (B,).
            again: Draws items for some of the rows by a uniform number each.
        """
        items, rows = items.copy(), np.arange(len(items))
        bits = uniform.view(np.uint64)
        for attempt in range(TRIES - 1):
            chance = to_uniform(mixed(bits[rows], np.asarray(_CHANCE + attempt)))
            rows = rows[chance >= self.factor(items[rows], time_s[rows])]
            if not len(rows):
                break
            items[rows] = again(rows, to_uniform(mixed(bits[rows], np.asarray(_AGAIN + attempt))))
        return items


def seasonal_shares(share: Floats, factor: Floats, segment: Ints, size: int) -> Floats:
    """Chance of each item (N,) to be drawn from its segment, given its share of the segment's appeal.

    Args:
        share: Shares, which sum to 1 in each of the segments that have anything out, shape (N,).
        factor: Those of :meth:`Seasons.factor`, shape (N,).
        segment: Segment of each item, shape (N,).
        size: Number of segments.
    """
    kept = np.bincount(segment, share * factor, minlength=size)[segment]
    last = np.maximum(1.0 - kept, 0.0) ** (TRIES - 1)
    result: Floats = share * (factor * (1.0 - last) / np.maximum(kept, 1e-12) + last)
    return result
