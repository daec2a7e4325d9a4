"""What a test says day by day, with bounds that hold however many of the planned looks are taken.

"daily": every day is a planned look; information is counted in days of the plan. Users who come on several days make
successive looks more alike than the bounds assume, which errs on the safe side.
"final": the same bounds are drawn to be looked at, and the test is read once, at its planned end.
"open": a confidence sequence, for tests without a planned end.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from abtest.analysis.comparison import LiftChange, between_periods
from abtest.analysis.daily import EARLY_DAYS, DailyMoments, over
from abtest.analysis.metrics import Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.rollup import Days
from abtest.stats.estimate import Estimate
from abtest.stats.spending import Look, bounds
from abtest.stats.tails import two_sided_log10_p
from abtest.stats.welch import welch
from micrec.errors import MicrecError

_LEAST_LOG10_P = -12.0  # repeated p-values are told apart down to here


class DayLook(NamedTuple):
    """One metric of one treatment at the end of one day.

    Attributes:
        metric: What was measured.
        arm: The treatment.
        day: 1, 2, ...
        label: Its name in the log.
        so_far: All days so far, with an interval that holds at this and every other planned look.
        bound: \\|z\\| beyond which the test may stop; None for an open test, whose intervals say it.
        crossed: Whether it did; None where undefined.
        on_day: That day alone, each with a plain interval; users not there that day count 0.
    """

    metric: Metric
    arm: str
    day: int
    label: str
    so_far: Estimate
    bound: float | None
    crossed: bool | None
    on_day: Estimate


class Novelty(NamedTuple):
    """First days against later ones, among users who were there in the first.

    Attributes:
        metric: What was measured.
        arm: The treatment.
        early: Lift of the first days.
        late: Lift of the later days.
        test: late - early, in the same users.
    """

    metric: Metric
    arm: str
    early: Estimate
    late: Estimate
    test: LiftChange


def plan_of_looks(plan: AnalysisPlan, days: Days) -> list[Look]:
    """Bounds of the looks that have been reached.

    Raises:
        MicrecError: If the log goes on after the planned end.
    """
    if days.length > plan.planned_days:
        raise MicrecError(
            f"day: the log spans {days.length} days, the plan {plan.planned_days}: give --planned-days {days.length} "
            "if that was the plan, or cut the log at the planned end."
        )
    return bounds([day / plan.planned_days for day in range(1, days.length + 1)], alpha=plan.alpha)


def looks_of(daily: DailyMoments, plan: AnalysisPlan, days: Days) -> list[DayLook]:
    """Every day of every followed metric and treatment."""
    found = []
    schedule = plan_of_looks(plan, days)
    for arm in plan.treatments:
        for metric in daily.metrics:
            for day, look in enumerate(schedule, start=1):
                control, treatment = daily.of(plan.control, day), daily.of(arm, day)
                so_far = welch(control, treatment, over(metric, 1, day), alpha=max(look.alpha, 1e-300))
                on_day = welch(control, treatment, over(metric, day, day), alpha=plan.alpha)
                crossed = None if so_far.p is None else so_far.p < look.alpha
                found.append(DayLook(metric, arm, day, days.labels[day - 1], so_far, look.z, crossed, on_day))
    return found


def repeated_p(log10_p: Sequence[float | None], planned_looks: int) -> float | None:
    """The smallest level at which some look so far would have crossed its bound (Jennison, Turnbull 1989).

    Args:
        log10_p: Nominal p of each planned look so far, in order; None where it was not taken or is undefined.
        planned_looks: Of the whole plan, equally spaced.
    """
    if all(tail is None for tail in log10_p):
        return None
    information = [(k + 1) / planned_looks for k in range(len(log10_p))]

    def crosses(log10_alpha: float) -> bool:
        schedule = bounds(information, alpha=10.0**log10_alpha)
        return any(
            tail is not None and tail < float(two_sided_log10_p(look.z, math.inf))
            for tail, look in zip(log10_p, schedule, strict=True)
        )

    low, high = _LEAST_LOG10_P, math.log10(0.999)
    if not crosses(high):
        return 1.0
    if crosses(low):
        return 10.0**low
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if crosses(middle) else (middle, high)
    return float(10.0**high)


def novelty_of(daily: DailyMoments, plan: AnalysisPlan) -> list[Novelty]:
    """Whether the lift of the first two days lasted; nothing if the log has no later days."""
    if daily.days <= EARLY_DAYS:
        return []
    found = []
    for arm in plan.treatments:
        for metric in daily.metrics:
            control, treatment = daily.of(plan.control, EARLY_DAYS), daily.of(arm, EARLY_DAYS)
            first, later = over(metric, 1, EARLY_DAYS), over(metric, EARLY_DAYS + 1, daily.days)
            early = welch(control, treatment, first, alpha=plan.alpha)
            late = welch(control, treatment, later, alpha=plan.alpha)
            test = between_periods(control, treatment, first, later, alpha=plan.alpha)
            found.append(Novelty(metric, arm, early, late, test))
    return found
