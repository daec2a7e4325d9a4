"""Keys of a two-tower model as a channel of the platform."""

from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from micrec.bounds import RepeatsOrNone, Rows, RowsOrNone
from micrec.config import Config
from micrec.faults import KeyFaults
from micrec.presets import PRESETS
from micrec.settings import check, merge, nested
from simulator.model_options import ModelOptions
from simulator.world.world_config import FrozenConfig

TWO_TOWER = "two_tower"  # kind of channel that an arm's model serves


class TwoTowerConfig(FrozenConfig):
    """How a two-tower model lives on the platform."""

    warm_epochs: RepeatsOrNone = Field(
        2, description="Passes over the clicks from the second version on; the first makes train.epochs."
    )
    warm_days: PositiveFloat | None = Field(
        3.0, description="Days of clicks that those passes go over, the latest; null = the whole log."
    )
    most_clicks: Rows | None = Field(
        None,
        description="Most clicks that a training learns from: those of users drawn at random anew each day, with the "
        "whole of their history in the log; null = everybody's. It bounds the time of a training.",
    )
    min_clicks: RowsOrNone = Field(
        1,
        description="Least clicks of an item to be retrieved. Without one it has no id embedding and was never a "
        "negative, so that nothing has held its score down; 0 lets such items in, by their fields alone.",
    )
    index: Literal["exact", "ivf", "hnsw", "tree"] = Field(
        "exact", description="exact: every item is compared; ivf, hnsw, tree: approximate, for large catalogues."
    )
    hide_recent: bool = Field(True, description="Leave out the items among the latest clicks that a request carries.")


class TwoTowerChannelConfig(ModelOptions):
    """Options of a two-tower channel: its model, and how it lives on the platform."""

    preset: Literal["paper", "modern", "best"] = Field("paper", description="Defaults of the config.")
    config: dict[str, Any] = Field(default_factory=dict, description="Keys of the training, laid over the preset.")
    serving: TwoTowerConfig = Field(default_factory=TwoTowerConfig, description="How it lives on the platform.")

    @model_validator(mode="after")
    def _is_a_config(self) -> Self:
        """The keys of the training make a config of the preset; every error is reported."""
        own = nested(self.config)
        faults = check(Config, merge(PRESETS[self.preset].model_dump(), own), at="config")[1]
        if own.get("preset", self.preset) != self.preset:
            faults.append(f"config.preset: is {own['preset']}, but preset is {self.preset}: name one")
        if faults:
            raise KeyFaults(faults)
        return self
