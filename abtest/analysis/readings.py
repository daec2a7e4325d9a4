"""Other readings of the same effects, for who asks for them: Bayesian, and equivalence. They decide nothing."""

from collections.abc import Sequence
from typing import NamedTuple

from abtest.analysis.effects import Effect
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.stated_prior import ALL_METRICS
from abtest.stats.equivalence import Equivalence, equivalence
from abtest.stats.posterior import Posterior, posterior


class BayesReading(NamedTuple):
    """Posterior of the lift of one primary metric or guardrail.

    Attributes:
        metric: Its name.
        arm: The treatment.
        found: None where the lift has no standard error.
        reason: Why, then.
    """

    metric: str
    arm: str
    found: Posterior | None
    reason: str | None


class EquivalenceReading(NamedTuple):
    """Whether the lift of one primary metric or guardrail is shown to lie within margins.

    Attributes:
        metric: Its name.
        arm: The treatment.
        test: Two one-sided tests at half the plan's level each.
        reason: Why they are undefined, if so.
    """

    metric: str
    arm: str
    test: Equivalence | None
    reason: str | None


def bayes_of(effects: Sequence[Effect], plan: AnalysisPlan) -> list[BayesReading]:
    """Posteriors under the plan's prior; nothing without one."""
    priors = plan.design.prior
    if priors is None:
        return []
    readings = []
    for effect in _main(effects):
        estimate = effect.estimate
        why = _unreadable(effect)
        se = estimate.lift_se
        found, prior = None, priors.get(effect.metric.name, priors.get(ALL_METRICS))
        if prior is None:
            why = why or "the prior says nothing of this metric"
        elif why is None and estimate.lift is not None and se is not None:
            margin, good = effect.metric.margin or None, effect.metric.direction
            found = posterior(estimate.lift, se, prior, good=good, margin=margin, alpha=plan.alpha)
        why = why or (None if found else estimate.reason or "the lift has no standard error")
        readings.append(BayesReading(effect.metric.name, effect.arm, found, why))
    return readings


def equivalence_of(effects: Sequence[Effect], plan: AnalysisPlan) -> list[EquivalenceReading]:
    """Two one-sided tests against the plan's margin, or a guardrail's own on both sides; nothing without one."""
    readings = []
    for effect in _main(effects):
        metric, low, high = effect.metric, plan.design.equivalence, plan.design.equivalence
        if metric.role == "guardrail" and metric.upper_margin is not None and metric.margin:
            worse, better = metric.margin, metric.upper_margin
            low, high = (worse, better) if metric.direction == "up" else (better, worse)
        if low is None or high is None:
            continue
        why = _unreadable(effect)
        contrast = effect.estimate.contrast
        test = None if why or contrast is None else equivalence(contrast, -low, high, alpha=effect.estimate.alpha / 2)
        why = why or (test.reason if test else effect.estimate.reason or "the lift is undefined")
        readings.append(EquivalenceReading(metric.name, effect.arm, test, why))
    return readings


def _main(effects: Sequence[Effect]) -> list[Effect]:
    return [effect for effect in effects if effect.family in ("primary", "guardrail")]


def _unreadable(effect: Effect) -> str | None:
    """Why an effect may not be read in any way."""
    return None if effect.valid and not effect.unfit else effect.reason or effect.unfit or "the comparison is not valid"
