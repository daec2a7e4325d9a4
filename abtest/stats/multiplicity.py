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

__all__ = ["benjamini_hochberg", "holm", "weighted_holm"]


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


def weighted_holm(p_values: Sequence[float | None], weights: Sequence[float]) -> list[float | None]:
    """Holm's adjustment with the level split unevenly: p_i counts against its share of alpha (Holm 1979, section 3).

    Args:
        p_values: None or nan where undefined; such a question leaves its share to the others.
        weights: Share of each question, > 0, in any unit. Equal weights give :func:`holm`.

    Raises:
        ValueError: If a weight is not positive or their number differs.
    """
    if len(weights) != len(p_values) or any(not weight > 0 for weight in weights):
        raise ValueError(f"weights must be > 0, one for each of {len(p_values)} p-values, got {list(weights)}.")
    known = [i for i, p in enumerate(p_values) if p is not None and not math.isnan(p)]
    order = sorted(known, key=lambda i: (float(p_values[i] or 0.0) / weights[i], i))
    adjusted: list[float | None] = [None] * len(p_values)
    left, floor = math.fsum(weights[i] for i in known), 0.0
    for place, i in enumerate(order):
        floor = max(floor, min(float(p_values[i] or 0.0) * left / weights[i], 1.0))
        adjusted[i] = floor
        left = math.fsum(weights[j] for j in order[place + 1 :])
    return adjusted
