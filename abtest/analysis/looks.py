"""What a test says day by day, with bounds that hold however many of the planned looks are taken.

"daily": every day is a planned look, and the level is spent by information: the variance of the summed difference
between the arms so far, as a share of that at the planned end. It grows with the users and with what each has done by
then, so a ramp spends little in its first days. Increments of that sum are independent as long as a user's days are;
users whose days are alike make successive looks more alike than the bounds assume. Before the planned end the
information to come is not known: each day to come counts as the richest day so far, or the planned users decide, if
that is more. The last planned day spends all that is left, however many users came.
"final": the same bounds are drawn to be looked at, and the test is read once, at its planned end.
"open": a confidence sequence, for tests without a planned end, tuned to the first day's users times the planned days.
"""

import math
import sys
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from scipy.special import ndtri

from abtest.analysis.comparison import LiftChange, between_periods
from abtest.analysis.daily import EARLY_DAYS, DailyMoments, over
from abtest.analysis.days import Days
from abtest.analysis.metrics import Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.stats.confidence_sequence import anytime_difference, multiplier
from abtest.stats.estimate import Estimate
from abtest.stats.spending import bounds
from abtest.stats.tails import norm_logsf, two_sided_log10_p
from abtest.stats.terms import linear, undefined
from abtest.stats.welch import welch

_LEAST_LOG10_P = -12.0  # repeated p-values are told apart down to here


class Level(NamedTuple):
    """How strictly one look is read.

    Attributes:
        alpha: Nominal two-sided level: the test at this level, and its intervals, hold at all looks together.
        z: The same as a bound on \\|z\\|.
        tuned_for: Users that a confidence sequence is tuned for; None for planned looks.
        information: Share of the planned information at this look and those before it that brought any; empty where
            looks are not planned.
    """

    alpha: float
    z: float
    tuned_for: float | None = None
    information: tuple[float, ...] = ()

    def at(self, alpha: float) -> "Level":
        """The same look of a test at another level, such as one of several metrics after Holm's adjustment."""
        if not self.information:
            return Level(alpha, float(-ndtri(alpha / 2.0)), self.tuned_for)
        look = bounds(self.information, alpha=alpha)[-1]
        return Level(max(look.alpha, sys.float_info.min), look.z, None, self.information)


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
    shares = information_shares(
        [_information(daily, plan.control, arm, day) for day in range(1, len(users) + 1)],
        users,
        planned_days=plan.planned_days,
        planned_users=_planned_of(plan, arm),
    )
    rising = [share for day, share in enumerate(shares) if share > max(shares[:day], default=0.0)]
    schedule = iter(bounds(rising, alpha=plan.alpha) if rising else ())
    levels: list[Level] = []
    for day, share in enumerate(shares):
        if share <= max(shares[:day], default=0.0):  # nothing new: it is read as the day before was
            levels.append(levels[-1] if levels else Level(sys.float_info.min, math.inf))
            continue
        look = next(schedule)
        seen = len([level for level in dict.fromkeys(levels) if level.information]) + 1
        levels.append(Level(max(look.alpha, sys.float_info.min), look.z, None, tuple(rising[:seen])))
    return levels


def _planned_of(plan: AnalysisPlan, arm: str) -> int | None:
    """Planned users of control and one treatment together."""
    if plan.planned_users is None:
        return None
    both = plan.weight(plan.control) + plan.weight(arm)
    return round(plan.planned_users * both / sum(plan.weight(one) for one in plan.arms))


def information_shares(
    information: Sequence[float], users: Sequence[int], *, planned_days: int, planned_users: int | None = None
) -> list[float]:
    """Share of the information of the planned end that is in hand after each day so far.

    Args:
        information: Variance of the summed difference after each day, at least 0, never falling but for chance.
        users: Of both arms after each day.
        planned_days: Days of the plan, at least as many as there are so far.
        planned_users: Users of both arms at the planned end, if they were planned.

    Returns:
        Shares within [0, 1], never falling; 1 on the last planned day.
    """
    in_hand = list(accumulate(information, max))
    to_come = planned_days - len(in_hand)
    if to_come == 0:
        whole = in_hand[-1]
    else:
        richest = max(after - before for before, after in pairwise([0.0, *in_hand]))
        whole = in_hand[-1] + to_come * richest
        if planned_users is not None and users[-1]:
            whole = max(whole, in_hand[-1] * planned_users / users[-1])
    shares = [min(amount / whole, 1.0) if whole > 0.0 else 0.0 for amount in in_hand]
    return [*shares[:-1], 1.0] if to_come == 0 else shares


def _information(daily: DailyMoments, control: str, arm: str, day: int) -> float:
    """Variance of the summed difference after a day, over that of the last day; a mean over the followed metrics."""
    found = []
    for metric in daily.metrics:
        last = _score_variance(daily, control, arm, metric, daily.days)
        if last > 0.0:
            found.append(_score_variance(daily, control, arm, metric, day) / last)
    return sum(found) / len(found) if found else 0.0


def _score_variance(daily: DailyMoments, control: str, arm: str, metric: Metric, day: int) -> float:
    """Variance of (mean of treatment - mean of control) times the harmonic number of users; 0 where undefined."""
    groups, column = [daily.of(control, day), daily.of(arm, day)], over(metric, 1, day)
    if any(undefined(group, column, "") for group in groups):
        return 0.0
    harmonic = 1.0 / sum(1.0 / group.n for group in groups)
    variance = sum(float(linear(group, (column,)).cov[0, 0]) / group.n for group in groups)
    if not isinstance(column, str):  # a ratio: in units of its numerator, so that days add up
        variance *= (sum(group.n * group.mean_of(column[1]) for group in groups) / sum(g.n for g in groups)) ** 2
    return harmonic**2 * variance


def looks_of(daily: DailyMoments, plan: AnalysisPlan, days: Days) -> list[DayLook]:
    """Every day of every followed metric and treatment."""
    found = []
    for arm in plan.treatments:
        levels = levels_of(daily, plan, arm)
        for metric in daily.metrics:
            for day, level in enumerate(levels, start=1):
                control, treatment = daily.of(plan.control, day), daily.of(arm, day)
                so_far = welch(control, treatment, over(metric, 1, day), alpha=level.alpha)
                on_day = welch(control, treatment, over(metric, day, day), alpha=plan.alpha)
                crossed = None if so_far.p is None else so_far.p < level.alpha
                found.append(DayLook(metric, arm, day, days.labels[day - 1], so_far, level, crossed, on_day))
    return found


def p_of_all_looks(estimate: Estimate, level: Level, plan: AnalysisPlan) -> float | None:
    """p at this look that holds although others were taken: the smallest level of the whole plan that rejects here.

    Unadjusted for other metrics it lies below the plan's alpha exactly when the interval at ``level`` excludes 0.

    Args:
        estimate: Of all users so far.
        level: Of this look.
        plan: Planned looks (Jennison, Turnbull 1989: repeated p), or an open test (anytime-valid p).
    """
    if estimate.log10_p is None:
        return None
    if level.tuned_for is not None:
        return anytime_difference(estimate, n_star=level.tuned_for, alpha=plan.alpha).p
    tail, information = estimate.log10_p, level.information
    if not information:
        return 1.0  # no look has brought any information

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
