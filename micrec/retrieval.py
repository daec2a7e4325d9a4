"""A FAISS serving bundle: user tower, item matrix, index, id maps and manifest in one folder (paper 4.2)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import faiss
import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.checkpoint import load_checkpoint, save_checkpoint
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.histories import Histories, group_by_user
from micrec.encoding import FieldEncoder
from micrec.errors import MicrecError
from micrec.fitting import Fitted
from micrec.inference import encode_items, encode_users, histories_of
from micrec.model_folder import model_manifest, model_tensors, restore_model
from micrec.models.columns import FieldColumns, Ragged
from micrec.models.two_tower import TwoTower
from micrec.settings import validate

KIND = "micrec-bundle"
IndexKind = Literal["flat", "ivf", "hnsw"]


class Recommendation(NamedTuple):
    """A ranked list: outside item ids, best first, and their scores."""

    item_ids: list[Any]
    scores: list[float]


class IndexReport(NamedTuple):
    """How well the index agrees with exact search."""

    kind: IndexKind
    items: int
    k: int
    queries: int
    recall: float  # mean share of the exact top k that the index found


def build_index(vectors: NDArray[np.float32], kind: IndexKind) -> faiss.Index:
    """FAISS index over item vectors, shape (M, D), by inner product.

    - flat: exact.
    - ivf: 4 sqrt(M) cells, an eighth of them searched.
    - hnsw: 32 links, search width 256. Built on the inner-product metric itself, not on L2.
    """
    dim, n = vectors.shape[1], len(vectors)
    if kind == "flat":
        index: faiss.Index = faiss.IndexFlatIP(dim)
    elif kind == "ivf":
        cells = max(1, min(int(4 * np.sqrt(n)), n // 39 or 1))  # faiss wants at least 39 training points per cell
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.nprobe = max(1, cells // 8)
    else:
        index = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 200
        index.hnsw.efSearch = 256
    index.add(vectors)
    return index


def index_recall(index: faiss.Index, kind: IndexKind, vectors: Tensor, queries: Tensor, k: int) -> IndexReport:
    """Compare the index with exact search on some queries, shape (Q, D)."""
    k = min(k, len(vectors))
    exact = (queries @ vectors.T).topk(k, dim=1).indices.cpu().numpy()
    widen_search(index, k)
    found = index.search(queries.cpu().numpy(), k)[1]
    hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)]
    return IndexReport(kind, len(vectors), k, len(queries), float(np.sum(hits) / max(exact.size, 1)))


def widen_search(index: faiss.Index, k: int) -> None:
    """HNSW returns at most its search width: keep that at twice the list length or more."""
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = max(index.hnsw.efSearch, 2 * k)


@dataclass
class Retriever:
    """Answers with the top k items for known users, unseen users, and after new items were added.

    ``build`` makes one from a fitted model, ``save`` and ``load`` move it through a folder.
    """

    model: TwoTower
    config: Config
    manifest: dict[str, Any]
    encoder: FieldEncoder
    users: FieldColumns
    items: FieldColumns
    histories: Histories  # latest clicks of every user
    user_ids: pl.Series
    item_ids: pl.Series
    candidates: NDArray[np.int64]  # (M,) dense ids in the index, by index row; new items follow the catalogue
    vectors: NDArray[np.float32]  # (M, D)
    index: faiss.Index
    titles: dict[Any, str]  # outside item id -> title, where the dataset has one

    def __post_init__(self) -> None:
        self._item_fields, _ = encode_items(self.model, self.items)
        self._user_rows = {outside: row for row, outside in enumerate(self.user_ids.to_list())}
        self._item_rows = {outside: row for row, outside in enumerate(self.item_ids.to_list())}

    # -- making one ----------------------------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        fitted: Fitted,
        dataset: Dataset,
        *,
        kind: IndexKind = "flat",
        catalogue: Literal["train", "all"] = "train",
        k: int = 500,
        queries: int = 1000,
    ) -> "tuple[Retriever, IndexReport]":
        """Index the items and measure the index's recall against exact search on up to ``queries`` users.

        ``catalogue``: items with training clicks, or every item of the dataset. Histories are each user's latest
        clicks in the whole log, as serving would have them.
        """
        model = fitted.model.cpu().eval()
        users, items = fitted.fields.users.to("cpu"), fitted.fields.items.to("cpu")
        _, item_emb = encode_items(model, items)
        clicked = np.bincount(dataset.clicks.item_ids[: fitted.trained_clicks], minlength=len(dataset.items)) > 0
        candidates = np.flatnonzero(clicked) if catalogue == "train" else np.arange(len(dataset.items))
        vectors = np.ascontiguousarray(item_emb.numpy()[candidates])
        retriever = cls(
            model=model,
            config=fitted.config,
            manifest={**model_manifest(fitted, dataset), "index": kind},
            encoder=FieldEncoder.of(dataset, fitted.fields),
            users=users,
            items=items,
            histories=latest_clicks(dataset, fitted.config.model.history_length),
            user_ids=dataset.users.ids,
            item_ids=dataset.items.ids,
            candidates=candidates.astype(np.int64),
            vectors=vectors,
            index=build_index(vectors, kind),
            titles=item_titles(dataset),
        )
        sample = np.linspace(0, len(dataset.users) - 1, min(queries, len(dataset.users))).astype(np.int64)
        report = index_recall(retriever.index, kind, torch.from_numpy(vectors), retriever.embed_known(sample), k)
        retriever.manifest["index_report"] = report._asdict()
        return retriever, report

    # -- asking it -----------------------------------------------------------------------------------------------

    def recommend(self, user: object, k: int, *, seen: bool = True) -> Recommendation:
        """Top k for a user of the dataset, from the fields and clicks that the bundle holds.

        Args:
            user: Outside user id.
            k: Length of the list.
            seen: Whether items among the user's latest clicks may be in it.

        Raises:
            MicrecError: If the user is unknown.
        """
        row = self._row(self._user_rows, user, "user", "give --field and --history for a new user")
        history = self.histories.items[self.histories.offsets[row] : self.histories.offsets[row + 1]]
        return self._top(self.embed_known(np.array([row])), k, hidden=None if seen else history)

    def recommend_unseen(
        self, fields: Mapping[str, Any], history: Sequence[object], k: int, *, seen: bool = True
    ) -> Recommendation:
        """Top k for a user the model has never met, from user fields and fresh clicks, oldest first.

        Raises:
            MicrecError: If a field or a clicked item is unknown.
        """
        rows = [self._row(self._item_rows, item, "item", "add it with --new-items") for item in history]
        clicks = Ragged(torch.tensor(rows, dtype=torch.int64), torch.tensor([0, len(rows)]))
        embedding = encode_users(self.model, self.encoder.users([fields]), clicks, self._item_fields)
        return self._top(embedding, k, hidden=None if seen else np.array(rows, dtype=np.int64))

    def retrieve(self, user_ids: NDArray[np.int64], recent_items: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        """Dense item ids, shape (B, k), best first, for dense users (B,) with clicks (B, L), newest first, -1 padding."""
        valid = recent_items[:, ::-1] >= 0
        offsets = np.concatenate([[0], np.cumsum(valid.sum(axis=1))])
        clicks = Ragged(torch.from_numpy(recent_items[:, ::-1][valid].astype(np.int64)), torch.from_numpy(offsets))
        users = self.users.take(torch.from_numpy(user_ids.astype(np.int64)))
        embedding = encode_users(self.model, users, clicks, self._item_fields)
        widen_search(self.index, k)
        rows = self.index.search(embedding.numpy(), k)[1]
        return np.where(rows >= 0, self.candidates[rows], -1)

    def add_items(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put new items into the index, from their fields alone (``item_id`` and any item field).

        Raises:
            MicrecError: If an item is known already or a field is unknown.
        """
        outside = [row.get("item_id") for row in rows]
        known = [str(i) for i in outside if i is None or i in self._item_rows]
        if known:
            raise MicrecError(f"new items: {', '.join(known[:5])} missing or known already: give new item_id values.")
        columns = self.encoder.items([{k: v for k, v in row.items() if k != "item_id"} for row in rows])
        fields, embeddings = encode_items(self.model, columns)
        first = len(self.item_ids)
        self.items = self.items.concat(columns)
        self._item_fields = torch.cat([self._item_fields, fields])
        self._item_rows |= {item: first + i for i, item in enumerate(outside)}
        self.item_ids = pl.concat([self.item_ids, pl.Series(self.item_ids.name, outside, dtype=self.item_ids.dtype)])
        self.candidates = np.concatenate([self.candidates, np.arange(first, first + len(rows))])
        self.vectors = np.concatenate([self.vectors, embeddings.numpy()])
        self.index.add(np.ascontiguousarray(embeddings.numpy()))

    def embed_known(self, rows: NDArray[np.int64]) -> Tensor:
        """Embeddings of dense users, shape (len(rows), D), from the bundle's own histories."""
        offsets = self.histories.offsets
        length = self.config.model.history_length
        clicks = histories_of(self.histories.items, offsets[rows], offsets[rows + 1], length, torch.device("cpu"))
        return encode_users(self.model, self.users.take(torch.from_numpy(rows)), clicks, self._item_fields)

    def _top(self, embedding: Tensor, k: int, *, hidden: NDArray | None) -> Recommendation:
        wanted = min(len(self.candidates), k + (0 if hidden is None else len(hidden)))
        widen_search(self.index, wanted)
        scores, rows = self.index.search(np.ascontiguousarray(embedding.numpy()), wanted)
        keep = rows[0] >= 0
        dense = self.candidates[rows[0][keep]]
        if hidden is not None:
            fresh = ~np.isin(dense, hidden)
            dense, kept_scores = dense[fresh], scores[0][keep][fresh]
        else:
            kept_scores = scores[0][keep]
        return Recommendation([self.item_ids[int(i)] for i in dense[:k]], [float(s) for s in kept_scores[:k]])

    def _row(self, rows: dict[Any, int], outside: object, what: str, cure: str) -> int:
        for key in (outside, int(outside) if isinstance(outside, str) and outside.lstrip("-").isdigit() else outside):
            if key in rows:
                return rows[key]
        raise MicrecError(f"{what} {outside!r} is not in the bundle: {cure}.")

    # -- disk ----------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the bundle as one folder; it appears whole or not at all."""
        tensors = model_tensors(self.model)
        tensors |= {f"users.{k}": v for k, v in self.users.tensors().items()}
        tensors |= {f"items.{k}": v for k, v in self.items.tensors().items()}
        tensors |= {
            "histories.items": torch.from_numpy(self.histories.items),
            "histories.offsets": torch.from_numpy(self.histories.offsets),
            "candidates": torch.from_numpy(self.candidates),
            "vectors": torch.from_numpy(self.vectors),
            "index": torch.from_numpy(faiss.serialize_index(self.index)),
            "ids": torch.from_numpy(np.frombuffer(self._ids_json(), dtype=np.uint8).copy()),
        }
        manifest = {
            **self.manifest,
            "kind": KIND,
            "encoder": self.encoder.as_dict(),
            "users": self.users.n,
            "items": self.items.n,
        }
        save_checkpoint(folder, tensors, manifest)

    def _ids_json(self) -> bytes:
        items = self.item_ids.to_list()
        titles = [self.titles.get(item) for item in items] if self.titles else []
        return json.dumps({"users": self.user_ids.to_list(), "items": items, "titles": titles}).encode()

    @classmethod
    def load(cls, folder: Path) -> "Retriever":
        """Read a bundle.

        Raises:
            MicrecError: If the folder holds no bundle or is damaged.
        """
        tensors, manifest = load_checkpoint(folder)
        if manifest.get("kind") != KIND:
            raise MicrecError(f"{folder}: not a serving bundle: give the folder that `micrec index` wrote.")
        config = validate(Config, manifest["config"], where=f"{folder}/manifest.json")
        ids = json.loads(tensors["ids"].numpy().tobytes())
        items, offsets = tensors["histories.items"].numpy(), tensors["histories.offsets"].numpy()
        empty = np.empty(0, dtype=np.int64)

        def columns(part: str) -> FieldColumns:
            prefix = f"{part}."
            found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            return FieldColumns.from_tensors(found, n=int(manifest[part]))

        return cls(
            model=restore_model(config, manifest, tensors),
            config=config,
            manifest=manifest,
            encoder=FieldEncoder.from_dict(manifest["encoder"]),
            users=columns("users"),
            items=columns("items"),
            histories=Histories(items, empty.astype(np.int32), empty, offsets),
            user_ids=pl.Series("user_id", ids["users"]),
            item_ids=pl.Series("item_id", ids["items"]),
            candidates=tensors["candidates"].numpy(),
            vectors=tensors["vectors"].numpy(),
            index=faiss.deserialize_index(tensors["index"].numpy()),
            titles={item: title for item, title in zip(ids["items"], ids["titles"], strict=False) if title},
        )


def item_titles(dataset: Dataset) -> dict[Any, str]:
    """Titles by outside item id; empty where the dataset has no title field."""
    role = dataset.schema.roles.title
    if role is None:
        return {}
    titles = dataset.items.frame[role].to_list()
    return {item: title for item, title in zip(dataset.items.ids.to_list(), titles, strict=True) if title}


def latest_clicks(dataset: Dataset, length: int) -> Histories:
    """The latest ``length`` clicks of every user in the whole log."""
    full = group_by_user(dataset.clicks, len(dataset.users))
    rank_from_end = full.offsets[full.users.astype(np.int64) + 1] - np.arange(len(full.items))
    keep = rank_from_end <= length
    offsets = np.concatenate([[0], np.cumsum(np.minimum(np.diff(full.offsets), length))])
    return Histories(full.items[keep], full.users[keep], full.rows[keep], offsets.astype(np.int64))
