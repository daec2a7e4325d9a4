"""Visits and clicks by user, arm and period: what every design of an experiment is judged by."""

from pathlib import Path

import polars as pl

from abtest.online.day_logs import scan

UNITS_FILE = "units.parquet"
WASHOUT = 0.25  # share of a period at its start, in which what the period before has left behind is strongest


def unit_sums(folders: list[Path], period_h: float) -> pl.DataFrame:
    """Visits and clicks by user, arm and period in which the visit began, and whether it began early in the period.

    Args:
        folders: Folders of the experiment's days.
        period_h: Hours of a period.
    """
    visit = ["day", "visit"]
    began = scan(folders, "requests").group_by(*visit, "user_id", "arm").agg(pl.col("asked_s").min())
    clicks = scan(folders, "behaviours").group_by(*visit).agg(clicks=pl.len())
    periods = pl.col("asked_s") / (period_h * 3600.0)
    period = periods.floor().cast(pl.Int64)
    return (
        began.join(clicks, on=visit, how="left")
        .group_by("user_id", pl.col("arm").cast(pl.String), period=period, early=periods - periods.floor() < WASHOUT)
        .agg(clicks=pl.col("clicks").fill_null(0).sum().cast(pl.Int64), visits=pl.len().cast(pl.Int64))
        .sort("user_id", "arm", "period", "early")
        .collect()
    )
