"""Intervals that hold at every look at once, for tests without a planned end: the asymptotic confidence sequence.

Half-width at N users: ``se sqrt(N) sqrt(2 (N rho^2 + 1) / (N^2 rho^2) ln(sqrt(N rho^2 + 1) / alpha))``, the two-sided
normal mixture boundary (Robbins 1970; Howard, Ramdas, McAuliffe, Sekhon 2021; Waudby-Smith et al. 2021), with
``rho^2 = (-2 ln alpha + ln(1 - 2 ln alpha)) / N*``, which makes it tightest near N* users. At N* it is about half wider
than a fixed test's interval; for looks that are planned, ``spending`` costs a tenth of that.
"""

import math
from typing import NamedTuple

from scipy import special

from abtest.stats.contrast import check_alpha
from abtest.stats.estimate import Estimate, Interval
from abtest.stats.tails import p_of_log10


class AnytimeEstimate(NamedTuple):
    """A confidence sequence at one look.

    Attributes:
        n: Users of both arms so far.
        multiplier: Half-width in standard errors.
        alpha: Nominal two-sided level of that multiplier: a z test at this level, and the lift interval it inverts
            to, hold at every look.
        interval: Interval of the estimated value; None where undefined.
        p: Anytime-valid, at most 1; None where undefined.
        log10_p: Its base-10 logarithm.
        reason: Why something above is None, else None.
    """

    n: int
    multiplier: float
    alpha: float
    interval: Interval | None
    p: float | None
    log10_p: float | None
    reason: str | None = None


def mixture_precision(n_star: float, alpha: float = 0.05) -> float:
    """rho, the mixture's precision that makes the sequence tightest near ``n_star`` users.

    Raises:
        ValueError: If n_star is not positive or alpha is not within (0, 1).
    """
    check_alpha(alpha)
    if not n_star > 0:
        raise ValueError(f"n_star must be > 0, got {n_star}: the number of users the sequence is tuned for.")
    return math.sqrt((-2.0 * math.log(alpha) + math.log1p(-2.0 * math.log(alpha))) / n_star)


def multiplier(n: int, *, n_star: float, alpha: float = 0.05) -> float:
    """Half-width of the sequence at ``n`` users of both arms, in standard errors."""
    spread = n * mixture_precision(n_star, alpha) ** 2
    return math.sqrt(2.0 * (spread + 1.0) / spread * (0.5 * math.log1p(spread) - math.log(alpha)))


def anytime(value: float, se: float, n: int, *, n_star: float, alpha: float = 0.05) -> AnytimeEstimate:
    """The sequence around a value, a difference or a lift, with this standard error.

    Args:
        value: The estimate.
        se: Its standard error, > 0.
        n: Users of both arms so far, > 0.
        n_star: Users that the sequence is tuned for; must not be chosen by looking.
        alpha: 1 - level, over all looks together.

    Raises:
        ValueError: If se, n or n_star is not positive, or alpha is not within (0, 1).
    """
    if not se > 0 or not n > 0:
        raise ValueError(f"se and n must be > 0, got {se} and {n}.")
    width = multiplier(n, n_star=n_star, alpha=alpha)
    spread = n * mixture_precision(n_star, alpha) ** 2
    log_p = 0.5 * math.log1p(spread) - 0.5 * (value / se) ** 2 * spread / (spread + 1.0)
    log10_p = min(log_p / math.log(10.0), 0.0)
    nominal = 2.0 * float(special.ndtr(-width))
    interval = (value - width * se, value + width * se)
    return AnytimeEstimate(n, width, nominal, interval, p_of_log10(log10_p), log10_p)


def anytime_difference(estimate: Estimate, *, n_star: float, alpha: float | None = None) -> AnytimeEstimate:
    """The sequence for a difference; for that of the lift run ``welch`` as z test at the alpha this returns.

    Args:
        estimate: Estimate from the users so far.
        n_star: Users that the sequence is tuned for.
        alpha: 1 - level over all looks; that of the estimate if None.
    """
    alpha = estimate.alpha if alpha is None else alpha
    n = estimate.control.n + estimate.treatment.n
    if estimate.difference is None or not estimate.se:
        width = multiplier(max(n, 1), n_star=n_star, alpha=alpha)
        nominal = 2.0 * float(special.ndtr(-width))
        return AnytimeEstimate(n, width, nominal, None, None, None, estimate.reason)
    return anytime(estimate.difference, estimate.se, n, n_star=n_star, alpha=alpha)
