"""Which users and items of a log's own tables enter the dataset."""

from typing import Literal

import polars as pl
from pydantic import Field

from micrec.config import Frozen


class CatalogueConfig(Frozen):
    """Options of every reader whose source has user and item tables of its own."""

    users: Literal["clicked", "all"] = Field(
        "clicked", description="clicked: users with at least one kept click; all: every user of the source."
    )
    items: Literal["all", "clicked"] = Field(
        "all", description="all: the whole catalogue, as it is at serving time; clicked: items with a kept click."
    )


def choose_catalogue(
    users: pl.DataFrame, items: pl.DataFrame, clicks: pl.DataFrame, options: CatalogueConfig
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, int]]:
    """Cut the tables to what ``options`` asks for.

    A user without a click can neither train nor test a model, so by default it is left out; an item without one is
    still a candidate at serving time, so it is kept.

    Returns:
        Users, items, and how many rows of each were left out, by reason.
    """
    left_out = {}
    if options.users == "clicked":
        kept = users.join(clicks, on="user_id", how="semi", maintain_order="left")
        left_out["users without a kept click"] = len(users) - len(kept)
        users = kept
    if options.items == "clicked":
        kept = items.join(clicks, on="item_id", how="semi", maintain_order="left")
        left_out["items without a kept click"] = len(items) - len(kept)
        items = kept
    return users, items, {reason: count for reason, count in left_out.items() if count}
