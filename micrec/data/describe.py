"""Table 1 of the paper for any dataset, and further statistics that show how hard its prediction task is."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from micrec.config import SessionsConfig, SplitConfig
from micrec.data.array_space import ArraySpace
from micrec.data.dataset import Column, Dataset, EntityTable
from micrec.data.histories import Histories, distinct_pairs, group_by_user
from micrec.data.log_times import notes_on_times
from micrec.data.schema import FieldType
from micrec.data.sessions import starts_of
from micrec.data.sorting import counts_of, distinct, parts_of
from micrec.data.split import temporal_split
from micrec.notebook import Displayed, ResultTable
from micrec.progress import NoProgress, Progress


@dataclass(frozen=True)
class FieldStatistics:
    """One field of the user or item table.

    Attributes:
        table: ``users`` or ``items``.
        name: Name of the field.
        type: Its type.
        vocabulary: Distinct values; None for fields without codes.
        missing: Share of rows without a value; an empty list counts as none.
    """

    table: str
    name: str
    type: FieldType
    vocabulary: int | None
    missing: float


@dataclass(frozen=True, repr=False)
class DatasetStatistics(Displayed):
    """A dataset in figures.

    Attributes:
        name: Name of the dataset.
        users: Rows of the user table.
        items: Rows of the item table.
        sessions: Sessions, as the configuration defines them.
        clicks: Clicks in all.
        train: Clicks before the test period, the validation slice included.
        validation: The last of ``train``, on which choices are made.
        test: Clicks of the test period.
        users_with_clicks: Users with at least one click.
        items_with_clicks: Items with at least one click.
        clicks_per_user_mean: Over users with clicks; the median likewise.
        clicks_per_item_mean: Over items with clicks; the median likewise.
        session_clicks_mean: Clicks per session; median and 95th percentile likewise.
        session_items_mean: Distinct items per session.
        item_gini: Gini coefficient of clicks over items with clicks: 0 = all alike, towards 1 = one item has all.
        catalogue_gini: The same over all items of the table.
        repeat_share: Share of clicks on an item that the user had clicked before.
        density: Distinct (user, item) pairs / (users x items).
        first: Time of the first click, ISO 8601, in the dataset's zone.
        last: Time of the last click.
        fields: User fields, then item fields, in the order of ``dataset.yaml``.
        dropped: What the reader left out, by reason (``provenance.dropped``).
        notes: What looks odd in the times: dates alone, whole hours, a last day that is cut short.
    """

    name: str
    users: int
    items: int
    sessions: int
    clicks: int
    train: int
    validation: int
    test: int
    users_with_clicks: int
    items_with_clicks: int
    clicks_per_user_mean: float
    clicks_per_user_median: float
    clicks_per_item_mean: float
    clicks_per_item_median: float
    session_clicks_mean: float
    session_clicks_median: float
    session_clicks_p95: float
    session_items_mean: float
    item_gini: float
    catalogue_gini: float
    repeat_share: float
    density: float
    first: str
    last: str
    fields: tuple[FieldStatistics, ...]
    dropped: dict[str, int]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    def to_frame(self) -> pl.DataFrame:
        """One row per figure.

        Returns:
            ``statistic``, its name as an attribute of this object, and ``value`` (Float64), for every number.
        """
        numbers = {name: value for name, value in vars(self).items() if isinstance(value, int | float)}
        return pl.DataFrame(
            {"statistic": list(numbers), "value": list(numbers.values())},
            schema={"statistic": pl.String, "value": pl.Float64},
            strict=False,
        )

    def _lines(self) -> list[str]:
        return [self.name, *(f"note: {note}" for note in self.notes)]

    def _tables(self) -> list[ResultTable]:
        fields = [(f"{one.table}.{one.name} ({one.type})", _field_text(one)) for one in self.fields]
        dropped = [(reason, f"{count:,}") for reason, count in self.dropped.items()]
        return [
            ResultTable("", ("figure", "value"), _rows(self)),
            ResultTable("Fields", ("field", "values"), fields),
            ResultTable("Left out by the conversion", ("reason", "rows"), dropped),
        ]


def describe(
    dataset: Dataset, split: SplitConfig, sessions: SessionsConfig, *, progress: Progress | None = None
) -> DatasetStatistics:
    """Count a dataset and report to ``progress``.

    Raises:
        MicrecError: If the split leaves a part empty.
    """
    clicks, n_items, progress = dataset.clicks, len(dataset.items), progress or NoProgress()
    progress.start("counting", 2 * len(clicks), "clicks")  # once for users and items, once for sessions
    parts = temporal_split(clicks, split, dataset.schema.days)
    per_item = counts_of(clicks.item_ids, n_items)
    log = group_by_user(clicks, len(dataset.users), times=True, rows=False)
    per_user = np.diff(log.offsets)
    active_users, active_items = per_user[per_user > 0], per_item[per_item > 0]
    n_pairs = sum(map(len, distinct_pairs(log, n_items)))
    progress.advance(len(clicks))
    by_session = _session_statistics(log, n_items, sessions, clicks.space)
    progress.advance(len(clicks))
    progress.finish()
    return DatasetStatistics(
        name=dataset.name,
        users=len(dataset.users),
        items=n_items,
        clicks=len(clicks),
        train=parts.n_fit,
        validation=parts.n_fit - parts.n_train,
        test=parts.n - parts.n_fit,
        users_with_clicks=len(active_users),
        items_with_clicks=len(active_items),
        clicks_per_user_mean=float(active_users.mean()),
        clicks_per_user_median=float(np.median(active_users)),
        clicks_per_item_mean=float(active_items.mean()),
        clicks_per_item_median=float(np.median(active_items)),
        **by_session,
        item_gini=gini(active_items),
        catalogue_gini=gini(per_item),
        repeat_share=1.0 - n_pairs / len(clicks),
        density=n_pairs / (len(dataset.users) * n_items),
        first=_iso(clicks.time_ms[0], dataset.schema.timezone),
        last=_iso(clicks.time_ms[-1], dataset.schema.timezone),
        fields=tuple(_field_statistics(dataset)),
        dropped=_dropped(dataset.schema.provenance.get("dropped")),
        notes=tuple(notes_on_times((clicks.time_ms[part] for part in parts_of(len(clicks))), dataset.schema.days)),
    )


def gini(counts: NDArray[np.int64]) -> float:
    """Gini coefficient of non-negative counts: mean absolute difference of two of them / (2 x mean).

    From sorted counts, sum_i (2 i - n - 1) x_i / (n sum x), i = 1 .. n, which needs one sort instead of all pairs.

    Args:
        counts: Shape (n,), with a positive sum.
    """
    n = len(counts)
    weights = 2.0 * np.arange(1, n + 1) - n - 1
    return float(weights @ np.sort(counts) / (n * counts.sum()))


def _session_statistics(log: Histories, n_items: int, config: SessionsConfig, space: ArraySpace) -> dict[str, Any]:
    starts = starts_of(log, config, space=space)
    of_length, n_pairs = np.zeros(1, np.int64), 0
    for part in log.blocks():
        bounds = np.append(np.flatnonzero(starts[part]), part.stop - part.start)
        sizes = np.diff(bounds)
        found = np.bincount(sizes, minlength=len(of_length))
        found[: len(of_length)] += of_length
        of_length = found
        session = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
        n_pairs += len(distinct(session * n_items + log.items[part]))
    n_sessions = int(of_length.sum())
    return {
        "sessions": n_sessions,
        "session_clicks_mean": len(log.items) / n_sessions,
        "session_clicks_median": _quantile(of_length, 0.5),
        "session_clicks_p95": _quantile(of_length, 0.95),
        "session_items_mean": n_pairs / n_sessions,
    }


def _quantile(counts: NDArray[np.int64], share: float) -> float:
    """``np.quantile`` of numbers of which ``counts[x]`` are x."""
    ends = np.cumsum(counts)
    place = (int(ends[-1]) - 1) * share
    below, above = (int(np.searchsorted(ends, int(at), side="right")) for at in (np.floor(place), np.ceil(place)))
    return float(np.quantile([below, above], place - np.floor(place)))


def _field_statistics(dataset: Dataset) -> list[FieldStatistics]:
    declared = {"users": (dataset.schema.users, dataset.users), "items": (dataset.schema.items, dataset.items)}
    return [
        _field(table, name, field_type, entities)
        for table, (fields, entities) in declared.items()
        for name, field_type in fields.items()
    ]


def _field(table: str, name: str, field_type: FieldType, entities: EntityTable) -> FieldStatistics:
    column = entities.columns.get(name)
    if column is None:
        missing = entities.frame[name].null_count() / len(entities)
    else:
        missing = float(_is_missing(column).mean())
    vocabulary = column.size - 1 if column is not None and field_type is not FieldType.NUMERIC else None
    return FieldStatistics(table, name, field_type, vocabulary, missing)


def _is_missing(column: Column) -> NDArray[np.bool_]:
    if column.offsets is not None:
        return np.diff(column.offsets) == 0
    if column.numbers is not None:
        return np.isnan(column.numbers)
    assert column.codes is not None
    return column.codes == 0


def _dropped(counts: object) -> dict[str, int]:
    """The counts of a provenance that may have been written by hand."""
    if not isinstance(counts, dict):
        return {}
    return {str(reason): count for reason, count in counts.items() if isinstance(count, int)}


def _iso(time_ms: int, timezone: str) -> str:
    moment = pl.Series([int(time_ms)]).cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone(timezone)
    return moment.dt.strftime("%Y-%m-%dT%H:%M:%S%:z").item()


def table(statistics: DatasetStatistics) -> Table:
    """The figures for a terminal: what is counted, and how many."""
    grid = Table(title=escape(statistics.name), title_justify="left", show_header=False)
    grid.add_column("")
    grid.add_column("", justify="right")
    for label, value in _rows(statistics):
        grid.add_row(escape(label), escape(value))
    grid.add_section()
    for field in statistics.fields:
        grid.add_row(escape(f"{field.table}.{field.name} ({field.type})"), _field_text(field))
    grid.add_section()
    for reason, count in statistics.dropped.items():
        grid.add_row(escape(f"dropped: {reason}"), f"{count:,}")
    return grid


def _rows(s: DatasetStatistics) -> list[tuple[str, str]]:
    length = f"{s.session_clicks_mean:.2f} / {s.session_clicks_median:g} / {s.session_clicks_p95:g}"
    return [
        ("users", f"{s.users:,}"),
        ("items", f"{s.items:,}"),
        ("sessions", f"{s.sessions:,}"),
        ("clicks", f"{s.clicks:,}"),
        ("train", f"{s.train:,}"),
        ("test", f"{s.test:,}"),
        ("fields", f"{len(s.fields)}"),
        ("validation, the last of train", f"{s.validation:,}"),
        ("users with clicks", f"{s.users_with_clicks:,}"),
        ("items with clicks", f"{s.items_with_clicks:,}"),
        ("clicks per user, mean / median", f"{s.clicks_per_user_mean:.2f} / {s.clicks_per_user_median:g}"),
        ("clicks per item, mean / median", f"{s.clicks_per_item_mean:.2f} / {s.clicks_per_item_median:g}"),
        ("clicks per session, mean / median / p95", length),
        ("distinct items per session, mean", f"{s.session_items_mean:.2f}"),
        ("Gini of clicks over items with clicks", f"{s.item_gini:.3f}"),
        ("Gini of clicks over all items", f"{s.catalogue_gini:.3f}"),
        ("share of repeated clicks", f"{s.repeat_share:.2%}"),
        ("density", f"{s.density:.4%}"),
        ("first click", s.first),
        ("last click", s.last),
    ]


def _field_text(field: FieldStatistics) -> str:
    values = "" if field.vocabulary is None else f"{field.vocabulary:,} values, "
    return f"{values}{field.missing:.1%} missing"
