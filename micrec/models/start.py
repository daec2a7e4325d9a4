"""What a model may know of the training clicks before it is trained."""

from typing import NamedTuple

from torch import Tensor

from micrec.data.popularity_forecast import Forecast
from micrec.models.columns import FieldColumns


class StartValues(NamedTuple):
    """Training clicks, for start values; n clicks, U users, N items."""

    users: Tensor  # (n,) user of each click
    items: Tensor  # (n,) its item
    item_clicks: Tensor  # (N,) clicks of every item
    n_users: int
    temperature: float  # of the matching loss
    forecast: Forecast | None = None  # of the items' popularity
    item_columns: FieldColumns | None = None  # encoded fields of all items
    user_columns: FieldColumns | None = None  # encoded fields of all users
