"""Weighted draws from groups, optionally only among members of a time interval."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


class GroupSampler:
    """Draws members of groups in proportion to weight; one draw costs three binary searches.

    Members lie sorted by (group, time), so that a group within a time interval is one range of the cumulative weights.

    Args:
        groups: Group of each member, shape (N,), >= 0.
        weights: Weight of each member, shape (N,), > 0.
        times: Integer time of each member, shape (N,); None = all alike.
    """

    def __init__(self, groups: NDArray[np.int64], weights: NDArray[np.float64], times: ArrayLike | None = None) -> None:
        when = np.zeros(len(groups), np.int64) if times is None else np.asarray(times, np.int64)
        order = np.lexsort((when, groups))
        self._members = order
        self._first_time = int(when.min())
        self._span = int(when.max()) - self._first_time + 2
        self._keys = groups[order] * self._span + (when[order] - self._first_time)
        self._mass = np.concatenate([[0.0], np.cumsum(weights[order])])

    def draw(
        self,
        groups: NDArray[np.int64],
        uniforms: NDArray[np.float64],
        *,
        since: ArrayLike | None = None,
        before: ArrayLike | None = None,
    ) -> NDArray[np.int64]:
        """One member per row with ``since <= time < before``, or -1 where there is none.

        Args:
            groups: Group to draw from, shape (B,); -1 = draw nothing.
            uniforms: Numbers in [0, 1), shape (B,); the draw is a function of them alone.
            since: Earliest time, shape (B,) or scalar; None = from the first.
            before: Time to stay under, shape (B,) or scalar; None = to the last.
        """
        first = self._position(groups, self._first_time if since is None else since)
        end = self._position(groups, self._first_time + self._span if before is None else before)
        mass = self._mass[first] + uniforms * (self._mass[end] - self._mass[first])
        pick = np.searchsorted(self._mass, mass, side="right") - 1
        some = end > first
        pick = np.where(some, np.minimum(np.maximum(pick, first), end - 1), 0)
        return np.where(some, self._members[pick], -1)

    def _position(self, groups: NDArray[np.int64], time: ArrayLike) -> NDArray[np.int64]:
        """Where members of a group with at least this time begin."""
        offset = np.minimum(np.maximum(np.asarray(time, np.int64) - self._first_time, 0), self._span - 1)
        return np.searchsorted(self._keys, groups * self._span + offset, side="left")


def zipf_weights(n: int, exponent: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Zipf weights rank ** -exponent in random order, shape (n,), summing to 1."""
    weights = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    return rng.permutation(weights / weights.sum())
