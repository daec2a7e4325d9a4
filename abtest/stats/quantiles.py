"""Difference of a quantile between the arms: P50 and P90 of dwell, which a mean hides.

Woodruff's method (1952) needs no density: the share of values at or below the arm's quantile has a known standard
error, binomial for one value per user and that of a linearised ratio for several, and the values at q -+ z times that
error bound the quantile. Their half-distance over z is the quantile's standard error. The arms are then compared by a
z test, whose inversion gives the interval of the lift.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from abtest.stats.contrast import Contrast, NoisePart, check_alpha, judge
from abtest.stats.estimate import Estimate, Group

Floats = NDArray[np.float64]


def quantile_difference(
    control: ArrayLike,
    treatment: ArrayLike,
    q: float,
    *,
    control_users: ArrayLike | None = None,
    treatment_users: ArrayLike | None = None,
    alpha: float = 0.05,
) -> Estimate:
    """Treatment against control on a quantile.

    Args:
        control: Values of the control, shape (n,): one per user, or events if their users are given.
        treatment: Values of the treatment.
        q: Which quantile, within (0, 1); 0.9 for P90.
        control_users: User of each value where users have several; integers, shape (n,).
        treatment_users: The same for the treatment.
        alpha: 1 - level of the intervals.

    Raises:
        ValueError: If q or alpha is not within (0, 1), shapes differ, or a value is not finite.
    """
    check_alpha(alpha)
    if not 0.0 < q < 1.0:
        raise ValueError(f"q must lie within (0, 1), got {q}: 0.9 is P90.")
    if (control_users is None) != (treatment_users is None):
        raise ValueError("give the users of both arms or of none.")
    method = f"z on P{100 * q:g} (Woodruff)" + ("" if control_users is None else ", users as clusters")
    z = -float(special.ndtri(alpha / 2.0))
    arms = [
        _quantile(control, control_users, q, z, "control"),
        _quantile(treatment, treatment_users, q, z, "treatment"),
    ]
    (n_c, value_c, se_c, fault_c), (n_t, value_t, se_t, fault_t) = arms
    reasons = [fault for fault in (fault_c, fault_t) if fault]
    if reasons or value_c is None or value_t is None:
        difference = None if value_c is None or value_t is None else value_t - value_c
        lift = difference / abs(value_c) if difference is not None and value_c else None
        groups = Group(n_c, value_c), Group(n_t, value_t)
        return Estimate(method, alpha, *groups, difference=difference, lift=lift, reason="; ".join(reasons))
    noise_c, noise_t = se_c**2, se_t**2
    parts = (NoisePart(noise_c, noise_c, noise_c, math.inf), NoisePart(noise_t, 0.0, 0.0, math.inf))
    return judge(
        Contrast(value_t - value_c, value_c, parts), n_c, n_t, method=method, alpha=alpha, mean_treatment=value_t
    )


def _quantile(
    values: ArrayLike, users: ArrayLike | None, q: float, z: float, arm: str
) -> tuple[int, float | None, float, str | None]:
    """Users, quantile, its standard error, and why there is none."""
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError(f"values of {arm} must be a vector of finite numbers, got shape {x.shape}.")
    if not len(x):
        return 0, None, 0.0, f"{arm} has no values"
    if users is None and not (x[1:] >= x[:-1]).all():
        x = np.sort(x)  # once, for three quantiles
    value = float(np.quantile(x, q))
    if users is None:
        n, spread = len(x), math.sqrt(q * (1.0 - q) / len(x))
    else:
        n, spread = _clustered(x, np.asarray(users), value, q, arm)
    if n < 2:
        return n, value, 0.0, f"{arm} has {n} user: at least 2 are needed to see any spread"
    low, high = q - z * spread, q + z * spread
    if low <= 0.0 or high >= 1.0:
        return n, value, 0.0, f"{arm} has too few users for P{100 * q:g}: its interval leaves the data"
    below, above = np.quantile(x, [low, high])
    if not above > below:
        return n, value, 0.0, f"P{100 * q:g} of {arm} lies within ties: its noise cannot be told from the data"
    return n, value, float(above - below) / (2.0 * z), None


def _clustered(x: Floats, users: NDArray[np.generic], value: float, q: float, arm: str) -> tuple[int, float]:
    """Users, and the standard error of the share of values at or below ``value``, users as clusters."""
    if users.shape != x.shape:
        raise ValueError(f"users of {arm} must name the user of each value: shape {users.shape} beside {x.shape}.")
    _, codes = np.unique(users, return_inverse=True)
    size = np.bincount(codes)
    below = np.bincount(codes, x <= value)
    n = len(size)
    if n < 2:
        return n, 0.0
    residual = below - below.sum() / size.sum() * size
    return n, float(np.sqrt((residual**2).sum() / (n - 1) / n) / size.mean())
