"""Planning of a test: users that a lift needs, lifts that given users can detect, and A/A checks of a log's metrics."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from abtest.analysis.column_roles import TOGETHER
from abtest.analysis.daily import new_users_per_day
from abtest.analysis.measure import values
from abtest.analysis.metrics import ALL, Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.userlog import UserLog, log_of, read_log
from abtest.report import formatting
from abtest.report.tables import Table
from abtest.run_folder import versions
from abtest.stats.aa import AaCalibration, calibrate
from abtest.stats.buckets import BucketSums
from abtest.stats.groups import CellMoments
from abtest.stats.moments import Moments
from abtest.stats.power import Baseline, PowerPlan, baseline, detectable_lift, users_needed
from abtest.stats.spending import sample_growth
from abtest.stats.terms import Term
from micrec.errors import MicrecError

MOST_USERS = 1e12  # more than a hundred times all people
_MOST_LOOKS = 60  # more need less than half a per cent more users
_EXTREME = 1e-6  # spreads beyond this share of the mean, or its inverse, are slips of the pen

Row = tuple[tuple[str, ...], dict[str, Any]]  # a row as text, and as plain values


class PowerQuestion(NamedTuple):
    """What a test is planned for.

    Attributes:
        lifts: True lifts to find.
        power: Chance to find them.
        alpha: Two-sided level.
        treatment_share: Share of the users in the treatment.
        primaries: Primary metrics that share the level by Holm's adjustment; None for those of the log.
        looks: Planned looks, at equal information; 1 = read once at the end.
        in_per_cent: Those of the lifts that were written with a % sign, and may be 100 % and more.
        users: Users of both arms, to tell the smallest lift they find; None for those of the log.
        users_per_day: New users of both arms per day, to tell days; None for those of the log, if it has days.
    """

    lifts: tuple[float, ...] = (0.01, 0.02, 0.05)
    power: float = 0.8
    alpha: float = 0.05
    treatment_share: float = 0.5
    users: int | None = None
    users_per_day: float | None = None
    primaries: int | None = None
    looks: int = 1
    in_per_cent: tuple[float, ...] = ()

    def level(self, primaries: int) -> float:
        """Two-sided level of one of so many primary metrics: that of Holm's first step, which decides alone."""
        return self.alpha / primaries

    def growth(self, primaries: int) -> float:
        """How many times the users of a test that is read once its planned looks need for the same power."""
        looks = min(self.looks, _MOST_LOOKS)
        shares = tuple(look / looks for look in range(1, looks + 1))
        return sample_growth(shares, alpha=self.level(primaries), power=self.power)

    def check(self) -> None:
        """Check the numbers that a plan rests on.

        Raises:
            MicrecError: All errors at once.
        """
        faults = [
            f"--lift {lift:g}: must be a number above -1 (-100 %) and at least {_EXTREME:g} from 0."
            for lift in self.lifts
            if not (math.isfinite(lift) and abs(lift) >= _EXTREME and lift > -1.0)
        ]
        faults += [
            f"--lift {lift:g}: is +{100 * lift:g} %: for {lift:g} % write --lift {lift:g}% or --lift {lift / 100:g}."
            for lift in self.lifts
            if math.isfinite(lift) and lift >= 1.0 and lift not in self.in_per_cent
        ]
        if not 0.0 < self.alpha < 0.5:
            faults.append(f"--alpha {self.alpha:g}: must lie within (0, 0.5).")
        elif not self.alpha < self.power < 1.0:
            faults.append(f"--power {self.power:g}: must lie between --alpha {self.alpha:g} and 1.")
        if not 0.0 < self.treatment_share < 1.0:
            faults.append(f"--treatment-share {self.treatment_share:g}: must lie within (0, 1).")
        if self.users is not None and self.users < 4:
            faults.append(f"--users {self.users}: must be at least 4, 2 in each arm.")
        if self.users is not None and self.users > MOST_USERS:
            faults.append(f"--users: must be at most {MOST_USERS:.0e}: there are no more people.")
        if self.users_per_day is not None and 0.0 < self.users_per_day < 1e-3:
            faults.append(f"--users-per-day {self.users_per_day:g}: must be at least 0.001, a user in three years.")
        elif self.users_per_day is not None and not (math.isfinite(self.users_per_day) and self.users_per_day > 0.0):
            faults.append(f"--users-per-day {self.users_per_day:g}: must be a number above 0.")
        if self.primaries is not None and not 1 <= self.primaries <= 1000:
            faults.append(f"--metrics {self.primaries}: must lie within 1 and 1000.")
        if not 1 <= self.looks <= 366:
            faults.append(f"--planned-days {self.looks}: must lie within 1 and 366.")
        if faults:
            raise MicrecError.of("power", faults)


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


def read_history(log: Path | str | pl.DataFrame, plan: AnalysisPlan) -> History:
    """A log in files or in memory, with or without arms, all users together.

    Raises:
        MicrecError: If it cannot be read, or breaks a rule; all errors at once.
    """
    together = replace(plan, split_salt=TOGETHER)
    if isinstance(log, Path | str):
        return history_of(read_log(log, together))
    return history_of(log_of(log, together, tell_unused=True))


def history_of(log: UserLog) -> History:
    """A log whose users are all in one arm, as the past of a test to come."""
    metrics = tuple(metric for metric in log.metrics if metric.slice == ALL)
    columns = {**values(metrics), **{name: pl.col(name) for name in log.covariates}}
    table = log.users.select("arm", **columns)
    return History(log, CellMoments.of(table, list(columns)).total(), metrics, new_users_per_day(log))


def plan_from_log(history: History, question: PowerQuestion) -> list[Table]:
    """Users and days for each lift, and the smallest lift of given users, for every metric of a log."""
    question.check()
    needed, found, notes = [], [], []
    primaries = question.primaries or max(sum(metric.role == "primary" for metric in history.metrics), 1)
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
            needed += _needed(f"{metric.name}{suffix}", base, question, history.users_per_day, primaries)
            found.append(_found(f"{metric.name}{suffix}", base, question, history.moments.n, primaries))
    return _tables(needed, found, notes, question, primaries)


def plan_from_numbers(mean: float, sd: float, question: PowerQuestion) -> list[Table]:
    """The same for a metric known by its mean and standard deviation per user.

    Raises:
        MicrecError: If they are not a mean other than 0 and a spread above 0.
    """
    question.check()
    faults = []
    if not (math.isfinite(mean) and mean != 0.0):
        faults.append(f"--mean {mean:g}: must be a number other than 0: a lift is relative to it.")
    if not (math.isfinite(sd) and sd > 0.0):
        faults.append(f"--sd {sd:g}: must be a number above 0.")
    if not faults and not _EXTREME < sd / abs(mean) < 1 / _EXTREME:
        faults.append(f"--sd {sd:g}: is {sd / abs(mean):.1g} times --mean {mean:g}: no metric of users is like that.")
    if faults:
        raise MicrecError.of("power", faults)
    scale = abs(mean)  # only their ratio counts, and squares of large numbers overflow
    base, primaries = Baseline("metric", mean / scale, (sd / scale) ** 2), question.primaries or 1
    found = [_found("metric", base, question, None, primaries)] if question.users else []
    notes = [] if mean > 0 else ["The mean is negative: a lift is relative to its size, so +2 % moves it towards 0."]
    return _tables(_needed("metric", base, question, None, primaries), found, notes, question, primaries)


def calibration_table(history: History, *, splits: int, alpha: float, lifts: Sequence[float], seed: int) -> Table:
    """False-positive rate, uniformity, coverage and power of every metric over random splits of the log."""
    columns = values(history.metrics)
    terms: list[Term] = [m.value.text if m.per is None else (m.value.text, m.per.text) for m in history.metrics]
    sums = BucketSums.of(history.log.users.select("user_id", **columns), terms, seed=seed)
    results = calibrate(sums, terms, splits=splits, alpha=alpha, lifts=lifts, seed=seed)
    rows = [_calibration_row(metric, one, lifts) for metric, one in zip(history.metrics, results, strict=True)]
    notes = [f"{m.name}: {one.reason}." for m, one in zip(history.metrics, results, strict=True) if one.reason]
    notes.append(
        f"Sound: the rate of false alarms is {alpha:g} up to the noise of {splits:,} splits and of the buckets."
    )
    header = ("metric", "false alarms", "99 % interval", "uniform p", "verdict")
    planted = [f"{what} at {100 * lift:+.3g} %" for lift in lifts for what in ("coverage", "power")]
    users = history.moments.n
    data = [_calibration_data(metric, one) for metric, one in zip(history.metrics, results, strict=True)]
    return Table(f"{splits:,} A/A splits of {users:,} users", (*header, *planted), rows, notes, data=data)


def tables_data(tables: Sequence[Table], *, kind: str, command: str) -> dict[str, Any]:
    """The tables' rows as plain values, for ``--json``."""
    found = [{"title": table.title, "rows": list(table.data), "notes": table.notes} for table in tables]
    return {"kind": kind, "command": command, "versions": versions(), "tables": found}


def _needed(name: str, base: Baseline, question: PowerQuestion, per_day: float | None, primaries: int) -> list[Row]:
    rows: list[Row] = []
    per_day = question.users_per_day if question.users_per_day is not None else per_day
    base = base._replace(variance=base.variance * question.growth(primaries))
    for lift in question.lifts:
        plan = users_needed(
            base,
            lift,
            power=question.power,
            alpha=question.level(primaries),
            treatment_share=question.treatment_share,
            users_per_day=per_day,
        )
        if (
            plan.n_control is not None
            and plan.n_treatment is not None
            and plan.n_control + plan.n_treatment > MOST_USERS
        ):
            many = f"more than {MOST_USERS:.0e} users would be needed: no test finds this lift"
            plan = plan._replace(power=None, n_control=None, n_treatment=None, days=None, reason=many)
        days = f"{plan.days:,}" if plan.days is not None else formatting.UNDEFINED
        rows.append(((name, formatting.percent(lift), *_users(plan), days), {"metric": name, **plan._asdict()}))
    return rows


def _found(name: str, base: Baseline, question: PowerQuestion, there: int | None, primaries: int) -> Row:
    total = question.users if question.users is not None else there
    assert total is not None
    n_treatment = round(total * question.treatment_share)
    if min(n_treatment, total - n_treatment) < 2:
        why = "an arm has fewer than 2 users"
        return (name, f"{total:,}", formatting.UNDEFINED), {"metric": name, "users": total, "lift": None, "reason": why}
    base = base._replace(variance=base.variance * question.growth(primaries))
    plan = detectable_lift(
        base, total - n_treatment, n_treatment, power=question.power, alpha=question.level(primaries)
    )
    return (name, f"{total:,}", formatting.percent(plan.lift)), {"metric": name, "users": total, **plan._asdict()}


def _users(plan: PowerPlan) -> tuple[str, str]:
    if plan.n_control is None or plan.n_treatment is None:
        return formatting.UNDEFINED, formatting.UNDEFINED
    return f"{plan.n_control:,}", f"{plan.n_treatment:,}"


def _tables(
    needed: list[Row], found: list[Row], notes: list[str], question: PowerQuestion, primaries: int
) -> list[Table]:
    level = question.level(primaries)
    how = f"power {100 * question.power:.0f} %, level {level:.3g}"
    why = []
    if primaries > 1:
        why.append(
            f"Level {level:.3g}: {primaries} primary metrics share {question.alpha:g} by Holm's adjustment. The power "
            "is that of one metric while the others do not differ, and not of any of them."
        )
    if question.looks > 1:
        more = 100 * (question.growth(primaries) - 1)
        why.append(
            f"{question.looks} planned looks need {more:.1f} % more users than one, counting what they find early."
        )
    if any(", with CUPED" in text[0] for text, _ in needed):
        why.append(
            "Rows with CUPED hold for a test that is read with CUPED; analyze judges without, and shows it beside."
        )
    notes = [*why, *notes]
    header = ("metric", "true lift", "control users", "treatment users", "days")
    tables = [_table(f"Users needed ({how})", header, needed, [*notes, *_reasons(needed)])]
    if found:
        tables.append(
            _table(f"Smallest lift found ({how})", ("metric", "users of both arms", "lift"), found, _reasons(found))
        )
    return tables


def _reasons(rows: list[Row]) -> list[str]:
    """Why figures are missing, in words."""
    return [f"{text[0]} at {text[1]}: {data['reason']}." for text, data in rows if data.get("reason")]


def _table(title: str, header: tuple[str, ...], rows: list[Row], notes: list[str]) -> Table:
    return Table(title, header, [text for text, _ in rows], notes, data=[data for _, data in rows])


def _calibration_data(metric: Metric, one: AaCalibration) -> dict[str, Any]:
    planted = [{"lift": lift, **found._asdict()} for lift, found in one.planted.items()]
    return {**one._asdict(), "metric": metric.name, "planted": planted}


def _calibration_row(metric: Metric, one: AaCalibration, lifts: Sequence[float]) -> tuple[str, ...]:
    if one.rate is None or one.rate_ci is None:
        return (metric.name, *(formatting.UNDEFINED for _ in range(4 + 2 * len(lifts))))
    low, high = one.rate_ci
    cells = [_share(one.rate), f"[{100 * low:.2f}, {100 * high:.2f}] %", formatting.p_value(one.ks_p)]
    cells.append("sound" if one.sound else "UNSOUND")
    for lift in lifts:
        cells += [_share(one.planted[lift].coverage), _share(one.planted[lift].power)]
    return (metric.name, *cells)


def _share(share: float) -> str:
    return f"{100 * share:.2f} %"
