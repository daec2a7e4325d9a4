"""A dataset in memory: encoded user and item tables and the click log, all with dense ids."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from micrec.data.array_space import MEMORY, ArraySpace
from micrec.data.schema import DatasetSchema, FieldType
from micrec.notebook import Displayed

CLICK_ARRAYS = ("user_ids", "item_ids", "time_ms", "dwell_s", "like", "follow")


@dataclass(frozen=True)
class Column:
    """One field of the user or item table, encoded for an embedding lookup.

    Exactly one of the three storages is set, by ``type``:

    - ``id``, ``categorical``: ``codes``, shape (n,), 0 = missing or unknown, else 1 .. size - 1.
    - ``multi_categorical``: ``values`` (nnz,) with ``offsets`` (n + 1,), codes as above, never 0.
    - ``numeric``: ``numbers``, shape (n,), NaN = missing.

    ``labels[c - 1]`` is the outside value of code c; ``size`` = len(labels) + 1 embedding rows (row 0 = unknown).
    """

    name: str
    type: FieldType
    size: int = 0
    codes: NDArray[np.int32] | None = None
    values: NDArray[np.int32] | None = None
    offsets: NDArray[np.int64] | None = None
    numbers: NDArray[np.float32] | None = None
    labels: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class EntityTable:
    """Users or items in dense order: row i is the entity with dense id i.

    Attributes:
        ids: Outside ids, shape (n,); position = dense id. The one id map of the dataset.
        columns: Encoded fields a model may embed, by name, in the order of ``dataset.yaml``.
        frame: Every column of the Parquet file in dense order (titles, vectors and timestamps included).
    """

    ids: pl.Series
    columns: dict[str, Column]
    frame: pl.DataFrame

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _rows(self) -> dict[object, int]:
        return {outside: row for row, outside in enumerate(self.ids.to_list())}

    def lookup(self, outside: object) -> int:
        """Dense id of an outside id, -1 if unknown. A string of digits finds an integer id too."""
        row = self._rows.get(outside, -1)
        if row < 0 and isinstance(outside, str) and self.ids.dtype.is_integer() and outside.lstrip("-").isdigit():
            row = self._rows.get(int(outside), -1)
        return row


@dataclass(frozen=True)
class Clicks:
    """The click log in time order; ties keep the order of the file. Of a mapped log the arrays are ``numpy.memmap``.

    Attributes:
        user_ids: Dense user ids, shape (n,).
        item_ids: Dense item ids, shape (n,).
        time_ms: Milliseconds since 1970-01-01 UTC, shape (n,), never falling.
        dwell_s: Seconds spent on the item, shape (n,), or None if the log has none.
        like: Whether the click was liked, shape (n,), or None.
        follow: Whether the provider was followed from it, shape (n,), or None.
        space: Where arrays as long as the log are put that are made from it.
    """

    user_ids: NDArray[np.int32]
    item_ids: NDArray[np.int32]
    time_ms: NDArray[np.int64]
    dwell_s: NDArray[np.float32] | None = None
    like: NDArray[np.bool_] | None = None
    follow: NDArray[np.bool_] | None = None
    space: ArraySpace = field(default=MEMORY, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.user_ids)

    def __getitem__(self, rows: slice | NDArray[np.int64] | NDArray[np.bool_]) -> "Clicks":
        def take(values: NDArray | None) -> NDArray | None:
            return None if values is None else values[rows]

        return Clicks(
            user_ids=self.user_ids[rows],
            item_ids=self.item_ids[rows],
            time_ms=self.time_ms[rows],
            dwell_s=take(self.dwell_s),
            like=take(self.like),
            follow=take(self.follow),
            space=self.space,
        )


@dataclass(frozen=True, repr=False)
class Dataset(Displayed):
    """A validated dataset: schema, encoded tables, clicks in time order.

    Attributes:
        schema: What ``dataset.yaml`` says: fields, roles, time unit and zone, provenance.
        users: The user table; its position is the dense user id.
        items: The item table; its position is the dense item id.
        clicks: The click log in dense ids.
        folder: Where it was read from; None if it is in memory only.
    """

    schema: DatasetSchema
    users: EntityTable
    items: EntityTable
    clicks: Clicks
    folder: Path | None = None

    @property
    def name(self) -> str:
        """Name of the dataset, as tables print it."""
        return self.schema.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What the conversion guessed or assumed, as sentences."""
        notes = self.schema.provenance.get("notes")
        return tuple(map(str, notes)) if isinstance(notes, list | tuple) else ()

    def to_frame(self) -> pl.DataFrame:
        """The click log with outside ids, in time order.

        Returns:
            ``user_id``, ``item_id``, ``timestamp`` (UTC, ms), and those of ``dwell_s`` (s), ``like``, ``follow`` that
            the log has; one row per click.
        """
        clicks = self.clicks
        optional = {"dwell_s": clicks.dwell_s, "like": clicks.like, "follow": clicks.follow}
        return pl.DataFrame(
            {
                "user_id": self.users.ids.gather(clicks.user_ids),
                "item_id": self.items.ids.gather(clicks.item_ids),
                "timestamp": pl.Series(clicks.time_ms).cast(pl.Datetime("ms", "UTC")),
                **{name: values for name, values in optional.items() if values is not None},
            }
        )

    def _lines(self) -> list[str]:
        where = f", from {self.folder}" if self.folder is not None else ", in memory"
        size = f"{len(self.users):,} users, {len(self.items):,} items, {len(self.clicks):,} clicks"
        dropped = self.schema.provenance.get("dropped")
        left_out = dropped.items() if isinstance(dropped, dict) else ()
        return [
            f"Dataset {self.name}: {size}{where}",
            f"user fields: {', '.join(self.schema.users) or 'none'}",
            f"item fields: {', '.join(self.schema.items) or 'none'}",
            *(f"dropped: {reason}: {count:,}" for reason, count in left_out if isinstance(count, int)),
            *(f"note: {note}" for note in self.notes),
        ]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of both id maps (order included): a model fits only the id maps it was trained on."""
        import hashlib

        digest = hashlib.sha256()
        for table in (self.users, self.items):
            for start in range(0, len(table), 1_000_000):
                digest.update("\x1f".join(map(str, table.ids[start : start + 1_000_000].to_list())).encode())
            digest.update(b"\x1e")
        return digest.hexdigest()[:16]
