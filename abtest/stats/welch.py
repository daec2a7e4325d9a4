"""Welch's t-test on means and on ratios, with the Welch-Fieller interval of the lift: the default of every report."""

from abtest.stats.contrast import Contrast, Distribution, LiftMethod, NoisePart, check_alpha, judge
from abtest.stats.estimate import Estimate, Group
from abtest.stats.moments import Moments
from abtest.stats.terms import Linear, Term, linear, undefined, value_of


def welch(
    control: Moments,
    treatment: Moments,
    metric: Term,
    *,
    alpha: float = 0.05,
    lift: LiftMethod = "welch-fieller",
    distribution: Distribution = "t",
    null: float = 0.0,
) -> Estimate:
    """Treatment against control on a mean per user, or on a ratio of two sums.

    Args:
        control: Moments of the control's users.
        treatment: Moments of the treatment's users.
        metric: A column, or (numerator, denominator) for a ratio such as CTR, whose unit stays the user.
        alpha: 1 - level of the intervals.
        lift: ``welch-fieller`` inverts the test and cannot disagree with p; ``delta`` and ``log-delta`` to compare.
        distribution: ``normal`` for z instead of t.
        null: Lift that p is for.

    Raises:
        ValueError: If alpha is not within (0, 1) or a column is unknown.
    """
    method = "Welch t" if distribution == "t" else "z, unequal variances"
    method += "" if isinstance(metric, str) else " on the linearised ratio"
    if blank := unusable(control, treatment, (metric,), method, alpha):
        return blank
    c, t = linear(control, (metric,)), linear(treatment, (metric,))
    value = float(t.value[0])
    return judge(
        two_arms(c, t),
        c.n,
        t.n,
        method=method,
        alpha=alpha,
        lift=lift,
        distribution=distribution,
        mean_treatment=value,
        null=null,
    )


def two_arms(control: Linear, treatment: Linear) -> Contrast:
    """The contrast of the first term of two arms."""
    value_c, value_t = float(control.value[0]), float(treatment.value[0])
    noise_c, noise_t = float(control.cov[0, 0]) / control.n, float(treatment.cov[0, 0]) / treatment.n
    parts = (
        NoisePart(noise_c, noise_c, noise_c, control.dof, control.expected),
        NoisePart(noise_t, 0.0, 0.0, treatment.dof, treatment.expected),
    )
    return Contrast(value_t - value_c, value_c, parts)


def unusable(
    control: Moments, treatment: Moments, terms: tuple[Term, ...], method: str, alpha: float
) -> Estimate | None:
    """What remains of an estimate when a term or its variance cannot be computed; None if all can.

    Raises:
        ValueError: If alpha is not within (0, 1) or a column is unknown.
    """
    check_alpha(alpha)
    arms = ((control, "control"), (treatment, "treatment"))
    reasons = [reason for term in terms for arm, name in arms if (reason := undefined(arm, term, name))]
    if not reasons:
        return None
    mean_c, mean_t = value_of(control, terms[0]), value_of(treatment, terms[0])
    difference = None if mean_c is None or mean_t is None else mean_t - mean_c
    return Estimate(
        method,
        alpha,
        Group(control.n, mean_c),
        Group(treatment.n, mean_t),
        difference=difference,
        lift=difference / abs(mean_c) if difference is not None and mean_c else None,
        reason="; ".join(dict.fromkeys(reasons)),
    )
