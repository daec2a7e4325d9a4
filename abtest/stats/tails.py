"""Tails of the normal, Student's t and chi-square distributions as logarithms, so that no p-value underflows to 0.

Where the tail is a normal float it comes from ``scipy.special``; below, from Gauss's and Legendre's continued fractions
of the incomplete beta and gamma functions (DLMF 15.7.1 with 8.17.8, and 8.9.2) times their prefactor in logarithms.
``1 - cdf`` is never taken. Scalars in, float out; arrays broadcast; nan stays nan.
"""

import math
import sys

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

_DIRECT = 1e-200  # tails above this are taken from scipy.special as they are
_SMALL_TAIL = 1e-30  # quantiles further out than this are searched for: special.stdtrit loses its way there
_OVERFLOW = 1e150  # squares of larger floats overflow
_LOG_MAX = math.log(sys.float_info.max)
_TERMS = 200  # of a continued fraction; it is only used far out, where it settles within tens


def norm_logsf(z: ArrayLike) -> float | Floats:
    """log P(Z > z) of the standard normal."""
    return _plain(special.log_ndtr(-np.asarray(z, np.float64)))


def t_logsf(t: ArrayLike, df: ArrayLike) -> float | Floats:
    """log P(T > t) of Student's t with ``df`` > 0 degrees of freedom; infinite ``df`` means the normal."""
    t_, df_ = np.broadcast_arrays(np.asarray(t, np.float64), np.asarray(df, np.float64))
    upper = _t_upper_log(np.abs(t_), df_)
    return _plain(np.where(t_ < 0, np.log1p(-np.exp(upper)), upper))


def chi2_logsf(x: ArrayLike, df: ArrayLike) -> float | Floats:
    """log P(X > x) of the chi-square distribution with ``df`` > 0 degrees of freedom, x >= 0."""
    half, a = np.broadcast_arrays(np.asarray(x, np.float64) / 2.0, np.asarray(df, np.float64) / 2.0)
    tail = special.gammaincc(a, half)
    far = tail < _DIRECT
    log_tail = np.log(np.where(far, 1.0, tail))
    if far.any():
        far_tail = _gamma_tail_log(np.where(far, a, 1.0), np.where(far, half, 2.0))
        log_tail = np.where(far, far_tail, log_tail)
    return _plain(log_tail)


def two_sided_log10_p(t: ArrayLike, df: ArrayLike) -> float | Floats:
    """log10 of P(|T| > |t|), at most 0; with infinite ``df`` that of a z statistic."""
    log_tail = np.asarray(t_logsf(np.abs(np.asarray(t, np.float64)), df))
    return _plain(np.minimum((log_tail + math.log(2.0)) / math.log(10.0), 0.0))


def t_quantile(p: float, df: float) -> float:
    """The t with P(T < t) = ``p``; infinite ``df`` means the normal.

    Raises:
        ValueError: If p is not within (0, 1) or df is not positive.
    """
    if not 0.0 < p < 1.0 or not df > 0.0:
        raise ValueError(f"p must lie within (0, 1) and df be > 0, got p={p}, df={df}.")
    tail = min(p, 1.0 - p)
    if math.isinf(df):
        size = -float(special.ndtri(tail))
    elif tail < _SMALL_TAIL:
        size = _far_quantile(math.log(tail), df)
    else:
        size = -float(special.stdtrit(df, tail))
    return math.copysign(size, p - 0.5)


def p_of_log10(log10_p: float) -> float:
    """The p-value as a float, never 0: what underflows is the smallest normal float."""
    return max(10.0**log10_p, sys.float_info.min)


def format_p(log10_p: float) -> str:
    """A p-value in print: three decimals, then powers of ten, then ``< 1e-300``; never 0."""
    if log10_p < -300.0:
        return "< 1e-300"
    p = 10.0**log10_p
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def _t_upper_log(t: Floats, df: Floats) -> Floats:
    """log P(T > t) for t >= 0: half the incomplete beta function I_x(df / 2, 1 / 2) at x = df / (df + t^2).

    From the side on which its argument is not rounded towards 1: I_x(a, b) = 1 - I_{1-x}(b, a).
    """
    a = np.where(np.isinf(df), 1.0, df) / 2.0
    u = t / np.sqrt(2.0 * a)  # t / sqrt(df)
    near = np.minimum(u, _OVERFLOW)
    x = 1.0 / (1.0 + near * near)
    tail = 0.5 * np.where(x < 0.5, special.betainc(a, 0.5, x), special.betaincc(0.5, a, near * near * x))
    far = (tail < _DIRECT) | (u > _OVERFLOW)
    log_tail = np.log(np.where(far, 1.0, tail))
    if far.any():
        far_tail = _beta_tail_log(np.where(far, a, 1.0), np.where(far, u, 1.0))
        log_tail = np.where(far, far_tail - math.log(2.0), log_tail)
    return np.where(np.isinf(df), special.log_ndtr(-t), log_tail)


def _beta_tail_log(a: Floats, u: Floats) -> Floats:
    """log I_x(a, 1/2) at x = 1 / (1 + u^2), far out."""
    with np.errstate(over="ignore"):
        log1p_square = np.where(u > 1e8, 2.0 * np.log(u), np.log1p(u * u))  # -log x
    x = np.exp(-log1p_square)
    fraction = np.ones_like(x)
    for k in range(_TERMS, 0, -1):
        fraction = 1.0 - x * k * (k - 0.5) / ((a + 2 * k - 1) * (a + 2 * k)) / fraction
        fraction = 1.0 - x * (a + k - 0.5) * (a + k - 1) / ((a + 2 * k - 2) * (a + 2 * k - 1)) / fraction
    return -a * log1p_square + 0.5 * np.log1p(-x) - np.log(a) - special.betaln(a, 0.5) - np.log(fraction)


def _gamma_tail_log(a: Floats, x: Floats) -> Floats:
    """log Q(a, x), the upper incomplete gamma function over Gamma(a), far out (x > a + 1)."""
    fraction = x + 2 * _TERMS + 1 - a
    for k in range(_TERMS, 0, -1):
        fraction = x + 2 * k - 1 - a + k * (a - k) / fraction
    return a * np.log(x) - x - special.gammaln(a) - np.log(fraction)


def _far_quantile(log_tail: float, df: float) -> float:
    """The t > 0 with log P(T > t) = log_tail: Newton's steps in log t, where that tail bends one way only."""
    log_constant = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    t = -float(special.ndtri_exp(log_tail))  # the normal's quantile lies below, as t has the heavier tail
    for _ in range(100):
        here = float(t_logsf(t, df))
        log_density = log_constant - (df + 1) / 2 * (2 * math.log(math.hypot(1.0, t / math.sqrt(df))))
        step = (here - log_tail) * math.exp(here - log_density) / t
        if math.log(t) + step > _LOG_MAX:
            return math.inf
        t *= math.exp(step)
        if abs(step) < 1e-15:
            break
    return t


def _plain(values: Floats) -> float | Floats:
    return float(values) if np.ndim(values) == 0 else values
