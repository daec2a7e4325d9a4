"""What a policy would have earned, from the log of another one that chose at random with known chances.

For each logged choice i: reward r_i, the chance p_i that the logging policy gave to what it chose, and the chance pi_i
that the policy in question gives to the same, so that w_i = pi_i / p_i.

- IPS: mean of w r (Horvitz & Thompson 1952). Unbiased where p > 0 wherever pi > 0.
- SNIPS: sum of w r over the sum of w (Swaminathan & Joachims, NeurIPS 2015): slightly biased, often far less noisy, and
  it stays within the range of the rewards.
- DR, doubly robust: mean of m + w (r - q), with a model's reward q of what was chosen and m of what the policy would
  choose (Dudik, Langford & Li, ICML 2011): unbiased as IPS is, whatever the model, if it was fitted on other users.

Choices of one user are not independent, so intervals are over users: each estimate is a ratio of two sums over users,
with the linearised residuals' spread and Student's t. Effective sample size: (sum w)^2 / sum w^2 (Kish 1965).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LEAST_EFFECTIVE = 200  # choices: below this the intervals rest on few of them
MOST_UNSUPPORTED = 0.01  # share of the choices that the logging policy could not have made
LARGEST_SHARE = 0.05  # of all weight on one user


class OffPolicyValue(NamedTuple):
    """The value of a policy by one estimator.

    Attributes:
        method: IPS, SNIPS or DR.
        value: Mean reward of a choice under the policy; None where no logged choice is one that it would make.
        se: Standard error over users; None where the value is, or there are fewer than two users.
        ci: Its interval; None likewise.
    """

    method: str
    value: float | None
    se: float | None
    ci: tuple[float, float] | None


class Overlap(NamedTuple):
    """How far a log tells about a policy.

    Attributes:
        choices: Logged choices.
        matched: Choices that the policy might have made too, w > 0.
        effective: Effective sample size of the weights.
        unsupported: Mean chance of the policy's own choice where the logging policy could not have made it.
        largest_share: Share of all weight that one user has.
        mean_weight: Mean weight: about 1 - unsupported if the logged chances are right.
        warnings: What is wrong, in words; empty where the overlap is good.
    """

    choices: int
    matched: int
    effective: float
    unsupported: float
    largest_share: float
    mean_weight: float
    warnings: tuple[str, ...]


def off_policy_values(
    reward: ArrayLike,
    weight: ArrayLike,
    users: ArrayLike,
    *,
    model_logged: ArrayLike | None = None,
    model_policy: ArrayLike | None = None,
    alpha: float = 0.05,
) -> list[OffPolicyValue]:
    """IPS and SNIPS, and DR where a reward model is given.

    Args:
        reward: Reward of each logged choice, shape (n,).
        weight: Chance of that choice under the policy over its chance under the logging one, >= 0, shape (n,).
        users: Whose choice it was, any integers, shape (n,).
        model_logged: The model's reward of each logged choice, shape (n,).
        model_policy: The model's mean reward of what the policy would choose there, shape (n,).
        alpha: Intervals are at 1 - alpha.

    Raises:
        ValueError: If shapes differ, nothing is logged, or a weight is negative or not finite.
    """
    r, w = np.asarray(reward, np.float64), np.asarray(weight, np.float64)
    of_user = np.unique(np.asarray(users), return_inverse=True)[1]
    if not len(r) or r.shape != w.shape or r.shape != of_user.shape:
        raise ValueError(f"shapes {r.shape}, {w.shape}, {of_user.shape}: give one reward, weight and user per choice.")
    if not (np.isfinite(w).all() and (w >= 0.0).all()):
        raise ValueError("weights must be finite and >= 0: a logged choice has a chance above 0.")
    one = np.ones(len(r))
    found = [_ratio("IPS", w * r, one, of_user, alpha)]
    found += [_ratio("SNIPS", w * r, w, of_user, alpha)]
    if model_logged is not None and model_policy is not None:
        q, m = np.asarray(model_logged, np.float64), np.asarray(model_policy, np.float64)
        found.append(_ratio("DR", m + w * (r - q), one, of_user, alpha))
    return found


def overlap(weight: ArrayLike, users: ArrayLike, supported: ArrayLike) -> Overlap:
    """How far the log tells about the policy.

    Args:
        weight: As above, shape (n,).
        users: As above, shape (n,).
        supported: Chance that the policy gives to choices which the logging policy might have made, shape (n,).
    """
    w, of_user = np.asarray(weight, np.float64), np.unique(np.asarray(users), return_inverse=True)[1]
    total, squares = float(w.sum()), float((w**2).sum())
    effective = total**2 / squares if squares else 0.0
    unsupported = float(1.0 - np.mean(np.asarray(supported, np.float64)))
    largest = float(np.bincount(of_user, w).max() / total) if total else 0.0
    warnings = []
    if effective < LEAST_EFFECTIVE:
        warnings.append(f"the weights are worth {effective:,.0f} choices, fewer than {LEAST_EFFECTIVE}")
    if unsupported > MOST_UNSUPPORTED:
        warnings.append(f"{unsupported:.1%} of its choices have no chance under the logging policy")
    if largest > LARGEST_SHARE:
        warnings.append(f"one user has {largest:.0%} of the weight")
    return Overlap(len(w), int((w > 0).sum()), effective, unsupported, largest, float(w.mean()), tuple(warnings))


def _ratio(method: str, above: Floats, below: Floats, of_user: NDArray[np.int64], alpha: float) -> OffPolicyValue:
    """A ratio of sums over users, by the delta method."""
    from scipy.special import stdtrit

    top, bottom = np.bincount(of_user, above), np.bincount(of_user, below)
    total, users = float(bottom.sum()), len(bottom)
    if total <= 0.0 or (method == "IPS" and not above.any() and not below.any()):
        return OffPolicyValue(method, None, None, None)
    value = float(top.sum() / total)
    if users < 2:
        return OffPolicyValue(method, value, None, None)
    residual = top - value * bottom
    se = float(np.sqrt(users / (users - 1) * (residual**2).sum()) / total)
    half = -float(stdtrit(users - 1, alpha / 2)) * se
    return OffPolicyValue(method, value, se, (value - half, value + half))
