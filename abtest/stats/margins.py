"""Guardrails: is the treatment worse than the control by no more than an accepted margin?"""

import math
from typing import Literal, NamedTuple

from abtest.stats.contrast import ZERO_CONTROL, check_alpha
from abtest.stats.moments import Moments
from abtest.stats.tails import p_of_log10, t_logsf, t_quantile
from abtest.stats.terms import Term, linear, name_of, value_of
from abtest.stats.welch import two_arms, unusable


class NonInferiority(NamedTuple):
    """One-sided test against a margin.

    Attributes:
        metric: What was tested.
        margin: Largest loss that would be accepted, > 0: of the lift, or in the metric's unit.
        relative: Whether the margin is one of the lift.
        bound: Worst loss that the data allow, in the margin's unit and sign: the one-sided bound of the lift or of the
            difference, at level 1 - alpha, signed so that below 0 is worse; None where unbounded or undefined.
        t: Statistic against the margin.
        df: Its degrees of freedom.
        p: One-sided, for "worse by the margin or more"; never 0.
        log10_p: Its base-10 logarithm.
        holds: Whether p < alpha: not worse by the margin; None where undefined.
        reason: Why something above is None, else None.
    """

    metric: str
    margin: float
    relative: bool
    bound: float | None
    t: float | None
    df: float | None
    p: float | None
    log10_p: float | None
    holds: bool | None
    reason: str | None = None


def non_inferiority(
    control: Moments,
    treatment: Moments,
    metric: Term,
    margin: float,
    *,
    relative: bool = True,
    good: Literal["up", "down"] = "up",
    alpha: float = 0.025,
) -> NonInferiority:
    """Welch's one-sided test that the treatment is not worse by ``margin`` or more.

    A relative margin is tested as ``T - (1 - margin) C``, noise of the control included, not as a share of an observed
    control mean.

    Args:
        control: Moments of the control's users.
        treatment: Moments of the treatment's users.
        metric: A column or a ratio of two.
        margin: Accepted loss, > 0; 0.01 relative = one per cent of the control.
        relative: Whether the margin is relative to the control's size or in the metric's unit.
        good: Direction in which the metric improves.
        alpha: One-sided level; 0.025 goes with two-sided 95 % intervals.

    Raises:
        ValueError: If the margin is not positive, or alpha or a column is not valid.
    """
    check_alpha(alpha)
    if not margin > 0.0 or not math.isfinite(margin):
        raise ValueError(f"margin must be > 0, got {margin}: it is the loss that would be accepted.")
    blank = NonInferiority(name_of(metric), margin, relative, None, None, None, None, None, None)
    if gap := unusable(control, treatment, (metric,), "", alpha):
        return blank._replace(reason=gap.reason)
    if relative and not value_of(control, metric):
        return blank._replace(reason=ZERO_CONTROL)
    contrast = two_arms(linear(control, (metric,)), linear(treatment, (metric,))).upright()
    worse = -1.0 if good == "up" else 1.0
    at = worse * margin  # the lift or difference on the edge
    se, df = contrast.at(at if relative else 0.0)
    if not se > 0.0:
        return blank._replace(reason="neither arm varies: there is no noise to judge by")
    edge = at * contrast.base if relative else at
    t = -worse * (contrast.difference - edge) / se
    log10_p = float(t_logsf(t, df)) / math.log(10.0)
    p = p_of_log10(log10_p)
    if relative:
        from abtest.stats.contrast import critical_t, invert

        both = invert(contrast, lambda dof: critical_t(2.0 * alpha, dof)) if alpha < 0.5 else None
        bound = None if both is None else both[0] if good == "up" else -both[1]
    else:
        bound = -worse * contrast.difference - t_quantile(1.0 - alpha, df) * se
    return blank._replace(bound=bound, t=t, df=df, p=p, log10_p=log10_p, holds=p < alpha)
