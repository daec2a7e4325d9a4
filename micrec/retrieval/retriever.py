"""Answers from a serving bundle: top items for known users, for unseen ones, and with new items added."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from micrec.data.dataset import Dataset
from micrec.data.encoding import IdMap
from micrec.errors import MicrecError
from micrec.fitting import Fitted
from micrec.inference import encode_users
from micrec.models.columns import FieldColumns, Ragged, gather_ranges
from micrec.retrieval.build import Catalogue, build_bundle
from micrec.retrieval.bundle import Bundle, load_bundle, save_bundle
from micrec.retrieval.index import DEPTHS, IndexKind, IndexReport, measure_recall, search
from micrec.retrieval.new_items import listed, with_items


class Recommendation(NamedTuple):
    """A ranked list, best first."""

    item_ids: list[Any]  # outside ids
    scores: list[float]  # inner products of the towers' outputs; of several interests, the highest
    titles: list[str | None] | None  # None if the dataset has no title field


class Retriever:
    """Top k items by the two towers, for known users, unseen users, and with new items.

    ``build`` makes one from a fitted model; ``save`` and ``load`` move it through a folder.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._users = IdMap(bundle.user_ids)
        self._items = IdMap(bundle.item_ids)
        self._adding = threading.Lock()

    @classmethod
    def build(
        cls,
        fitted: Fitted,
        dataset: Dataset,
        *,
        kind: IndexKind = "flat",
        catalogue: Catalogue = "train",
        k: int | None = None,
        queries: int = 1000,
    ) -> "Retriever":
        """Index the items, and measure the index against exact search (``report``).

        Args:
            fitted: The model; it is copied.
            dataset: The data it was trained on. All clicks of the log become histories, the test period's too.
            kind: Kind of index, see ``build_index``.
            catalogue: Items with training clicks, or every item of the dataset.
            k: One more list length at which recall is measured, beside 10, 50, 100 and 500.
            queries: Most users for whom it is measured.
        """
        bundle, vectors = build_bundle(fitted, dataset, kind=kind, catalogue=catalogue)
        retriever = cls(bundle)
        sample = np.linspace(0, len(dataset.users) - 1, min(queries, len(dataset.users))).astype(np.int64)
        depths = DEPTHS if k is None else (*DEPTHS, k)
        report = measure_recall(bundle.index, kind, vectors, retriever._embed_known(sample), depths)
        retriever.bundle = replace(bundle, manifest=bundle.manifest | {"index": report.as_dict()})
        return retriever

    @classmethod
    def load(cls, folder: Path) -> "Retriever":
        """Read a bundle folder.

        Raises:
            MicrecError: If the folder holds no bundle or is damaged.
        """
        return cls(load_bundle(folder))

    def save(self, folder: Path, *, overwrite: bool = False) -> None:
        """Write the bundle as one folder; it appears whole or not at all.

        Raises:
            MicrecError: If the folder is taken or cannot be written.
        """
        save_bundle(self.bundle, folder, overwrite=overwrite)

    @property
    def report(self) -> IndexReport:
        """How well the index agreed with exact search when it was built."""
        return IndexReport.of(self.bundle.manifest["index"])

    # -- asking --------------------------------------------------------------------------------------------------

    def recommend(self, user: object, k: int, *, hide_seen: bool = False) -> Recommendation:
        """Top k for a user of the dataset, from the fields and clicks that the bundle holds.

        Args:
            user: Outside user id.
            k: Length of the list; it is shorter if there are not so many items.
            hide_seen: Leave out everything the user has clicked.

        Raises:
            MicrecError: If the user is unknown.
        """
        row = _positions(self._users, [user])
        if row[0] < 0:
            raise MicrecError(
                f"user {user}: none of the {len(self.bundle.user_ids):,} users of the bundle: ask for an unseen user "
                "by fields and fresh clicks instead (--field, --history)."
            )
        seen = self.bundle.clicks.take(torch.from_numpy(row)).values.numpy()
        return self._top(self._embed_known(row), k, hidden=seen if hide_seen else None)

    def recommend_unseen(
        self, fields: Mapping[str, Any], history: Sequence[object], k: int, *, hide_seen: bool = False
    ) -> Recommendation:
        """Top k for a user who is not in the dataset, from user fields and fresh clicks.

        Args:
            fields: Value by user field; what is not given is missing. A multi-valued field takes a list, or text with
                ``|`` between the values.
            history: Outside ids of the clicked items, oldest first.
            k: Length of the list; it is shorter if there are not so many items.
            hide_seen: Leave out the items of ``history``.

        Raises:
            MicrecError: If a field or an item is unknown.
        """
        rows = _positions(self._items, history)
        if (rows < 0).any():
            unknown = listed(item for item, row in zip(history, rows, strict=True) if row < 0)
            raise MicrecError(
                f"history: {unknown}: none of the {len(self.bundle.item_ids):,} items of the bundle: leave them out, "
                "or add them by their fields first (--new-items)."
            )
        users = self.bundle.user_encoder.encode(field_frame(fields), 1)
        clicks = Ragged(torch.from_numpy(rows), torch.tensor([0, len(rows)]))
        return self._top(self._embed(users, clicks), k, hidden=rows if hide_seen else None)

    def retrieve(self, user_ids: NDArray[np.int64], recent_items: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        """Top k for many users at once, by dense ids.

        Args:
            user_ids: Dense user ids, shape (B,).
            recent_items: Dense ids of their latest clicks, shape (B, L), newest first, -1 as padding.
            k: Length of the lists.

        Returns:
            Dense item ids, shape (B, k), best first; -1 where there are fewer than k items.

        Raises:
            ValueError: If the shapes do not fit, or an id is out of range.
        """
        self._check_dense(user_ids, recent_items)
        oldest_first = recent_items[:, ::-1].astype(np.int64)
        is_click = oldest_first >= 0
        offsets = np.concatenate([[0], np.cumsum(is_click.sum(axis=1))])
        clicks = Ragged(torch.from_numpy(oldest_first[is_click]), torch.from_numpy(offsets))
        users = self.bundle.users.take(torch.from_numpy(user_ids.astype(np.int64)))
        embeddings, bundle = self._embed(users, clicks), self.bundle
        _, rows = search(bundle.index, embeddings, k)
        return np.where(rows >= 0, bundle.candidates[rows], -1).astype(np.int64)

    # -- new items -----------------------------------------------------------------------------------------------

    def add_items(self, frame: pl.DataFrame) -> None:
        """Put new items into the index, from their fields alone: all of them, or none if there is a fault.

        Several threads may add, ask and save at the same time. Each addition copies the index, so add many at once.

        Args:
            frame: ``item_id``, any item fields that the model reads, and the title field if the dataset has one.

        Raises:
            MicrecError: If an id is missing, known already or there twice, or a field is unknown.
        """
        with self._adding:  # one addition at a time; who asks meanwhile sees the items before it, or all after it
            bundle = with_items(self.bundle, frame)
            self.bundle = bundle  # before the ids, so that no id is known that the bundle does not hold
            self._items = IdMap(bundle.item_ids)

    # -- the towers ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _embed(self, users: FieldColumns, clicks: Ragged) -> NDArray[np.float32]:
        """Embeddings of B users, (B, D) or (B, K, D), from their encoded fields and clicks, oldest first.

        Only the items of the histories are embedded, each once.
        """
        bundle = self.bundle
        stops = clicks.offsets[1:]
        latest = torch.maximum(clicks.offsets[:-1], stops - bundle.model.config.history_length)
        clicks = gather_ranges(clicks.values.long(), latest, stops)
        items, rows = torch.unique(clicks.values, return_inverse=True)
        if len(items) == 0:
            items = items.new_zeros(1)  # the towers want a row to look at, even if nobody has clicked it
        fields = bundle.model.embed_items(bundle.items.take(items))
        return encode_users(bundle.model, users, Ragged(rows, clicks.offsets), fields).numpy()

    def _embed_known(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The same for dense user ids, from the bundle's own fields and clicks."""
        at = torch.from_numpy(rows)
        return self._embed(self.bundle.users.take(at), self.bundle.clicks.take(at))

    def _top(self, embedding: NDArray[np.float32], k: int, *, hidden: NDArray[np.integer] | None) -> Recommendation:
        """The list for one user, embedding (1, D) or (1, K, D), without the dense items ``hidden``."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}.")
        hidden = np.unique(hidden) if hidden is not None else np.empty(0, dtype=np.int64)
        bundle = self.bundle
        scores, rows = search(bundle.index, embedding, min(k + len(hidden), bundle.index.ntotal))
        items = bundle.candidates[rows[0]]
        kept = np.flatnonzero(~np.isin(items, hidden))[:k]
        chosen, titles = items[kept].tolist(), bundle.titles
        return Recommendation(
            item_ids=bundle.item_ids.gather(chosen).to_list(),
            scores=scores[0, kept].tolist(),
            titles=None if titles is None else titles.gather(chosen).to_list(),
        )

    def _check_dense(self, user_ids: NDArray[np.int64], recent_items: NDArray[np.int64]) -> None:
        if user_ids.ndim != 1 or recent_items.ndim != 2 or len(user_ids) != len(recent_items):
            raise ValueError(
                f"user_ids {user_ids.shape} and recent_items {recent_items.shape} must be (B,) and (B, L)."
            )
        n_users, n_items = self.bundle.users.n, self.bundle.items.n
        if len(user_ids) and not 0 <= user_ids.min() <= user_ids.max() < n_users:
            raise ValueError(f"user_ids must lie in 0 .. {n_users - 1}, got {user_ids.min()} .. {user_ids.max()}.")
        if recent_items.size and recent_items.max() >= n_items:
            raise ValueError(f"recent_items must be below {n_items}, got {recent_items.max()}.")


def field_frame(fields: Mapping[str, Any]) -> pl.DataFrame:
    """One row of field values, for a ``FieldEncoder``."""
    return pl.DataFrame({name: [value] for name, value in fields.items()})


def _positions(ids: IdMap, outside: Sequence[object]) -> NDArray[np.int64]:
    """Dense ids of outside ids, -1 = unknown; text of digits finds an integer id too."""
    return ids.positions(pl.Series([str(value) for value in outside], dtype=pl.String)).astype(np.int64)
