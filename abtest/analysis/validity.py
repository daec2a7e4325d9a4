"""Validity of the comparison, checked before any effect is read: sample ratios, and balance before exposure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from abtest.analysis.measure import EVERYBODY, Measured, Slice
from abtest.analysis.metrics import ALL, COLD
from abtest.analysis.plan import AnalysisPlan
from abtest.stats.estimate import Estimate
from abtest.stats.multiplicity import holm
from abtest.stats.srm import Srm, daily_srm, srm
from abtest.stats.welch import welch


class RatioCheck(NamedTuple):
    """Users per arm against plan.

    Attributes:
        scope: "all", "slice" or "day".
        slice: Name of the slice ("all" for everybody and for days).
        day: Label of the day, None otherwise.
        result: The test; on days for new users so far, valid however often it is looked at.
    """

    scope: str
    slice: str
    day: str | None
    result: Srm


class BalanceCheck(NamedTuple):
    """A covariate from before exposure, which no treatment can have moved.

    Attributes:
        covariate: Its column.
        arm: The treatment.
        estimate: Treatment against control.
        standardised: Difference over the pooled standard deviation.
        p_adjusted: Holm over covariates and arms.
        alarm: p_adjusted below the plan's threshold for a sample-ratio mismatch.
    """

    covariate: str
    arm: str
    estimate: Estimate
    standardised: float | None
    p_adjusted: float | None
    alarm: bool


class Validity(NamedTuple):
    """All checks, and the slices that they invalidate.

    Attributes:
        ratios: Everybody, then slices, then days.
        balance: Covariates.
        faults: By slice ("all" for everybody): why its effects may not be read.
        alarms: The same as sentences, for the head of a report.
    """

    ratios: list[RatioCheck]
    balance: list[BalanceCheck]
    faults: dict[str, str]
    alarms: list[str]


def check_validity(
    measured: Measured, plan: AnalysisPlan, new_users: Sequence[tuple[str, Mapping[str, int]]] = ()
) -> Validity:
    """Sample ratios and balance.

    Args:
        measured: Moments by arm and slice.
        plan: Planned shares and thresholds.
        new_users: Label of each day and the users per arm first seen on it, if the log has days.
    """
    ratios = [_ratio(measured, plan, where) for where in (EVERYBODY, *measured.slices)]
    weights = {arm: plan.weight(arm) for arm in plan.arms}
    days = daily_srm([counts for _, counts in new_users], weights, threshold=plan.srm_alpha) if new_users else []
    ratios += [RatioCheck("day", ALL, label, look) for (label, _), look in zip(new_users, days, strict=True)]
    balance = _balance(measured, plan)
    faults = {check.slice: _fault(check, plan) for check in ratios if check.result.alarm and check.scope != "day"}
    by_day = next((check for check in ratios if check.scope == "day" and check.result.alarm), None)
    if by_day is not None and ALL not in faults:
        faults[ALL] = _fault(by_day, plan)
    alarms = [text for where, text in faults.items() if where == ALL or ALL not in faults]
    for check in balance:
        if check.alarm:
            text = (
                f"Unbalanced before exposure: {check.covariate} differs between {check.arm} and {plan.control} "
                f"by {check.standardised:+.3f} standard deviations (p {_p(check.p_adjusted)}). "
                "The split is not random, or the covariate was measured after exposure."
            )
            faults.setdefault(ALL, text)
            alarms.append(text)
    return Validity(ratios, balance, faults, alarms)


def _ratio(measured: Measured, plan: AnalysisPlan, where: Slice) -> RatioCheck:
    counts = {arm: measured.of(arm, where).n for arm in plan.arms}
    weights = {arm: plan.weight(arm) for arm in plan.arms}
    scope = "all" if where.column is None else "slice"
    return RatioCheck(scope, where.name, None, srm(counts, weights, threshold=plan.srm_alpha))


def _balance(measured: Measured, plan: AnalysisPlan) -> list[BalanceCheck]:
    found = []
    for arm in plan.treatments:
        control, treatment = measured.of(plan.control), measured.of(arm)
        for name in measured.covariates:
            estimate = welch(control, treatment, name, alpha=plan.alpha)
            sd = ((control.var_of(name) + treatment.var_of(name)) / 2) ** 0.5
            apart = estimate.difference / sd if estimate.difference is not None and sd > 0 else None
            found.append(BalanceCheck(name, arm, estimate, apart, None, False))
    adjusted = holm([check.estimate.p for check in found])
    return [
        check._replace(p_adjusted=p, alarm=p is not None and p < plan.srm_alpha)
        for check, p in zip(found, adjusted, strict=True)
    ]


def _fault(check: RatioCheck, plan: AnalysisPlan) -> str:
    result = check.result
    counts = ", ".join(f"{result.counts[arm]:,} in {arm}" for arm in plan.arms)
    planned = ", ".join(f"{result.expected[arm]:,.0f}" for arm in plan.arms)
    where = {"all": "", "slice": f" among {check.slice} users", "day": f" by {check.day}"}[check.scope]
    cause = (
        "Whether a user is cold seems to depend on the arm: define it from before the first exposure."
        if check.slice in (COLD, "warm") and check.scope == "slice"
        else "Users were lost or added in one arm: find the cause before reading any effect."
    )
    return f"Sample-ratio mismatch{where}: {counts}; planned {planned} (p {_p(result.p)}). {cause}"


def _p(p: float | None) -> str:
    return "undefined" if p is None else f"{p:.1e}" if p >= 1e-300 else "< 1e-300"
