"""Keys of the ranking model."""

from pydantic import Field, PositiveFloat

from micrec.bounds import Days, Length, Rows
from simulator.model_options import ModelOptions
from simulator.world.world_config import OpenShare


class RankerConfig(ModelOptions):
    """A click model on logged impressions: logistic regression over counts of the log."""

    fields: tuple[str, ...] = Field(
        ("category", "subcategory", "provider"),
        description="Item fields that are compared with the fields of what the user has clicked.",
    )
    crossed: str = Field("subcategory", description="The one of them that is crossed with the user fields too.")
    tags: str = Field("tags", description="Item field, a list, whose values are matched with the latest clicks.")
    days: Days = Field(
        2, description="Days of impressions that are learnt from; features of each day are counted up to its start."
    )
    most_rows: Rows = Field(200_000, description="Most impressions learnt from, the latest.")
    least_rows: Rows = Field(
        500, description="Below so many impressions, or without a click among them, the prior is served."
    )
    prior_impressions: PositiveFloat = Field(
        30.0,
        description="Impressions, clicks for likes, at the average rate that each user and item is credited with.",
    )
    prior_clicks: PositiveFloat = Field(
        10.0, description="Clicks without news that each user, item and user-field value is credited with."
    )
    half_life_h: PositiveFloat = Field(
        96.0, description="Hours after which a click or an impression counts half in the click rate of its item."
    )
    neighbours: Length = Field(50, description="Items kept per item by sessions in common.")
    nominations: bool = Field(
        True,
        description="Whether the model reads which channel brought a candidate and at which place of its list, so that "
        "it hears what matching has found.",
    )
    recency: OpenShare = Field(0.85, description="Weight of each click of the history relative to the one after it.")
    positions: Length = Field(10, description="Positions with an effect of their own; those behind share one.")
    ridge: PositiveFloat = Field(
        1.0, description="Precision, 1 / sd², with which the first version holds to the prior."
    )
    memory: PositiveFloat = Field(5.0, description="The same with which a later one holds to the weights before it.")

    def item_fields(self) -> dict[str, tuple[str, ...]]:
        """Fields of the item table that the model reads, by the key that names them."""
        return {"fields": self.fields, "crossed": (self.crossed,), "tags": (self.tags,)}
