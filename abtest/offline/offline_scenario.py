"""The scenario of an offline A/B: arms of models trained with the same seeds on one dataset."""

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from abtest.arms import CONTROL, Arm
from abtest.world_fields import config_field_faults, together
from micrec.baselines import BASELINES
from micrec.bounds import Repeats, Seed
from micrec.config import Config, Frozen
from micrec.named import NameIn
from micrec.settings import build_config, merge
from simulator.world.world_config import WorldConfig


class Metrics(Frozen):
    """What is tested; each list is one family of Holm's adjustment."""

    primary: tuple[str, ...] = Field(
        ("hit@50", "hit@100", "hit@200", "hit@500"), description="Metrics the verdict rests on."
    )
    secondary: tuple[str, ...] = Field(("coverage@50", "coverage@500"), description="Metrics reported beside them.")
    slices: tuple[str, ...] | None = Field(
        None, description="Slices on which the primary metrics are reported; null = every slice, [] = none."
    )


class OfflineScenario(Frozen):
    """Train every arm with the same seeds on one dataset and compare them on its test period."""

    unread: ClassVar[tuple[str, ...]] = ()  # every config key is read
    reserved_arms: ClassVar[tuple[str, ...]] = ()

    kind: Literal["offline_ab"] = Field(description="The question.")
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")] = Field(description="Name of the run; default: the file's name.")
    data: Path | None = Field(None, description="Dataset folder, from the working directory; null = a generated world.")
    world: WorldConfig = Field(default_factory=WorldConfig, description="The generated world, used if data is null.")
    seeds: Repeats = Field(5, description="Training seeds; every arm uses the same ones.")
    first_seed: Seed = Field(0, description="The seeds are first_seed, first_seed + 1 …")
    preset: Literal["paper", "modern"] = Field("paper", description="Defaults of every arm; never mixed in one table.")
    base: dict[str, Any] = Field(default_factory=dict, description="Config keys of all arms, laid over the preset.")
    arms: dict[str, Arm] = Field(description="The models: control, and one or more treatments.")
    metrics: Metrics = Field(default_factory=Metrics, description="What is tested.")
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(0.05, description="Level of the tests; intervals 1 - alpha.")
    baselines: tuple[Annotated[str, NameIn(BASELINES)], ...] = Field(
        ("popularity", "recent_popularity", "item_knn", "ease"),
        description="Models without training that every table shows.",
    )

    @property
    def seed_numbers(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def treatments(self) -> list[str]:
        return [name for name in self.arms if name != CONTROL]

    def faults(self) -> list[str]:
        """What the keys cannot say one by one."""
        return [*_metric_faults(self), *([] if self.data is not None else self._field_faults())]

    def _field_faults(self) -> list[str]:
        """Fields that the arms' models name and the generated world does not have."""
        faults = {name: config_field_faults(self.config(name, self.first_seed), self.world) for name in self.arms}
        return together("arms", faults)

    def resolved(self) -> dict[str, Any]:
        """Plain data in which every key is explicit; ``base`` holds the whole config."""
        config = build_config(self.preset, self.base).model_dump(exclude={"preset": True, "train": {"seed"}})
        plain = json.loads(json.dumps({**self.model_dump(), "base": config}, default=str))
        assert isinstance(plain, dict)
        return plain

    def config(self, arm: str, seed: int) -> Config:
        """The full config of one cell."""
        return build_config(self.preset, merge(self.base, self.arms[arm].config, {"train": {"seed": seed}}))


def _metric_faults(scenario: OfflineScenario) -> list[str]:
    cutoffs = build_config(scenario.preset, scenario.base).evaluation.cutoffs
    faults = []
    for family in ("primary", "secondary"):
        for metric in getattr(scenario.metrics, family):
            name, at, cutoff = metric.partition("@")
            if not name or (at and not cutoff.isdigit()):
                faults.append(f"metrics.{family}: {metric} is no metric: write it as hit@50")
            elif at and int(cutoff) not in cutoffs:
                known = ", ".join(map(str, cutoffs))
                faults.append(f"metrics.{family}: {metric} needs {cutoff} among base.evaluation.cutoffs ({known})")
    if not scenario.metrics.primary:
        faults.append("metrics.primary: must name at least one metric")
    return faults
