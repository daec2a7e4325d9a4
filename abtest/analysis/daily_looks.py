"""What a test says day by day, with bounds that hold however many of the planned looks are taken.

"daily": every day is a planned look, and the level is spent by information, not by days. How much information a day
has brought is read off the correlation of Z on that day with Z on the day before: I_{k-1} / I_k is its square, for
users who come once (where it is the share of the users who were there) and for users who come again and do what they
did before (who bring less and less). It is estimated from the users' covariances, and the least of the followed
metrics counts. Before the planned end the information to come is not known: each day to come is expected to bring as
much as the richest day so far, or the planned users decide, if that is more. A look is read by what was expected on
its day, whenever it is read: evening by evening or all at once, the bounds are the same, and the last planned day
spends all that is left, whatever was expected.
Units above the user are there on many days, with users who come and go: their looks are compared in the same units.
"final": the same bounds are drawn to be looked at, and the test is read once, at its planned end.
"open": a confidence sequence, for tests without a planned end, tuned to the first day's users times the planned days.
"""

import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from scipy.special import ndtri

from abtest.analysis.daily import EARLY_DAYS, DailyMoments, over
from abtest.analysis.days import Days
from abtest.analysis.interactions import LiftChange, between_periods
from abtest.analysis.metrics import Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.unit_cells import UnitCells
from abtest.analysis.unit_looks import correlation_of_units
from abtest.stats.confidence_sequence import anytime, anytime_difference, multiplier
from abtest.stats.cuped import residual_cov
from abtest.stats.estimate import Estimate
from abtest.stats.estimators import Comparison, planned_estimate
from abtest.stats.moments import Moments
from abtest.stats.spending import Schedule
from abtest.stats.tails import norm_logsf, two_sided_log10_p
from abtest.stats.terms import linear, undefined
from abtest.stats.welch import welch

_LEAST_LOG10_P = -12.0  # repeated p-values are told apart down to here
_NO_GAIN = 1e-9  # of the information in hand: rounding


class Level(NamedTuple):
    """How strictly one look is read.

    Attributes:
        alpha: Nominal two-sided level: the test at this level, and its intervals, hold at all looks together.
        z: The same as a bound on \\|z\\|.
        tuned_for: Users that a confidence sequence is tuned for; None for planned looks.
        schedule: This look and those before it that brought information; None where there is none.
    """

    alpha: float
    z: float
    tuned_for: float | None = None
    schedule: Schedule | None = None

    @property
    def information(self) -> float | None:
        """Share of the planned information in hand, as expected at this look; None where looks are not planned."""
        return self.schedule.shares[-1] if self.schedule else None

    def at(self, alpha: float) -> "Level":
        """The same look of a test at another level, such as one of several metrics after Holm's adjustment."""
        if self.schedule is None:
            return Level(alpha, float(-ndtri(alpha / 2.0)), self.tuned_for)
        look = self.schedule.bounds(alpha)[-1]
        return Level(max(look.alpha, sys.float_info.min), look.z, None, self.schedule)


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


def levels_of(daily: DailyMoments, plan: AnalysisPlan, arm: str) -> list[Level]:
    """The level of every look so far at one treatment.

    Args:
        daily: Moments by day; a test with a planned end must not go on after it.
        plan: How often it is looked.
        arm: The treatment.
    """
    users = daily.users(plan.control, arm)
    if plan.looks == "open":
        tuned_for = float(max(users[0], 1) * plan.planned_days)
        widths = [multiplier(max(n, 1), n_star=tuned_for, alpha=plan.alpha) for n in users]
        return [Level(2.0 * math.exp(float(norm_logsf(width))), width, tuned_for) for width in widths]
    planned = None if plan.design.unit else _planned_of(plan, arm)  # users of one unit are no multiple of information
    if plan.design.information == "users" and planned is not None:
        found = schedules_of_users(users, planned, planned_days=plan.planned_days)
    else:
        in_hand = _information(daily, plan.control, arm)
        found = schedules(in_hand, users, planned_days=plan.planned_days, planned_users=planned)
    whole = found[-1]
    looks = whole.bounds(plan.alpha) if whole else []
    levels: list[Level] = []
    for schedule in found:
        if schedule is None:
            levels.append(Level(sys.float_info.min, math.inf))
            continue
        at = len(schedule.in_hand)
        so_far = whole is not None and schedule.expected == whole.expected[:at]
        look = looks[at - 1] if so_far else schedule.bounds(plan.alpha)[-1]
        levels.append(Level(max(look.alpha, sys.float_info.min), look.z, None, schedule))
    return levels


def _planned_of(plan: AnalysisPlan, arm: str) -> int | None:
    """Planned users of control and one treatment together."""
    if plan.planned_users is None:
        return None
    both = plan.weight(plan.control) + plan.weight(arm)
    return round(plan.planned_users * both / sum(plan.weight(one) for one in plan.arms))


def schedules(
    in_hand: Sequence[float], users: Sequence[int], *, planned_days: int, planned_users: int | None = None
) -> list[Schedule | None]:
    """The looks up to and with each day, by what was known on each of them; None while there is no information.

    Args:
        in_hand: Information after each day so far, never falling, in any unit.
        users: Users of both arms after each day.
        planned_days: Days of the plan, at least as many as there are so far.
        planned_users: Users of both arms at the planned end, if they were planned.
    """
    found: list[Schedule | None] = []
    looks: list[tuple[float, float]] = []
    for day, now in enumerate(in_hand, start=1):
        if now > (looks[-1][0] if looks else 0.0):
            so_far, there = in_hand[:day], users[day - 1]
            growth = planned_users / there if planned_users is not None and there else None
            looks.append((now, expected_information(so_far, planned_days=planned_days, user_growth=growth)))
        elif looks and day == planned_days:  # the last day brought nothing: the one before was the last look
            looks[-1] = (looks[-1][0], looks[-1][0])
        found.append(Schedule(*zip(*looks, strict=True)) if looks else None)
    return found


def schedules_of_users(users: Sequence[int], planned: int, *, planned_days: int) -> list[Schedule | None]:
    """The same where the users alone are information, and as many are expected as were planned.

    Args:
        users: Users of both arms after each day.
        planned: Users of both arms at the planned end; more than that count as the end's.
        planned_days: Days of the plan.
    """
    found: list[Schedule | None] = []
    looks: list[tuple[float, float]] = []
    for day, now in enumerate(map(float, users), start=1):
        whole = now if day == planned_days else max(float(planned), now)
        if now > (looks[-1][0] if looks else 0.0):
            looks.append((now, whole))
        elif looks and day == planned_days:
            looks[-1] = (looks[-1][0], looks[-1][0])
        found.append(Schedule(*zip(*looks, strict=True)) if looks else None)
    return found


def expected_information(in_hand: Sequence[float], *, planned_days: int, user_growth: float | None = None) -> float:
    """Information of the planned end, as expected after the last of these days.

    Args:
        in_hand: Information after each day so far, never falling, in any unit.
        planned_days: Days of the plan, at least as many as there are so far.
        user_growth: Planned users over those there; None if they were not planned.

    Returns:
        What is in hand, and for each day to come as much as the richest so far brought; more if the planned users are
        more than that; exactly what is in hand on the last planned day.
    """
    now, to_come = in_hand[-1], planned_days - len(in_hand)
    if to_come == 0:
        return now
    richest = max(after - before for before, after in pairwise([0.0, *in_hand]))
    return max(now + to_come * richest, now * (user_growth or 0.0))


def _information(daily: DailyMoments, control: str, arm: str) -> list[float]:
    """Information after each day, in units of that of the first day with any; 0 before it."""
    found: list[float] = []
    last = 0  # the latest day that brought information
    for day in range(1, daily.days + 1):
        known = [metric for metric in daily.metrics if _varies(daily, (control, arm), metric, day)]
        if not last:
            found.append(1.0 if known else 0.0)
            last = day if known else 0
            continue
        alike = [_correlation(daily, (control, arm), metric, last, day) for metric in known]
        gain = max((1.0 / max(r, 1e-3) ** 2 - 1.0 for r in alike if r is not None), default=0.0)
        last = day if gain > _NO_GAIN else last
        found.append(found[-1] * (1.0 + gain if gain > _NO_GAIN else 1.0))
    return found


def _correlation(daily: DailyMoments, arms: tuple[str, str], metric: Metric, before: int, day: int) -> float | None:
    """Correlation of Z after two days, where nothing differs; None where the earlier one is undefined.

    Users who came later are independent of the earlier ones, so the differences covary by the users of both days.
    """
    if not _varies(daily, arms, metric, before):
        return None
    if isinstance(daily.cells, UnitCells):
        return correlation_of_units(daily, arms, metric, before, day)
    first, second = over(metric, 1, before), over(metric, 1, day)
    together = noise_before = noise = 0.0
    groups = {arm: (daily.of(arm, before), daily.of(arm, day)) for arm in arms}
    if any(undefined(early, second, "") for early, _ in groups.values()):
        return None
    pooled: tuple[Moments, ...] = ()
    if daily.covariates:  # slopes over both arms, as the looks themselves take them
        pooled = (sum(early for early, _ in groups.values()), sum(late for _, late in groups.values()))  # type: ignore[assignment]
    for early, late in groups.values():
        shared = residual_cov(early, (first, second), daily.covariates, pooled)
        scale = 1.0 if isinstance(second, str) else early.mean_of(second[1]) / late.mean_of(second[1])
        together += float(shared[0, 1]) * scale / late.n
        noise_before += float(shared[0, 0]) / early.n
        noise += float(residual_cov(late, (second,), daily.covariates, pooled[1:])[0, 0]) / late.n
    return together / math.sqrt(noise_before * noise)


def _varies(daily: DailyMoments, arms: tuple[str, str], metric: Metric, day: int) -> bool:
    """Whether the metric over the days so far has a Z: defined in both arms, with noise in one."""
    groups, column = [daily.of(arm, day) for arm in arms], over(metric, 1, day)
    return not any(undefined(group, column, "") for group in groups) and any(
        float(linear(group, (column,)).cov[0, 0]) > 0.0 for group in groups
    )


def looks_of(daily: DailyMoments, plan: AnalysisPlan, days: Days) -> list[DayLook]:
    """Every day of every followed metric and treatment."""
    found = []
    for arm in plan.treatments:
        levels = levels_of(daily, plan, arm)
        for metric in daily.metrics:
            for day, level in enumerate(levels, start=1):
                control, treatment = daily.of(plan.control, day), daily.of(arm, day)
                so_far = _so_far(daily, plan, arm, metric, day, level.alpha)
                on_day = welch(control, treatment, over(metric, day, day), alpha=plan.alpha)
                crossed = None if so_far.p is None else so_far.p < level.alpha
                found.append(DayLook(metric, arm, day, days.labels[day - 1], so_far, level, crossed, on_day))
    return found


def _so_far(daily: DailyMoments, plan: AnalysisPlan, arm: str, metric: Metric, day: int, alpha: float) -> Estimate:
    """By the planned estimator, at one level."""
    asked = Comparison(
        daily.arm(plan.control, day),
        daily.arm(arm, day),
        over(metric, 1, day),
        daily.covariates,
        None,
        alpha,
        metric.null,
    )
    return planned_estimate(asked, plan.design.estimator)


def p_of_all_looks(estimate: Estimate, level: Level, plan: AnalysisPlan) -> float | None:
    """p at this look that holds although others were taken: the smallest level of the whole plan that rejects here.

    Unadjusted for other metrics it lies below the plan's alpha exactly when the interval at ``level`` excludes 0.

    Args:
        estimate: Estimate from all users so far.
        level: Level of this look.
        plan: Planned looks (Jennison, Turnbull 1989: repeated p), or an open test (anytime-valid p).
    """
    if estimate.log10_p is None:
        return None
    if level.tuned_for is not None:
        if estimate.null and estimate.t is not None:
            n = max(estimate.control.n + estimate.treatment.n, 1)
            return anytime(estimate.t, 1.0, n, n_star=level.tuned_for, alpha=plan.alpha).p
        return anytime_difference(estimate, n_star=level.tuned_for, alpha=plan.alpha).p
    tail, schedule = estimate.log10_p, level.schedule
    if schedule is None:
        return 1.0  # no look has brought any information

    def rejects(log10_alpha: float) -> bool:
        look = schedule.bounds(10.0**log10_alpha)[-1]
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
