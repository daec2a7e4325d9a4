"""The scenario of an offline A/B: a short form of a table, whose rows are arms trained with the same seeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from abtest.arms import CONTROL, Arm
from abtest.offline.table_scenario import (
    ALL,
    BaselineNames,
    DatasetConfig,
    RowComparison,
    RowConfig,
    TableScenario,
    chosen_datasets,
    folder_name,
    plain,
    whole_config,
)
from micrec.bounds import Repeats, Seed
from micrec.config import Config, Frozen
from simulator.world.world_config import WorldConfig


class Metrics(Frozen):
    """What is tested; each list is one family of Holm's adjustment."""

    primary: tuple[str, ...] = Field(
        ("hit@50", "hit@100", "hit@200", "hit@500"), description="Metrics that the verdict rests on."
    )
    secondary: tuple[str, ...] = Field(
        ("coverage@50", "coverage@500"), description="Further metrics that are reported."
    )
    slices: tuple[str, ...] | None = Field(
        None, description="Slices on which the primary metrics are reported; null = every slice, [] = none."
    )


class OfflineScenario(Frozen):
    """Train every arm with the same seeds on one dataset and compare them on its test period."""

    kind: Literal["offline_ab"] = Field(description="The question.")
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")] = Field(description="Name of the run; default: the file's name.")
    data: Path | None = Field(
        None, description="Dataset folder, relative to the working directory; null = a generated world."
    )
    world: WorldConfig = Field(default_factory=WorldConfig, description="The generated world, used if data is null.")
    seeds: Repeats = Field(5, description="Training seeds; every arm uses the same ones.")
    first_seed: Seed = Field(0, description="The seeds are first_seed, first_seed + 1 …")
    preset: Literal["paper", "modern", "best"] = Field(
        "paper", description="Preset with the defaults of every arm; one table has one preset."
    )
    base: dict[str, Any] = Field(
        default_factory=dict, description="Config keys of all arms, which override the preset."
    )
    arms: dict[str, Arm] = Field(description="The models: control, and one or more treatments.")
    metrics: Metrics = Field(default_factory=Metrics, description="Metrics that are tested.")
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        0.05, description="Level of the tests; intervals have level 1 - alpha."
    )
    baselines: BaselineNames = Field(
        ALL,
        validate_default=True,
        description="Simple baselines that are evaluated beside the models: all, or a list of names.",
    )

    def table(self) -> "TwoArmTable":
        """The table of which this is a short form: arms as rows, each treatment compared with the control."""
        metrics = self.metrics
        world = {folder_name(self.world.name): DatasetConfig(world=self.world)}
        chosen = world if self.data is None else chosen_datasets(self.data, {}, {})
        treatments = [name for name in self.arms if name != CONTROL]
        families: tuple[dict[str, Any], ...] = (
            {"metrics": metrics.primary, "family": "primary"},
            {"metrics": metrics.secondary, "family": "secondary"},
            {"metrics": metrics.primary, "family": "slice", "slices": metrics.slices},
        )
        return TwoArmTable(
            kind="table",
            name=self.name,
            datasets=dict(chosen),
            seeds=self.seeds,
            first_seed=self.first_seed,
            preset=self.preset,
            base=self.base,
            rows={name: RowConfig(label=arm.label, config=arm.config) for name, arm in self.arms.items()},
            reference=CONTROL,
            metrics=metrics.primary,
            details=metrics.secondary,
            slices=metrics.slices or (),
            comparisons=tuple(
                RowComparison(row=arm, against=(CONTROL,), **family) for arm in treatments for family in families
            ),
            alpha=self.alpha,
            baselines=self.baselines,
        )

    def resolved(self) -> dict[str, Any]:
        """Plain data in which every key is explicit; ``base`` holds the whole config."""
        return plain({**self.model_dump(), "base": whole_config(self.preset, self.base)})

    def config(self, arm: str, seed: int) -> Config:
        """The full config of one trial."""
        table = self.table()
        return table.config(table.chosen()[0].keys, arm, seed)

    def work(self) -> str:
        """What a run does, in a line."""
        arms = ", ".join(f"{name} ({arm.label})" for name, arm in self.arms.items())
        return f"preset {self.preset}, {arms}, {self.seeds} seeds: {len(self.arms) * self.seeds} models"


class TwoArmTable(TableScenario):
    """A table that its user wrote as a two-arm test."""

    other_keys: ClassVar[Mapping[str, str]] = {
        "rows": "arms",
        "metrics": "metrics.primary",
        "details": "metrics.secondary",
        "slices": "metrics.slices",
    }
