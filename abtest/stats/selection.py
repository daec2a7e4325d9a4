"""The winner's curse: a lift that is reported because it was significant is too large on average, and by how much.

Given that \\|Z\\| passed its bound c, Z is a normal truncated to the two tails. The corrected estimate is the true
effect under which a Z this far out would come half of the time, and the interval holds those under which it would come
more than alpha / 2 of the time on both sides: median-unbiased, and with the right coverage among the tests that passed
(Zhong and Prentice 2008; Lee, Sun, Sun and Taylor 2016).
"""

import math
from typing import NamedTuple

from scipy import special

from abtest.stats.estimate import Interval

_HALVINGS = 200
_LEAST = 1e-12


class AfterSelection(NamedTuple):
    """An effect that was selected for being significant, in units of its standard error.

    Attributes:
        z: Median-unbiased estimate.
        interval: With coverage among selected effects.
    """

    z: float
    interval: Interval


def after_selection(z: float, bound: float, *, alpha: float = 0.05) -> AfterSelection:
    """Correct an effect for having been selected.

    Args:
        z: Effect over its standard error.
        bound: The effect was reported because \\|z\\| passed this.
        alpha: 1 - level of the interval.

    Raises:
        ValueError: If \\|z\\| did not pass the bound, or a number is not finite.
    """
    if not (math.isfinite(z) and math.isfinite(bound) and bound >= 0 and abs(z) >= bound):
        raise ValueError(f"z must be finite and |z| at least the bound, got {z} and {bound}.")
    size = abs(z)
    middle = _solve(size, bound, 0.5)
    low, high = _solve(size, bound, alpha / 2), _solve(size, bound, 1 - alpha / 2)
    return AfterSelection(middle, (low, high)) if z > 0 else AfterSelection(-middle, (-high, -low))


def _solve(size: float, bound: float, tail: float) -> float:
    """The effect under which a selected Z lies above ``size`` with this chance; it rises with the effect."""
    low, high = -1.0, 1.0
    while _above(size, bound, low) > tail:
        low *= 2.0
        if low < -1e6:
            return -math.inf
    while _above(size, bound, high) < tail:
        high *= 2.0
    high = max(high, size)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _above(size, bound, middle) < tail else (low, middle)
        if high - low < _LEAST:
            break
    return (low + high) / 2.0


def _above(size: float, bound: float, effect: float) -> float:
    """P(Z > size | |Z| > bound), by logarithms: far tails have a ratio although each is 0."""
    over, upper, lower = (float(special.log_ndtr(x)) for x in (effect - size, effect - bound, -bound - effect))
    most = max(upper, lower)
    return math.exp(over - most) / (math.exp(upper - most) + math.exp(lower - most))
