"""What a test says day by day, with bounds that hold however many of the planned looks are taken.

"daily": every day is a planned look; information is counted in days of the plan. Users who come on several days make
successive looks more alike than the bounds assume, which errs on the safe side.
"final": the same bounds are drawn to be looked at, and the test is read once, at its planned end.
"open": a confidence sequence, for tests without a planned end, tuned to the first day's users times the planned days.
"""

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

from abtest.analysis.comparison import LiftChange, between_periods
from abtest.analysis.daily import EARLY_DAYS, DailyMoments, over
from abtest.analysis.days import Days
from abtest.analysis.metrics import Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.stats.confidence_sequence import anytime_difference, multiplier
from abtest.stats.estimate import Estimate
from abtest.stats.spending import bounds
from abtest.stats.tails import norm_logsf, two_sided_log10_p
from abtest.stats.welch import welch
from micrec.errors import MicrecError

_LEAST_LOG10_P = -12.0  # repeated p-values are told apart down to here


class Level(NamedTuple):
    """How strictly one look is read.

    Attributes:
        alpha: Nominal two-sided level: the test at this level, and its intervals, hold at all looks together.
        z: The same as a bound on \\|z\\|.
        tuned_for: Users that a confidence sequence is tuned for; None for planned looks.
    """

    alpha: float
    z: float
    tuned_for: float | None = None


class DayLook(NamedTuple):
    """One metric of one treatment at the end of one day.

    Attributes:
        metric: What was measured.
        arm: The treatment.
        day: 1, 2, ...
        label: Its name in the log.
        so_far: All days so far, with an interval that holds at this and every other planned look.
        level: How strictly this look is read.
        crossed: Whether it did; None where undefined.
        on_day: That day alone, each with a plain interval; users not there that day count 0.
    """

    metric: Metric
    arm: str
    day: int
    label: str
    so_far: Estimate
    level: Level
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


def levels_of(plan: AnalysisPlan, users: Sequence[int]) -> list[Level]:
    """The level of every look so far.

    Args:
        plan: How often it is looked.
        users: Of control and one treatment, at the end of each day.

    Raises:
        MicrecError: If a test with a planned end goes on after it.
    """
    days = len(users)
    if plan.looks == "open":
        tuned_for = float(max(users[0], 1) * plan.planned_days)
        widths = [multiplier(max(n, 1), n_star=tuned_for, alpha=plan.alpha) for n in users]
        return [Level(2.0 * math.exp(float(norm_logsf(width))), width, tuned_for) for width in widths]
    if days > plan.planned_days:
        raise MicrecError(
            f"day: the log spans {days} days, the plan {plan.planned_days}: give --planned-days {days} "
            "if that was the plan, or cut the log at the planned end."
        )
    schedule = bounds([day / plan.planned_days for day in range(1, days + 1)], alpha=plan.alpha)
    return [Level(max(look.alpha, sys.float_info.min), look.z) for look in schedule]


def looks_of(daily: DailyMoments, plan: AnalysisPlan, days: Days) -> list[DayLook]:
    """Every day of every followed metric and treatment."""
    found = []
    for arm in plan.treatments:
        levels = levels_of(plan, daily.users(plan.control, arm))
        for metric in daily.metrics:
            for day, level in enumerate(levels, start=1):
                control, treatment = daily.of(plan.control, day), daily.of(arm, day)
                so_far = welch(control, treatment, over(metric, 1, day), alpha=level.alpha)
                on_day = welch(control, treatment, over(metric, day, day), alpha=plan.alpha)
                crossed = None if so_far.p is None else so_far.p < level.alpha
                found.append(DayLook(metric, arm, day, days.labels[day - 1], so_far, level, crossed, on_day))
    return found


def p_of_all_looks(estimate: Estimate, level: Level, plan: AnalysisPlan, day: int) -> float | None:
    """p at this look that holds although others were taken: the smallest level of the whole plan that rejects here.

    Unadjusted for other metrics it lies below the plan's alpha exactly when the interval at ``level`` excludes 0.

    Args:
        estimate: Of all users so far.
        level: Of this look.
        plan: Planned looks (Jennison, Turnbull 1989: repeated p), or an open test (anytime-valid p).
        day: Of this look.
    """
    if estimate.log10_p is None:
        return None
    if level.tuned_for is not None:
        return anytime_difference(estimate, n_star=level.tuned_for, alpha=plan.alpha).p
    tail, information = estimate.log10_p, [k / plan.planned_days for k in range(1, day + 1)]

    def rejects(log10_alpha: float) -> bool:
        look = bounds(information, alpha=10.0**log10_alpha)[-1]
        return tail < float(two_sided_log10_p(look.z, math.inf))

    low, high = _LEAST_LOG10_P, math.log10(0.999)
    if not rejects(high):
        return 1.0
    if rejects(low):
        return 10.0**low
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if rejects(middle) else (middle, high)
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
