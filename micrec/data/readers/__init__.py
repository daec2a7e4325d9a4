"""Readers that turn public click logs into dataset folders."""

from typing import NamedTuple

import polars as pl

from micrec.data.schema import DatasetSchema


class DatasetFrames(NamedTuple):
    """What every reader returns: a dataset with outside ids, ready for ``micrec.data.store.write_dataset``.

    Attributes:
        schema: Fields, roles and provenance; ``provenance["dropped"]`` repeats ``dropped``.
        users: ``user_id`` and the user fields, one row per user.
        items: ``item_id`` and the item fields, one row per item.
        clicks: ``user_id, item_id, timestamp`` and any of ``dwell_s, like, follow``.
        dropped: What the reader left out: a reason in words, and how many rows (or columns) it took.
    """

    schema: DatasetSchema
    users: pl.DataFrame
    items: pl.DataFrame
    clicks: pl.DataFrame
    dropped: dict[str, int]
