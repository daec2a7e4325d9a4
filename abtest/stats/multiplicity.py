"""Many p-values at once: Holm for primary metrics, Benjamini-Hochberg for slices.

An undefined p-value, None or nan, is None afterwards and does not count: nothing can be rejected there, so the level is
shared by the others alone, as if the question had not been asked. A verdict does not ship while a primary metric has
none.

statsmodels' ``multipletests`` gives the same numbers and is what the tests compare with; it collects garbage at every
call, which costs more (50 ms) than all else that an estimate does.
"""

import math
from collections.abc import Sequence

from abtest.stats.seed_and_user_tests import holm

__all__ = ["benjamini_hochberg", "holm"]


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted so that the expected share of false rejections stays below alpha (Benjamini, Hochberg 1995)."""
    known = [(p, index) for index, p in enumerate(p_values) if p is not None and not math.isnan(p)]
    order = sorted(known, reverse=True)
    adjusted: list[float | None] = [None] * len(p_values)
    ceiling = 1.0
    for passed, (p, index) in enumerate(order):
        ceiling = min(ceiling, p * len(order) / (len(order) - passed))
        adjusted[index] = ceiling
    return adjusted
