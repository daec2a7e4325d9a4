"""The task of an evaluation: users, clicks to find, candidate items, and the histories that models may use."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.config import EvalConfig
from micrec.data.array_space import MEMORY
from micrec.data.dataset import Clicks, Dataset
from micrec.data.histories import Histories, group_by_user, user_ranges
from micrec.data.recency import days_of
from micrec.data.sorting import counts_of, parts_of
from micrec.data.split import Split
from micrec.errors import MicrecError

Part = Literal["valid", "test"]


class TaskClock(NamedTuple):
    """When the clicks of an ``EvalTask`` were, and when it asks.

    With frozen histories all queries are asked at the last click of the train part, and know the popularity of the next
    morning; with rolling ones at the click to be found, and know that of the morning of its day.
    """

    click_ms: NDArray[np.int64]  # (n,) moment of each position of the histories
    query_ms: NDArray[np.int64]  # (Q,)
    query_days: NDArray[np.int64]  # (Q,) day whose morning's popularity is known


@dataclass(frozen=True)
class EvalTask:
    """Queries with their histories and targets. Dense ids throughout; Q queries, T targets, U users, N items.

    With frozen histories a query is a user, their targets are the distinct items clicked in the part, and
    ``target_counts`` says how often; queries with more targets come first. With rolling histories a query is one
    click with one target; queries are ordered by user and time.

    Attributes:
        part: ``valid`` or ``test``.
        histories: The clicks that may serve as history; query q has seen positions ``begin[q] .. end[q]`` of them,
            and a model that reads L clicks takes ``max(begin[q], end[q] - L) .. end[q]``.
        user_ids: The user of each query, shape (Q,).
        begin: First position of the user's clicks in ``histories``, shape (Q,).
        end: Position just after the last click before the query, shape (Q,).
        target_offsets: Query q owns targets ``target_offsets[q] .. target_offsets[q + 1]``, shape (Q + 1,).
        target_items: Items to be found, distinct within a query, shape (T,).
        target_counts: Click lines behind each target, shape (T,).
        target_repeats: Whether the user had clicked the target in the train part already, shape (T,).
        candidates: Items that are ranked, shape (N,). A target outside of them is always a miss, and counted.
        train_clicks: Train clicks per item, shape (N,).
        user_train_clicks: Train clicks of each query's user, shape (Q,).
        seen: The train clicks by user, never retrieved again, so that such a target is always a miss; None if seen
            items are kept.
        skipped_users: Users of the part left out because they have no train clicks.
        skipped_lines: Their clicks.
        clock: Times, for models that read them.
    """

    part: Part
    histories: Histories
    user_ids: NDArray[np.int32]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    target_offsets: NDArray[np.int64]
    target_items: NDArray[np.int32]
    target_counts: NDArray[np.int64]
    target_repeats: NDArray[np.bool_]
    candidates: NDArray[np.bool_]
    train_clicks: NDArray[np.int64]
    user_train_clicks: NDArray[np.int64]
    seen: Histories | None
    skipped_users: int
    skipped_lines: int
    clock: TaskClock | None = None

    def __len__(self) -> int:
        return len(self.user_ids)

    @property
    def target_queries(self) -> NDArray[np.int64]:
        """The query of each target, shape (T,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.target_offsets))

    @property
    def hittable(self) -> NDArray[np.bool_]:
        """Whether a list can hold each target: it is a candidate, and no filter removes it; shape (T,)."""
        known = self.candidates[self.target_items]
        return known if self.seen is None else known & ~self.target_repeats

    @property
    def unknown_targets(self) -> int:
        """Click lines whose item is not a candidate: misses for every model."""
        return int(self.target_counts[~self.candidates[self.target_items]].sum())


class _Queries(NamedTuple):
    histories: Histories
    user_ids: NDArray[np.int32]
    end: NDArray[np.int64]
    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    counts: NDArray[np.int64]
    repeats: NDArray[np.bool_]
    rolling: bool


def evaluation_task(dataset: Dataset, split: Split, config: EvalConfig, part: Part) -> EvalTask:
    """Build the queries of the validation or test part; the train part is all that comes before it.

    Raises:
        MicrecError: If the part holds no clicks, or none of a user who may be evaluated.
    """
    rows = split.valid if part == "valid" else split.test
    train, clicks = dataset.clicks[: rows.start], dataset.clicks[rows]
    n_users, n_items = len(dataset.users), len(dataset.items)
    train_clicks = counts_of(train.item_ids, n_items)
    user_clicks = counts_of(train.user_ids, n_users)
    wanted = np.ones(n_users, dtype=bool) if config.users == "all" else user_clicks > 0
    evaluated = wanted[clicks.user_ids]
    _check(part, len(clicks), int(evaluated.sum()))

    grouped = group_by_user(train, n_users, times=True)
    if config.history == "frozen":
        queries = _frozen_queries(grouped, group_by_user(clicks, n_users, rows=False), wanted, n_items)
    else:
        whole = group_by_user(dataset.clicks[: rows.stop], n_users, times=True)
        queries = _rolling_queries(whole, train, rows.start, wanted, n_items)
    return EvalTask(
        part=part,
        histories=queries.histories,
        user_ids=queries.user_ids,
        begin=queries.histories.offsets[queries.user_ids],
        end=queries.end,
        target_offsets=queries.offsets,
        target_items=queries.items,
        target_counts=queries.counts,
        target_repeats=queries.repeats,
        candidates=train_clicks > 0 if config.candidates == "train" else np.ones(n_items, dtype=bool),
        train_clicks=train_clicks,
        user_train_clicks=user_clicks[queries.user_ids],
        seen=grouped if config.seen == "filter" else None,
        skipped_users=len(np.unique(clicks.user_ids[~evaluated])),
        skipped_lines=int((~evaluated).sum()),
        clock=_clock(queries, train),
    )


def _clock(queries: "_Queries", train: Clicks) -> TaskClock:
    click_ms = queries.histories.time_ms
    assert click_ms is not None
    if queries.rolling:
        query_ms = click_ms[queries.end]
        return TaskClock(click_ms, query_ms, days_of(query_ms))
    query_ms = np.full(len(queries.user_ids), train.time_ms[-1] if len(train) else 0)
    return TaskClock(click_ms, query_ms, days_of(query_ms) + 1)


def _check(part: Part, n_clicks: int, n_evaluated: int) -> None:
    if n_clicks == 0 and part == "valid":
        raise MicrecError("evaluation: the validation part is empty: set split.valid_fraction above 0.")
    if n_evaluated == 0:
        raise MicrecError(
            f"evaluation: none of the {n_clicks:,} clicks of the {part} part is by a user with train clicks: "
            "set evaluation.users to all, or lower split.test_fraction or split.test_days."
        )


def _pair_keys(users: NDArray[np.int32], items: NDArray[np.int32], n_items: int) -> NDArray[np.int64]:
    return users.astype(np.int64) * n_items + items


def _frozen_queries(histories: Histories, part: Histories, wanted: NDArray[np.bool_], n_items: int) -> _Queries:
    """One query per wanted user of ``part``; repeated clicks on an item are one target with a count."""
    keys, counts, repeats = MEMORY.writer(np.int64), MEMORY.writer(np.int64), MEMORY.writer(np.bool_)
    for some in user_ranges(histories.offsets + part.offsets):
        before, asked = (slice(*one.offsets[[some.start, some.stop]].tolist()) for one in (histories, part))
        kept = wanted[part.users[asked]]
        found, times = np.unique(
            _pair_keys(part.users[asked][kept], part.items[asked][kept], n_items), return_counts=True
        )
        keys.append(found)
        counts.append(times)
        repeats.append(_is_among(found, _pair_keys(histories.users[before], histories.items[before], n_items)))
    pairs = keys.done()
    users, sizes = np.unique(pairs // n_items, return_counts=True)
    starts = np.cumsum(sizes) - sizes
    by_size = np.argsort(-sizes, kind="stable")  # queries of like size share a block when ranked
    targets = expand_ranges(starts[by_size], starts[by_size] + sizes[by_size])[1]
    user_ids = users[by_size].astype(np.int32)
    return _Queries(
        histories=histories,
        user_ids=user_ids,
        end=histories.offsets[user_ids + 1],
        offsets=np.concatenate([[0], np.cumsum(sizes[by_size])]),
        items=(pairs[targets] % n_items).astype(np.int32),
        counts=counts.done()[targets],
        repeats=repeats.done()[targets],
        rolling=False,
    )


def _rolling_queries(
    histories: Histories, train: Clicks, first_row: int, wanted: NDArray[np.bool_], n_items: int
) -> _Queries:
    """One query per click from ``first_row`` of the log on, by a wanted user; its history ends just before it."""
    end = np.flatnonzero((histories.rows >= first_row) & wanted[histories.users])
    return _Queries(
        histories=histories,
        user_ids=histories.users[end],
        end=end,
        offsets=np.arange(len(end) + 1),
        items=histories.items[end],
        counts=np.ones(len(end), dtype=np.int64),
        repeats=_clicked_in(train, histories.users[end], histories.items[end], n_items),
        rolling=True,
    )


def _clicked_in(clicks: Clicks, users: NDArray[np.int32], items: NDArray[np.int32], n_items: int) -> NDArray[np.bool_]:
    """Whether each (user, item) pair is among ``clicks``; streams the log, so memory grows with the pairs alone."""
    pairs, where = np.unique(_pair_keys(users, items, n_items), return_inverse=True)
    found = np.zeros(len(pairs), dtype=bool)
    for part in parts_of(len(clicks)):
        found |= _is_among(pairs, _pair_keys(clicks.user_ids[part], clicks.item_ids[part], n_items))
    return found[where]


def _is_among(pairs: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of ``pairs``, distinct and ascending, are among ``keys``, in any order."""
    found = np.zeros(len(pairs), dtype=bool)
    if len(pairs):
        at = np.minimum(np.searchsorted(pairs, keys), len(pairs) - 1)
        found[at[pairs[at] == keys]] = True
    return found


def expand_ranges(begin: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and members of ragged ranges: [2, 5) and [7, 8) give rows 0, 0, 0, 1 and members 2, 3, 4, 7."""
    sizes = end - begin
    rows = np.repeat(np.arange(len(sizes)), sizes)
    first = np.cumsum(sizes) - sizes  # place of each range in the result
    return rows, np.arange(len(rows)) + (begin - first)[rows]
