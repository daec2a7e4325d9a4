"""Arms: what each changes of the pipeline, and who belongs to which."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from micrec.errors import MicrecError
from micrec.settings import check, merge
from simulator.draws import Draws
from simulator.platform.platform_config import PipelineConfig, PlatformConfig


def arm_pipelines(keys: PlatformConfig, *, where: str = "platform") -> dict[str, PipelineConfig]:
    """The whole pipeline of each arm.

    Args:
        keys: The platform.
        where: What the user wrote; heads the error.

    Raises:
        MicrecError: Every key of an arm that is unknown or out of range, or an arm left without channels.
    """
    pipelines, faults = {}, []
    for name, arm in keys.arms.items():
        at = f"arms.{name}.pipeline"
        faults += _unknown_nulls(keys.pipeline, arm.pipeline, at)
        production = _without_foreign_options(keys.pipeline.model_dump(mode="json"), arm.pipeline)
        data = without_nulls(merge(production, arm.pipeline))
        pipeline, found = check(PipelineConfig, data, at=at)
        faults += found
        if pipeline is not None and not pipeline.channels:
            faults.append(f"{at}.channels: none is left: keep at least one")
        if pipeline is not None:
            faults += _early_faults(pipeline, arm.pipeline, at)
            pipelines[name] = pipeline
    if faults:
        raise MicrecError.of(where, faults)
    return pipelines


def _without_foreign_options(production: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The pipeline, but for the options of channels that become of another kind: they mean nothing to it."""
    own = changes.get("channels")
    kinds = {
        name: channel.get("kind", old["kind"])
        for name, old in production["channels"].items()
        if isinstance(own, Mapping) and isinstance(channel := own.get(name), Mapping)
    }
    channels = {
        name: {**channel, "options": {}} if kinds.get(name, channel["kind"]) != channel["kind"] else channel
        for name, channel in production["channels"].items()
    }
    return {**production, "channels": channels}


def _unknown_nulls(pipeline: PipelineConfig, changes: Mapping[str, Any], at: str) -> list[str]:
    """Channels that an arm takes away though there are none of that name."""
    channels = changes.get("channels")
    if not isinstance(channels, Mapping):
        return []
    return [
        f"{at}.channels.{name}: null takes a channel away, and there is none of that name: choose from "
        f"{', '.join(pipeline.channels)}"
        for name, channel in channels.items()
        if channel is None and name not in pipeline.channels
    ]


def _early_faults(pipeline: PipelineConfig, changes: Mapping[str, Any], at: str) -> list[str]:
    """What is wrong with the faults that an arm itself names: it serves nobody before day 0."""
    found = []
    own = changes.get("channels")
    stages = [(f"channels.{name}", pipeline.channels.get(name), part) for name, part in dict(own or {}).items()]
    for place, stage, part in [*stages, ("ranking", pipeline.ranking, changes.get("ranking"))]:
        if stage is None or not isinstance(part, Mapping) or "faults" not in part:
            continue
        found += [
            f"{at}.{place}.faults.{number}.from_day: must be >= 0, got {fault.from_day:g}: an arm serves nobody before "
            "the first day of the experiment; a fault of the warm-up belongs into platform.pipeline"
            for number, fault in enumerate(stage.faults)
            if fault.from_day < 0
        ]
    return found


def without_nulls(data: dict[str, Any]) -> dict[str, Any]:
    """The pipeline without the channels that are set to null."""
    channels = data.get("channels")
    if not isinstance(channels, Mapping):
        return data
    return {**data, "channels": {name: channel for name, channel in channels.items() if channel is not None}}


def assign(users: NDArray[np.int64], keys: PlatformConfig) -> NDArray[np.int64]:
    """Number of each user's arm, shape (B,), in the order of ``keys.arms``: a salted hash of the id."""
    return _arm_of(keys, "arm", users)


def assign_units(
    users: NDArray[np.int64], at_s: NDArray[np.float64], table: pl.DataFrame, keys: PlatformConfig
) -> NDArray[np.int64]:
    """Number of the arm that serves each user at a moment, shape (B,), by what ``keys.assignment`` assigns as a whole.

    Args:
        users: User ids, shape (B,).
        at_s: Seconds since the start of the log, shape (B,).
        table: The user table, ``user_id`` 0 … U - 1 in order.
        keys: The platform.
    """
    unit = keys.assignment.unit
    if unit == "time":
        return arm_of_period(np.floor(at_s / (keys.assignment.period_h * 3600.0)).astype(np.int64), keys)
    if unit == "cluster":
        return _arm_of(keys, "arm of cluster", clusters_of(table, keys.assignment.cluster_fields)[users])
    return assign(users, keys)


def arm_of_period(period: NDArray[np.int64], keys: PlatformConfig) -> NDArray[np.int64]:
    """Arm of each period of time, shape (B,).

    Two arms of one weight take turns within pairs of periods, in the order that a coin says, so that each has half of
    the time whatever its length; otherwise each period is drawn by itself.
    """
    if len({arm.weight for arm in keys.arms.values()}) > 1 or len(keys.arms) != 2:
        return _arm_of(keys, "arm of period", period)
    return _arm_of(keys, "arm of period", period // 2) ^ (period % 2)


def clusters_of(table: pl.DataFrame, fields: Sequence[str]) -> NDArray[np.int64]:
    """Number of each user's cluster, shape (U,): those with the same values share one.

    Raises:
        MicrecError: If the user table has no such field.
    """
    if lacking := [name for name in fields if name not in table.columns[1:]]:
        raise MicrecError(
            f"assignment.cluster_fields: the user table has no {lacking[0]}: choose from "
            f"{', '.join(table.columns[1:])}."
        )
    return table.select(pl.struct(pl.col(list(fields)).cast(pl.String)).rank("dense")).to_series().to_numpy() - 1


def item_arms(items: int, keys: PlatformConfig) -> NDArray[np.int64] | None:
    """Arm that alone may show each item, shape (N,); None where arms share the catalogue."""
    if keys.catalogue == "shared" or len(keys.arms) == 1:
        return None
    return _arm_of(keys, "arm of item", np.arange(items))


def _arm_of(keys: PlatformConfig, purpose: str, units: NDArray[np.int64]) -> NDArray[np.int64]:
    weights = np.array([arm.weight for arm in keys.arms.values()])
    bounds = np.cumsum(weights)[:-1] / weights.sum()
    return np.searchsorted(bounds, Draws(keys.seed, f"{purpose} {keys.salt}").uniform(units), side="right")
