"""Users found in two arms: left out or counted in their first arm, with the other choice beside the verdict."""

from typing import NamedTuple

import polars as pl

from abtest.analysis.plan import AnalysisPlan
from micrec.data.times import read_times

_AT, _FIRST = "\x1fat", "\x1ffirst_arm"


class LogRows(NamedTuple):
    """Rows of a log under one choice.

    Attributes:
        name: What the users are called in reports.
        rows: Checked rows.
        meaning: What the comparison tells, in words.
    """

    name: str
    rows: pl.LazyFrame
    meaning: str


def without_crossovers(rows: pl.LazyFrame, plan: AnalysisPlan) -> tuple[pl.LazyFrame, list[LogRows], list[str]]:
    """The rows as the plan asks, the other choice, and how many users were in two arms, in words.

    Args:
        rows: Checked rows of users in parts, with ``day`` counted where the log has days.
        plan: Its ``crossovers`` is "drop" or "first".
    """
    arm = pl.col("arm").cast(pl.String)
    everybody = rows.group_by("user_id").agg(arm.min().alias("low"), arm.max().alias("high"))
    found = everybody.collect(engine="streaming")
    ids = found.filter(pl.col("low") != pl.col("high")).select("user_id")
    if ids.is_empty():
        return rows, [], ["No user is in two arms."]
    first = _first_arms(rows, ids, plan)
    dropped = rows.join(ids.lazy(), on="user_id", how="anti", maintain_order="left")
    kept = (
        rows.join(first.lazy(), on="user_id", how="left", maintain_order="left")
        .with_columns(pl.coalesce(_FIRST, arm).alias("arm"))
        .drop(_FIRST)
    )
    counts = first[_FIRST].value_counts(sort=True, name="n")
    by_arm = ", ".join(f"{n:,} began in {name}" for name, n in counts.iter_rows())
    share = 100.0 * len(ids) / len(found)
    what = {"drop": "were left out", "first": "count in their first arm, with all they did"}[plan.design.crossovers]
    note = f"{len(ids):,} of {len(found):,} users ({share:.2g} %) were in two arms and {what}; {by_arm}."
    drop = LogRows(
        "users in two arms left out", dropped, "Leaving them out is biased if who switches depends on the arm."
    )
    keep = LogRows(
        "users in two arms in their first arm",
        kept,
        "Counting them in their first arm dilutes the effect, and keeps the split.",
    )
    chosen, other = (drop, keep) if plan.design.crossovers == "drop" else (keep, drop)
    return chosen.rows, [other], [note]


def _first_arms(rows: pl.LazyFrame, ids: pl.DataFrame, plan: AnalysisPlan) -> pl.DataFrame:
    """First arm of these users by time, or by day, or in the order of the rows."""
    mine = rows.join(ids.lazy(), on="user_id", how="semi", maintain_order="left")
    schema = rows.collect_schema()
    if "timestamp" in schema:
        at = read_times(rows, "timestamp", timezone=plan.timezone, implausible="drop").instants
    else:
        at = pl.col("day") if "day" in schema else pl.lit(0)
    table = mine.select("user_id", pl.col("arm").cast(pl.String).alias(_FIRST), at.alias(_AT)).collect(
        engine="streaming"
    )
    return table.sort(_AT, maintain_order=True).unique("user_id", keep="first", maintain_order=True).drop(_AT)
