"""Before the planned end: what is the test's chance to find something yet, and may it stop because it has none?"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy import special

from abtest.analysis.daily import DailyMoments
from abtest.analysis.daily_looks import DayLook, Level, levels_of
from abtest.analysis.plan import AnalysisPlan
from abtest.stats.futility import conditional_power, futility_bounds
from abtest.stats.spending import Schedule

BETA = 0.2  # chance of a futile stop that overlooks the planned lift, over all looks


class MidTest(NamedTuple):
    """One primary metric of one treatment at the last look so far.

    Attributes:
        metric: Its name.
        arm: The treatment.
        information: Share of the planned information in hand.
        z: So far, positive in the good direction.
        bound: Critical value at the planned end.
        planned_lift: Lift that the test was planned for, None where nobody said.
        power_planned: Chance to find an effect by the end if the true lift is the planned one.
        power_current: The same if it is what was seen so far.
        power_predictive: The same averaged over what the data leave open.
        futility: Z below which the plan may stop for futility; None without a planned lift or where none is spent.
        futile: Whether z lies below it.
    """

    metric: str
    arm: str
    information: float
    z: float
    bound: float
    planned_lift: float | None
    power_planned: float | None
    power_current: float
    power_predictive: float
    futility: float | None
    futile: bool


def mid_test_of(daily: DailyMoments | None, looks: Sequence[DayLook], plan: AnalysisPlan) -> list[MidTest]:
    """At the last look, if it comes before the planned end of a test with one."""
    if daily is None or plan.looks == "open" or daily.days >= plan.planned_days:
        return []
    levels = {arm: levels_of(daily, plan, arm) for arm in plan.treatments}
    found = []
    for arm in plan.treatments:
        for metric in daily.metrics:
            mine = [look for look in looks if look.arm == arm and look.metric == metric]
            if mine and (one := _at(mine, levels, plan)) is not None:
                found.append(one)
    return found


def _at(mine: Sequence[DayLook], levels: Mapping[str, Sequence[Level]], plan: AnalysisPlan) -> MidTest | None:
    last = mine[-1]
    schedule, estimate = levels[last.arm][-1].schedule, last.so_far
    if schedule is None or estimate.log10_p is None or estimate.t is None or not estimate.se:
        return None
    t = schedule.shares[-1]
    if not 0.0 < t < 1.0:
        return None
    z = -float(special.ndtri_exp(estimate.log10_p * math.log(10.0) - math.log(2.0)))
    up = last.metric.direction == "up"
    z = z if (estimate.t > 0.0) == up else -z
    bound = _final_bound(schedule, plan)
    lift, drift = plan.design.planned_lift, None
    if lift is not None and estimate.control.mean:
        drift = lift * abs(estimate.control.mean) / (estimate.se * math.sqrt(t))
    chance = conditional_power(z, t, bound=bound, drift=drift or 0.0)
    low = None
    if drift is not None:  # a test of more users than its lift needs does not give up sooner for that
        needed = float(special.ndtri(1.0 - plan.alpha / 2.0) + special.ndtri(1.0 - BETA))
        uppers = _uppers(schedule, plan)
        low = futility_bounds(schedule.shares, uppers, drift=min(drift, needed), beta=BETA)[-1]
    return MidTest(
        last.metric.name,
        last.arm,
        t,
        z,
        bound,
        lift,
        chance.planned if drift is not None else None,
        chance.current,
        chance.predictive,
        low if low is not None and math.isfinite(low) else None,
        low is not None and z < low,
    )


def _final_bound(schedule: Schedule, plan: AnalysisPlan) -> float:
    if plan.looks == "final":
        return float(-special.ndtri(plan.alpha / 2.0))
    end = schedule.expected[-1]
    whole = Schedule((*schedule.in_hand, end), (*schedule.expected, end))
    return whole.bounds(plan.alpha)[-1].z


def _uppers(schedule: Schedule, plan: AnalysisPlan) -> list[float]:
    """Upper bound of each look; a test that is read once has none before its end."""
    if plan.looks == "final":
        return [math.inf] * len(schedule.in_hand)
    return [look.z for look in schedule.bounds(plan.alpha)]
