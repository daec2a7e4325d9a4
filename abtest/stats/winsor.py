"""Sensitivity to the largest values: the same test with both arms capped at one pooled quantile, beside the primary.

A threshold per arm would bias the comparison, and a cap on the primary would hide what it did.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from abtest.stats.estimate import Estimate
from abtest.stats.moments import Moments
from abtest.stats.welch import welch


class Winsorised(NamedTuple):
    """A capped estimate beside the plain one.

    Attributes:
        estimate: With the caps.
        plain: Without.
        cap: Pooled quantile above which values were cut, in the metric's unit; nan without values.
        capped_control: Users cut in the control.
        capped_treatment: Users cut in the treatment.
    """

    estimate: Estimate
    plain: Estimate
    cap: float
    capped_control: int
    capped_treatment: int


def winsorised(control: ArrayLike, treatment: ArrayLike, *, quantile: float = 0.99, alpha: float = 0.05) -> Winsorised:
    """Welch's test with the values of both arms cut at a pooled quantile.

    Args:
        control: One value per user, shape (n,).
        treatment: The same of the treatment.
        quantile: Quantile of both arms together at which values are capped, within (0, 1).
        alpha: 1 - level of the intervals.

    Raises:
        ValueError: If quantile or alpha is not within (0, 1).
    """
    if not 0.0 < quantile < 1.0:
        raise ValueError(f"quantile must lie within (0, 1), got {quantile}: 0.99 caps the largest hundredth.")
    c, t = np.asarray(control, np.float64), np.asarray(treatment, np.float64)
    pooled = np.concatenate([c, t])
    cap = float(np.quantile(pooled, quantile)) if len(pooled) else float("nan")
    plain = welch(Moments.of({"value": c}), Moments.of({"value": t}), "value", alpha=alpha)
    cut_c, cut_t = Moments.of({"value": np.minimum(c, cap)}), Moments.of({"value": np.minimum(t, cap)})
    estimate = welch(cut_c, cut_t, "value", alpha=alpha)
    return Winsorised(estimate, plain, cap, int((c > cap).sum()), int((t > cap).sum()))
