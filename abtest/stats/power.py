"""Planning: the power of a test for a lift, the lift that it can detect, and the users and days that this takes.

Power is that of the two-sided Welch test itself (noncentral t), at the variance that the lift brings along: a lift
that scales every user's value by 1 + lift scales the treatment's variance by its square, one that shifts everybody
leaves it. The smallest detectable lift solves power(lift) = target with that variance, so power and lift invert each
other exactly; dividing an absolute effect by the control mean would not.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from scipy import special

from abtest.stats.contrast import Contrast, NoisePart, check_alpha, critical_t
from abtest.stats.cuped import residual_share
from abtest.stats.moments import Moments
from abtest.stats.terms import Term, linear, name_of, undefined

Effect = Literal["scaled", "shifted"]

_LARGEST_LIFT = 1e9
_MOST_USERS = 1e15


class Baseline(NamedTuple):
    """A metric as it is today.

    Attributes:
        metric: Its name.
        mean: Its value, not 0.
        variance: Per user; of the linearised residual for a ratio.
        unexplained: Share of the variance that covariates leave: 1 without CUPED.
    """

    metric: str
    mean: float
    variance: float
    unexplained: float = 1.0


class PowerPlan(NamedTuple):
    """A test that is planned; undefined figures are None with a reason.

    Attributes:
        lift: Relative to the size of the control's mean.
        power: Chance that p < alpha at this lift.
        alpha: Two-sided level.
        n_control: Users of the control.
        n_treatment: Users of the treatment.
        days: Days until these users have come, if asked for.
        reason: Why something above is None, else None.
    """

    lift: float | None
    power: float | None
    alpha: float
    n_control: int | None
    n_treatment: int | None
    days: int | None = None
    reason: str | None = None


def baseline(moments: Moments, metric: Term, covariates: Sequence[Term] = ()) -> Baseline:
    """A metric's mean and variance from a log, with what CUPED on these covariates would leave of the variance.

    Args:
        moments: Moments of the users of a log, all of one arm or of an A/A test.
        metric: A column or a ratio of two.
        covariates: As in ``cuped``.

    Raises:
        ValueError: If the metric is undefined, does not vary or has mean 0.
    """
    for term in (metric, *covariates):
        if reason := undefined(moments, term, "the log"):
            raise ValueError(f"no plan from this log: {reason}.")
    whole = linear(moments, (metric,))
    mean, variance = float(whole.value[0]), float(whole.cov[0, 0])
    if mean == 0.0 or variance == 0.0:
        fault = (
            "has mean 0: relative lifts are undefined"
            if mean == 0.0
            else "does not vary: there is no noise to plan for"
        )
        raise ValueError(f"no plan from this log: {name_of(metric)} {fault}.")
    return Baseline(name_of(metric), mean, variance, residual_share(moments, metric, covariates) if covariates else 1.0)


def power_of(
    base: Baseline, lift: float, n_control: float, n_treatment: float, *, alpha: float = 0.05, effect: Effect = "scaled"
) -> float:
    """Chance that the two-sided Welch test finds this lift.

    Args:
        base: The metric as it is today.
        lift: Relative to the size of the control's mean, > -1 if it scales.
        n_control: Users of the control, >= 2; fractions are for solvers.
        n_treatment: Users of the treatment, >= 2.
        alpha: Two-sided level.
        effect: ``scaled`` multiplies every user's value, ``shifted`` adds the same to each.

    Raises:
        ValueError: If alpha, the lift or the users are out of range.
    """
    check_alpha(alpha)
    if min(n_control, n_treatment) < 2:
        raise ValueError(f"users must be >= 2 per arm, got {n_control} and {n_treatment}.")
    if effect == "scaled" and lift <= -1.0:
        raise ValueError(f"a lift that scales must be > -1, got {lift}.")
    noise = base.variance * base.unexplained
    stretch = (1.0 + lift) ** 2 if effect == "scaled" else 1.0
    parts = (
        NoisePart(noise / n_control, 0.0, 0.0, n_control - 1.0),
        NoisePart(stretch * noise / n_treatment, 0.0, 0.0, n_treatment - 1.0),
    )
    se, df = Contrast(0.0, 0.0, parts).at(0.0)
    shift, limit = abs(lift * base.mean) / se, critical_t(alpha, df)
    if shift > limit + 37.0:
        return 1.0
    near = 1.0 - float(special.nctdtr(df, shift, limit))
    far = float(special.nctdtr(df, shift, -limit))  # nan where it is less than anything scipy can tell from 0
    return min(max(near + (far if math.isfinite(far) else 0.0), 0.0), 1.0)


def detectable_lift(
    base: Baseline,
    n_control: int,
    n_treatment: int,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    effect: Effect = "scaled",
) -> PowerPlan:
    """The smallest positive lift that these users find with this power (MDE).

    Raises:
        ValueError: If power is not within (alpha, 1), or alpha or the users are out of range.
    """
    _check_power(power, alpha)

    def gap(lift: float) -> float:
        return power_of(base, lift, n_control, n_treatment, alpha=alpha, effect=effect) - power

    step = math.sqrt(base.variance * base.unexplained / min(n_control, n_treatment)) / abs(base.mean)
    lift = _crossing(gap, 0.0, step, _LARGEST_LIFT)
    reason = None if lift is not None else "no lift reaches this power: too few users"
    return PowerPlan(lift, power if lift is not None else None, alpha, n_control, n_treatment, reason=reason)


def users_needed(
    base: Baseline,
    lift: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    treatment_share: float = 0.5,
    effect: Effect = "scaled",
    users_per_day: float | Sequence[float] | None = None,
) -> PowerPlan:
    """The fewest users that find this lift with this power.

    Args:
        base: The metric as it is today.
        lift: Relative to the size of the control's mean, not 0.
        power: Target, within (alpha, 1).
        alpha: Two-sided level.
        treatment_share: Share of the users in the treatment, within (0, 1).
        effect: As in ``power_of``.
        users_per_day: New users of both arms per day, to tell the days; a sequence goes on with its last day's.

    Returns:
        Whole users per arm; ``power`` is the power of those.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check_power(power, alpha)
    if lift == 0.0 or not 0.0 < treatment_share < 1.0:
        raise ValueError(
            f"lift must not be 0 and treatment_share must lie within (0, 1), got {lift}, {treatment_share}."
        )
    smaller = min(treatment_share, 1.0 - treatment_share)

    def of(total: float) -> float:
        arms = (max(total * (1.0 - treatment_share), 2.0), max(total * treatment_share, 2.0))
        return power_of(base, lift, *arms, alpha=alpha, effect=effect)

    total = _crossing(lambda n: of(n) - power, 2.0 / smaller, 2.0 / smaller, _MOST_USERS)
    if total is None:
        return PowerPlan(lift, None, alpha, None, None, reason=f"even {_MOST_USERS:.0e} users do not reach this power")
    n_control, n_treatment = (max(math.ceil(total * s - 1e-9), 2) for s in (1.0 - treatment_share, treatment_share))
    days = None if users_per_day is None else days_needed(n_control + n_treatment, users_per_day)
    reason = "that many users never arrive" if users_per_day is not None and days is None else None
    reached = power_of(base, lift, n_control, n_treatment, alpha=alpha, effect=effect)
    return PowerPlan(lift, reached, alpha, n_control, n_treatment, days, reason)


def days_needed(users: float, users_per_day: float | Sequence[float]) -> int | None:
    """Days until so many new users have come; None if they never do.

    Args:
        users: Users of both arms together.
        users_per_day: New users per day; a sequence goes on with its last day's.
    """
    daily = list(users_per_day) if isinstance(users_per_day, Sequence) else [users_per_day]
    if not daily or min(daily) < 0:
        raise ValueError(f"users_per_day must be >= 0, got {users_per_day}.")
    so_far = 0.0
    for day, new in enumerate(daily, start=1):
        so_far += new
        if so_far >= users:
            return day
    return len(daily) + math.ceil((users - so_far) / daily[-1]) if daily[-1] > 0 else None


def _crossing(gap: Callable[[float], float], low: float, step: float, most: float) -> float | None:
    """Where a rising function passes 0, from ``low`` on; None if it does not before ``most``."""
    from scipy.optimize import brentq

    if gap(low) >= 0.0:
        return low
    high = low + step
    while gap(high) < 0.0:
        low, high = high, 2.0 * high
        if high > most:
            return None
    return float(brentq(gap, low, high, xtol=1e-14 * high, rtol=1e-14))


def _check_power(power: float, alpha: float) -> None:
    check_alpha(alpha)
    if not alpha < power < 1.0:
        raise ValueError(f"power must lie within (alpha, 1) = ({alpha}, 1), got {power}.")
