"""Which stages and models serve which arm; arms with equal keys share one stage and one model."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from simulator.interleaving import DraftPair
from simulator.platform.platform_config import ChannelStageConfig, MergeConfig, ModelStageConfig, PipelineConfig

RANKING = "ranking"
_NOT_OF_THE_QUEUE = {"quota", "options", "kind", "every_days", "k", "training"}


Models = Mapping[
    str, tuple[str, ModelStageConfig, str | None]
]  # name, keys and the arm it learns from, None = all; by id


class ServedArm(NamedTuple):
    """A model behind a stage."""

    name: str  # of the channel, or "ranking"
    stage: str  # id of the stage; equal keys, one queue
    model: str  # id of the model; equal kind, options and log, one model


class SlateShape(NamedTuple):
    """The keys that decide how a pipeline treats lists and scores; arms with equal keys are computed together."""

    channels: tuple[tuple[str, int, int], ...]  # name, k, quota
    merge: MergeConfig
    diversity_field: str | None
    diversity_at_most: int
    explore: float
    slate_size: int
    repeats: bool
    draft: DraftPair | None
    explore_among: int | None
    policies: tuple[str, ...]


@dataclass(frozen=True)
class ArmPlan:
    """One arm: what serves it, and its shape."""

    name: str
    channels: tuple[ServedArm, ...]
    ranking: ServedArm
    shape: SlateShape


@dataclass(frozen=True)
class ServingPlan:
    """All arms that are served at a time.

    Attributes:
        arms: In the order of the keys.
        stages: Name and keys of each distinct stage, by id.
        models: Name and keys of each distinct model, by id, and the arm whose log it learns from, None = all.
        channels: Names of all channels, in the order of the arms.
        ranked_as: Names by which ranking knows them: two channels that draft are one to it.
    """

    arms: tuple[ArmPlan, ...]
    stages: Mapping[str, tuple[str, ModelStageConfig]]
    models: Models
    channels: tuple[str, ...]
    ranked_as: tuple[str, ...]

    @property
    def policies(self) -> tuple[str, ...]:
        """Names of the policies for the last place, of any arm."""
        return tuple(dict.fromkeys(name for arm in self.arms for name in arm.shape.policies))


def make_plan(pipelines: Mapping[str, PipelineConfig], *, diverted: bool) -> ServingPlan:
    """The plan of these arms; with ``diverted`` logs each arm has models of its own."""
    stages: dict[str, tuple[str, ModelStageConfig]] = {}
    models: dict[str, tuple[str, ModelStageConfig, str | None]] = {}

    def serve(name: str, keys: ModelStageConfig, arm: str, model_name: str | None = None) -> ServedArm:
        stage, model_name = stage_id(name, keys), model_name or name
        stages.setdefault(stage, (name, keys))
        model = model_id(model_name, keys) + (f".{arm}" if diverted else "")
        models.setdefault(model, (model_name, keys, arm if diverted else None))
        return ServedArm(name, stage, model)

    arms = tuple(
        ArmPlan(
            name=arm,
            channels=tuple(
                serve(name, keys, arm, drafted_as(pipeline).get(name)) for name, keys in pipeline.channels.items()
            ),
            ranking=serve(RANKING, pipeline.ranking, arm),
            shape=_shape(pipeline),
        )
        for arm, pipeline in pipelines.items()
    )
    channels = tuple(dict.fromkeys(served.name for arm in arms for served in arm.channels))
    drafting = {second: first for pipeline in pipelines.values() for second, first in drafted_as(pipeline).items()}
    return ServingPlan(arms, stages, models, channels, tuple(drafting.get(name, name) for name in channels))


def drafted_as(pipeline: PipelineConfig) -> dict[str, str]:
    """The channel whose models a drafting channel's are versions of: the second team's are the first's with its keys.

    So a challenger serves what its own arm would serve under the first one's name, down to the seed of the training.
    """
    return {pipeline.merge.draft[1]: pipeline.merge.draft[0]} if pipeline.merge.draft else {}


def shadows(pipelines: Mapping[str, PipelineConfig], production: ServingPlan) -> Models:
    """Models of these arms that production lacks: trained in the warm-up as well, but not deployed."""
    models = make_plan(pipelines, diverted=False).models
    return {model: found for model, found in models.items() if model not in production.models}


def stage_id(name: str, keys: ModelStageConfig) -> str:
    """Id of the queue that these keys describe."""
    return f"{name}-{_digest(keys.model_dump(mode='json', exclude=_NOT_OF_THE_QUEUE))}"


def model_id(name: str, keys: ModelStageConfig) -> str:
    """Id of the model that these keys describe: its kind and options, and when it is trained and deployed."""
    frozen = [fault.model_dump(mode="json") for fault in keys.faults if fault.frozen]
    facts = keys.model_dump(mode="json", include={"kind", "options", "every_days", "lag_days"})
    if keys.training_number:
        facts["training"] = keys.training_number
    return f"{name}-{_digest({**facts, 'frozen': frozen})}"


def _shape(pipeline: PipelineConfig) -> SlateShape:
    def of(name: str, keys: ChannelStageConfig) -> tuple[str, int, int]:
        return name, keys.k, keys.quota

    draft = pipeline.merge.draft
    return SlateShape(
        channels=tuple(of(name, keys) for name, keys in pipeline.channels.items()),
        merge=pipeline.merge,
        diversity_field=pipeline.diversity.field,
        diversity_at_most=pipeline.diversity.at_most,
        explore=pipeline.explore,
        slate_size=pipeline.slate_size,
        repeats=pipeline.repeats,
        draft=DraftPair(*(list(pipeline.channels).index(name) for name in draft)) if draft else None,
        explore_among=pipeline.explore_among,
        policies=pipeline.policies,
    )


def _digest(facts: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
