"""From a checked log to everything that a report says: validity first, then effects, then the verdict."""

import math
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from abtest.analysis.components import Breakdown, breakdowns_of
from abtest.analysis.daily import DailyMoments, measure_days
from abtest.analysis.daily_looks import (
    DayLook,
    Level,
    Novelty,
    levels_of,
    looks_of,
    novelty_of,
    p_of_all_looks,
)
from abtest.analysis.days import other_zones
from abtest.analysis.effects import Effect, Interaction, Question, effects_of, interactions_of, judged
from abtest.analysis.heterogeneity import Heterogeneity, heterogeneity_of
from abtest.analysis.measure import Measured, measure
from abtest.analysis.metrics import COLD
from abtest.analysis.mid_test import MidTest, mid_test_of
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.readings import BayesReading, EquivalenceReading, bayes_of, equivalence_of
from abtest.analysis.robust import Check, QuantileCheck, distribution_checks
from abtest.analysis.sensitivity import PowerCurve, power_curves
from abtest.analysis.several_arms import PairEffect, combined_of, pairs_of
from abtest.analysis.userlog import UserLog
from abtest.analysis.validity import Validity, check_validity
from abtest.analysis.variants import VariantResult, variants_of
from abtest.stats.contrast import critical_t
from micrec.errors import MicrecError

Truth = Mapping[Question, tuple[float, float]]  # the true lift and its standard error


@dataclass(frozen=True)
class Analysis:
    """All findings on one log.

    Attributes:
        log: The log as it was read.
        plan: The plan of the analysis.
        users: Users by arm.
        validity: Sample ratios and balance.
        effects: Every effect, with its significance.
        interactions: Slices against the rest.
        heterogeneity: One test for all slices of a column, and shrunken lifts.
        breakdowns: Components of the primary metrics that moved.
        looks: Day by day, empty where the log has no days.
        novelty: First days against later ones.
        power: What the test could have found.
        quantiles: P50 and P90 of dwell.
        checks: Bootstrap and ranks of primary metrics.
        levels: Nominal alpha of each treatment's intervals: the plan's, or less where it is looked at repeatedly.
        runtime_s: Seconds from the first row to here.
        pairs: Every pair of arms, where there are several treatments.
        combined: Arms that are judged together.
        mid_test: Chances before the planned end.
        bayes: Posteriors of the lifts, where a prior was stated.
        equivalence: Equivalence of the lifts, where a margin was stated.
        variants: The primary metrics among other users: with crossovers, without exposure.
        units: Units above the user by arm, where such were assigned.
        tuned_for: Users that the confidence sequence of each treatment is tuned for, of an open test.
    """

    log: UserLog
    plan: AnalysisPlan
    users: Mapping[str, int]
    validity: Validity
    effects: list[Effect]
    interactions: list[Interaction]
    heterogeneity: list[Heterogeneity]
    breakdowns: list[Breakdown]
    looks: list[DayLook]
    novelty: list[Novelty]
    power: list[PowerCurve]
    quantiles: list[QuantileCheck]
    checks: list[Check]
    levels: Mapping[str, float]
    runtime_s: float
    pairs: list[PairEffect] = field(default_factory=list)
    combined: list[PairEffect] = field(default_factory=list)
    mid_test: list[MidTest] = field(default_factory=list)
    bayes: list[BayesReading] = field(default_factory=list)
    equivalence: list[EquivalenceReading] = field(default_factory=list)
    variants: list[VariantResult] = field(default_factory=list)
    units: Mapping[str, int] = field(default_factory=dict)
    tuned_for: Mapping[str, float] = field(default_factory=dict)


def analyse(
    log: UserLog, plan: AnalysisPlan, truth: Truth | None = None, *, started_s: float | None = None
) -> Analysis:
    """Analyse a log: validity, effects, interactions, daily looks, power and checks.

    Args:
        log: From ``read_log`` or ``log_of`` with the same plan.
        plan: The planned comparison.
        truth: True lifts, where a simulator knows them.
        started_s: ``time.perf_counter`` when reading began, for the run time.

    Raises:
        MicrecError: If the plan asks for daily looks of a log without days, or the log goes on after the planned end.
    """
    started_s = time.perf_counter() if started_s is None else started_s
    if log.days is None and plan.looks != "final":
        raise MicrecError(f"--looks {plan.looks}: the log has no days: name them with --columns day=..., or look once.")
    _check_estimator(log, plan)
    daily = measure_days(log, plan.design, COLD if COLD in log.slices else next(iter(log.slices), None))
    levels = _levels(daily, log, plan)
    alphas = {arm: level.alpha for arm, level in levels.items()}
    with ThreadPoolExecutor(1) as beside:
        distribution = beside.submit(distribution_checks, log, plan, alphas)
        measured = measure(log, plan.arms)
        quantiles, checks = distribution.result()
    log = replace(log, notes=(*log.notes, *_still_covariates(measured)))
    validity = check_validity(measured, plan, _new_users(daily, log, plan))
    looks = looks_of(daily, plan, log.days) if daily and log.days else []
    found = effects_of(measured, log.metrics, plan, alphas)
    users = sum(measured.users(arm) for arm in plan.arms)
    repeated = _repeated(found, levels, log, plan)
    found = judged(found, plan, validity.faults, alphas, early=_early(log, plan, users), repeated=repeated)
    if truth:
        found = [replace(e, truth=truth.get(e.question)) for e in found]
    return Analysis(
        log=log,
        plan=plan,
        users={arm: measured.users(arm) for arm in plan.arms},
        validity=validity,
        effects=found,
        interactions=interactions_of(measured, log.metrics, plan),
        heterogeneity=[] if log.has_units else heterogeneity_of(measured, log.metrics, plan),
        breakdowns=[] if plan.design.unit and not log.has_units else breakdowns_of(log, found, plan),
        looks=looks,
        novelty=novelty_of(daily, plan) if daily else [],
        power=power_curves(measured, log.metrics, plan, levels),
        quantiles=quantiles,
        checks=checks,
        levels=alphas,
        pairs=pairs_of(measured, log.metrics, plan),
        combined=combined_of(measured, log.metrics, plan),
        mid_test=mid_test_of(daily, looks, plan),
        bayes=bayes_of(found, plan),
        equivalence=equivalence_of(found, plan),
        variants=variants_of(log, measured, found, plan),
        units={arm: measured.of(arm).n for arm in plan.arms} if log.unit_noun else {},
        tuned_for={arm: level.tuned_for for arm, level in levels.items() if level.tuned_for is not None},
        runtime_s=time.perf_counter() - started_s,
    )


def _check_estimator(log: UserLog, plan: AnalysisPlan) -> None:
    """Whether the planned estimator has what it needs."""
    if plan.design.estimator == "cuped" and not log.covariates:
        raise MicrecError(
            "estimator cuped: the log has no covariates: name columns from before exposure with --covariates, or call "
            "them pre_..., or plan with the estimator welch."
        )
    if plan.design.estimator == "poststratified" and not any(len(labels) > 1 for labels in log.slices.values()):
        raise MicrecError(
            "estimator poststratified: the log has no strata: name a column known before exposure with --slices."
        )


def _still_covariates(measured: Measured) -> list[str]:
    """A note on covariates that have one value for all users, which adjust nothing."""
    everybody = measured.cells.total()
    still = [name for name in measured.covariates if everybody.n > 1 and not everybody.var_of(name) > 0.0]
    if not still:
        return []
    what = "has one value for all users: it adjusts" if len(still) == 1 else "have one value for all users: they adjust"
    return [f"{', '.join(still)} {what} nothing."]


def _new_users(daily: DailyMoments | None, log: UserLog, plan: AnalysisPlan) -> list[tuple[str, dict[str, int]]]:
    """Users per arm first seen on each day."""
    if daily is None or log.days is None or log.has_units:  # the ratio of units counts, and they do not come by day
        return []
    return [
        (label, {arm: daily.new_users(arm, day) for arm in plan.arms}) for day, label in enumerate(log.days.labels, 1)
    ]


def _levels(daily: DailyMoments | None, log: UserLog, plan: AnalysisPlan) -> dict[str, Level]:
    """How strictly each treatment is read at this point of the plan."""
    if plan.looks != "open" and log.days is not None and log.days.length > plan.planned_days:
        length = log.days.length
        raise MicrecError(
            f"day: the log spans {length} days in {log.days.timezone}, the plan {plan.planned_days}: give "
            f"--planned-days {length} if that was the plan, or cut the log at the planned end. "
            f"{other_zones(log.days, plan.planned_days)}".rstrip()
        )
    if daily is not None and plan.looks != "final" and not daily.metrics:
        names = ", ".join(metric.name for metric in log.metrics if metric.role == "primary")
        raise MicrecError(
            f"--looks {plan.looks}: no primary metric is a sum over days, which looks can cut ({names}): make one "
            "that is primary, or look once."
        )
    if daily is None or plan.looks == "final":
        return dict.fromkeys(plan.treatments, Level(plan.alpha, critical_t(plan.alpha, math.inf)))
    return {arm: levels_of(daily, plan, arm)[-1] for arm in plan.treatments}


def _early(log: UserLog, plan: AnalysisPlan, users: int) -> str | None:
    """Why nothing may be called significant yet, if so: before the planned days, or users where the log has no days."""
    wanted = plan.planned_users if plan.design.planned is not None and plan.looks == "final" else None
    if log.days is None and wanted is not None and users < wanted:
        return (
            f"there are {users:,} of the {wanted:,} planned users: a test that is read once is read at its planned end"
        )
    if log.days is None or plan.looks != "final" or log.days.length >= plan.planned_days:
        return None
    return (
        f"this is day {log.days.length} of {plan.planned_days}: a test that is read once is read at its planned end; "
        "for earlier looks plan them with --looks daily"
    )


def _repeated(found: list[Effect], levels: dict[str, Level], log: UserLog, plan: AnalysisPlan) -> dict[Question, float]:
    """p-values of primary metrics that hold although it was looked before."""
    if plan.looks == "final" or log.days is None:
        return {}
    primary = [effect for effect in found if effect.family == "primary"]
    tests = {e.question: p_of_all_looks(e.estimate, levels[e.arm], plan) for e in primary}
    return {question: p for question, p in tests.items() if p is not None}
