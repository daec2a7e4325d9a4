"""Triggered analysis: the users who met what was tested, from when they first met it.

An exposure table says who was exposed and when. In the control it must name those who would have been exposed, or the
arms compare different users; a table of one arm is refused. Users who were never exposed cannot have been changed:
their effect is shown as a check, and so is that on everybody who was assigned, which exposure dilutes.
"""

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from abtest.analysis.column_roles import ColumnRoles
from abtest.analysis.column_types import as_id
from abtest.analysis.crossovers import LogRows
from abtest.analysis.days import Days
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.source import no_column, renamed
from abtest.stats.tails import chi2_logsf, p_of_log10
from micrec.data.ids import read_ids
from micrec.data.locations import open_location
from micrec.data.times import read_days, read_times
from micrec.errors import MicrecError

_AT, _DAY, _ARM = "\x1fexposed_at", "\x1fexposed_on", "\x1fexposed_arm"
_LN10 = 2.302585092994046


class ExposureFacts(NamedTuple):
    """How many users met the treatment, or would have in the control.

    Attributes:
        assigned: Users of the log by arm.
        exposed: Those of them in the exposure table.
        p: Chi-square of "the arms' users are exposed alike often"; None where undefined.
    """

    assigned: dict[str, int]
    exposed: dict[str, int]
    p: float | None


def triggered(
    rows: pl.LazyFrame, layout: ColumnRoles, plan: AnalysisPlan, days: Days | None
) -> tuple[pl.LazyFrame, list[LogRows], ExposureFacts, list[str]]:
    """Rows of exposed users from their exposure on; all rows, and those of users never exposed, beside them.

    Raises:
        MicrecError: If the table cannot be read, or only one arm's users are in it.
    """
    assert plan.design.exposures is not None
    table, timed, notes = _first_exposures(plan.design.exposures, rows, plan)
    lazy = table.lazy()
    facts = _facts(rows, table, plan)
    joined = rows.join(lazy, on="user_id", how="left", maintain_order="left")
    extra = [_AT, _DAY]
    since = pl.col(_DAY).is_not_null()
    if layout.kind != "users" and timed and "timestamp" in rows.collect_schema():
        at = read_times(rows, "timestamp", timezone=plan.timezone, implausible="drop").instants
        since = pl.when(pl.col(_AT).is_not_null()).then(at >= pl.col(_AT)).otherwise(since)
    elif layout.kind != "users" and days is not None:
        since = pl.col("day") + (_first_day(days) - 1) >= pl.col(_DAY)
    else:
        notes.append("The log has no times: all that exposed users did counts, also before their exposure.")
    kept = joined.filter(since.fill_null(False)).drop(extra)
    if layout.kind != "users":
        silent, more = _silent(joined, kept, layout, days)
        notes += more
        if silent is not None:
            kept = pl.concat([kept, silent.drop(extra).lazy()], how="vertical_relaxed")
    never = joined.filter(pl.col(_DAY).is_null()).drop(extra)
    everybody = LogRows("everybody assigned", rows, "The effect on all users, which those never exposed dilute.")
    unexposed = LogRows("never exposed", never, "Nothing can have changed for them: an effect here means a fault.")
    return kept, [everybody, unexposed], facts, notes


def exposure_moments(rows: pl.LazyFrame, plan: AnalysisPlan) -> pl.DataFrame | None:
    """``user_id`` and ``start``, microseconds since 1970, of every first exposure; None where only days are known.

    Raises:
        MicrecError: If the table cannot be read.
    """
    assert plan.design.exposures is not None
    table, timed, _ = _first_exposures(plan.design.exposures, rows, plan)
    return table.select("user_id", pl.col(_AT).cast(pl.Int64).alias("start")) if timed else None


def _first_exposures(path: Path, rows: pl.LazyFrame, plan: AnalysisPlan) -> tuple[pl.DataFrame, bool, list[str]]:
    """User, moment and day of the first exposure; whether moments are known."""
    where = f"--exposures {path}"
    log_id = rows.collect_schema()["user_id"]
    table, _ = renamed(open_location(str(path), plan.table).rows, {}, where)
    there = table.collect_schema().names()
    when = next((name for name in ("timestamp", "day") if name in there), None)
    if "user_id" not in there or when is None:
        missing = "user_id" if "user_id" not in there else "timestamp"
        raise MicrecError(f"{where}: {no_column(missing, there)} An exposure table has user_id and timestamp (or day).")
    ids = read_ids(table, "user_id")
    table = table.with_columns(ids.value.alias("user_id"))
    table = table.with_columns(as_id(table.collect_schema()["user_id"]))
    kind = table.collect_schema()["user_id"]
    if kind != log_id:
        if (kind == pl.String) != (log_id == pl.String):
            raise MicrecError(f"{where}: user_id holds {kind}, in the log {log_id}: write ids alike in both.")
        table = table.with_columns(pl.col("user_id").cast(log_id))
    found = read_days(table, when, timezone=plan.timezone, implausible=plan.implausible_times)
    if found.faults:
        raise MicrecError.of(f"{where} (rows count from 0)", [f"{fault}." for fault in found.faults])
    at = found.instants if found.instants is not None else pl.lit(None, pl.Datetime("us", "UTC"))
    table = table if found.kept is None else table.filter(found.kept)
    first = table.group_by("user_id").agg(at.min().alias(_AT), found.number.min().cast(pl.Int64).alias(_DAY))
    known = first.collect(engine="streaming").sort("user_id")
    if known.is_empty():
        raise MicrecError(f"{where}: holds no rows: give the table of who was exposed and when.")
    return known, found.instants is not None, [f"{len(known):,} users were exposed; their first exposure counts."]


def _facts(rows: pl.LazyFrame, table: pl.DataFrame, plan: AnalysisPlan) -> ExposureFacts:
    """Users and exposed users of every arm."""
    users = rows.select("user_id", pl.col("arm").cast(pl.String)).unique().collect(engine="streaming")
    flagged = users.with_columns(seen=pl.col("user_id").is_in(table["user_id"].implode()))
    counts: dict[str, tuple[int, int]] = {
        arm: (n, seen) for arm, n, seen in flagged.group_by("arm").agg(pl.len(), pl.col("seen").sum()).iter_rows()
    }
    assigned = {arm: counts.get(arm, (0, 0))[0] for arm in plan.arms}
    exposed = {arm: counts.get(arm, (0, 0))[1] for arm in plan.arms}
    bare = [arm for arm in plan.arms if not exposed[arm]]
    if bare:
        raise MicrecError(
            f"--exposures: no user of {', '.join(bare)} is in the table: the arms would compare different users; log "
            "in every arm who met, or would have met, what is tested. Without that log, analyse everybody assigned."
        )
    return ExposureFacts(assigned, exposed, _alike(assigned, exposed))


def _alike(assigned: dict[str, int], exposed: dict[str, int]) -> float | None:
    share = sum(exposed.values()) / sum(assigned.values())
    if not 0.0 < share < 1.0:
        return None
    chi2 = sum((exposed[arm] - n * share) ** 2 / (n * share * (1.0 - share)) for arm, n in assigned.items())
    return p_of_log10(min(float(chi2_logsf(chi2, len(assigned) - 1)) / _LN10, 0.0))


def _silent(
    joined: pl.LazyFrame, kept: pl.LazyFrame, layout: ColumnRoles, days: Days | None
) -> tuple[pl.DataFrame | None, list[str]]:
    """A row of zeros for exposed users without rows since: they did nothing, which counts."""
    active = kept.select("user_id").unique()
    quiet = joined.filter(pl.col(_DAY).is_not_null()).join(active, on="user_id", how="anti", maintain_order="left")
    zero: dict[str, Any] = {name: pl.lit(0.0) for name in layout.counts}
    if days is not None:
        day = (pl.col(_DAY) - (_first_day(days) - 1)).clip(1, days.length)
        zero["day"] = day.cast(joined.collect_schema()["day"])
    if layout.has_active:
        zero["active"] = pl.lit(False)
    frame = quiet.unique("user_id", keep="first", maintain_order=True).with_columns(**zero).collect(engine="streaming")
    if frame.is_empty():
        return None, []
    return frame, [f"{len(frame):,} exposed users did nothing after their exposure: they count 0."]


def _first_day(days: Days) -> int:
    """Number of the log's first day: days since 1970, or the log's own."""
    text = days.labels[0]
    if text.startswith("day "):
        return int(text.removeprefix("day "))
    return int(pl.Series([text]).str.to_date("%Y-%m-%d").cast(pl.Int32).item())
