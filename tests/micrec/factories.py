"""Small dataset folders for tests: one written out by hand, and random ones of any size."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl

from micrec.data.dataset import Dataset
from micrec.data.schema import DatasetSchema, FieldType, Roles
from micrec.data.store import read_dataset, write_dataset

START_S = 1_600_000_000  # 2020-09-13 12:26:40 UTC


def tiny_schema(**changes: object) -> DatasetSchema:
    """Schema of the hand-written dataset; ``changes`` replace whole keys."""
    keys: dict[str, object] = {
        "name": "tiny",
        "licence": "CC0",
        "users": {"country": "categorical", "age": "numeric"},
        "items": {"title": "text", "category": "categorical", "tags": "multi_categorical", "price": "numeric"},
        "roles": {"title": "title", "category": "category", "taxonomy": "tags"},
    }
    return DatasetSchema.model_validate(keys | changes)


def tiny_users() -> pl.DataFrame:
    """Three users; dense ids 0, 1, 2 are 30, 10, 20."""
    return pl.DataFrame({"user_id": [30, 10, 20], "country": ["uk", None, "at"], "age": [41.5, 20.0, None]})


def tiny_items() -> pl.DataFrame:
    """Four items; dense ids 0 .. 3 are d, a, b, c; c is never clicked."""
    return pl.DataFrame(
        {
            "item_id": ["d", "a", "b", "c"],
            "title": ["red mug", "blue mug", None, "lamp"],
            "category": ["mug", "mug", "light", None],
            "tags": [["x", "y"], ["y"], [], None],
            "price": [2.5, None, 7.0, 1.0],
        }
    )


def tiny_clicks() -> pl.DataFrame:
    """Six clicks, not in time order, two of them at the same moment."""
    return pl.DataFrame(
        {
            "user_id": [10, 30, 10, 30, 20, 30],
            "item_id": ["a", "d", "b", "a", "a", "d"],
            "timestamp": [START_S + after_s for after_s in (7200, 0, 60, 60, 4000, 9000)],
            "dwell_s": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            "like": [True, False, False, True, False, False],
        }
    )


def write_tiny(
    folder: Path,
    *,
    schema: DatasetSchema | None = None,
    users: pl.DataFrame | None = None,
    items: pl.DataFrame | None = None,
    clicks: pl.DataFrame | Iterable[pl.DataFrame] | None = None,
) -> Path:
    """Write the hand-written dataset, with any part of it replaced, faults included; returns ``folder``."""
    write_dataset(
        folder,
        tiny_schema() if schema is None else schema,
        tiny_users() if users is None else users,
        tiny_items() if items is None else items,
        tiny_clicks() if clicks is None else clicks,
        validate=False,
    )
    return folder


def random_frames(
    rng: np.random.Generator, *, n_users: int = 40, n_items: int = 30, n_clicks: int = 600, n_categories: int = 5
) -> tuple[DatasetSchema, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Schema, users, items and clicks with every field type and skewed item popularity.

    Integer user ids from 1000, string item ids ``i0000 ...``; clicks in time order over about ten days; every
    category has a title word of its own, so titles tell categories apart.
    """
    category = rng.integers(0, n_categories, n_items)
    tags = [sorted({f"tag{t}" for t in rng.integers(0, 8, rng.integers(0, 4))}) for _ in range(n_items)]
    popularity = 1.0 / np.arange(1, n_items + 1)
    items = pl.DataFrame(
        {
            "item_id": [f"i{i:04d}" for i in range(n_items)],
            "title": [f"word{c} thing number{i}" for i, c in enumerate(category)],
            "category": [f"c{c}" for c in category],
            "tags": pl.Series(tags, dtype=pl.List(pl.String)),
            "price": rng.lognormal(1.0, 0.5, n_items),
            "content": pl.Series(rng.normal(size=(n_items, 4)).tolist(), dtype=pl.List(pl.Float64)),
        }
    )
    users = pl.DataFrame(
        {
            "user_id": np.arange(1000, 1000 + n_users),
            "country": [f"k{k}" for k in rng.integers(0, 3, n_users)],
            "age": rng.uniform(18, 70, n_users),
        }
    )
    clicks = pl.DataFrame(
        {
            "user_id": rng.integers(1000, 1000 + n_users, n_clicks),
            "item_id": [f"i{i:04d}" for i in rng.choice(n_items, n_clicks, p=popularity / popularity.sum())],
            "timestamp": START_S + np.sort(rng.integers(0, 10 * 86_400, n_clicks)),
            "dwell_s": rng.lognormal(2.0, 1.0, n_clicks),
            "like": rng.random(n_clicks) < 0.1,
            "follow": rng.random(n_clicks) < 0.02,
        }
    )
    schema = DatasetSchema(
        name="random",
        users={"country": FieldType.CATEGORICAL, "age": FieldType.NUMERIC},
        items={
            "title": FieldType.TEXT,
            "category": FieldType.CATEGORICAL,
            "tags": FieldType.MULTI_CATEGORICAL,
            "price": FieldType.NUMERIC,
            "content": FieldType.VECTOR,
        },
        roles=Roles(title="title", category="category", taxonomy="tags", content="content"),
    )
    return schema, users, items, clicks


def write_random(folder: Path, rng: np.random.Generator, **sizes: int) -> Path:
    """Write a random dataset (``sizes`` as in ``random_frames``); returns ``folder``."""
    write_dataset(folder, *random_frames(rng, **sizes))
    return folder


def random_dataset(folder: Path, rng: np.random.Generator, **sizes: int) -> Dataset:
    """A random dataset, written to ``folder`` and read back."""
    return read_dataset(write_random(folder, rng, **sizes))
