"""A platform's log as a dataset of micrec, in memory: what a two-tower model is trained on each day."""

import numpy as np
import polars as pl

from micrec.data.dataset import Clicks, Dataset, EntityTable
from micrec.data.encoding import IdMap, encode_table
from micrec.data.schema import DatasetSchema, FieldType, Roles
from simulator.ports import ObservedLog

_NAMED = {"title": FieldType.TEXT, "published": FieldType.TIMESTAMP}
_ROLES = {"title": "title", "category": "category", "taxonomy": "tags", "content": "content"}


def to_dataset(log: ObservedLog) -> Dataset:
    """Users and items in order of their ids, clicks in time order; clicks of items or users not listed are left out.

    The type of a field follows from its column: text is categorical, a list of texts multi-categorical, a list of
    numbers a vector, a float numeric, an integer categorical; ``title`` is text and ``published`` a timestamp. The
    columns ``title, category, tags, content`` have their roles, where there are any.
    """
    users, items = log.users.sort("user_id"), log.items.sort("item_id")
    user_types, item_types = field_types(users, "user_id"), field_types(items, "item_id")
    roles = Roles(**{role: name for role, name in _ROLES.items() if name in item_types})
    schema = DatasetSchema(name="observed", time_unit="s", users=user_types, items=item_types, roles=roles)
    encoded_users, encoded_items = (
        encode_table(users, "user_id", user_types),
        encode_table(items, "item_id", item_types),
    )
    return Dataset(schema, encoded_users, encoded_items, _clicks(log.clicks, encoded_users, encoded_items))


def field_types(table: pl.DataFrame, key: str) -> dict[str, FieldType]:
    """Type of every column but the id."""
    return {name: _NAMED.get(name) or _type(dtype) for name, dtype in table.schema.items() if name != key}


def _type(dtype: pl.DataType) -> FieldType:
    if isinstance(dtype, pl.List | pl.Array):
        return FieldType.VECTOR if dtype.inner.is_numeric() else FieldType.MULTI_CATEGORICAL
    if dtype.is_float():
        return FieldType.NUMERIC
    return FieldType.TIMESTAMP if dtype.is_temporal() else FieldType.CATEGORICAL


def _clicks(clicks: pl.DataFrame, users: EntityTable, items: EntityTable) -> Clicks:
    user_ids = IdMap(users.ids).positions(clicks["user_id"])
    item_ids = IdMap(items.ids).positions(clicks["item_id"])
    known = (user_ids >= 0) & (item_ids >= 0)
    time_ms = (clicks["timestamp"] * 1_000).cast(pl.Int64).to_numpy()
    return Clicks(user_ids, item_ids, time_ms)[np.flatnonzero(known)]
