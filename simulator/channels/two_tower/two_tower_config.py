"""Keys of a two-tower model as a channel of the platform."""

from typing import Literal

from pydantic import Field, PositiveFloat

from micrec.bounds import RepeatsOrNone, RowsOrNone
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
    min_clicks: RowsOrNone = Field(
        1,
        description="Least clicks of an item to be retrieved. Without one it has no id embedding and was never a "
        "negative, so that nothing has held its score down; 0 lets such items in, by their fields alone.",
    )
    index: Literal["exact", "ivf", "hnsw"] = Field(
        "exact", description="exact: every item is compared; ivf, hnsw: approximate, by FAISS, for large catalogues."
    )
    hide_recent: bool = Field(True, description="Leave out the items among the latest clicks that a request carries.")
