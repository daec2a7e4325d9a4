"""Equivalence: is the lift shown to lie within margins on both sides? Two one-sided tests (Schuirmann 1987)."""

from typing import NamedTuple

from abtest.stats.contrast import Contrast, check_alpha
from abtest.stats.tails import p_of_log10, t_logsf

_LN10 = 2.302585092994046


class Equivalence(NamedTuple):
    """Two one-sided tests of a lift against its margins.

    Attributes:
        low: Lowest lift that counts as equivalent, < 0.
        high: Highest, > 0.
        p_low: One-sided, for "at or below ``low``".
        p_high: One-sided, for "at or above ``high``".
        p: The larger of the two, which is that of the equivalence; None where undefined.
        holds: Whether p < alpha: the lift is shown to lie within; None where undefined.
        reason: Why something above is None, else None.
    """

    low: float
    high: float
    p_low: float | None
    p_high: float | None
    p: float | None
    holds: bool | None
    reason: str | None = None


def equivalence(contrast: Contrast, low: float, high: float, *, alpha: float = 0.025) -> Equivalence:
    """Test that the lift lies between two margins, the control's noise included at each of them.

    Args:
        contrast: Of any estimator.
        low: Lowest lift that counts as equivalent, as a share, < 0.
        high: Highest, > 0.
        alpha: Level of each one-sided test; 0.025 goes with the two-sided 95 % interval lying within.

    Raises:
        ValueError: If the margins do not lie on either side of 0 or alpha is not valid.
    """
    check_alpha(alpha)
    if not low < 0.0 < high:
        raise ValueError(f"margins must lie on either side of 0, got {low} and {high}.")
    blank = Equivalence(low, high, None, None, None, None)
    upright = contrast.upright()
    if upright.base == 0.0:
        return blank._replace(reason="control mean is 0: a relative lift is undefined")
    p = []
    for margin, sign in ((low, 1.0), (high, -1.0)):
        se, df = upright.at(margin)
        if not se > 0.0:
            return blank._replace(reason="neither arm varies: there is no noise to judge by")
        t = sign * (upright.difference - margin * upright.base) / se
        p.append(p_of_log10(float(t_logsf(t, df)) / _LN10))
    return Equivalence(low, high, p[0], p[1], max(p), max(p) < alpha)
