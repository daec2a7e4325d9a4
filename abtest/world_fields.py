"""Whether the fields that models and pipelines name are those of the world, checked before it is generated."""

from collections.abc import Iterable, Iterator, Mapping

from micrec.config import Config
from micrec.data.schema import EMBEDDABLE, FieldType
from simulator.channels import CHANNELS
from simulator.platform.platform_config import ModelStageConfig, PipelineConfig
from simulator.ranking import RANKERS
from simulator.world.item_table import dataset_schema
from simulator.world.world_config import WorldConfig

_SINGLE = (FieldType.ID, FieldType.CATEGORICAL)


def config_field_faults(config: Config, world: WorldConfig) -> list[str]:
    """Fields of the model and of the semantic loss that the world does not have."""
    schema = dataset_schema(world)
    faults = [
        *_unknown("model.user_fields", config.model.user_fields or (), _embeddable(schema.users)),
        *_unknown("model.item_fields", config.model.item_fields or (), _embeddable(schema.items)),
    ]
    semantic = config.contrast.semantic
    if semantic.weight > 0 and semantic.source == "content" and not world.content.dim:
        faults.append("contrast.semantic.source: content needs vectors of the items: set world.content.dim")
    return faults


def user_fields(world: WorldConfig) -> tuple[str, ...]:
    """Fields of the user table with one value per user."""
    return tuple(name for name, kind in dataset_schema(world).users.items() if kind in _SINGLE)


def together(of: str, faults: Mapping[str, list[str]]) -> list[str]:
    """The faults of several arms or rows, each said once with all whose fault it is."""
    whose: dict[str, list[str]] = {}
    for name, own in faults.items():
        for fault in own:
            whose.setdefault(fault, []).append(name)
    one_or_all = {
        fault: f".{names[0]}" if len(names) == 1 else f" {', '.join(names)}" for fault, names in whose.items()
    }
    return [f"{of}{names}: {fault}" for fault, names in one_or_all.items()]


def pipeline_field_faults(pipeline: PipelineConfig, world: WorldConfig, at: str) -> list[str]:
    """Fields of the item table that a pipeline names and the world does not have."""
    items = ("item_id", *dataset_schema(world).items)
    spread = () if pipeline.diversity.field is None else (pipeline.diversity.field,)
    faults = list(_unknown(f"{at}.diversity.field", spread, items))
    for key, names in _named_fields(pipeline):
        faults += _unknown(f"{at}.{key}", names, items)
    return faults


def _named_fields(pipeline: PipelineConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    stages: dict[str, ModelStageConfig] = {f"channels.{name}": stage for name, stage in pipeline.channels.items()}
    for place, stage in stages.items():
        if stage.kind in CHANNELS:
            keys = CHANNELS[stage.kind].config.model_validate(stage.options)
            yield from ((f"{place}.options.{key}", names) for key, names in keys.item_fields().items())
    if pipeline.ranking.kind in RANKERS:
        fields = RANKERS[pipeline.ranking.kind].config.model_validate(pipeline.ranking.options).item_fields()
        yield from ((f"ranking.options.{key}", names) for key, names in fields.items())


def _embeddable(fields: Mapping[str, FieldType]) -> list[str]:
    return [name for name, kind in fields.items() if kind in EMBEDDABLE]


def _unknown(key: str, names: Iterable[str], known: Iterable[str]) -> list[str]:
    there = list(known)
    wrong = [name for name in names if name not in there]
    return [f"{key}: the world has no field {', '.join(wrong)}: choose from {', '.join(there)}"] if wrong else []
