"""A Bayesian reading of a lift: normal prior and normal likelihood, and the prior that past tests give.

The likelihood is the lift's normal approximation (estimate and delta-method standard error); with a prior
N(m, tau^2) the posterior is N(w lift + (1 - w) m, w se^2), w = tau^2 / (tau^2 + se^2). A flat prior (tau = inf) gives
the estimate itself back, so that the chance to beat control is then 1 minus the one-sided p.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy import special

from abtest.stats.contrast import check_alpha

_STEPS = 200


class NormalPrior(NamedTuple):
    """What was believed of the lift before the test.

    Attributes:
        mean: As a share.
        sd: > 0; inf for nothing.
        source: Where it comes from, in words.
        tests: Past lifts that it was fitted to; 0 where it was stated.
    """

    mean: float = 0.0
    sd: float = math.inf
    source: str = "flat"
    tests: int = 0


class Posterior(NamedTuple):
    """What is believed of the lift after it.

    Attributes:
        mean: As a share; the estimate shrunken to the prior's mean.
        sd: Standard deviation.
        interval: Central interval that holds the lift with probability 1 - alpha.
        beats_control: Chance that the treatment is better in the metric's good direction.
        within_margin: Chance that it is not worse by the margin or more; None without one.
        loss_if_shipped: Expected loss of lift from shipping, where the treatment is worse.
        loss_if_kept: Expected loss of lift from keeping control, where the treatment is better.
        weight: Share of the posterior mean that is the data's.
    """

    mean: float
    sd: float
    interval: tuple[float, float]
    beats_control: float
    within_margin: float | None
    loss_if_shipped: float
    loss_if_kept: float
    weight: float


def posterior(
    lift: float, se: float, prior: NormalPrior, *, good: str = "up", margin: float | None = None, alpha: float = 0.05
) -> Posterior:
    """Posterior of a lift and what a decision on it would cost.

    Args:
        lift: Estimate, as a share.
        se: Its standard error, > 0.
        prior: Normal or flat.
        good: Direction of the metric that is better, ``up`` or ``down``.
        margin: Loss that would be accepted, > 0.
        alpha: 1 - level of the interval.

    Raises:
        ValueError: If a standard deviation is not positive or alpha is not valid.
    """
    check_alpha(alpha)
    if not se > 0.0 or not prior.sd > 0.0:
        raise ValueError(f"standard deviations must be > 0, got {se} of the lift and {prior.sd} of the prior.")
    mean, sd, weight = normal_posterior(lift, se, prior.mean, prior.sd)
    half = -float(special.ndtri(alpha / 2.0)) * sd
    gain = mean if good == "up" else -mean
    better = float(special.ndtr(gain / sd))
    density = math.exp(-0.5 * (gain / sd) ** 2) / math.sqrt(2.0 * math.pi)
    return Posterior(
        mean,
        sd,
        (mean - half, mean + half),
        better,
        None if margin is None else float(special.ndtr((gain + margin) / sd)),
        max(sd * density - gain * (1.0 - better), 0.0),
        max(sd * density + gain * better, 0.0),
        weight,
    )


def normal_posterior(lift: float, se: float, mean: float, sd: float) -> tuple[float, float, float]:
    """Mean and standard deviation of a true lift, and the share of the mean that is the measurement's.

    Args:
        lift: As measured.
        se: Its standard error, > 0.
        mean: Of the normal prior.
        sd: Its standard deviation: 0 if all true lifts are alike, inf for a flat one.
    """
    weight = 1.0 if math.isinf(sd) else sd**2 / (sd**2 + se**2)
    centre = weight * lift + (1.0 - weight) * mean if weight < 1.0 else lift
    return centre, math.sqrt(weight) * se, weight


def prior_of(lifts: Sequence[float], ses: Sequence[float], source: str = "past tests") -> NormalPrior:
    """Normal prior fitted to past lifts, by maximum likelihood of N(mean, tau^2 + se^2).

    The spread of the estimates holds their own noise, which is taken off: tests without any true spread give a small
    tau, of a hundredth of the mean noise, and not 0, which would be certainty.

    Args:
        lifts: Estimates of past tests, good direction positive.
        ses: Their standard errors, > 0.

    Raises:
        ValueError: If there are fewer than 3 tests or a standard error is not positive.
    """
    if len(lifts) < 3 or len(ses) != len(lifts) or any(not se > 0.0 for se in ses):
        raise ValueError(f"a prior needs at least 3 past lifts with standard errors > 0, got {len(lifts)}.")
    from scipy.optimize import minimize_scalar

    def pooled(tau: float) -> tuple[float, float]:
        weights = [1.0 / (tau**2 + se**2) for se in ses]
        mean = math.fsum(w * lift for w, lift in zip(weights, lifts, strict=True)) / math.fsum(weights)
        gaps = zip(weights, lifts, strict=True)
        return mean, math.fsum(w * (lift - mean) ** 2 - math.log(w) for w, lift in gaps)

    least = 0.01 * math.fsum(ses) / len(ses)
    most = max(abs(lift) for lift in lifts) + 10.0 * max(ses)
    found = minimize_scalar(
        lambda log_tau: pooled(math.exp(log_tau))[1],
        bounds=(math.log(least), math.log(most)),
        method="bounded",
        options={"xatol": 1e-10, "maxiter": _STEPS},
    )
    tau = math.exp(float(found.x))
    return NormalPrior(pooled(tau)[0], tau, f"{source} ({len(lifts)} lifts)", len(lifts))
