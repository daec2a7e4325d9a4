"""How many users interleaving needs, beside an A/B test, for the same certainty about the same two systems.

Interleaving shows everybody both systems, and a user's preference is the difference between the clicks credited to the
two. With mean d and standard deviation s of these differences, n users give z = sqrt(n) d / s (Chapelle, Joachims,
Radlinski & Yue, TOIS 30(1), 2012, section 4, with users as units). An A/B test with two arms of n/2 users gives
z = sqrt(n) (b - a) / sqrt(2 (var a + var b)). The users that either needs for a given power are inversely proportional
to its z^2 per user, so that their ratio needs neither level nor power.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_AT_ONCE = 64  # resamples whose weights are held together


class UsersNeeded(NamedTuple):
    """One way of comparing two systems.

    Attributes:
        effect: Difference per user, in the metric's unit.
        z_per_user: Its mean over its noise, of one user: z of n users is sqrt(n) times this. The sign is the effect's.
        users: Users of all arms for the power asked; None where there is no effect.
    """

    effect: float
    z_per_user: float
    users: int | None


class UsersRatio(NamedTuple):
    """How many times the users of interleaving an A/B test needs.

    Attributes:
        ratio: Users of the A/B test over those of interleaving; None where interleaving shows no difference at all.
        ci: Interval from resampled users; its upper end is infinite where the A/B difference may be nothing.
        same_sign: Share of the resamples in which both prefer the same system.
    """

    ratio: float | None
    ci: tuple[float, float]
    same_sign: float


def split_test(control: Floats, treatment: Floats, *, alpha: float, power: float) -> UsersNeeded:
    """An A/B test with half of the users in each arm.

    Args:
        control: Metric of each user under control, shape (U,).
        treatment: The same users under treatment, shape (U,).
        alpha: Two-sided level.
        power: Probability of finding the difference.
    """
    noise = 2.0 * (control.var(ddof=1) + treatment.var(ddof=1))
    return _needed(float(treatment.mean() - control.mean()), float(noise), alpha, power)


def interleaved(difference: Floats, *, alpha: float, power: float) -> UsersNeeded:
    """Interleaving, from each user's credit of the treatment less that of control, shape (U,)."""
    return _needed(float(difference.mean()), float(difference.var(ddof=1)), alpha, power)


def users_ratio(
    control: Floats,
    treatment: Floats,
    difference: Floats,
    *,
    alpha: float,
    rng: np.random.Generator,
    resamples: int = 2000,
) -> UsersRatio:
    """Users of the A/B test over users of interleaving, with a percentile interval from resampled users.

    Args:
        control: Metric of each user under control, shape (U,).
        treatment: The same users under treatment, shape (U,).
        difference: The same users under interleaving: credit of the treatment less that of control, shape (U,).
        alpha: The interval is at 1 - alpha.
        rng: Of the resamples.
        resamples: Their number.

    Raises:
        ValueError: If the arrays differ in length or hold fewer than two users.
    """
    users = len(control)
    if users < 2 or {len(treatment), len(difference)} != {users}:
        raise ValueError(f"got {users}, {len(treatment)}, {len(difference)} users: give the same two or more in each.")
    columns = np.stack([control, treatment, difference])
    columns = columns - columns.mean(axis=1, keepdims=True)  # variances of large means would lose digits
    shift = np.array([control.mean(), treatment.mean(), difference.mean()])
    both = np.concatenate([columns, columns**2])  # (6, U)
    found = []
    for start in range(0, resamples, _AT_ONCE):
        n = min(_AT_ONCE, resamples - start)
        weights = rng.multinomial(users, np.full(users, 1.0 / users), size=n)
        moments = weights @ both.T / users  # (n, 6)
        means, variances = moments[:, :3] + shift, moments[:, 3:] - moments[:, :3] ** 2
        found.append(_strengths(means, variances))
    split, joint = np.concatenate(found, axis=1)
    ratios = _ratio(split, joint)
    whole = _strengths(shift[None, :], both[3:].mean(axis=1)[None, :])
    ratio = float(_ratio(*whole)[0])
    low, high = np.quantile(ratios, [alpha / 2, 1 - alpha / 2], method="inverted_cdf")
    return UsersRatio(
        ratio if np.isfinite(ratio) else None, (float(low), float(high)), float(np.mean(split * joint > 0.0))
    )


def adjusted(values: Floats, covariate: Floats) -> Floats:
    """Values less what a covariate from before the test predicts (CUPED), with the same mean; shape (U,)."""
    spread = float(covariate.var())
    if spread == 0.0:
        return values
    slope = float(np.cov(values, covariate, ddof=0)[0, 1]) / spread
    return values - slope * (covariate - covariate.mean())


def _strengths(means: Floats, variances: Floats) -> Floats:
    """z per user of the A/B test and of interleaving, shape (2, n), from moments (n, 3)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        split = (means[:, 1] - means[:, 0]) / np.sqrt(2.0 * (variances[:, 0] + variances[:, 1]))
        joint = means[:, 2] / np.sqrt(variances[:, 2])
    return np.nan_to_num(np.stack([split, joint]))


def _ratio(split: Floats, joint: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.where(joint == 0.0, 0.0, joint**2 / split**2)


def _needed(effect: float, noise: float, alpha: float, power: float) -> UsersNeeded:
    from scipy.special import ndtri

    z = effect / float(np.sqrt(noise)) if noise > 0.0 else 0.0
    wanted = float(ndtri(1 - alpha / 2) + ndtri(power))
    return UsersNeeded(effect, z, int(np.ceil((wanted / z) ** 2)) if z else None)
