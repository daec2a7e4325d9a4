"""Effects: every metric of every treatment against control, as planned, and by other means beside it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from abtest.analysis.caps import NOTHING_BELOW_CAP, UNCAPPED
from abtest.analysis.interactions import LiftChange, between_groups, between_periods
from abtest.analysis.measure import EVERYBODY, Measured, Slice, capped, term
from abtest.analysis.metrics import ALL, COLD, Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.unit_cells import UnitCells, side
from abtest.analysis.userlog import slice_column
from abtest.stats.estimate import Estimate
from abtest.stats.estimators import ESTIMATORS, KEYS, ArmMoments, Comparison, planned_estimate, variance_reduction
from abtest.stats.multiplicity import benjamini_hochberg, holm, weighted_holm
from abtest.stats.normality import why_not_normal
from abtest.stats.strata import UnitStrata
from abtest.stats.welch import welch

Question = tuple[str, str, str]  # metric, slice, treatment
Adjustment = Callable[[Sequence[float | None]], list[float | None]]


@dataclass(frozen=True)
class Effect:
    """One metric of one treatment in one slice.

    Attributes:
        metric: What was measured.
        slice: Among whom.
        arm: The treatment.
        family: "primary", "secondary", "guardrail" or "slice": what its p is adjusted with.
        estimate: Welch's test with the Welch-Fieller lift: what is judged.
        p_adjusted: By Holm among primary metrics, by Benjamini-Hochberg elsewhere; guardrails stand alone.
        significant: p_adjusted < alpha; None where nothing may be said.
        valid: False where the comparison itself is broken, such as by a sample-ratio mismatch.
        reason: Why it is not valid, not judged or not defined.
        others: The same question by other means, by their names in ``ESTIMATORS``.
        variance_reduction: Share of the variance that CUPED took away.
        truth: True lift and its standard error, where only a simulator can know it.
        unfit: Why the test's normal approximation does not hold, if so.
        exploratory: Whether the plan of the test did not name it.
    """

    metric: Metric
    slice: str
    arm: str
    family: str
    estimate: Estimate
    p_adjusted: float | None = None
    significant: bool | None = None
    valid: bool = True
    reason: str | None = None
    others: Mapping[str, Estimate] = field(default_factory=dict)
    variance_reduction: float | None = None
    truth: tuple[float, float] | None = None
    unfit: str | None = None
    exploratory: bool = False

    @property
    def question(self) -> Question:
        return self.metric.name, self.slice, self.arm

    @property
    def outcome(self) -> str:
        """ "gain", "loss" or "even", by the metric's good direction; even where not significant.

        With a null other than 0 a gain is beyond it, and a loss is on the bad side of the null and of 0.
        """
        estimate, up = self.estimate, self.metric.direction == "up"
        if not self.significant or estimate.difference is None:
            return "even"
        if estimate.null == 0.0:
            return "gain" if (estimate.difference > 0) == up else "loss"
        if estimate.lift is None or estimate.lift_ci is None:
            return "even"
        if (estimate.lift > estimate.null) == up:
            return "gain"
        low, high = estimate.lift_ci
        lost = high < min(estimate.null, 0.0) if up else low > max(estimate.null, 0.0)
        return "loss" if lost else "even"


@dataclass(frozen=True)
class Interaction:
    """Whether a slice's lift differs from that of all other users.

    Attributes:
        metric: What was measured.
        slice: Among whom.
        arm: The treatment.
        test: Lift of the slice minus lift of the rest.
        p_adjusted: Benjamini-Hochberg over all interactions.
    """

    metric: Metric
    slice: str
    arm: str
    test: LiftChange
    p_adjusted: float | None = None


def effects_of(
    measured: Measured, metrics: Sequence[Metric], plan: AnalysisPlan, alphas: Mapping[str, float]
) -> list[Effect]:
    """All effects, not yet judged: metrics as planned, then primary metrics by slice.

    Args:
        measured: Moments.
        metrics: What is asked.
        plan: The arms.
        alphas: Nominal level of each treatment's intervals.
    """
    found = []
    for arm in plan.treatments:
        alpha = alphas[arm]
        for metric in metrics:
            where = EVERYBODY if metric.slice == ALL else measured.slice_of(metric)
            found.append(_effect(measured, metric, where, arm, metric.role, alpha, plan))
        for metric in metrics:
            if metric.role == "primary" and metric.slice == ALL:
                found += [_effect(measured, metric, where, arm, "slice", alpha, plan) for where in measured.slices]
    return found


def interactions_of(measured: Measured, metrics: Sequence[Metric], plan: AnalysisPlan) -> list[Interaction]:
    """Each slice against the rest; "significant here, not there" is no evidence of a difference."""
    found = []
    for arm in plan.treatments:
        for metric in metrics:
            if metric.role != "primary" or metric.slice != ALL:
                continue
            for where in _told_apart(measured.slices):
                inside = measured.of(plan.control, where), measured.of(arm, where)
                outside = measured.rest(plan.control, where), measured.rest(arm, where)
                least, noun = (plan.design.fewest, "units") if plan.design.unit else (plan.min_users, "users")
                small = min(m.n for m in (*inside, *outside)) < least
                why = f"fewer than {least:,} {noun} in an arm of the slice or the rest" if small else None
                why = why or unfit_reason(measured, metric, plan.control, arm, where)
                why = why or unfit_reason(measured, metric, plan.control, arm, where, rest=True)
                if why:
                    test = LiftChange(reason=why)
                elif isinstance(measured.cells, UnitCells):
                    test = _between_sides(measured.cells, metric, plan, arm, where)
                else:
                    test = between_groups(inside, outside, term(metric), alpha=plan.alpha)
                found.append(Interaction(metric, where.name, arm, test))
    adjusted = benjamini_hochberg([one.test.p for one in found])
    return [replace(one, p_adjusted=p) for one, p in zip(found, adjusted, strict=True)]


def _between_sides(cells: UnitCells, metric: Metric, plan: AnalysisPlan, arm: str, where: Slice) -> LiftChange:
    """A slice against the rest of the same units, whose users go together."""
    key, question = slice_column(str(where.column)), term(metric)
    control, treatment = (cells.sides(one, key, str(where.label)) for one in (plan.control, arm))
    rest, inside = side(question, inside=False), side(question, inside=True)
    return between_periods(control, treatment, rest, inside, alpha=plan.alpha)


def judged(
    effects: Sequence[Effect],
    plan: AnalysisPlan,
    faults: Mapping[str, str],
    alphas: Mapping[str, float],
    *,
    early: str | None = None,
    repeated: Mapping[Question, float] | None = None,
) -> list[Effect]:
    """Adjust p within each family and say what is significant.

    Args:
        effects: From ``effects_of``.
        plan: Alpha and the minimum of users.
        faults: By slice ("all" for everybody): why its comparison is not valid.
        alphas: Nominal level of each treatment at this look, for what has no repeated p.
        early: Why nothing may be called significant yet, if so.
        repeated: p-values of primary metrics that count all looks so far, judged at the plan's alpha.
    """
    repeated = repeated or {}
    screened = [_screened(effect, plan, faults) for effect in effects]
    families: dict[str, Adjustment] = {
        "primary": holm,
        "secondary": benjamini_hochberg,
        "guardrail": list,
        "slice": benjamini_hochberg,
    }
    done: dict[int, Effect] = {}
    for family, adjust in families.items():
        members = [i for i, effect in enumerate(screened) if effect.family == family]
        planned = family == "primary" and bool(repeated)
        readable = [
            (repeated.get(screened[i].question) if planned else screened[i].estimate.p)
            if screened[i].significant is not None
            else None
            for i in members
        ]
        shares = [screened[i].metric.level_share for i in members]
        uneven = family == "primary" and len(set(shares)) > 1
        adjusted = weighted_holm(readable, shares) if uneven else adjust(readable)
        for i, p in zip(members, adjusted, strict=True):
            done[i] = _judgement(screened[i], p, plan.alpha if planned else alphas[screened[i].arm], early)
    return [done[i] for i in range(len(screened))]


def _effect(
    measured: Measured, metric: Metric, where: Slice, arm: str, family: str, alpha: float, plan: AnalysisPlan
) -> Effect:
    base, name = plan.control, plan.design.estimator
    null = metric.null if family == "primary" else 0.0
    control, treatment = measured.of(base, where), measured.of(arm, where)
    raw = welch(control, treatment, term(metric), alpha=alpha, null=null)
    unfit = unfit_reason(measured, metric, base, arm, where)
    unplanned = metric.exploratory or where.column in plan.design.exploratory_slices
    effect = Effect(metric, where.name, arm, family, raw, unfit=unfit, exploratory=unplanned)
    if family == "slice" and name == "welch":
        return effect
    asked = _question(measured, metric, where, arm, alpha, plan, null)
    estimate = raw if name == "welch" else planned_estimate(asked, name)
    if family == "slice":
        return replace(effect, estimate=estimate)
    answers = {other: one.estimate(asked) for other, one in ESTIMATORS.items()}
    others = {other: answer for other, answer in answers.items() if answer is not None}
    if metric.uncapped is not None:
        value, per = metric.uncapped
        whole = value.text if per is None else (value.text, per.text)
        others[UNCAPPED] = welch(control, treatment, whole, alpha=alpha)
    if "capped" in others and others["capped"].p is None and measured.caps.get(metric.value.text) == 0.0:
        others["capped"] = replace(others["capped"], reason=NOTHING_BELOW_CAP)
    gain = variance_reduction(raw, others.get("cuped"))
    if name != "welch":
        others = {"welch": raw, **{other: answer for other, answer in others.items() if other != KEYS[name]}}
    return replace(effect, estimate=estimate, others=others, variance_reduction=gain)


def strata_of(slices: Sequence[Slice], plan: AnalysisPlan) -> list[Slice]:
    """The strata of post-stratification: cold and warm; where that is planned without them, the first slice column."""
    column = COLD
    if plan.design.estimator == "poststratified" and slices and all(one.column != COLD for one in slices):
        column = str(slices[0].column)
    return [one for one in slices if one.column == column]


def _question(
    measured: Measured, metric: Metric, where: Slice, arm: str, alpha: float, plan: AnalysisPlan, null: float
) -> Comparison:
    """What every other estimator is asked; strata and capped values are those of primary metrics."""
    is_primary, base = metric.role == "primary", plan.control
    stratified = where.column is None and (is_primary or plan.design.estimator == "poststratified")
    strata = strata_of(measured.slices, plan) if stratified else []
    of_units = None
    if isinstance(measured.cells, UnitCells) and len(strata) > 1:
        labels, key = tuple(str(one.label) for one in strata), slice_column(str(strata[0].column))
        sides = (measured.cells.strata(arms, key, labels) for arms in ((base,), (arm,), (base, arm)))
        of_units, strata = UnitStrata(labels, *sides), []
    control, treatment = (
        ArmMoments(measured.of(side, where), {one.name: measured.of(side, one) for one in strata})
        for side in (base, arm)
    )
    has_cap = is_primary and metric.per is None and metric.value.text in measured.caps
    cap = capped(metric) if has_cap else None
    return Comparison(control, treatment, term(metric), measured.covariates, cap, alpha, null, of_units)


def unfit_reason(
    measured: Measured, metric: Metric, base: str, arm: str, where: Slice, *, rest: bool = False
) -> str | None:
    """Why a t-test of a slice, or of the users outside it, is not to be believed, if so."""
    control, treatment = (measured.shape(metric, one, where, rest=rest) for one in (base, arm))
    return why_not_normal(control, treatment) if control and treatment else None


def _screened(effect: Effect, plan: AnalysisPlan, faults: Mapping[str, str]) -> Effect:
    """Marked with what forbids reading it; ``significant`` is False where it may be read."""
    fault = faults.get(ALL) or faults.get(effect.slice)
    if fault:
        return replace(effect, valid=False, reason=fault)
    if effect.estimate.p is None:
        return replace(effect, reason=effect.estimate.reason or "undefined")
    fewest = min(effect.estimate.control.n, effect.estimate.treatment.n)
    least, noun = plan.design.fewest, "units" if plan.design.unit else "users"
    if fewest < least:
        return replace(effect, reason=f"only {fewest:,} {noun} in an arm: below {least:,} nothing is judged")
    if effect.unfit:
        return replace(effect, reason=effect.unfit)
    if effect.family in ("primary", "guardrail") and effect.estimate.lift_ci is None:
        return replace(effect, reason=effect.estimate.reason or "the lift has no interval")
    if effect.slice != ALL and fewest < plan.min_users and not plan.design.unit:
        return replace(effect, reason=f"only {fewest:,} users in an arm: below {plan.min_users:,} nothing is judged")
    return replace(effect, significant=False, reason=effect.estimate.reason)


def _judgement(effect: Effect, p: float | None, alpha: float, early: str | None) -> Effect:
    if effect.significant is None or p is None:
        return effect
    if early is not None:
        return replace(effect, p_adjusted=p, significant=None, reason=early)
    return replace(effect, p_adjusted=p, significant=p < alpha)


def _told_apart(slices: Iterable[Slice]) -> list[Slice]:
    """One side of a column with two labels says it all."""
    by_column: dict[str, list[Slice]] = {}
    for one in slices:
        by_column.setdefault(str(one.column), []).append(one)
    return [one for members in by_column.values() for one in (members[:1] if len(members) == 2 else members)]
