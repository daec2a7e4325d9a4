"""Every key of a platform: channels, merging and ranking, how fast and how reliably they answer, and the arms."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    field_validator,
    model_validator,
)

from micrec.bounds import Days, DaysOrNone, Length, Seed
from simulator.world.world_config import FrozenConfig, Share


class LatencyConfig(FrozenConfig):
    """How long the work on a request takes, once a server has it."""

    kind: Literal["constant", "exponential", "lognormal"] = Field(
        "lognormal", description="Distribution of the service time."
    )
    mean_ms: NonNegativeFloat = Field(10.0, description="Mean service time in milliseconds.")
    log_sd: Annotated[float, Field(ge=0.0, le=3.0)] = Field(
        0.5, description="For lognormal: standard deviation of the logarithm; the mean stays mean_ms."
    )


class FaultConfig(FrozenConfig):
    """Something that goes wrong for a while.

    Days count from the first day after the warm-up. A negative one lies in the warm-up, which everybody spends on
    ``platform.pipeline``: an arm's own faults begin at 0 at the earliest.
    """

    from_day: float = Field(
        description="Day at which the fault begins, as a decimal number; 0 is the start of the experiment."
    )
    to_day: float = Field(description="Day at which the fault ends, as a decimal number.")
    down: bool = Field(False, description="Whether all requests are refused at once.")
    slow: PositiveFloat = Field(1.0, description="Factor on all service times.")
    error_rate: Share = Field(0.0, description="Share of the answers that are errors.")
    frozen: bool = Field(
        False, description="Whether no new snapshot is deployed, so that the model of the beginning goes on serving."
    )

    @model_validator(mode="after")
    def _check_effect(self) -> Self:
        if not self.to_day > self.from_day:
            raise ValueError(f"to_day must be > from_day {self.from_day:g}, got {self.to_day:g}")
        if not (self.down or self.slow != 1.0 or self.error_rate > 0 or self.frozen):
            raise ValueError("does nothing: set down, slow, error_rate or frozen")
        return self


class StageConfig(FrozenConfig):
    """A stage that requests pass: one queue, first come, first served."""

    servers: Annotated[int, Field(ge=1, le=10_000)] = Field(
        8, description="Number of servers, each of which works on one job at a time."
    )
    latency: LatencyConfig = Field(default_factory=LatencyConfig, description="Service time of a job.")
    window_ms: NonNegativeFloat = Field(
        0.0,
        description="Requests that arrive within a window of this length form one job, which is queued at its end; 0: "
        "each request is a job.",
    )
    deadline_ms: PositiveFloat = Field(
        150.0, description="Time after which the platform goes on without this stage's answer."
    )
    faults: tuple[FaultConfig, ...] = Field((), description="Faults of this stage, and when they occur.")


class ModelStageConfig(StageConfig):
    """A stage that serves snapshots of a model, trained each morning on the log up to then."""

    kind: str = Field(description="Kind of model, by its registered name.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of this kind of model.")
    every_days: Days = Field(1, description="Days from one training to the next.")
    lag_days: DaysOrNone = Field(0, description="Days from a training until its snapshot is deployed.")

    @property
    def training_number(self) -> int:
        """Which of several trainings with other seeds."""
        return 0


class ChannelStageConfig(ModelStageConfig):
    """A matching channel."""

    k: Length = Field(200, description="Number of items that the channel is asked for.")
    quota: Length = Field(100, description="Most items of the channel among the candidates, for merge.kind quota.")
    training: Seed = Field(
        0, description="Number of the training: models that differ in nothing else are trained with other seeds."
    )

    @property
    def training_number(self) -> int:
        """Which of several trainings with other seeds."""
        return self.training


class RankingConfig(ModelStageConfig):
    """The ranking stage."""

    kind: str = Field("ctr", description="Kind of model, by its registered name.")
    latency: LatencyConfig = Field(LatencyConfig(mean_ms=20.0), description="Service time of a job.")


class MergeConfig(FrozenConfig):
    """How the channels' lists become one list of distinct items."""

    kind: Literal["quota", "snake", "score"] = Field(
        "quota",
        description="quota: each channel up to its quota; snake: channels in turns, back and forth; score: by score.",
    )
    candidates: Length = Field(300, description="Most candidates that are passed to ranking.")
    draft: tuple[str, str] | None = Field(
        None,
        description="Two channels that are interleaved by team draft: the drafted list takes the place of the first, "
        "whose k, quota and model versions count, and each item is credited to the channel that picked it.",
    )


class DiversityConfig(FrozenConfig):
    """Re-ranking of the slate."""

    field: str | None = Field(None, description="Item field whose values are limited per slate; null: no limit.")
    at_most: Length = Field(3, description="Most items with the same value in a slate, as long as there are others.")


def _channels() -> dict[str, ChannelStageConfig]:
    kinds = ("popular", "item_cf", "fresh", "tag", "follow")
    return {kind: ChannelStageConfig(kind=kind) for kind in kinds}


class PipelineConfig(FrozenConfig):
    """From a request to a slate."""

    channels: dict[str, ChannelStageConfig] = Field(default_factory=_channels, description="Matching channels by name.")
    merge: MergeConfig = Field(default_factory=MergeConfig, description="How the channels' lists are merged.")
    ranking: RankingConfig = Field(default_factory=RankingConfig, description="The ranking stage.")
    diversity: DiversityConfig = Field(default_factory=DiversityConfig, description="Re-ranking of the slate.")
    explore: Share = Field(0.0, description="Probability that the last place of a slate goes to a random candidate.")
    explore_among: Length | None = Field(
        None, description="How many of the best candidates after the slate that random one is drawn from; null: all."
    )
    policies: tuple[str, ...] = Field(
        (),
        description="Policies for the last place of a slate whose choice is logged beside what was shown: ranking, or "
        "the name of a channel, whose best-ranked candidate it would take.",
    )
    slate_size: Annotated[int, Field(ge=1, le=100)] = Field(10, description="Number of items in a slate.")
    repeats: bool = Field(False, description="Whether an item may be shown again in the same visit.")

    @field_validator("channels")
    @classmethod
    def _check_names(cls, channels: dict[str, ChannelStageConfig]) -> dict[str, ChannelStageConfig]:
        for name in channels:
            if not name.replace("_", "").isalnum() or name in RESERVED:
                raise ValueError(f"a channel's name is letters, digits and _, and not one of {', '.join(RESERVED)}")
        return channels

    @model_validator(mode="after")
    def _check_channel_names(self) -> Self:
        draft, known = self.merge.draft or (), ", ".join(self.channels)
        if unknown := [name for name in draft if name not in self.channels]:
            raise ValueError(f"merge.draft: no channel {unknown[0]}: name two of {known}")
        if len(set(draft)) < len(draft):
            raise ValueError("merge.draft: names one channel twice: name two")
        if unknown := [name for name in self.policies if name not in (*self.channels, RANKED)]:
            raise ValueError(f"policies: no channel {unknown[0]}: choose from {RANKED}, {known}")
        return self


RESERVED = ("ranking", "fallback")
RANKED = "ranking"  # the policy that leaves the last place as ranking has it


class ArmConfig(FrozenConfig):
    """One arm of an experiment."""

    weight: PositiveFloat = Field(1.0, description="Share of the users, relative to the other arms.")
    pipeline: dict[str, Any] = Field(
        default_factory=dict,
        description="Keys that replace those of the platform's pipeline, at any depth; null removes a channel.",
    )


class AssignmentConfig(FrozenConfig):
    """What is assigned to an arm as a whole."""

    unit: Literal["user", "cluster", "time"] = Field(
        "user",
        description="user: each user has an arm; cluster: all users with the same values of cluster_fields share one; "
        "time: all visits that begin in the same period do, a switchback, in which two arms of one weight have one "
        "period each of every two.",
    )
    cluster_fields: tuple[str, ...] = Field(("region",), description="For cluster: fields of the user table.")
    period_h: Annotated[float, Field(gt=0.0, le=24.0 * 28)] = Field(
        24.0, description="For time: hours of a period; periods count from midnight of day 0."
    )


class PlatformConfig(FrozenConfig):
    """A platform and the experiment that runs on it."""

    seed: Seed = Field(0, description="Seed of latencies, errors, exploration, assignment and training.")
    pipeline: PipelineConfig = Field(
        default_factory=PipelineConfig,
        description="Pipeline that serves everybody in the warm-up, and each arm except for the arm's own keys.",
    )
    arms: dict[str, ArmConfig] = Field(
        default_factory=lambda: {"control": ArmConfig()},
        description="Arms by name; each user stays in one arm.",
    )
    salt: str = Field("", description="Salt of the assignment of users to arms: another salt gives another split.")
    assignment: AssignmentConfig = Field(
        default_factory=AssignmentConfig, description="What is assigned to the arms: users, clusters of them, or time."
    )
    catalogue: Literal["shared", "diverted"] = Field(
        "shared",
        description="shared: every arm may show every item; diverted: the items are divided among the arms by a salted "
        "hash, in proportion to their weights, and each arm shows its own alone.",
    )
    warmup_days: DaysOrNone = Field(3, description="Days before the experiment under the production pipeline.")
    shadow_warm_up: bool = Field(
        True,
        description="Whether models that only treatments use are also trained throughout the warm-up, on the same "
        "log and as often as production's, but serve nobody, so that the first day compares models of one age; false: "
        "they begin untrained on that day.",
    )
    training: Literal["shared", "diverted"] = Field(
        "shared",
        description="shared: models learn from all arms' log; diverted: each arm's from its own users.",
    )
    log_days: Days | None = Field(
        14,
        description="Number of latest days of the log that models are trained on, which bounds the memory; older days "
        "stay on disk. null: all.",
    )
    batch_window_s: PositiveFloat | None = Field(
        None,
        description="Most simulated seconds whose requests are computed together, for speed only: the log does not "
        "depend on it, and queues serve in the order of arrival; null: as many as bring 4,000 visits.",
    )

    @model_validator(mode="after")
    def _check_faults(self) -> Self:
        stages = {f"channels.{name}": channel for name, channel in self.pipeline.channels.items()}
        for place, stage in {**stages, "ranking": self.pipeline.ranking}.items():
            for number, fault in enumerate(stage.faults):
                if fault.to_day <= -self.warmup_days:
                    raise ValueError(
                        f"pipeline.{place}.faults.{number}.to_day: {fault.to_day:g} lies before the first of "
                        f"{self.warmup_days} warm-up days, so that it does nothing"
                    )
        return self

    @field_validator("arms")
    @classmethod
    def _check_arms(cls, arms: dict[str, ArmConfig]) -> dict[str, ArmConfig]:
        if not arms:
            raise ValueError("must name at least one arm")
        return arms
