"""The primary metrics once more among other users, such as those never exposed. They decide nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from abtest.analysis.effects import Effect, effects_of
from abtest.analysis.measure import Measured, measure
from abtest.analysis.metrics import ALL
from abtest.analysis.plan import AnalysisPlan
from abtest.stats.estimate import Estimate
from abtest.stats.srm import Srm, srm

if TYPE_CHECKING:
    from abtest.analysis.userlog import UserLog


class VariantResult(NamedTuple):
    """Primary metrics among some users.

    Attributes:
        name: Who they are.
        meaning: What the comparison tells; of the users of the verdict nothing.
        ratio: Their sample ratio.
        effects: Metric, treatment and plain estimate of each primary metric.
    """

    name: str
    meaning: str
    ratio: Srm
    effects: list[tuple[str, str, Estimate]]


def variants_of(log: "UserLog", measured: Measured, found: Sequence[Effect], plan: AnalysisPlan) -> list[VariantResult]:
    """The users of the verdict, then every variant of the log; nothing where it has none."""
    if not log.variants:
        return []
    weights = {arm: plan.weight(arm) for arm in plan.arms}
    judged = [(e.metric.name, e.arm, e.estimate) for e in found if e.family == "primary" and e.slice == ALL]
    counts = {arm: measured.of(arm).n for arm in plan.arms}
    results = [VariantResult("users of the verdict", "", srm(counts, weights, threshold=plan.srm_alpha), judged)]
    for variant in log.variants:
        other = measure(replace(log, users=variant.users, variants=()), plan.arms)
        results.append(_result(variant.name, variant.meaning, other, log, plan, weights))
    return results


def _result(
    name: str, meaning: str, measured: Measured, log: "UserLog", plan: AnalysisPlan, weights: Mapping[str, float]
) -> VariantResult:
    metrics = [metric for metric in log.metrics if metric.role == "primary" and metric.slice == ALL]
    effects = effects_of(measured, metrics, plan, dict.fromkeys(plan.treatments, plan.alpha))
    counts = {arm: measured.of(arm).n for arm in plan.arms}
    ratio = srm(counts, weights, threshold=plan.srm_alpha)
    mine = [(e.metric.name, e.arm, e.estimate) for e in effects if e.family == "primary"]
    return VariantResult(name, meaning, ratio, mine)
