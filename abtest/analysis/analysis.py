"""From a checked log to everything that a report says: validity first, then effects, then the verdict."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from abtest.analysis.daily import DailyMoments, measure_days
from abtest.analysis.effects import Effect, Interaction, Question, effects_of, interactions_of, judged
from abtest.analysis.looks import DayLook, Novelty, looks_of, novelty_of, plan_of_looks, repeated_p
from abtest.analysis.measure import measure
from abtest.analysis.metrics import ALL
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.userlog import UserLog
from abtest.analysis.validity import Validity, check_validity
from micrec.errors import MicrecError

Truth = Mapping[Question, tuple[float, float]]  # the true lift and its standard error


@dataclass(frozen=True)
class Analysis:
    """All findings on one log.

    Attributes:
        log: What was read.
        plan: What was asked.
        users: Users by arm.
        validity: Sample ratios and balance.
        effects: Judged.
        interactions: Slices against the rest.
        looks: Day by day, empty where the log has no days.
        novelty: First days against later ones.
        level: Nominal level of the effects' intervals: alpha, or less at a planned look before the last.
        runtime_s: Seconds from the first row to here.
    """

    log: UserLog
    plan: AnalysisPlan
    users: Mapping[str, int]
    validity: Validity
    effects: list[Effect]
    interactions: list[Interaction]
    looks: list[DayLook]
    novelty: list[Novelty]
    level: float
    runtime_s: float


def analyse(
    log: UserLog, plan: AnalysisPlan, truth: Truth | None = None, *, started_s: float | None = None
) -> Analysis:
    """Everything there is to say about a log.

    Args:
        log: From ``read_log`` or ``log_of`` with the same plan.
        plan: What was to be compared.
        truth: True lifts, where a simulator knows them.
        started_s: ``time.perf_counter`` when reading began, for the run time.

    Raises:
        MicrecError: If the plan asks for daily looks of a log without days, or the log goes on after the planned end.
    """
    started_s = time.perf_counter() if started_s is None else started_s
    if log.days is None and plan.looks != "final":
        raise MicrecError(f"--looks {plan.looks}: the log has no days: name them with --columns day=..., or look once.")
    measured = measure(log, plan.arms)
    daily = measure_days(log)
    validity = check_validity(measured, plan, _new_users(daily, log, plan))
    looks = looks_of(daily, plan, log.days) if daily and log.days else []
    level, early = _level(log, plan)
    found = effects_of(measured, log.metrics, replace(plan, alpha=level))
    repeated = _repeated(found, looks, log, plan)
    found = judged(found, plan, validity.faults, early=early, level=level, repeated=repeated)
    if truth:
        found = [replace(e, truth=truth.get(e.question)) for e in found]
    return Analysis(
        log=log,
        plan=plan,
        users={arm: measured.of(arm).n for arm in plan.arms},
        validity=validity,
        effects=found,
        interactions=interactions_of(measured, log.metrics, plan),
        looks=looks,
        novelty=novelty_of(daily, plan) if daily else [],
        level=level,
        runtime_s=time.perf_counter() - started_s,
    )


def _new_users(daily: DailyMoments | None, log: UserLog, plan: AnalysisPlan) -> list[tuple[str, dict[str, int]]]:
    """Users per arm first seen on each day."""
    if daily is None or log.days is None:
        return []
    return [
        (label, {arm: daily.new_users(arm, day) for arm in plan.arms}) for day, label in enumerate(log.days.labels, 1)
    ]


def _level(log: UserLog, plan: AnalysisPlan) -> tuple[float, str | None]:
    """Level of the intervals at this point of the plan, and why nothing may be called significant yet, if so."""
    if log.days is None:
        return plan.alpha, None
    days = log.days.length
    if plan.looks == "daily":
        return plan_of_looks(plan, log.days)[-1].alpha, None
    if plan.looks == "final" and days < plan.planned_days:
        return plan.alpha, (
            f"this is day {days} of {plan.planned_days}: a test that is read once is read at its planned end; "
            "for earlier looks plan them with --looks daily"
        )
    return plan.alpha, None


def _repeated(found: list[Effect], looks: list[DayLook], log: UserLog, plan: AnalysisPlan) -> dict[Question, float]:
    """p-values of primary metrics that count every planned look so far."""
    if plan.looks != "daily" or log.days is None:
        return {}
    repeated = {}
    for effect in found:
        if effect.family != "primary":
            continue
        tails: list[float | None] = [
            look.so_far.log10_p for look in looks if (look.metric.name, ALL, look.arm) == effect.question
        ]
        if not tails:  # a metric that is not followed by day is looked at now only
            tails = [*(None for _ in range(log.days.length - 1)), effect.estimate.log10_p]
        p = repeated_p(tails, plan.planned_days)
        if p is not None:
            repeated[effect.question] = p
    return repeated
