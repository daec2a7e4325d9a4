"""Dunnett's adjustment: several treatments against one control, whose noise their differences share.

With t_i = D_i / se_i and lambda_i = se_C / se_i, the part of the noise that comes from the control, the t_i correlate
by lambda_i lambda_j. Given the control's noise u they are independent, so that

    P(max |t_i| <= c) = E_s E_u  prod_i [ Phi((c s - lambda_i u) / k_i) - Phi((-c s - lambda_i u) / k_i) ],

    k_i = sqrt(1 - lambda_i^2),  u normal,  s = sqrt(chi^2_df / df)

(Dunnett 1955; scipy's ``dunnett`` for the pooled variance). Less strict than Holm's first step, since what the shared
control does is counted once. Arms of unequal spread keep their own standard errors; df is the smallest of theirs.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from abtest.stats.tails import p_of_log10, two_sided_log10_p

_NODES = 64
_FAR_OUT = 1e-8
_LARGE_DF = 1e4  # beyond it t is normal to 1e-5 of p


def dunnett(t: Sequence[float | None], control_share: Sequence[float], df: float) -> list[float | None]:
    """Adjusted two-sided p of each treatment against the control; None where its t is None.

    Args:
        t: Statistic of each treatment.
        control_share: Control's share of each difference's squared standard error, within (0, 1): lambda^2.
        df: Degrees of freedom of the standard errors, > 0; inf for known variances.

    Raises:
        ValueError: If a share is not within (0, 1) or df not positive.
    """
    if not df > 0 or any(not 0.0 < share < 1.0 for share in control_share):
        raise ValueError(f"shares must lie within (0, 1) and df be > 0, got {list(control_share)} and {df}.")
    shares = np.array([share for share, one in zip(control_share, t, strict=True) if one is not None])
    return [None if one is None else _adjusted(abs(one), shares, df) for one in t]


def _adjusted(c: float, shares: np.ndarray, df: float) -> float:
    """P(max |t_i| > c); far out, where it is the difference of two ones, the sum of the single chances."""
    found = _beyond(c, shares, df)
    return found if found > _FAR_OUT else p_of_log10(math.log10(len(shares)) + float(two_sided_log10_p(c, df)))


def _beyond(c: float, shares: np.ndarray, df: float) -> float:
    """P(max |t_i| > c)."""
    u, weight_u = np.polynomial.hermite_e.hermegauss(_NODES)
    weight_u = weight_u / math.sqrt(2.0 * math.pi)
    scale, weight_s = _chi(df)
    slope, rest = np.sqrt(shares), np.sqrt(1.0 - shares)
    reach = c * scale[:, None, None]
    shift = slope * u[:, None]
    inside = special.ndtr((reach - shift) / rest) - special.ndtr((-reach - shift) / rest)  # (S, U, I)
    all_inside = inside.prod(axis=2)
    return float(np.clip(1.0 - weight_s @ all_inside @ weight_u, 0.0, 1.0))


def _chi(df: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of sqrt(chi^2_df / df)."""
    if df > _LARGE_DF:
        return np.ones(1), np.ones(1)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    level = (nodes + 1.0) / 2.0
    return np.sqrt(special.chdtri(df, 1.0 - level) / df), weights / 2.0
