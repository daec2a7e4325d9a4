"""Before a test: how many users a lift needs, what given users can find, and whether a log's metrics cry wolf."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from abtest.analysis.daily import new_users_per_day
from abtest.analysis.layout import TOGETHER
from abtest.analysis.measure import values
from abtest.analysis.metrics import ALL, Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.userlog import UserLog, read_log
from abtest.report import numbers
from abtest.report.tables import Table
from abtest.runfolder import versions
from abtest.stats.aa import Calibration, calibrate
from abtest.stats.buckets import BucketSums
from abtest.stats.cells import CellMoments
from abtest.stats.moments import Moments
from abtest.stats.power import Baseline, Plan, baseline, detectable_lift, users_needed
from abtest.stats.terms import Term
from micrec.errors import MicrecError

Row = tuple[tuple[str, ...], dict[str, Any]]  # a row as text, and as plain values


class Question(NamedTuple):
    """What a test is planned for.

    Attributes:
        lifts: True lifts to find.
        power: Chance to find them.
        alpha: Two-sided level.
        treatment_share: Share of the users in the treatment.
        users: Users of both arms, to tell the smallest lift they find; None for those of the log.
        users_per_day: New users of both arms per day, to tell days; None for those of the log, if it has days.
    """

    lifts: tuple[float, ...] = (0.01, 0.02, 0.05)
    power: float = 0.8
    alpha: float = 0.05
    treatment_share: float = 0.5
    users: int | None = None
    users_per_day: float | None = None


class History(NamedTuple):
    """A log as the past of a test to come: nobody is in an arm.

    Attributes:
        log: Read and checked.
        moments: Metrics and covariates over all users.
        metrics: What can be measured among all users.
        users_per_day: New users a day, None where the log has no days.
    """

    log: UserLog
    moments: Moments
    metrics: tuple[Metric, ...]
    users_per_day: float | None


def read_history(path: Path, plan: AnalysisPlan) -> History:
    """A log, with or without arms, all users together.

    Raises:
        MicrecError: If it cannot be read, or breaks a rule; all faults at once.
    """
    log = read_log(path, replace(plan, split_salt=TOGETHER))
    metrics = tuple(metric for metric in log.metrics if metric.slice == ALL)
    columns = {**values(metrics), **{name: pl.col(name) for name in log.covariates}}
    table = log.users.select("arm", **columns)
    return History(log, CellMoments.of(table, list(columns)).total(), metrics, new_users_per_day(log))


def plan_from_log(history: History, question: Question) -> list[Table]:
    """Users and days for each lift, and the smallest lift of given users, for every metric of a log."""
    needed, found, notes = [], [], []
    for metric in history.metrics:
        term: Term = metric.value.text if metric.per is None else (metric.value.text, metric.per.text)
        try:
            bases = {"": baseline(history.moments, term)}
            if history.log.covariates:
                bases[", with CUPED"] = baseline(history.moments, term, history.log.covariates)
        except ValueError as fault:
            notes.append(f"{metric.name}: {fault}")
            continue
        for suffix, base in bases.items():
            needed += _needed(f"{metric.name}{suffix}", base, question, history.users_per_day)
            found.append(_found(f"{metric.name}{suffix}", base, question, history.moments.n))
    return _tables(needed, found, notes, question)


def plan_from_numbers(mean: float, sd: float, question: Question) -> list[Table]:
    """The same for a metric known by its mean and standard deviation per user.

    Raises:
        MicrecError: If they are not a mean other than 0 and a spread above 0.
    """
    if not (sd > 0 and mean != 0):
        raise MicrecError(f"--mean {mean:g} --sd {sd:g}: a plan needs a mean other than 0 and a spread above 0.")
    base = Baseline("metric", mean, sd**2)
    found = [_found("metric", base, question, None)] if question.users else []
    return _tables(_needed("metric", base, question, None), found, [], question)


def calibration_table(history: History, *, deals: int, alpha: float, lifts: Sequence[float], seed: int) -> Table:
    """False-positive rate, uniformity, coverage and power of every metric over random splits of the log."""
    columns = values(history.metrics)
    terms: list[Term] = [m.value.text if m.per is None else (m.value.text, m.per.text) for m in history.metrics]
    sums = BucketSums.of(history.log.users.select("user_id", **columns), terms, seed=seed)
    results = calibrate(sums, terms, deals=deals, alpha=alpha, lifts=lifts, seed=seed)
    rows = [_calibration_row(metric, one, lifts) for metric, one in zip(history.metrics, results, strict=True)]
    notes = [f"{m.name}: {one.reason}." for m, one in zip(history.metrics, results, strict=True) if one.reason]
    notes.append(
        f"Sound: the rate of false alarms is {alpha:g} up to the noise of {deals:,} splits and of the buckets."
    )
    header = ("metric", "false alarms", "99 % interval", "uniform p", "verdict")
    planted = [f"{what} at {numbers.percent(lift)}" for lift in lifts for what in ("coverage", "power")]
    users = history.moments.n
    data = [_calibration_data(metric, one) for metric, one in zip(history.metrics, results, strict=True)]
    return Table(f"{deals:,} A/A splits of {users:,} users", (*header, *planted), rows, notes, data=data)


def tables_data(tables: Sequence[Table], *, kind: str, command: str) -> dict[str, Any]:
    """The tables' rows as plain values, for ``--json``."""
    found = [{"title": table.title, "rows": list(table.data), "notes": table.notes} for table in tables]
    return {"kind": kind, "command": command, "versions": versions(), "tables": found}


def _needed(name: str, base: Baseline, question: Question, per_day: float | None) -> list[Row]:
    rows: list[Row] = []
    per_day = question.users_per_day if question.users_per_day is not None else per_day
    for lift in question.lifts:
        plan = users_needed(
            base,
            lift,
            power=question.power,
            alpha=question.alpha,
            treatment_share=question.treatment_share,
            users_per_day=per_day,
        )
        days = f"{plan.days:,}" if plan.days is not None else numbers.UNDEFINED
        rows.append(((name, numbers.percent(lift), *_users(plan), days), {"metric": name, **plan._asdict()}))
    return rows


def _found(name: str, base: Baseline, question: Question, there: int | None) -> Row:
    total = question.users if question.users is not None else there
    assert total is not None
    n_treatment = round(total * question.treatment_share)
    if min(n_treatment, total - n_treatment) < 2:
        why = "an arm has fewer than 2 users"
        return (name, f"{total:,}", numbers.UNDEFINED), {"metric": name, "users": total, "lift": None, "reason": why}
    plan = detectable_lift(base, total - n_treatment, n_treatment, power=question.power, alpha=question.alpha)
    return (name, f"{total:,}", numbers.percent(plan.lift)), {"metric": name, "users": total, **plan._asdict()}


def _users(plan: Plan) -> tuple[str, str]:
    if plan.n_control is None or plan.n_treatment is None:
        return numbers.UNDEFINED, numbers.UNDEFINED
    return f"{plan.n_control:,}", f"{plan.n_treatment:,}"


def _tables(needed: list[Row], found: list[Row], notes: list[str], question: Question) -> list[Table]:
    how = f"power {100 * question.power:.0f} %, level {question.alpha:g}"
    header = ("metric", "true lift", "control users", "treatment users", "days")
    tables = [_table(f"Users needed ({how})", header, needed, notes)]
    if found:
        tables.append(_table(f"Smallest lift found ({how})", ("metric", "users of both arms", "lift"), found, []))
    return tables


def _table(title: str, header: tuple[str, ...], rows: list[Row], notes: list[str]) -> Table:
    return Table(title, header, [text for text, _ in rows], notes, data=[data for _, data in rows])


def _calibration_data(metric: Metric, one: Calibration) -> dict[str, Any]:
    planted = [{"lift": lift, **found._asdict()} for lift, found in one.planted.items()]
    return {**one._asdict(), "metric": metric.name, "planted": planted}


def _calibration_row(metric: Metric, one: Calibration, lifts: Sequence[float]) -> tuple[str, ...]:
    if one.rate is None or one.rate_ci is None:
        return (metric.name, *(numbers.UNDEFINED for _ in range(4 + 2 * len(lifts))))
    low, high = one.rate_ci
    cells = [_share(one.rate), f"[{100 * low:.2f}, {100 * high:.2f}] %", numbers.p_value(one.ks_p)]
    cells.append("sound" if one.sound else "UNSOUND")
    for lift in lifts:
        cells += [_share(one.planted[lift].coverage), _share(one.planted[lift].power)]
    return (metric.name, *cells)


def _share(share: float) -> str:
    return f"{100 * share:.2f} %"
