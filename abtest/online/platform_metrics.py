"""Metrics that a scenario names itself: the platform's events by user and day, and ready-made metrics of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from abtest.analysis.expressions import parse
from abtest.analysis.metrics import ELIGIBLE, STAYS, Metric
from abtest.online.day_logs import scan
from simulator.platform.platform_inputs import PlatformInputs
from simulator.world.visits import DAY_S

NEW_DAYS = 3  # an item is new so long after it was published
HEAD_SHARE = 0.2  # of the items, those with the most clicks before the experiment; the others are the tail

USUAL = ("requests", "impressions", "clicks", "dwell_s", "likes", "follows", "link_clicks")
ASKED = {
    "new_item_clicks": f"clicks on items published at most {NEW_DAYS} days before",
    "tail_clicks": f"clicks on items outside the {HEAD_SHARE:.0%} with the most clicks before the experiment",
    "latency_ms": "milliseconds until the slates were ready, summed over requests",
    "failed": "requests that ended without a slate",
    "fallbacks": "requests for which a channel was missing or the fallback list served",
}
NAMED = {
    "new-item-clicks": Metric("new-item-clicks", "clicks on new items per user", parse("new_item_clicks")),
    "tail-clicks": Metric("tail-clicks", "clicks on tail items per user", parse("tail_clicks")),
    "tail-share": Metric("tail-share", "share of clicks on tail items", parse("tail_clicks"), parse("clicks")),
    "latency": Metric(
        "latency", "mean ms until a slate is ready", parse("latency_ms"), parse("requests"), direction="down"
    ),
    "failures": Metric(
        "failures", "share of requests without a slate", parse("failed"), parse("requests"), direction="down"
    ),
    "requests": Metric("requests", "requests per user", parse("requests")),
}


def metric_faults(metrics: Sequence[Metric] | None, slices: Sequence[str], fields: Sequence[str]) -> list[str]:
    """What is wrong with the metrics and slices of a scenario.

    Args:
        metrics: See ``OnlineScenario.planned_metrics``; None: the usual ones.
        slices: Fields of the user table.
        fields: Those that there are.
    """
    known = (*USUAL, *ASKED, STAYS, ELIGIBLE)
    faults = [
        f"metrics.{metric.name}: the platform has no {column}: choose from {', '.join((*USUAL, *ASKED))}"
        for metric in metrics or ()
        for column in metric.columns
        if column not in known and not metric.made
    ]
    faults += [
        f"metrics.{metric.name}.quantiles_of: reads finer rows than the platform's user-days: leave it out"
        for metric in metrics or ()
        if metric.quantiles_of is not None
    ]
    return faults + [
        f"slices: the user table has no {name}: choose from {', '.join(fields)}"
        for name in slices
        if name not in fields
    ]


def asked_columns(metrics: Sequence[Metric] | None) -> tuple[str, ...]:
    """Columns beyond the usual ones that the metrics read."""
    return tuple(name for name in ASKED if any(name in metric.columns for metric in metrics or ()))


def event_counts(
    asked: Sequence[str], setting: PlatformInputs, folders: list[Path], before: list[Path]
) -> list[pl.LazyFrame]:
    """Tables of counts by ``user_id, arm, day``, with the columns that are ``asked``; those without rows are 0.

    Args:
        asked: Of ``ASKED``.
        setting: The item table and the history.
        folders: Folders of the experiment's days.
        before: Folders of the days before.
    """
    keys, tables = ["user_id", "arm", "day"], []
    of_clicks = _click_counts(asked, setting, before)
    if of_clicks:
        items = pl.DataFrame(setting.items).lazy().select("item_id", pl.col("published").cast(pl.Float64))
        clicks = scan(folders, "behaviours").join(items, on="item_id", how="left", maintain_order="left")
        tables.append(clicks.group_by(keys).agg(**of_clicks))
    of_requests: Mapping[str, pl.Expr] = {
        "latency_ms": (1e3 * (pl.col("answered_s") - pl.col("asked_s"))).sum(),
        "failed": (pl.col("result") != "slate").sum().cast(pl.Int64),
        "fallbacks": (pl.col("fallback") != "none").sum().cast(pl.Int64),
    }
    if wanted := {name: one for name, one in of_requests.items() if name in asked}:
        tables.append(scan(folders, "requests").group_by(keys).agg(**wanted))
    return tables


def _click_counts(asked: Sequence[str], setting: PlatformInputs, before: list[Path]) -> dict[str, pl.Expr]:
    found = {}
    if "new_item_clicks" in asked:
        age_s = pl.col("timestamp") - pl.col("published")
        found["new_item_clicks"] = (age_s <= NEW_DAYS * DAY_S).sum().cast(pl.Int64)
    if "tail_clicks" in asked:
        found["tail_clicks"] = (~pl.col("item_id").is_in(head_items(setting, before).to_list())).sum().cast(pl.Int64)
    return found


def head_items(setting: PlatformInputs, before: list[Path]) -> pl.Series:
    """The fifth of all items that had the most clicks before the experiment, ties by id."""
    parts: list[pl.LazyFrame] = [setting.history.lazy().select("item_id")]
    parts += [scan(before, "behaviours").select("item_id")] if before else []
    counts = pl.concat(parts).group_by("item_id").len().sort(["len", "item_id"], descending=[True, False])
    return counts.head(round(HEAD_SHARE * len(setting.items))).collect()["item_id"]


def with_slices(table: pl.LazyFrame, fields: Sequence[str], users: pl.DataFrame) -> pl.LazyFrame:
    """User-days with the fields of the user table that slices are cut by."""
    if not fields:
        return table
    own = users.lazy().select("user_id", *(pl.col(name).cast(pl.String) for name in fields))
    return table.join(own, on="user_id", how="left", maintain_order="left")
