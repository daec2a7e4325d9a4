"""Several treatments: every pair of arms, Dunnett's adjustment beside Holm's, and arms judged together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import combinations
from typing import NamedTuple

from abtest.analysis.effects import effects_of
from abtest.analysis.measure import Measured
from abtest.analysis.metrics import Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.stats.dunnett import dunnett
from abtest.stats.estimate import Estimate
from abtest.stats.groups import CellMoments
from abtest.stats.multiplicity import holm
from abtest.stats.normality import DistributionShape


class PairEffect(NamedTuple):
    """One primary metric of one arm against another.

    Attributes:
        metric: Its name.
        base: The arm that the lift is relative to.
        arm: The other.
        estimate: By the planned estimator, as if it were the only comparison at this look.
        p_holm: Adjusted over all pairs and primary metrics.
        p_dunnett: Adjusted over the treatments against control, per metric; None for pairs of treatments.
        reason: Why it may not be read.
    """

    metric: str
    base: str
    arm: str
    estimate: Estimate
    p_holm: float | None = None
    p_dunnett: float | None = None
    reason: str | None = None


def pairs_of(measured: Measured, metrics: Sequence[Metric], plan: AnalysisPlan) -> list[PairEffect]:
    """All pairs of arms in the primary metrics; nothing with a single treatment."""
    if len(plan.treatments) < 2:
        return []
    asked = [metric for metric in metrics if metric.role == "primary"]
    found = list(combinations(plan.arms, 2))
    effects = [_pair(measured, metric, plan, *pair) for metric in asked for pair in found]
    adjusted = holm([None if one.reason else one.estimate.p for one in effects])
    effects = [one._replace(p_holm=p) for one, p in zip(effects, adjusted, strict=True)]
    beside = {metric.name: _dunnett([e for e in effects if e.metric == metric.name], plan) for metric in asked}
    return [
        one._replace(p_dunnett=beside[one.metric].get(one.arm)) if one.base == plan.control else one for one in effects
    ]


def combined_of(measured: Measured, metrics: Sequence[Metric], plan: AnalysisPlan) -> list[PairEffect]:
    """Primary metrics of the arms that the plan judges together."""
    asked = [metric for metric in metrics if metric.role == "primary"]
    found = []
    for name, members in plan.design.combined.items():
        together = merged_arms(measured, name, members)
        found += [_pair(together, metric, plan, plan.control, name) for metric in asked]
    return found


def merged_arms(measured: Measured, name: str, members: Sequence[str]) -> Measured:
    """The same users with some arms as one."""
    if not isinstance(measured.cells, CellMoments):
        return measured._replace(cells=measured.cells.merged(name, members))
    cells = CellMoments(measured.cells.columns, measured.cells.keys)
    for label, cell in measured.cells.cells.items():
        new = (name, *label[1:]) if label[0] in members else label
        cells.cells[new] = cells.cells[new] + cell if new in cells.cells else cell
    shapes = {}
    for text, by_cell in measured.shapes.items():
        groups: dict[tuple[object, ...], list[DistributionShape]] = {}
        for label, shape in by_cell.items():
            groups.setdefault((name, *label[1:]) if label[0] in members else label, []).append(shape)
        shapes[text] = {label: reduce(DistributionShape.plus, parts) for label, parts in groups.items()}
    return measured._replace(cells=cells, shapes=shapes)


def _pair(measured: Measured, metric: Metric, plan: AnalysisPlan, base: str, arm: str) -> PairEffect:
    alone = replace(
        plan, control=base, treatments=(arm,), weights={}, ignored_arms=(), design=replace(plan.design, combined={})
    )
    effect = next(e for e in effects_of(measured, [metric], alone, {arm: plan.alpha}) if e.family == "primary")
    fewest = min(effect.estimate.control.n, effect.estimate.treatment.n)
    least = plan.design.fewest
    why = f"only {fewest:,} in an arm: below {least:,} nothing is judged" if fewest < least else effect.unfit
    return PairEffect(metric.name, base, arm, effect.estimate, reason=why or effect.estimate.reason)


def _dunnett(effects: Sequence[PairEffect], plan: AnalysisPlan) -> Mapping[str, float | None]:
    """Dunnett's p of each treatment in one metric."""
    mine = [one for one in effects if one.base == plan.control]
    shares = [_control_share(one.estimate) for one in mine]
    known = [i for i, share in enumerate(shares) if share is not None and not mine[i].reason]
    if not known:
        return {}
    df = min(mine[i].estimate.df or 1.0 for i in known)
    p = dunnett([mine[i].estimate.t for i in known], [float(shares[i] or 0.5) for i in known], df)
    return {mine[i].arm: one for i, one in zip(known, p, strict=True)}


def _control_share(estimate: Estimate) -> float | None:
    """The control's share of the squared standard error of the difference."""
    if estimate.contrast is None or not estimate.se or estimate.t is None:
        return None
    whole = sum(part.var for part in estimate.contrast.parts)
    share = sum(part.var for part in estimate.contrast.parts if part.var_base > 0.0) / whole
    return share if 0.0 < share < 1.0 else None
