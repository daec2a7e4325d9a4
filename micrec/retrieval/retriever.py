"""Recommendations from a serving bundle, for known and unseen users, with new items added."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from micrec.data.dataset import Dataset
from micrec.data.encoding import IdMap
from micrec.destination import check_destination
from micrec.errors import MicrecError
from micrec.fitting import Fitted
from micrec.folder_lock import waiting_for
from micrec.frames import Frame, as_frame
from micrec.models.columns import Ragged
from micrec.notebook import ResultTable, table_html
from micrec.retrieval.build import Catalogue, build_bundle
from micrec.retrieval.bundle import Bundle, load_bundle, save_bundle
from micrec.retrieval.index import DEPTHS, IndexKind, IndexReport, measure_recall
from micrec.retrieval.many import ListRequest, join_queries
from micrec.retrieval.new_clicks import with_clicks
from micrec.retrieval.new_items import positions, with_items, without_items
from micrec.retrieval.query import Query, answer, query_of, query_of_known
from micrec.retrieval.spelling import listed_with_near

_NONE: NDArray[np.int64] = np.empty(0, dtype=np.int64)


class Recommendation(NamedTuple):
    """A ranked list, best first."""

    item_ids: list[Any]  # outside ids
    scores: list[float]  # as the model ranks: inner products, of several interests the highest, and what it adds
    titles: list[str | None] | None  # None if the dataset has no title field

    def to_frame(self) -> pl.DataFrame:
        """``rank`` from 1, ``item_id``, ``title`` where the dataset has titles, and ``score``; best first."""
        titles = {} if self.titles is None else {"title": pl.Series(self.titles, dtype=pl.String)}
        ranks = list(range(1, len(self.item_ids) + 1))
        return pl.DataFrame({"rank": ranks, "item_id": self.item_ids, **titles, "score": self.scores})

    def _repr_html_(self) -> str:
        frame = self.to_frame().with_columns(pl.col("score").round(4)).cast(pl.String)
        rows = [tuple(cell or "" for cell in row) for row in frame.rows()]
        return table_html(ResultTable("", tuple(frame.columns), rows))


class _Parts(NamedTuple):
    """A bundle and its id maps. None of them ever changes: whoever has them may work on while others swap them."""

    bundle: Bundle
    users: IdMap
    items: IdMap

    @classmethod
    def of(cls, bundle: Bundle) -> "_Parts":
        return cls(bundle, IdMap(bundle.user_ids), IdMap(bundle.item_ids))


class Retriever:
    """Top k items by the two towers, for known users, unseen users, and with new items.

    ``build`` makes one from a fitted model; ``save`` and ``load`` move it through a folder. Threads may ask, add,
    remove and save at the same time: each call works on what there was when it began.

    Examples:
        >>> import micrec, simulator
        >>> data = simulator.make_world("tiny", scale=0.1).dataset
        >>> retriever = micrec.train(data, settings={"model.name": "fm", "train.epochs": 1}).retriever()
        >>> len(retriever.recommend(data.users.ids[0], k=3).item_ids)
        3
    """

    def __init__(self, bundle: Bundle) -> None:
        self._parts = _Parts.of(bundle)
        self._changing = threading.Lock()

    @property
    def bundle(self) -> Bundle:
        """What there is now; a later change makes another one and leaves this as it is."""
        return self._parts.bundle

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
        sample = np.linspace(0, len(dataset.users) - 1, min(queries, len(dataset.users))).astype(np.int64)
        depths = DEPTHS if k is None else (*DEPTHS, k)
        report = measure_recall(bundle.index, kind, vectors, query_of_known(bundle, sample).embeddings, depths)
        return cls(replace(bundle, manifest=bundle.manifest | {"index": report.as_dict()}))

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> "Retriever":
        """Read a bundle folder.

        Raises:
            MicrecError: If the folder holds no bundle or is damaged.
        """
        return cls(load_bundle(Path(folder)))

    @classmethod
    @contextmanager
    def changing(cls, folder: str | PathLike[str]) -> Iterator["Retriever"]:
        """A bundle folder to add to or remove from; the changes are saved when the block ends without an exception.

        Other processes that change the same folder this way wait, so that no change is lost; who loads it meanwhile
        reads it as it was or as it becomes, never half of it.

        Raises:
            MicrecError: If the folder holds no bundle, is damaged, or cannot be written.
        """
        folder = Path(folder)
        if not folder.is_dir():
            load_bundle(folder)  # says so
        check_destination(folder, what="the bundle")
        with waiting_for(folder):
            retriever = cls.load(folder)
            before = retriever.bundle
            yield retriever
            if retriever.bundle is not before:
                retriever.save(folder, overwrite=True)

    def save(self, folder: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the bundle as one folder; it appears whole or not at all.

        Raises:
            MicrecError: If the folder is taken or cannot be written.
        """
        save_bundle(self.bundle, Path(folder), overwrite=overwrite)

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
        parts = self._parts
        row = _row_of(parts, user)
        seen = _clicks_of(parts.bundle, row) if hide_seen else None
        return _top(parts.bundle, query_of_known(parts.bundle, row), k, hidden=seen)

    def recommend_unseen(
        self, fields: Mapping[str, Any], history: Sequence[object], k: int, *, hide_seen: bool = False
    ) -> Recommendation:
        """Top k for a user who is not in the dataset, from user fields and fresh clicks.

        Args:
            fields: Value by user field, of the type it has in the dataset or as text; what is not given is missing. A
                multi-valued field takes a list, or text with ``|`` between the values. A value of the right type that
                no user of the dataset has is read as missing.
            history: Outside ids of the clicked items, oldest first.
            k: Length of the list; it is shorter if there are not so many items.
            hide_seen: Leave out the items of ``history``.

        Raises:
            MicrecError: If a field or an item is unknown, or a value is of another type than the field.
        """
        parts = self._parts
        query, rows = _unseen_query(parts, fields, history)
        return _top(parts.bundle, query, k, hidden=rows if hide_seen else None)

    def recommend_many(self, asked: Sequence[ListRequest]) -> list[Recommendation | MicrecError]:
        """Many lists by one search, each as ``recommend`` or ``recommend_unseen`` gives it.

        Scores may differ from those of single requests in their last digit, since a product of matrices adds in
        another order.

        Args:
            asked: What is asked for.

        Returns:
            The lists in their order; for a request that cannot be answered, the error in its place.
        """
        parts = self._parts
        prepared = _Prepared(parts, asked)
        answers: list[Recommendation | MicrecError] = list(prepared.faults)
        if prepared.places:
            longest = max(asked[place].k + len(prepared.hidden[place]) for place in prepared.places)
            scores, rows = answer(parts.bundle, prepared.query(), min(longest, parts.bundle.index.ntotal))
            lengths = [asked[place].k for place in prepared.places]
            hidden = [prepared.hidden[place] for place in prepared.places]
            found = _lists_of(parts.bundle, scores, rows, lengths, hidden)
            for place, one in zip(prepared.places, found, strict=True):
                answers[place] = one
        return answers

    def clicked_by(self, user: object) -> list[Any]:
        """Outside ids of what a user of the dataset has clicked, oldest first.

        Raises:
            MicrecError: If the user is unknown.
        """
        parts = self._parts
        return parts.bundle.item_ids.gather(_clicks_of(parts.bundle, _row_of(parts, user)).tolist()).to_list()

    def knows_item(self, item: object) -> bool:
        """Whether an outside id is one of an item, listed or not."""
        return bool(positions(self._parts.items, [item])[0] >= 0)

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
        bundle = self.bundle
        _check_dense(bundle, user_ids, recent_items)
        oldest_first = recent_items[:, ::-1].astype(np.int64)
        is_click = oldest_first >= 0
        offsets = np.concatenate([[0], np.cumsum(is_click.sum(axis=1))])
        clicks = Ragged(torch.from_numpy(oldest_first[is_click]), torch.from_numpy(offsets))
        users = bundle.users.take(torch.from_numpy(user_ids.astype(np.int64)))
        _, rows = answer(bundle, query_of(bundle, users, clicks), k)
        return np.where(rows >= 0, bundle.candidates[rows], -1).astype(np.int64)

    # -- changing the catalogue ----------------------------------------------------------------------------------

    def add_items(self, frame: Frame) -> None:
        """Put items into the index, from their fields alone: all of them, or none if there is a fault.

        An item that was taken out, or had no training clicks, comes back by what is known of it; fields that are given
        take the place of the known ones. Several threads may add, ask and save at the same time. Each addition copies
        the index, so add many at once.

        Args:
            frame: ``item_id``, any item fields that the model reads, and the title field if the dataset has one: a
                Polars or pandas frame, or columns by name as NumPy arrays.

        Raises:
            MicrecError: If an id is missing, listed already or there twice, or a field is unknown or of another type.
        """
        items = as_frame(frame, "items")
        self._change(lambda bundle: with_items(bundle, items))

    def remove_items(self, ids: Sequence[object]) -> None:
        """Take items out of the index, so that no list shows them: all of them, or none if there is a fault.

        They stay known: clicks on them still describe a user, and ``add_items`` puts them back. Each removal builds the
        index anew, so remove many at once.

        Args:
            ids: Outside item ids.

        Raises:
            MicrecError: If an id is unknown or not in the index, or no item would stay.
        """
        self._change(lambda bundle: without_items(bundle, ids))

    def add_clicks(self, frame: Frame) -> None:
        """Take in clicks made since: histories go on, and popularity is that of now; all of them, or none at a fault.

        Answers are then given for the moment of the latest click. Where the model reads popularity
        (``model.popularity_half_life_days``), the index is built anew: once a day is often enough.

        Args:
            frame: ``user_id``, ``item_id``, ``timestamp`` in seconds since 1970 or as datetimes: a Polars or pandas
                frame, or columns by name as NumPy arrays.

        Raises:
            MicrecError: If a column is missing, an id is unknown, or a time is earlier than a known click of its user.
        """
        clicks = as_frame(frame, "clicks")
        self._change(lambda bundle: with_clicks(bundle, clicks))

    def _change(self, changed: Callable[[Bundle], Bundle]) -> None:
        """One change at a time; who asks meanwhile sees all of what was before it, or all of what is after it."""
        with self._changing:
            users, bundle = self._parts.users, changed(self._parts.bundle)
            self._parts = _Parts(bundle, users, IdMap(bundle.item_ids))


# -- ids ---------------------------------------------------------------------------------------------------------


class _Prepared:
    """Requests as the index is asked: the users of the bundle first, then the unseen ones.

    Attributes:
        places: Of the requests that can be answered, in the order of the query's rows.
        hidden: By place, the dense items that the list leaves out.
        faults: By place, why there is no list; elsewhere a placeholder.
    """

    def __init__(self, parts: _Parts, asked: Sequence[ListRequest]) -> None:
        self.bundle = parts.bundle
        self.hidden: dict[int, NDArray[np.integer]] = {}
        self.faults = [MicrecError("")] * len(asked)
        known = [place for place, request in enumerate(asked) if request.user is not None]
        rows = positions(parts.users, [asked[place].user for place in known])
        self._known: dict[int, int] = {}
        self._unseen: dict[int, Query] = {}
        for place, row in zip(known, rows.tolist(), strict=True):
            with self._noting_fault(place):
                _check_length(asked[place].k)
                if row < 0:
                    raise _unknown_user(parts, asked[place].user)
                is_hidden = asked[place].hide_seen
                self.hidden[place] = np.unique(_clicks_of(self.bundle, np.array([row]))) if is_hidden else _NONE
                self._known[place] = row
        for place, request in enumerate(asked):
            if request.user is not None:
                continue
            with self._noting_fault(place):
                _check_length(request.k)
                self._unseen[place], clicked = _unseen_query(parts, request.fields, request.history)
                self.hidden[place] = np.unique(clicked) if request.hide_seen else _NONE
        self.places = [*self._known, *self._unseen]

    def query(self) -> Query:
        """All of them, in the order of ``places``; there must be one."""
        together = [query_of_known(self.bundle, np.array(list(self._known.values())))] if self._known else []
        return join_queries([*together, *self._unseen.values()])

    @contextmanager
    def _noting_fault(self, place: int) -> Iterator[None]:
        try:
            yield
        except (MicrecError, ValueError) as fault:
            self.faults[place] = fault if isinstance(fault, MicrecError) else MicrecError(str(fault))


def _row_of(parts: _Parts, user: object) -> NDArray[np.int64]:
    """Dense id of a user, shape (1,)."""
    row = positions(parts.users, [user])
    if row[0] < 0:
        raise _unknown_user(parts, user)
    return row


def _unknown_user(parts: _Parts, user: object) -> MicrecError:
    return MicrecError(
        f"user {listed_with_near([user], parts.bundle.user_ids)}: none of the {len(parts.bundle.user_ids):,} users "
        "of the bundle: ask for an unseen user by fields and fresh clicks instead (--field, --history)."
    )


def _clicks_of(bundle: Bundle, row: NDArray[np.int64]) -> NDArray[np.int32]:
    """Dense ids of what a user has clicked, oldest first."""
    clicks: NDArray[np.int32] = bundle.clicks.take(torch.from_numpy(row)).values.numpy()
    return clicks


def _history_rows(parts: _Parts, history: Sequence[object]) -> NDArray[np.int64]:
    """Dense ids of clicked items."""
    if isinstance(history, str | bytes) or not isinstance(history, Sequence | np.ndarray | pl.Series):
        raise MicrecError(
            f"history: must be a list of item ids, got {history!r} ({type(history).__name__}): put it into a list."
        )
    rows = positions(parts.items, history)
    if (rows < 0).any():
        unknown = [item for item, row in zip(history, rows, strict=True) if row < 0]
        raise MicrecError(
            f"history: {listed_with_near(unknown, parts.bundle.item_ids)}: none of the {len(parts.bundle.item_ids):,} "
            "items of the bundle: leave them out, or add them by their fields first (--new-items)."
        )
    return rows


def _check_dense(bundle: Bundle, user_ids: NDArray[np.int64], recent_items: NDArray[np.int64]) -> None:
    if user_ids.ndim != 1 or recent_items.ndim != 2 or len(user_ids) != len(recent_items):
        raise ValueError(f"user_ids {user_ids.shape} and recent_items {recent_items.shape} must be (B,) and (B, L).")
    n_users, n_items = bundle.users.n, bundle.items.n
    if len(user_ids) and not 0 <= user_ids.min() <= user_ids.max() < n_users:
        raise ValueError(f"user_ids must lie in 0 .. {n_users - 1}, got {user_ids.min()} .. {user_ids.max()}.")
    if recent_items.size and recent_items.max() >= n_items:
        raise ValueError(f"recent_items must be below {n_items}, got {recent_items.max()}.")


def _unseen_query(
    parts: _Parts, fields: Mapping[str, Any], history: Sequence[object]
) -> tuple[Query, NDArray[np.int64]]:
    """What an unseen user asks the index, and the dense ids of their clicks."""
    bundle = parts.bundle
    rows = _history_rows(parts, history)
    users = bundle.user_encoder.encode(bundle.user_encoder.row(fields), 1)
    clicks = Ragged(torch.from_numpy(rows), torch.tensor([0, len(rows)]))
    return query_of(bundle, users, clicks), rows


def _check_length(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise ValueError(f"k must be an integer, got {k!r}.")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}.")


def _top(bundle: Bundle, query: Query, k: int, *, hidden: NDArray[np.integer] | None) -> Recommendation:
    """The list for one user without the dense items ``hidden``."""
    _check_length(k)
    hidden = np.unique(hidden) if hidden is not None else _NONE
    scores, rows = answer(bundle, query, min(int(k) + len(hidden), bundle.index.ntotal))
    return _lists_of(bundle, scores, rows, [k], [hidden])[0]


def _lists_of(
    bundle: Bundle,
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    lengths: Sequence[int],
    hidden: Sequence[NDArray[np.integer]],
) -> list[Recommendation]:
    """Lists of rows of the index, shape (B, m), best first, each without its dense items ``hidden``; -1 is padding."""
    items = np.where(rows >= 0, bundle.candidates[rows], -1)
    is_shown = items >= 0
    for shown, row, unwanted in zip(is_shown, items, hidden, strict=True):
        if len(unwanted):
            shown &= ~np.isin(row, unwanted)
    is_shown &= np.cumsum(is_shown, axis=1) <= np.asarray(lengths)[:, None]
    chosen = items[is_shown]
    stops = np.cumsum(is_shown.sum(axis=1)).tolist()
    ids, values = bundle.item_ids.gather(chosen).to_list(), scores[is_shown].tolist()
    titles = None if bundle.titles is None else bundle.titles.gather(chosen).to_list()
    return [
        Recommendation(ids[start:stop], values[start:stop], None if titles is None else titles[start:stop])
        for start, stop in zip([0, *stops], stops, strict=False)
    ]
