"""A/A: identical arms, many assignments. The same log is split again and again, and each split is judged as a test.

That is what running the experiment again with another salt would give: identical arms give identical logs, whoever is
in which (tested), as long as both arms' models learn from the shared log. The same splits are read once, at the end,
and a second time as a test that is looked at every day.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl

from abtest.analysis.daily import measure_days
from abtest.analysis.daily_looks import DayLook, looks_of
from abtest.analysis.measure import term, values
from abtest.analysis.metrics import COLD
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.userlog import log_of, slice_column
from abtest.report.sections import Section
from abtest.report.tables import Table
from abtest.stats.estimators import ArmMoments, Comparison, planned_estimate
from abtest.stats.groups import CellMoments
from simulator.draws import Draws


class FalseAlarms(NamedTuple):
    """One metric over many splits.

    Attributes:
        metric: Its name.
        splits: Splits that could be judged.
        alarms: Those with p < alpha.
        band: The least and most alarms that are to be expected of a sound test, 99 %.
        uniform_p: p-value of a Kolmogorov-Smirnov test that the p-values are uniform; splits of one log are not
            independent, so read it as a warning light.
        covered: Splits whose interval of the lift holds 0.
    """

    metric: str
    splits: int
    alarms: int
    band: tuple[int, int]
    uniform_p: float
    covered: int

    @property
    def sound(self) -> bool:
        return self.band[0] <= self.alarms <= self.band[1]


def false_alarms(days: pl.DataFrame, plan: AnalysisPlan, *, splits: int, seed: int) -> list[FalseAlarms]:
    """Judge every metric over ``splits`` salted assignments of the users.

    Args:
        days: User-days, see ``measures.user_days``.
        plan: Plan with one control and one treatment.
        splits: Number of salts.
        seed: Random seed of the salts.
    """
    from scipy.stats import binom, kstest

    log = log_of(days, plan)
    columns = {text: expr.alias(text) for text, expr in values(log.metrics).items()}
    metrics = [metric for metric in log.metrics if metric.slice == "all"]
    estimator = plan.design.estimator
    covariates = log.covariates if estimator == "cuped" else ()
    columns |= {name: pl.col(name) for name in covariates}
    strata = [slice_column(COLD)] if estimator == "poststratified" and COLD in log.slices else []
    users = log.users.select("user_id", *strata, *columns.values()).sort("user_id").collect()
    ids = users["user_id"].to_numpy()
    found: dict[str, list[float]] = {metric.name: [] for metric in metrics}
    covered = dict.fromkeys(found, 0)
    for split in range(splits):
        side = Draws(seed, f"salt {split}").uniform(ids) < 0.5
        table = users.lazy().with_columns(arm=pl.Series(np.where(side, "a", "b")))
        cells = CellMoments.of(table.drop("user_id"), list(columns), ["arm", *strata])
        first, second = (_of_arm(cells, arm, strata) for arm in ("a", "b"))
        for metric in metrics:
            asked = Comparison(first, second, term(metric), covariates, None, plan.alpha)
            estimate = planned_estimate(asked, estimator)
            if estimate.p is not None:
                found[metric.name].append(estimate.p)
                covered[metric.name] += estimate.lift_ci is None or estimate.lift_ci[0] <= 0 <= estimate.lift_ci[1]
    return [
        FalseAlarms(
            name,
            len(p),
            sum(value < plan.alpha for value in p),
            (int(binom.ppf(0.005, len(p), plan.alpha)), int(binom.ppf(0.995, len(p), plan.alpha))),
            float(kstest(p, "uniform").pvalue),
            covered[name],
        )
        for name, p in found.items()
        if p
    ]


def _of_arm(cells: CellMoments, arm: str, strata: Sequence[str]) -> ArmMoments:
    """Users of an arm, together and by stratum."""
    labels = cells.labels(strata[0]) if strata else ()
    return ArmMoments(cells.total(arm=arm), {one: cells.total(**{"arm": arm, strata[0]: one}) for one in labels})


class DailyAlarms(NamedTuple):
    """One primary metric over many splits, each looked at every day of the test.

    Attributes:
        metric: Its name.
        looks: Planned looks of each split.
        splits: Splits that could be judged.
        alarms: Those in which some look crossed its bound.
        most: The most alarms that are to be expected of a sound test, 99.5 %. Fewer are no fault: bounds are made for
            users who come once, and those who come again make successive looks more alike.
        naive: Splits in which some look had p < alpha, as if it were the only one.
    """

    metric: str
    looks: int
    splits: int
    alarms: int
    most: int
    naive: int

    @property
    def sound(self) -> bool:
        return self.alarms <= self.most


def daily_false_alarms(days: pl.DataFrame, plan: AnalysisPlan, *, splits: int, seed: int) -> list[DailyAlarms]:
    """Look at ``splits`` salted assignments of the users day by day, along the way that a real log takes.

    Args:
        days: User-days, see ``measures.user_days``.
        plan: Plan with one control and one treatment; its looks are taken daily.
        splits: Number of salts, the same as those of ``false_alarms``.
        seed: Random seed of the salts.
    """
    from scipy.stats import binom

    plan, names = replace(plan, looks="daily"), np.array([*plan.treatments, plan.control])
    ids = days["user_id"].to_numpy()
    judged: dict[str, list[tuple[bool, bool]]] = {}
    for split in range(splits):
        side = Draws(seed, f"salt {split}").uniform(ids) < 0.5
        by_metric: dict[str, list[DayLook]] = {}
        for look in _looks(days.with_columns(arm=pl.Series(names[side.astype(int)])), plan):
            if look.crossed is not None:
                by_metric.setdefault(look.metric.name, []).append(look)
        for metric, looks in by_metric.items():
            naive = any(look.so_far.p is not None and look.so_far.p < plan.alpha for look in looks)
            judged.setdefault(metric, []).append((any(look.crossed for look in looks), naive))
    return [
        DailyAlarms(
            metric,
            plan.planned_days,
            len(found),
            sum(alarm for alarm, _ in found),
            int(binom.ppf(0.995, len(found), plan.alpha)),
            sum(naive for _, naive in found),
        )
        for metric, found in judged.items()
    ]


def _looks(days: pl.DataFrame, plan: AnalysisPlan) -> list[DayLook]:
    log = log_of(days, plan)
    daily = measure_days(log)
    return looks_of(daily, plan, log.days) if daily is not None and log.days is not None else []


def aa_section(
    found: Sequence[FalseAlarms], alpha: float, daily: Sequence[DailyAlarms] = (), *, alike: str = ""
) -> Section:
    """The calibration as a section of the report; ``alike`` says whether the arms are."""
    rows = [
        (
            one.metric,
            f"{one.splits:,}",
            f"{one.alarms} ({_share(one.alarms, one.splits)})",
            f"{one.band[0]} to {one.band[1]}",
            f"{one.uniform_p:.3f}",
            _share(one.covered, one.splits),
            "sound" if one.sound else "NOT SOUND",
        )
        for one in found
    ]
    header = ("metric", "splits", f"p < {alpha:g}", "expected (99 %)", "p of uniformity", "interval holds 0", "verdict")
    bad = list(dict.fromkeys([*(one.metric for one in found if not one.sound), *_unsound(daily)]))
    text = (
        f"The test cries wolf too often or too seldom on {', '.join(bad)}: do not trust it there."
        if bad
        else "The share of alarms is what it should be."
    )
    tables = [Table("Read once, at the end", header, rows, [])]
    if daily:
        tables.append(_daily_table(daily, alpha))
    return Section("Calibration over many assignments", (text, *([alike] if alike else [])), tables)


def _unsound(daily: Sequence[DailyAlarms]) -> list[str]:
    return [one.metric for one in daily if not one.sound]


def _daily_table(daily: Sequence[DailyAlarms], alpha: float) -> Table:
    rows = [
        (
            one.metric,
            str(one.looks),
            f"{one.splits:,}",
            f"{one.alarms} ({_share(one.alarms, one.splits)})",
            f"at most {one.most}",
            f"{one.naive} ({_share(one.naive, one.splits)})",
            "sound" if one.sound else "NOT SOUND",
        )
        for one in daily
    ]
    header = (
        "metric",
        "looks",
        "splits",
        "any look beyond its bound",
        "expected (99.5 %)",
        f"any p < {alpha:g}",
        "verdict",
    )
    note = (
        "The same assignments, looked at every day: alarms with the bounds for daily looks, and what they would have "
        "been if each look had been read as if it were the only one."
    )
    return Table("Looked at every day", header, rows, [note])


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"
