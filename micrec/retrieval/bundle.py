"""Everything that serving needs, in memory or as a folder: user tower, item vectors, index, fields, clicks, ids."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator
from torch import Tensor

from micrec.artifact import load_artifact, save_artifact, whole_artifact
from micrec.data.title_vocabulary import TitleWords
from micrec.field_encoder import FieldEncoder
from micrec.model_folder import ModelManifest, checked_config, model_tensors, read_specs, restore_model
from micrec.models.columns import FieldColumns, Ragged
from micrec.models.two_tower import TwoTower
from micrec.retrieval.index import (
    Index,
    IndexKind,
    IndexReport,
    fits_width,
    index_from,
    index_tensors,
    present_form,
    stored_vectors,
)


class StoredDepth(BaseModel):
    """Recall at one depth."""

    model_config = ConfigDict(strict=True)
    k: NonNegativeInt
    recall: Annotated[float, Field(ge=0.0, le=1.0)]
    width: NonNegativeInt | None


class StoredReport(BaseModel):
    """What ``IndexReport.as_dict`` gives."""

    model_config = ConfigDict(strict=True)
    kind: IndexKind
    items: NonNegativeInt
    queries: NonNegativeInt
    cells: NonNegativeInt | None = None
    depths: list[StoredDepth]


class BundleManifest(ModelManifest):
    """What a bundle's manifest holds beside the model's."""

    title_field: str | None = None
    index: StoredReport | None = None  # a platform's versions are not measured
    lineage: dict[str, NonNegativeInt] | None = None  # but count the trainings behind them
    now_ms: int | None = None  # the moment that answers are given for, of a model that reads time
    counted_items: NonNegativeInt | None = None  # items among which an item's popularity is a share

    @field_validator("index", mode="before")
    @classmethod
    def _of_any_version(cls, index: Any) -> Any:
        return present_form(index) if isinstance(index, dict) else index


@dataclass(frozen=True)
class Bundle:
    """What a ``Retriever`` holds, on the CPU. U users, N items, M of them in the index, n clicks.

    Attributes:
        model: The towers.
        users: Encoded fields of the users.
        items: Encoded fields of the items.
        user_ids: Outside user ids, shape (U,); position = dense id.
        item_ids: Outside item ids, shape (N,).
        titles: Titles of the items, shape (N,), null where unknown; None if the dataset has no title field.
        clicks: Clicked items of every user, oldest first, int32.
        candidates: Dense item id of each row of the index, shape (M,).
        index: Index over the tower outputs of the candidates, by inner product.
        user_encoder: Encodes fields of users who are not here.
        item_encoder: Encodes fields of items that are not here.
        manifest: Config, field specs, dataset, and the index's recall.
        click_ms: Moments of the clicks, in their order, int64; None where the model reads no times.
        words: The words of titles that the model knows, for titles that come later; None where it reads no titles.
    """

    model: TwoTower
    users: FieldColumns
    items: FieldColumns
    user_ids: pl.Series
    item_ids: pl.Series
    titles: pl.Series | None
    clicks: Ragged
    candidates: NDArray[np.int32]
    index: Index
    user_encoder: FieldEncoder
    item_encoder: FieldEncoder
    manifest: dict[str, Any]
    click_ms: Tensor | None = None
    words: TitleWords | None = None

    @property
    def now_ms(self) -> int:
        """The moment that answers are given for: that of the latest known click."""
        return int(self.manifest.get("now_ms", 0))

    @cached_property
    def index_rows(self) -> NDArray[np.int64]:
        """The row of the index that holds each item, shape (N,), -1 = none."""
        rows = np.full(self.items.n, -1, dtype=np.int64)
        rows[self.candidates] = np.arange(len(self.candidates))
        return rows

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """The vectors of the index, shape (M, D); see ``exact_vectors`` for an index of codes."""
        return stored_vectors(self.index)[:, : self.model.score_dim]


def save_bundle(bundle: Bundle, folder: Path, *, overwrite: bool = False) -> None:
    """Write a bundle as one folder; it appears whole or not at all.

    Raises:
        MicrecError: If the folder is taken or cannot be written.
    """
    labels = {"user": dict(bundle.user_encoder.labels), "item": dict(bundle.item_encoder.labels)}
    tensors = {
        **model_tensors(bundle.model),
        **{f"users.{name}": tensor for name, tensor in bundle.users.tensors().items()},
        **{f"items.{name}": tensor for name, tensor in bundle.items.tensors().items()},
        "user_ids": _pack_ids(bundle.user_ids),
        "item_ids": _pack_ids(bundle.item_ids),
        "titles": _pack(None if bundle.titles is None else bundle.titles.to_list()),
        "labels": _pack(labels),
        "clicks.values": bundle.clicks.values,
        "clicks.offsets": bundle.clicks.offsets,
        "candidates": torch.from_numpy(bundle.candidates),
        **index_tensors(bundle.index),
    }
    if bundle.click_ms is not None:
        tensors["clicks.time_ms"] = bundle.click_ms
    if bundle.words is not None:
        tensors["words"] = _pack(bundle.words.as_json())
    save_artifact(folder, "bundle", tensors, bundle.manifest, overwrite=overwrite)


def load_bundle(folder: Path) -> Bundle:
    """Read what ``save_bundle`` wrote.

    Raises:
        MicrecError: If the folder holds no bundle or is damaged.
    """
    tensors, manifest = load_artifact(folder, "bundle")
    config = checked_config(folder, manifest, BundleManifest)
    with whole_artifact(folder, "bundle"):
        user_ids, item_ids = _unpack_ids(tensors["user_ids"]), _unpack_ids(tensors["item_ids"])
        titles, labels = _unpack(tensors["titles"]), _unpack(tensors["labels"])
        bundle = Bundle(
            model=restore_model(config, manifest, tensors),
            users=FieldColumns.from_tensors(_below("users.", tensors), n=len(user_ids)),
            items=FieldColumns.from_tensors(_below("items.", tensors), n=len(item_ids)),
            user_ids=user_ids,
            item_ids=item_ids,
            titles=None if titles is None else pl.Series(titles, dtype=pl.String),
            clicks=Ragged(tensors["clicks.values"], tensors["clicks.offsets"]),
            candidates=tensors["candidates"].numpy(),
            index=index_from(tensors),
            user_encoder=FieldEncoder("user", read_specs(manifest["user_specs"]), labels["user"]),
            item_encoder=FieldEncoder("item", read_specs(manifest["item_specs"]), labels["item"]),
            manifest=manifest,
            click_ms=tensors.get("clicks.time_ms"),
            words=TitleWords.from_json(_unpack(tensors["words"])) if "words" in tensors else None,
        )
        _check(bundle)
        return bundle


def _check(bundle: Bundle) -> None:
    """Refuse parts that do not fit each other.

    Raises:
        ValueError: If they do not.
    """
    n, candidates = len(bundle.item_ids), bundle.candidates
    if bundle.index.ntotal != len(candidates):
        raise ValueError(f"the index holds {bundle.index.ntotal:,} items, the list beside it {len(candidates):,}")
    if len(candidates) and not 0 <= candidates.min() <= candidates.max() < n:
        raise ValueError(f"the list of items goes beyond the {n:,} item ids")
    if len(np.unique(candidates)) != len(candidates) or bundle.item_ids.n_unique() != n:
        raise ValueError("an item appears twice")
    if bundle.items.n != n or (bundle.titles is not None and len(bundle.titles) != n):
        raise ValueError("items, fields and titles differ in number")
    title = bundle.manifest.get("title_field")
    if not (title is None or isinstance(title, str)):
        raise ValueError(f"title_field is {title!r}, not the name of a field")
    if "index" in bundle.manifest:  # a platform's versions are not measured
        IndexReport.of(bundle.manifest["index"])
    if bundle.users.n != len(bundle.clicks.offsets) - 1:
        raise ValueError(f"there are {bundle.users.n:,} users and clicks of {len(bundle.clicks.offsets) - 1:,}")
    if not fits_width(bundle.index, bundle.model.score_dim):
        raise ValueError(
            f"the index holds vectors of {bundle.index.d} numbers, the towers give {bundle.model.score_dim}"
        )
    missing = [key for key in ("now_ms", "counted_items") if bundle.manifest.get(key) is None]
    if bundle.click_ms is not None and missing:
        raise ValueError(f"{' and '.join(missing)}: missing, though the clicks have times")
    if bundle.click_ms is not None and len(bundle.click_ms) != len(bundle.clicks.values):
        raise ValueError(f"there are {len(bundle.clicks.values):,} clicks and {len(bundle.click_ms):,} times")
    _check_columns(bundle.users, bundle.user_encoder)
    _check_columns(bundle.items, bundle.item_encoder)


def _check_columns(columns: FieldColumns, encoder: FieldEncoder) -> None:
    """Refuse fields whose rows or codes are not those that the towers were made for.

    Raises:
        ValueError: Naming the field.
    """
    codes = dict(columns.single)
    codes |= {name: ragged.values for name, ragged in columns.multi.items()}
    rows = {name: len(column) for name, column in {**columns.single, **columns.numbers}.items()}
    rows |= {name: len(ragged.offsets) - 1 for name, ragged in columns.multi.items()}
    for spec in encoder.specs:
        what = f"the {encoder.entity} field {spec.name}"
        if rows.get(spec.name) != columns.n:
            raise ValueError(f"{what} has {rows.get(spec.name, 0):,} rows, not {columns.n:,}")
        if spec.name in codes and len(codes[spec.name]) and int(codes[spec.name].max()) >= spec.size:
            raise ValueError(f"{what} has codes beyond its {spec.size:,} values")
        if spec.size and not spec.own_id and len(encoder.labels[spec.name]) != spec.size - 1:
            raise ValueError(f"{what} has {len(encoder.labels[spec.name]):,} names for {spec.size - 1:,} values")


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _pack_ids(ids: pl.Series) -> Tensor:
    """Integers as they are, int64; strings as JSON."""
    return torch.from_numpy(ids.to_numpy(writable=True)) if ids.dtype == pl.Int64 else _pack(ids.to_list())


def _unpack_ids(packed: Tensor) -> pl.Series:
    return pl.Series(packed.numpy()) if packed.dtype == torch.int64 else pl.Series(_unpack(packed), dtype=pl.String)


def _pack(content: Any) -> Tensor:
    """JSON as a tensor of bytes, so that it lies in the one hashed file."""
    return torch.frombuffer(bytearray(json.dumps(content).encode()), dtype=torch.uint8)


def _unpack(packed: Tensor) -> Any:
    return json.loads(packed.numpy().tobytes())
