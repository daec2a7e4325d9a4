"""What matching is worth on a platform at most and at least, beside the smallest lift that a test there can find.

Four worlds of the same users with the same noise are simulated before the experiment: control as it is, control with
perfect matching in the channels under test, control without these channels, and control with nothing but channels that
offer everybody the same. The first also tells how far users differ, and so what the test to come can find.
"""

import math
from typing import Any, NamedTuple

import polars as pl

from abtest.analysis.measure import term
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.planning import PowerQuestion, read_history
from abtest.online.lift_text import bounds, percent, tone
from abtest.online.online_scenario import OnlineScenario
from abtest.online.truth import TrueLift, true_lifts
from abtest.online.worlds_beside import AS_IS, OFF, PERFECT, POSSIBLE, UNPERSONAL
from abtest.report.figures import Intervals, Row
from abtest.report.sections import Block, Section
from abtest.report.tables import Table
from abtest.stats.power import Baseline, baseline, detectable_lift, users_needed

POWER = 0.8
METRICS = ("ACC", "ADT", "CTR", "stay")
CLICKS = "clicks"  # what days are predicted for
LABELS = {
    PERFECT: "perfect matching",
    OFF: "channel under test off",
    UNPERSONAL: "the same for everybody",
}


class Detectable(NamedTuple):
    """What a test can find in its first primary metric.

    Attributes:
        users: Users who will come in all arms together, predicted.
        mde: Smallest lift found with 80 % power; None where no lift is.
        users_for: Users of all arms that find half of the possible lift; None where that is not asked or never.
        days_for: Days after which these users find it; likewise.
    """

    users: int
    mde: float | None
    users_for: int | None
    days_for: int | None


class Possible(NamedTuple):
    """What matching is worth, and what the test can find.

    Attributes:
        lifts: By world and metric, against control as it is.
        reach: Of the test, in the metric.
        users: Users of these worlds who came.
        metric: The first primary metric, which the test's reach is told in.
    """

    lifts: dict[str, dict[str, TrueLift]]
    reach: Detectable
    users: int
    metric: str = "ACC"

    @property
    def most(self) -> TrueLift | None:
        """The largest possible lift of the metric."""
        return self.lifts.get(PERFECT, {}).get(self.metric)

    @property
    def answers(self) -> bool | None:
        """Whether the test sees half of the possible lift; None where one of the two is not known."""
        if self.most is None or self.reach.mde is None:
            return None
        return self.reach.mde <= self.most.lift / 2.0


def measure_possible(scenario: OnlineScenario, days_of: dict[str, pl.DataFrame], plan: AnalysisPlan) -> Possible:
    """Compare the worlds.

    Args:
        scenario: The variant.
        days_of: User-days by world, see ``measures.user_days``; control as it is among them.
        plan: Analysis of control against one treatment, whose names are lent to the worlds.
    """
    control = days_of[AS_IS]
    lifts = {
        name: {
            metric: one
            for (metric, where, _), one in true_lifts(control, days_of[name], plan).items()
            if where == "all"
        }
        for name in POSSIBLE
        if name != AS_IS and name in days_of
    }
    metric = scenario.primary_names[0]
    draft = Possible(lifts, Detectable(0, None, None, None), control["user_id"].n_unique(), metric)
    return draft._replace(reach=reach_of(scenario, control, draft.most, plan))


def reach_of(scenario: OnlineScenario, control: pl.DataFrame, most: TrueLift | None, plan: AnalysisPlan) -> Detectable:
    """What the scenario's test can find in its first primary metric, from the users of one of its worlds."""
    assert scenario.possible is not None
    whole = scenario.world_config(0).users.count
    sampled = min(scenario.possible.users, whole)
    users = round(control["user_id"].n_unique() * whole / sampled)
    weights = [arm.weight for arm in scenario.arms.values()]
    smallest = min(scenario.arms[name].weight for name in scenario.treatments)
    pair = users * (scenario.arms["control"].weight + smallest) / sum(weights)  # users of the weakest comparison
    share = smallest / (scenario.arms["control"].weight + smallest)
    looks = scenario.days if scenario.looks == "daily" else 1
    question = PowerQuestion(alpha=scenario.alpha, power=POWER, looks=looks)
    comparisons = len(scenario.primary) * len(scenario.treatments)
    arms = max(round(pair * (1.0 - share)), 0), max(round(pair * share), 0)
    base = _baseline(control, plan, scenario.primary_names[0])
    if min(arms) < 2 or base is None:
        return Detectable(users, None, None, None)
    base = base._replace(variance=base.variance * question.growth(comparisons))
    level = question.level(comparisons)
    mde = detectable_lift(base, *arms, power=POWER, alpha=level).lift
    if most is None or most.lift <= 0.0 or mde is None or mde <= most.lift / 2.0:
        return Detectable(users, mde, None, None)
    wanted = most.lift / 2.0
    needs = users_needed(base, wanted, power=POWER, alpha=level, treatment_share=share)
    needed = None
    if needs.n_control is not None and needs.n_treatment is not None:
        needed = round((needs.n_control + needs.n_treatment) * users / pair)
    days = days_for(control, scenario.days, (wanted / mde) ** 2) if base.metric == CLICKS else None
    return Detectable(users, mde, needed, days)


def _baseline(control: pl.DataFrame, plan: AnalysisPlan, metric: str) -> Baseline | None:
    """Mean and variance of a metric, less what the planned estimator takes off; None if there are too few users."""
    history = read_history(control, plan)
    found = next((one for one in history.metrics if one.name == metric), None)
    if found is None or history.moments.n < 2:
        return None
    covariates = history.log.covariates if plan.design.estimator == "cuped" else ()
    try:
        return baseline(history.moments, term(found), covariates)
    except ValueError:  # it is 0 for everybody, or the same
        return None


def days_for(control: pl.DataFrame, days: int, share: float) -> int | None:
    """Days after which the squared relative error is ``share`` of what it is after ``days``; None if never.

    A user's clicks of a day are a mean of the user's own and a day's luck; only the latter averages out with days.
    Users who come later only are not counted, so that the answer is rather too long.
    """
    table = control.pivot("day", index="user_id", values="clicks", aggregate_function="sum").fill_null(0)
    daily = table.drop("user_id").to_numpy().astype(float)
    if daily.shape[1] < 2:
        return None
    luck = float(daily.var(axis=1, ddof=1).mean())
    own = max(float(daily.mean(axis=1).var(ddof=1)) - luck / daily.shape[1], 0.0)
    left = share * (own + luck / days) - own
    return math.ceil(luck / left) if left > 0.0 else None


def answer(found: Possible) -> str:
    """Whether the test can answer the question, in words."""
    most, reach = found.most, found.reach
    if reach.mde is None:
        return f"Too few users come for a test of {found.metric}."
    finds = (
        f"With some {reach.users:,} users it finds a lift of {percent(reach.mde)} in {found.metric} 80 % of the time"
    )
    if most is None:
        return f"{finds}."
    worth = f"perfect matching in the channel under test would bring {percent(most.lift)}"
    if found.answers:
        return f"This test can answer the question: {finds[0].lower()}{finds[1:]}, and {worth}."
    if most.lift <= 0.0:
        return f"This test cannot answer the question: {worth} on this platform, so no matching model can gain."
    takes = []
    if reach.users_for is not None:
        takes.append(f"{reach.users_for:,} users")
    if reach.days_for is not None:
        takes.append(f"{reach.days_for:,} days with the same users")
    how = f" To see half of that would take {' or '.join(takes)}." if takes else ""
    return f"This test cannot answer the question: {finds[0].lower()}{finds[1:]}, but {worth}.{how}"


def possible_section(found: Possible, alpha: float) -> Section:
    """The first part of a report: what is possible, before what was found."""
    rows, cells, shown = [], [], dict.fromkeys([*METRICS, found.metric])
    for name, lifts in found.lifts.items():
        told = {metric: f"{percent(one.lift)} {bounds(interval(one, alpha))}" for metric, one in lifts.items()}
        cells.append((LABELS[name], *(told.get(metric, "–") for metric in shown)))
        if found.metric in lifts:
            low, high = interval(lifts[found.metric], alpha)
            at = lifts[found.metric].lift
            rows.append(Row(LABELS[name], told[found.metric], at, low, high, tone=tone((low, high))))
    if found.reach.mde is not None:
        rows.append(Row("smallest lift found", percent(found.reach.mde), found.reach.mde, None, None, tone="even"))
    level = f"{100 * (1 - alpha):.4g} %"
    note = (
        f"Against control as it is, {found.users:,} users with the same noise in each world; intervals are over users. "
        "Perfect matching knows each user's utility of each item, but for the visit under way."
    )
    table = Table("What is possible", ("world", *(f"{name} [{level}]" for name in shown)), cells, [note])
    caption = f"{found.metric} against control as it is; the last row is what the test finds 80 % of the time."
    blocks: list[Block] = [Intervals("What is possible", rows, caption), table]
    return Section("What is possible, and what this test can find", (answer(found),), blocks)


def possible_data(found: Possible) -> dict[str, Any]:
    """Plain values for results.json."""
    return {
        "answers": found.answers,
        "lifts": {
            LABELS[name]: {metric: {"lift": one.lift, "se": one.se} for metric, one in lifts.items()}
            for name, lifts in found.lifts.items()
        },
        "users": found.users,
        "metric": found.metric,
        "test": found.reach._asdict(),
    }


def interval(one: TrueLift, alpha: float) -> tuple[float, float]:
    """Interval of the Monte-Carlo error."""
    from scipy.special import ndtri

    half = -float(ndtri(alpha / 2)) * one.se
    return one.lift - half, one.lift + half
