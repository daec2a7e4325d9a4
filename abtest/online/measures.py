"""What is kept of a simulated world: a row per user and day for the statistics, and counts of the funnel.

Only the days of the experiment count; everything a row says of the past comes from before it.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from abtest.online.day_logs import scan
from abtest.online.online_scenario import OnlineScenario
from abtest.online.platform_metrics import asked_columns, event_counts, with_slices
from abtest.run_folder import write_json
from simulator.platform.archive import Archive
from simulator.platform.arms import arm_pipelines
from simulator.platform.platform_inputs import PlatformInputs
from simulator.world.visits import DAY_S

MEASURES = "measures"  # folder of what is measured of a world
DAYS_FILE, FACTS_FILE = "days.parquet", "facts.json"
QUANTILES = (0.5, 0.95, 0.99)


def measure_world(
    scenario: OnlineScenario,
    setting: PlatformInputs,
    arrived_s: NDArray[np.float64],
    folder: Path,
    base: Path | None,
    *,
    part: str,
    more: Mapping[str, Any] | None = None,
    tables: Mapping[str, Callable[[list[Path]], pl.DataFrame]] = MappingProxyType({}),
) -> None:
    """Write ``measures`` into the world's folder; ``facts.json`` comes last and says that it is whole.

    Args:
        scenario: The variant that was run.
        setting: What the platform was given, its history included.
        arrived_s: When each user entered, shape (U,).
        folder: Folder of the world.
        base: Folder of the warm-up that it started from.
        part: What the world was, see ``simulate.Simulation``.
        more: Facts that others found.
        tables: Further tables by file name, each made from the folders of the experiment's days.
    """
    target = folder / MEASURES
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    archive = Archive(folder, base, scenario.experiment_day if base is not None else setting.first_day)
    days = range(scenario.experiment_day, scenario.experiment_day + scenario.days) if part != "warmup" else range(0)
    folders = [archive.day(day) for day in days]
    if folders:
        before = [archive.day(day) for day in range(setting.first_day, scenario.experiment_day)]
        user_days(scenario, setting, arrived_s, folders, before).write_parquet(target / DAYS_FILE)
        for name, made in tables.items():
            made(folders).write_parquet(target / name)
    names = channel_names(scenario, None if part == "experiment" else part) if folders else ()
    write_json(target / FACTS_FILE, {**facts_of(folders, names), **(more or {})})


def user_days(
    scenario: OnlineScenario,
    setting: PlatformInputs,
    arrived_s: NDArray[np.float64],
    folders: list[Path],
    before: list[Path],
) -> pl.DataFrame:
    """One row per user and day with a request: counts, and what was known before the experiment.

    Columns: ``user_id, arm, day`` (1 = first of the experiment), ``requests, impressions, clicks, dwell_s, likes,
    follows, link_clicks``, and what the scenario's metrics and slices read beyond these; ``cold``: fewer than
    ``cold_clicks`` clicks before the experiment; ``pre_clicks``, ``pre_dwell_s`` of the warm-up, null for users who
    came later; ``pre_impressions`` of it and ``pre_organic``, clicks before the platform opened, 0 for them.
    """
    keys = ["user_id", "arm", "day"]
    asked = (
        scan(folders, "requests")
        .group_by(keys)
        .agg(requests=pl.len(), impressions=pl.col("shown").clip(lower_bound=0).cast(pl.Int64).sum())
    )
    acted = (
        scan(folders, "behaviours")
        .group_by(keys)
        .agg(
            clicks=pl.len(),
            dwell_s=pl.col("dwell_s").cast(pl.Float64).sum(),
            likes=pl.col("like").cast(pl.Int64).sum(),
            follows=pl.col("follow").cast(pl.Int64).sum(),
        )
    )
    linked = scan(folders, "ground_truth").filter(pl.col("cause") == "link").group_by(keys).agg(link_clicks=pl.len())
    extra = asked_columns(scenario.planned_metrics())
    table = asked
    for counted in (acted, linked, *event_counts(extra, setting, folders, before)):
        table = table.join(counted, on=keys, how="left", maintain_order="left")
    table = with_slices(table, scenario.slices, setting.users)
    past = _past(scenario, setting, arrived_s, before).lazy()
    labels = {name: arm.label for name, arm in scenario.arms.items()}
    counts = ("clicks", "dwell_s", "likes", "follows", "link_clicks", *extra)
    return (
        table.with_columns(pl.col(name).fill_null(0) for name in counts)
        .join(past, on="user_id", how="left", maintain_order="left")
        .with_columns(
            day=pl.col("day") - scenario.experiment_day + 1, arm=pl.col("arm").replace(labels), active=pl.lit(True)
        )
        .sort("user_id", "day")
        .collect()
    )


def channel_names(scenario: OnlineScenario, only: str | None) -> tuple[str, ...]:
    """Channels in the order of the bits of ``impressions.offered_by``: of all arms, or of the only one."""
    pipelines = arm_pipelines(scenario.platform_config(0, only)).values()
    return tuple(dict.fromkeys(name for pipeline in pipelines for name in pipeline.channels))


def facts_of(folders: list[Path], channels_in_order: Sequence[str]) -> dict[str, Any]:
    """Counts of the funnel over days, by arm: requests, channels and their overlap, causes, stages, days, returns.

    Args:
        folders: Folders of the days.
        channels_in_order: Names by the bits of ``offered_by``.
    """
    if not folders:
        return {}
    requests, shown = scan(folders, "requests"), scan(folders, "impressions")
    acted, serving, ground_truth = scan(folders, "behaviours"), scan(folders, "serving"), scan(folders, "ground_truth")
    outcome = requests.group_by("arm", "result", "fallback").len()
    by_channel = shown.group_by("arm", "channel").agg(impressions=pl.len(), clicks=pl.col("clicked").sum())
    dwell = acted.group_by("arm", "channel").agg(
        dwell_s=pl.col("dwell_s").cast(pl.Float64).sum(), likes=pl.col("like").sum(), follows=pl.col("follow").sum()
    )
    place = ["day", "visit", "request", "position"]
    linked = (
        ground_truth.filter(pl.col("cause") == "link")
        .join(acted.select(*place, "channel"), on=place)
        .group_by("arm", "channel")
        .agg(link_clicks=pl.len())
    )
    offered = offered_by_channel(serving)
    bit = {name: (pl.col("offered_by").cast(pl.Int64) // 2**place) % 2 for place, name in enumerate(channels_in_order)}
    overlap = pl.concat(
        [
            shown.filter(bit[name] == 1)
            .group_by("arm")
            .agg(pl.lit(name).alias("channel"), **{other: bit[other].sum() for other in bit})
            for name in bit
        ]
    )
    took = pl.col("wait_ms") + pl.col("service_ms")
    answered = pl.col("outcome") == "answered"
    stages = serving.group_by("arm", "stage").agg(
        jobs=pl.len(),
        **{name: (pl.col("outcome") == name).sum() for name in ("answered", "late", "error", "down")},
        wait_ms=pl.col("wait_ms").filter(answered).mean(),
        **{f"p{round(100 * q)}_ms": took.filter(answered).quantile(q) for q in QUANTILES},
    )
    ready_ms = 1_000 * (pl.col("answered_s") - pl.col("asked_s"))
    slates = requests.group_by("arm").agg(
        requests=pl.len(), **{f"p{round(100 * q)}_ms": ready_ms.quantile(q) for q in QUANTILES}
    )
    channels = (
        offered.join(by_channel, on=["arm", "channel"], how="full", coalesce=True)
        .join(dwell, on=["arm", "channel"], how="left", maintain_order="left")
        .join(linked, on=["arm", "channel"], how="left", maintain_order="left")
        .filter(pl.col("channel") != "ranking")
    )
    pleased = (
        pl.concat([pl.scan_parquet(folder / "ground_truth/users-*.parquet") for folder in folders])
        .group_by("arm", "day")
        .agg(satisfaction=(1e6 * pl.col("satisfaction")).round().cast(pl.Int64).mean() / 1e6)  # in any order the same
    )
    daily = (
        requests.group_by("arm", "day")
        .agg(users=pl.col("user_id").n_unique(), requests=pl.len(), failed=(pl.col("result") != "slate").sum())
        .join(acted.group_by("arm", "day").agg(clicks=pl.len()), on=["arm", "day"], how="left", maintain_order="left")
        .join(pleased, on=["arm", "day"], how="left", maintain_order="left")
    )
    tables = {
        "outcomes": outcome.sort("arm", "result", "fallback"),
        "channels": channels.sort("arm", "channel"),
        "stages": stages.sort("arm", "stage"),
        "slates": slates.sort("arm"),
        "causes": ground_truth.filter(pl.col("cause").is_not_null())
        .group_by("arm", "cause")
        .len()
        .sort("arm", "cause"),
        "daily": daily.sort("arm", "day"),
        "overlap": overlap.sort("arm", "channel"),
        "returns": _returns(requests),
    }
    found = {name: table.collect().to_dicts() for name, table in tables.items()}
    return found | {"models": _ages(folders), "incidents": _incidents(folders)}


def offered_by_channel(serving: pl.LazyFrame) -> pl.LazyFrame:
    """Items that each stage offered over all jobs, and how many of them were merged, by arm; in 64 bits."""
    return serving.group_by("arm", pl.col("stage").alias("channel")).agg(
        pl.col("offered", "merged").cast(pl.Int64).sum()
    )


def _returns(requests: pl.LazyFrame) -> pl.LazyFrame:
    """Users of the first day who are there again on each later day."""
    seen = requests.select("arm", "user_id", pl.col("day") - pl.col("day").min()).unique()
    cohort = seen.filter(pl.col("day") == 0).select("arm", "user_id")
    back = seen.join(cohort, on=["arm", "user_id"]).group_by("arm", "day").agg(users=pl.len())
    return back.join(cohort.group_by("arm").agg(cohort=pl.len()), on="arm").sort("arm", "day")


def _ages(folders: list[Path]) -> list[dict[str, Any]]:
    """Mean age of what served each morning, by channel; the rest of a channel's days it was missing."""
    snapshots = pl.concat([pl.read_parquet(folder / "snapshots.parquet") for folder in folders])
    age = (pl.col("day") - pl.col("version")).cast(pl.Float64)
    table = snapshots.group_by("name").agg(
        mornings=pl.len(), missing=pl.col("version").is_null().sum(), age_days=age.mean()
    )
    return table.sort("name").to_dicts()


def _incidents(folders: list[Path]) -> list[dict[str, Any]]:
    """Mornings on which a model could not be trained or served as it should."""
    snapshots = pl.concat([pl.read_parquet(folder / "snapshots.parquet") for folder in folders])
    bad = snapshots.filter(pl.col("status").is_in(["failed", "restarted", "damaged"]))
    return bad.select("day", "name", "status").unique().sort("day", "name", "status").to_dicts()


def _past(
    scenario: OnlineScenario, setting: PlatformInputs, arrived_s: NDArray[np.float64], before: list[Path]
) -> pl.DataFrame:
    """What was known of every user when the experiment began."""
    users = pl.DataFrame({"user_id": np.arange(len(arrived_s)), "arrived_s": arrived_s})
    organic = setting.history.group_by("user_id").agg(organic=pl.len())
    warm = pl.DataFrame(schema={"user_id": pl.Int64, "pre_clicks": pl.Float64, "pre_dwell_s": pl.Float64})
    if before:
        warm = (
            scan(before, "behaviours")
            .group_by("user_id")
            .agg(pre_clicks=pl.len().cast(pl.Float64), pre_dwell_s=pl.col("dwell_s").cast(pl.Float64).sum())
            .collect()
        )
        shown = pl.col("shown").clip(lower_bound=0).cast(pl.Float64).sum()
        seen = scan(before, "requests").group_by("user_id").agg(pre_impressions=shown).collect()
    there = pl.col("arrived_s") < scenario.experiment_day * DAY_S
    table = users.join(organic, on="user_id", how="left", maintain_order="left").join(
        warm, on="user_id", how="left", maintain_order="left"
    )
    known = pl.col("organic").fill_null(0) + pl.col("pre_clicks").fill_null(0)
    organic_clicks = pl.col("organic").fill_null(0).cast(pl.Float64)
    found = table.select("user_id", cold=known < scenario.cold_clicks, pre_organic=organic_clicks)
    if before:
        pre = [pl.when(there).then(pl.col(name).fill_null(0.0)).alias(name) for name in ("pre_clicks", "pre_dwell_s")]
        found = found.with_columns(table.select(pre))
        found = found.join(seen, on="user_id", how="left", maintain_order="left")
        found = found.with_columns(pl.col("pre_impressions").fill_null(0.0))
    return found
