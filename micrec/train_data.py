"""What a training run reads, as contiguous tensors on the training device."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.config import Config, ModelConfig
from micrec.data.array_space import MEMORY, ArraySpace
from micrec.data.dataset import Clicks, Dataset, EntityTable
from micrec.data.histories import distinct_pairs, group_by_user
from micrec.data.recency import DAY_MS, faded
from micrec.data.sessions import starts_of
from micrec.data.sorting import counts_of, parts_of
from micrec.data.telling_field import COUNTED, countable_fields, telling_fields
from micrec.data.title_kernel import kernel_vectors
from micrec.data.title_vocabulary import TitleWords
from micrec.errors import MicrecError
from micrec.model_popularity import Popularity, learn_popularity
from micrec.models.columns import (
    TITLES,
    WORDS,
    FieldColumns,
    FieldSpec,
    Ragged,
    choose_fields,
    field_specs,
    gather_ranges,
    load_columns,
    range_places,
)
from micrec.models.padded import PaddedRows
from micrec.models.score_terms import ScoreTerms
from micrec.pair_set import PairSet
from micrec.progress import NoProgress, Progress

History = TypeVar("History", Ragged, PaddedRows)
USER_ID, ITEM_ID = "user_id", "item_id"
AUTO = "auto"  # the field of the field term is chosen by the log


@dataclass(frozen=True)
class Fields:
    """The fields both towers embed, and their values for every user and item of the dataset."""

    user_specs: list[FieldSpec]
    item_specs: list[FieldSpec]
    users: FieldColumns
    items: FieldColumns


def load_fields(dataset: Dataset, config: Config, train: Clicks, device: torch.device) -> Fields:
    """Encode the chosen fields; users and items without a training click share the unknown id row.

    Raises:
        MicrecError: If the config names a field that the dataset does not have.
    """
    model = config.model
    user_names = choose_fields(dataset.users, model.user_fields, key="model.user_fields")
    item_names = choose_fields(dataset.items, model.item_fields, key="model.item_fields")
    user_specs = field_specs(dataset.users, user_names, id_name=USER_ID if model.user_id else None)
    titles = _title_columns(dataset, config)
    vectors = None if titles is None or titles.vectors is None else titles.vectors.numpy()
    counted = counted_fields(dataset.items, train, model, titles=vectors)
    item_specs = field_specs(dataset.items, item_names, id_name=ITEM_ID if model.item_id else None, counted=counted)
    known_users = counts_of(train.user_ids, len(dataset.users)) > 0
    known_items = counts_of(train.item_ids, len(dataset.items)) > 0
    items = load_columns(dataset.items, item_specs, known=known_items)
    if titles is not None:
        items.multi[WORDS] = titles.words
        if titles.vectors is not None:
            items.vectors[TITLES] = titles.vectors
    return Fields(
        user_specs=user_specs,
        item_specs=item_specs,
        users=load_columns(dataset.users, user_specs, known=known_users).to(device),
        items=items.to(device),
    )


def counted_fields(
    items: EntityTable, train: Clicks, model: ModelConfig, *, titles: NDArray[np.float32] | None = None
) -> tuple[str, ...]:
    """The item fields whose values the field term counts; none: the model has no such term.

    Args:
        items: The item table.
        train: The training clicks, in time order.
        model: Its keys.
        titles: Title vectors that the model reads, (N, D); None: it reads none.

    Raises:
        MicrecError: If a field that the config names is not there, is not categorical or has too many values.
    """
    wanted, most = model.field_term, model.field_term_values
    if wanted is None:
        return ()
    fields = countable_fields(items, most)
    if wanted == AUTO:
        return telling_fields(items, train, fields, most, titles)
    named = (wanted,) if isinstance(wanted, str) else tuple(dict.fromkeys(wanted))
    faults = [why for name in named if (why := _not_countable(name, items, most))]
    total = sum(items.columns[name].size - 1 for name in named if name in items.columns)
    if not faults and total > most:
        faults = [f"{' and '.join(named)} have {total:,} values together, and may have {most:,}"]
    if faults:
        raise MicrecError(f"model.field_term: {'; '.join(faults)}; choose from {', '.join((*fields, AUTO))}.")
    return named


def _not_countable(name: str, items: EntityTable, most_values: int) -> str | None:
    column = items.columns.get(name)
    if column is None:
        return f"no field {name} in the dataset"
    if column.type not in COUNTED:
        return f"{name} is {column.type}"
    if not 2 < column.size <= most_values + 1:
        return f"{name} has {column.size - 1:,} values, and must have 2 to {most_values:,}"
    return None


def title_words(dataset: Dataset, config: Config) -> TitleWords | None:
    """The words of the catalogue's titles; None where the model reads none."""
    if not (getattr(config.model.options, "title_dim", 0) or config.model.popularity_words):
        return None
    return TitleWords.of(_titles(dataset))


def _titles(dataset: Dataset) -> list[str | None]:
    title = dataset.schema.roles.title
    return dataset.items.frame[title].cast(pl.String).to_list() if title else [None] * len(dataset.items)


class _TitleColumns(NamedTuple):
    """The words of all items' titles, and their vectors (N, D) where the model reads them."""

    words: Ragged
    vectors: Tensor | None


def _title_columns(dataset: Dataset, config: Config) -> _TitleColumns | None:
    words, dim = title_words(dataset, config), getattr(config.model.options, "title_dim", 0)
    if words is None:
        return None
    codes, offsets = words.codes(_titles(dataset))
    vectors = torch.from_numpy(kernel_vectors(words.rows(codes, offsets), dim)) if dim else None
    return _TitleColumns(Ragged(torch.from_numpy(codes), torch.from_numpy(offsets)), vectors)


class Batch(NamedTuple):
    """B training rows of T clicks to find; with one row per click T = B."""

    users: Tensor  # (T,) int64, the user of each click
    targets: Tensor  # (T,) int64, the clicked items
    rows: Tensor | None = None  # (T,) int64, the row of each click, never falling; None: one row per click
    row_users: Tensor | None = None  # (B,) int64, the users of the rows; None: ``users``
    terms: ScoreTerms | None = None  # what the scores of the rows hold beside the dot product

    def part(self, rows: slice, clicks: slice) -> "Batch":
        """Some consecutive rows and their clicks, before there are terms."""
        return Batch(
            users=self.users[clicks],
            targets=self.targets[clicks],
            rows=None if self.rows is None else self.rows[clicks] - rows.start,
            row_users=None if self.row_users is None else self.row_users[rows],
        )

    @property
    def tower_users(self) -> Tensor:
        """The users that the user tower is computed for, shape (B,)."""
        return self.users if self.row_users is None else self.row_users

    def by_click(self) -> "Batch":
        """The same with a row for each click."""
        if self.rows is None:
            return self
        terms = None if self.terms is None else self.terms.expanded(self.rows)
        return self._replace(rows=None, row_users=None, terms=terms)


@dataclass(frozen=True)
class TrainData:
    """Training clicks grouped by user; a sample is a position p in ``items``, its history a range before p.

    Attributes:
        items: Clicked items, shape (n,), int32, contiguous by user, in time order.
        users: Their users, shape (n,), int32.
        first: First position of the user of each user id, shape (U + 1,).
        session_start: First position of the session of each position, shape (n,), int32 where that is wide enough.
        session_stop: One past its last position, shape (n,), likewise.
        click_counts: Training clicks of every item, shape (N,).
        catalogue: Items with at least one training click, ascending.
        clicked: The (user, item) pairs of the training clicks.
        time_ms: Moment of each click, shape (n,), int64; None where the model knows no time.
        popularity: Popularity of the items on each day of the training clicks, a forecast among them; None where the
            model does not read it.
        space: Where arrays as long as the clicks are put; the tensors of a mapped log lie in files.
        longest: Most clicks of a user.
    """

    fields: Fields
    items: Tensor
    users: Tensor
    first: Tensor
    session_start: Tensor
    session_stop: Tensor
    click_counts: Tensor
    catalogue: Tensor
    clicked: PairSet
    time_ms: Tensor | None = None
    popularity: Popularity | None = None
    space: ArraySpace = MEMORY
    longest: int = 0

    def __len__(self) -> int:
        return len(self.items)

    @property
    def n_items(self) -> int:
        return len(self.click_counts)

    @cached_property
    def catalogue_place(self) -> Tensor:
        """Place of every item in ``catalogue``, shape (N,), int64; -1 where it has no training click."""
        place = torch.full((self.n_items,), -1, device=self.device)
        place[self.catalogue] = torch.arange(len(self.catalogue), device=self.device)
        return place

    @property
    def device(self) -> torch.device:
        return self.items.device

    def rows(self, kind: Literal["click", "session"]) -> Tensor:
        """The rows of an epoch in order, by the position of their first click, int64: every click, or every session."""
        if kind == "click":
            return torch.arange(len(self), out=self.long_tensor(len(self)))
        found = self.space.writer(np.int64)
        for part in parts_of(len(self)):
            positions = torch.arange(part.start, part.stop)
            found.append(positions[self.session_start[part].cpu() == positions].numpy())
        return torch.from_numpy(found.done()).to(self.device)

    def long_tensor(self, size: int) -> Tensor:
        """A tensor to fill, int64, shape (size,), on the device."""
        return torch.from_numpy(self.space.empty(size, np.int64)).to(self.device)

    def clicks_of(self, rows: Tensor) -> Tensor:
        """Clicks to find of each session, by the positions of their first clicks, shape (B,), int64."""
        return self.session_stop[rows].long() - rows

    def batch(self, positions: Tensor, kind: Literal["click", "session"], n_clicks: int | None = None) -> Batch:
        """The training rows at ``positions``, shape (B,): their users, and the clicks to find.

        A GPU waits unless ``n_clicks``, the number of clicks to find in sessions, is given.
        """
        users = self.users[positions].long()
        if kind == "click":
            return Batch(users=users, targets=self.items[positions].long())
        clicks = gather_ranges(self.items, positions, self.session_stop[positions].long(), n_clicks)
        rows = clicks.rows
        return Batch(users=users[rows], targets=clicks.values.long(), rows=rows, row_users=users)

    def days(self, positions: Tensor) -> Tensor:
        """The day of the click at each position, as ``days_of`` counts, int64."""
        assert self.time_ms is not None
        return self.time_ms[positions].div(DAY_MS, rounding_mode="floor")

    def clicks_before(self, positions: Tensor, config: Config, generator: torch.Generator) -> Ragged:
        """Histories of the samples at ``positions``, shape (B,): item ids, oldest first (``train.context``).

        - rolling: the latest clicks before the sample.
        - before_session: the latest clicks before the sample's session.
        - profile: the user's other clicks, before and after; of a longer profile an even random thinning.
        - other_sessions: the same without the sample's own session.

        With ``model.half_life_days`` their weights say what each counts at the moment of the sample.
        """
        length = config.model.history_length
        first = self.first[self.users[positions].long()]
        if config.train.context == "profile":
            where, offsets = self._profile(positions, positions, positions + 1, length, generator)
        elif config.train.context == "other_sessions":
            start, stop = self.session_start[positions].long(), self.session_stop[positions].long()
            where, offsets = self._profile(positions, start, stop, length, generator)
        else:
            before_session = config.train.context == "before_session"
            stop = self.session_start[positions].long() if before_session else positions
            where, offsets = range_places(torch.maximum(first, stop - length), stop)
        history = Ragged(self.items[where].long(), offsets)
        if config.model.half_life_days is None:
            return history
        assert self.time_ms is not None
        age_ms = self.time_ms[positions][history.rows] - self.time_ms[where]
        return history._replace(weights=faded(age_ms, config.model.half_life_days))

    def padded_before(self, positions: Tensor, config: Config, generator: torch.Generator) -> PaddedRows:
        """``clicks_before`` as padded rows, newest last, as wide as the model reads or the longest history needs.

        A place without a click holds the item of the sample itself, which the step knows anyway.
        """
        model = config.model
        by_place = model.tower.by_click or getattr(model.options, "behaviour_tokens", None) == "sequence"
        length = model.history_length if by_place else min(model.history_length, max(1, self.longest))
        users = self.users[positions].long()
        first, context = self.first[users], config.train.context
        rank = torch.arange(-length, 0, device=self.device)  # -1 is the newest
        if context in ("rolling", "before_session"):
            stop = positions if context == "rolling" else self.session_start[positions].long()
            where = stop[:, None] + rank
            mask = where >= first[:, None]
        else:
            start, stop = positions, positions + 1
            if context == "other_sessions":
                start, stop = self.session_start[positions].long(), self.session_stop[positions].long()
            others = self.first[users + 1] - first - (stop - start)
            kept = others.clamp_max(length)
            jitter = _uniform(positions.shape, generator, self.device)
            mask = rank >= -kept[:, None]
            place = self._thinned(rank + kept[:, None], jitter[:, None], others[:, None], kept[:, None])
            where = first[:, None] + place
            where = where + (stop - start)[:, None] * (where >= start[:, None])
        where = torch.where(mask, where, positions[:, None])
        items = self.items[where].long()
        if config.model.half_life_days is None:
            return PaddedRows(items, mask, items)
        assert self.time_ms is not None
        age_ms = self.time_ms[positions][:, None] - self.time_ms[where]
        return PaddedRows(items, mask, items, faded(age_ms, config.model.half_life_days))

    def context(self, positions: Tensor, config: Config, generator: torch.Generator) -> Ragged:
        """``clicks_before`` without those that ``model.history_dropout`` hides."""
        history = self.clicks_before(positions, config, generator)
        return drop_clicks(history, config.model.history_dropout, generator)

    def _profile(
        self, positions: Tensor, hidden_start: Tensor, hidden_stop: Tensor, length: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Places of the user's clicks outside [hidden_start, hidden_stop), at most ``length``, one from each of even
        strata, and the offsets of the samples among them."""
        users = self.users[positions].long()
        first, hidden = self.first[users], hidden_stop - hidden_start
        others = self.first[users + 1] - first - hidden  # (B,)
        kept = others.clamp_max(length)
        offsets = torch.zeros(len(positions) + 1, dtype=torch.int64, device=self.device)
        torch.cumsum(kept, 0, out=offsets[1:])
        row = torch.repeat_interleave(torch.arange(len(positions), device=self.device), kept)
        rank = torch.arange(len(row), device=self.device) - offsets[row]  # 0 .. kept - 1 within each row
        jitter = _uniform(positions.shape, generator, self.device)[row]
        picked = self._thinned(rank, jitter, others[row], kept[row])
        where = first[row] + picked
        return where + hidden[row] * (where >= hidden_start[row]), offsets

    @staticmethod
    def _thinned(rank: Tensor, jitter: Tensor, others: Tensor, kept: Tensor) -> Tensor:
        """Which of ``others`` clicks is the one of even stratum ``rank`` out of ``kept``: all distinct."""
        stride = others.double() / kept.clamp_min(1).double()
        return ((rank + jitter) * stride).long().clamp_max(others - 1)


def _uniform(shape: torch.Size, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64).to(device)


def drop_clicks(history: History, ratio: float, generator: torch.Generator) -> History:
    """Hide a random share of the history's clicks."""
    if ratio == 0.0:
        return history
    values = history.values
    drawn = torch.rand(values.shape, generator=generator, device=generator.device)
    return history.keep((drawn >= ratio).to(values.device))


def load_train_data(
    dataset: Dataset, train: Clicks, config: Config, device: torch.device, progress: Progress | None = None
) -> TrainData:
    """Group the training clicks by user and put everything on ``device``."""
    progress, n_items, space = progress or NoProgress(), len(dataset.items), train.space
    progress.start("preparing: histories and sessions", len(train), "clicks")
    log = group_by_user(train, len(dataset.users), times=True, rows=False)
    session_start, session_stop = session_ranges(starts_of(log, config.sessions, space=space), space)
    if not config.model.reads_time:
        log = log._replace(time_ms=None)
    keys = space.writer(np.int64)
    for part in distinct_pairs(log, n_items):
        keys.append(part)
    counts = counts_of(train.item_ids, n_items)
    progress.advance(len(train))
    progress.finish()

    def put(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    fields = load_fields(dataset, config, train, device)
    popularity = learn_popularity(config.model, train, fields.items)
    return TrainData(
        fields=fields,
        items=put(log.items),
        users=put(log.users),
        first=put(log.offsets),
        session_start=put(session_start),
        session_stop=put(session_stop),
        click_counts=put(counts),
        catalogue=put(np.flatnonzero(counts)),
        clicked=PairSet.from_keys(put(keys.done()), len(dataset.users), n_items),
        time_ms=None if log.time_ms is None else put(log.time_ms),
        popularity=None if popularity is None else popularity.to(device),
        space=space,
        longest=int(np.diff(log.offsets).max(initial=0)),
    )


def session_ranges(starts: np.ndarray, space: ArraySpace) -> tuple[np.ndarray, np.ndarray]:
    """First position of the session of each position, and one past its last, shape (n,) each, int32 where that does.

    Args:
        starts: Whether a session starts at each position, shape (n,).
        space: Where the results are put.
    """
    n = len(starts)
    narrow = np.int32 if n < np.iinfo(np.int32).max else np.int64
    first, stop = space.empty(n, narrow), space.empty(n, narrow)
    latest = 0  # start of the session that goes on from the part before
    for part in parts_of(n):
        found = np.flatnonzero(starts[part]) + part.start
        bounds = np.concatenate([[part.start], found, [part.stop]])
        first[part] = np.repeat(np.append(latest, found), np.diff(bounds))
        latest = int(found[-1]) if len(found) else latest
    latest = n
    for part in reversed(list(parts_of(n))):
        found = np.flatnonzero(starts[part]) + part.start
        bounds = np.concatenate([[part.start], found, [part.stop]])
        stop[part] = np.repeat(np.append(found, latest), np.diff(bounds))
        latest = int(found[0]) if len(found) else latest
    return first, stop
