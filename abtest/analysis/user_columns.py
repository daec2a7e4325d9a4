"""Columns of users made from a log's finer rows, as a file of metrics asks for them: counts of an event, the largest,
last or first value, how many different ones, what came within hours of exposure, and who came back k days later.

Sums and counts become columns of the rows and are summed with all others. The rest is told to the roll-up. What is
counted within hours of exposure needs each user's first moment, which one pass over the rows finds beforehand.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from abtest.analysis import expressions
from abtest.analysis.column_types import as_number, is_number
from abtest.analysis.expressions import Expression
from micrec.data.column_names import propose_column
from micrec.data.times import Implausible, read_times
from micrec.errors import MicrecError

Take = Literal["sum", "count", "any", "max", "first", "last", "distinct"]
RETAINED, WITHIN = "retained", "observed"  # takes that the metrics retention and conversion make
TAKEN = "\x1ftaken\x1f"  # prefix of the rows' column that a take reads
MOMENT = "\x1fmoment"  # microseconds since 1970, of each row
_SINCE = "\x1fsince"
_START = "\x1fstart\x1f"  # prefix of the column with a user's first moment
_BATCH_ROWS = 1 << 20
_US_PER_H = 3_600_000_000


class UserColumnConfig(BaseModel):
    """One column of users, made of a finer log's rows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    take: Take = Field(..., description="What is made of a user's rows: sum, count, any, max, first, last, distinct.")
    of: str | None = Field(None, description="Column or expression on the columns of a row; distinct takes a column.")
    event: str | None = Field(None, description="Only rows of this event.")
    where: str | None = Field(None, description="Only rows where this holds, such as dwell_s > 60.")
    within_h: float | None = Field(None, gt=0, description="Only rows at most so many hours after exposure.")
    exposure: str | None = Field(None, description="Event with which exposure begins; the user's first row if empty.")

    @model_validator(mode="after")
    def _source(self) -> "UserColumnConfig":
        if (self.of is None) != (self.take in ("count", "any")):
            raise ValueError("sum, max, first, last and distinct need of, and count and any have none")
        if self.exposure is not None and self.within_h is None:
            raise ValueError("exposure is for within_h: give the hours too")
        return self


class UserColumn(NamedTuple):
    """The same, read.

    Attributes:
        name: Its column in metrics.
        take: As configured; or "retained" (``day`` days after the first) or "observed" (``within_h`` lie in the log).
        of: What is taken.
        event: Only rows of this event.
        where: Only rows where this is not 0.
        within_h: Only rows so many hours after exposure.
        exposure: Event with which exposure begins.
        day: Days after the first.
        to: Of "retained": the column that says who could come back.
    """

    name: str
    take: str
    of: Expression | None = None
    event: str | None = None
    where: Expression | None = None
    within_h: float | None = None
    exposure: str | None = None
    day: int = 0

    @property
    def sources(self) -> tuple[str, ...]:
        """Columns of the rows that it reads."""
        expressions_ = [one.columns for one in (self.of, self.where) if one is not None]
        events = ["event"] if self.event is not None or self.exposure is not None else []
        return tuple(dict.fromkeys([*(name for columns in expressions_ for name in columns), *events]))

    @property
    def is_sum(self) -> bool:
        """Whether it is a sum over rows, which days and looks can cut."""
        return self.take in ("sum", "count")


def user_column(name: str, config: UserColumnConfig) -> UserColumn:
    """Read the expressions of a configured column.

    Raises:
        MicrecError: If one is no expression.
    """
    of = expressions.parse(config.of) if config.of is not None else None
    if config.take == "distinct" and of is not None and of.plain is None:
        raise MicrecError(f"of: {config.of!r}: distinct takes a column and no expression.")
    where = expressions.parse(f"where({config.where}, 1, 0)") if config.where is not None else None
    return UserColumn(name, config.take, of, config.event, where, config.within_h, config.exposure)


def retention_columns(day: int) -> tuple[UserColumn, UserColumn]:
    """Whether a user was there ``day`` days after their first one, and whether that day lies in the log."""
    return UserColumn(f"retained_day_{day}", RETAINED, day=day), UserColumn(f"observed_day_{day}", RETAINED, day=day)


def conversion_columns(event: str, within_h: float, exposure: str | None) -> tuple[UserColumn, UserColumn]:
    """Whether a user had an event within hours of exposure, and whether these hours lie in the log."""
    hours = f"{within_h:g}h" + (f"_of_{exposure}" if exposure else "")
    return (
        UserColumn(f"{event}_within_{hours}", "any", event=event, within_h=within_h, exposure=exposure),
        UserColumn(f"observed_for_{hours}", WITHIN, within_h=within_h, exposure=exposure),
    )


def missing_sources(columns: Iterable[UserColumn], there: Sequence[str], kind: str) -> list[str]:
    """What a log lacks for these columns, each as a sentence."""
    faults = []
    for one in columns:
        if kind == "users":
            faults.append(f"{one.name}: is made of rows finer than users, and the log has one row per user.")
            continue
        needed = [*one.sources, *(["timestamp"] if one.within_h is not None else [])]
        if one.take == RETAINED and "day" not in there and "timestamp" not in there:
            needed.append("timestamp")
        for name in needed:
            if name not in there:
                proposed = propose_column(name, there)
                cure = f"did you mean {proposed}?" if proposed else f"the columns are {', '.join(there[:20])}."
                faults.append(f"{one.name}: needs a column {name!r}, {cure}")
    return list(dict.fromkeys(faults))


def with_row_columns(
    rows: pl.LazyFrame,
    columns: Sequence[UserColumn],
    *,
    timezone: str,
    implausible: Implausible,
    exposed: pl.DataFrame | None = None,
) -> tuple[pl.LazyFrame, dict[str, pl.DataFrame]]:
    """The rows with what the columns read of them.

    Args:
        rows: Rows under our names, with ``day`` where the log has days.
        columns: What is to be made.
        timezone: Zone of times that name none.
        implausible: What to do with implausible times.
        exposed: ``user_id`` and ``start``, microseconds since 1970, of a table of exposures: hours of these users count
            from then on, or from the first event of the name after it.

    Returns:
        The rows: a column for each sum, and ``TAKEN`` ones for the other takes; and by the name of each "observed"
        column who was observed so long, with ``user_id``.
    """
    schema = rows.collect_schema()
    if "timestamp" in schema and any(one.within_h or one.take in ("first", "last") for one in columns):
        times = read_times(rows, "timestamp", timezone=timezone, implausible=implausible)
        rows = rows.with_columns(times.instants.cast(pl.Int64).alias(MOMENT))
    observed: dict[str, pl.DataFrame] = {}
    starts: dict[str | None, tuple[pl.DataFrame, int]] = {}
    for one in columns:
        if one.within_h is None:
            continue
        start = f"{_START}{one.exposure or ''}"
        if one.exposure not in starts:
            firsts, end = starts[one.exposure] = _first_moments(rows, one.exposure, exposed)
            rows = rows.join(firsts.rename({"start": start}).lazy(), on="user_id", how="left", maintain_order="left")
        if one.take == WITHIN:
            firsts, end = starts[one.exposure]
            long = end - pl.col("start") >= one.within_h * _US_PER_H
            observed[one.name] = firsts.select("user_id", long.cast(pl.Float64).alias(one.name))
    made = [_row_column(one, schema) for one in columns if one.take not in (RETAINED, WITHIN)]
    return rows.with_columns(made), observed


def _first_moments(rows: pl.LazyFrame, exposure: str | None, exposed: pl.DataFrame | None) -> tuple[pl.DataFrame, int]:
    """First moment of every user's exposure, in one pass that keeps one line per user; and the last moment of all."""
    found = pl.DataFrame(schema={"user_id": rows.collect_schema()["user_id"], "start": pl.Int64})
    end = 0
    seen = rows if exposure is None else rows.with_columns(_is_event(exposure).alias("\x1fexposure"))
    needed = ["user_id", MOMENT, *(["\x1fexposure"] if exposure is not None else [])]
    since = None if exposed is None else exposed.rename({"start": _SINCE})
    for batch in seen.select(needed).collect_batches(chunk_size=_BATCH_ROWS, engine="streaming"):
        end = max(end, int(batch[MOMENT].max() or 0))  # type: ignore[arg-type]
        batch = batch if exposure is None else batch.filter("\x1fexposure")
        if since is not None and exposure is not None:
            batch = batch.join(since, on="user_id", how="left").filter(
                pl.col(_SINCE).is_null() | (pl.col(MOMENT) >= pl.col(_SINCE))
            )
        part = batch.group_by("user_id").agg(pl.col(MOMENT).min().alias("start"))
        found = pl.concat([found, part]).group_by("user_id").agg(pl.col("start").min())
    if since is not None and exposure is None:
        found = found.join(since, on="user_id", how="left").select(
            "user_id", pl.coalesce(_SINCE, "start").alias("start")
        )
    return found, end


def _is_event(event: str) -> pl.Expr:
    return (pl.col("event").cast(pl.String) == event).fill_null(False)


def _row_column(one: UserColumn, schema: pl.Schema) -> pl.Expr:
    """What a row adds: to a sum 0 where the row does not count, to other takes null."""
    number = _numbers(schema)
    counts = pl.lit(True)
    if one.event is not None:
        counts = counts & _is_event(one.event)
    if one.where is not None:
        counts = counts & (expressions.parse(one.where.text, number).expr == 1.0).fill_null(False)
    if one.within_h is not None:
        after = pl.col(MOMENT) - pl.col(f"{_START}{one.exposure or ''}")
        counts = counts & ((after >= 0) & (after <= one.within_h * _US_PER_H)).fill_null(False)
    if one.of is None:
        value = counts.cast(pl.Float64)
        return value.alias(one.name if one.is_sum else TAKEN + one.name)
    if one.take == "distinct":
        return pl.when(counts).then(pl.col(str(one.of.plain))).alias(TAKEN + one.name)
    value = expressions.parse(one.of.text, number).expr
    if one.take == "sum":
        return pl.when(counts).then(value.fill_null(0.0)).otherwise(0.0).alias(one.name)
    return pl.when(counts).then(value.fill_nan(None)).alias(TAKEN + one.name)


def _numbers(schema: pl.Schema) -> Callable[[str], pl.Expr]:
    """What a name stands for in a row's expression: the column as a number."""

    def column(name: str) -> pl.Expr:
        kind = schema[name]
        return as_number(name, kind) if is_number(kind) else pl.col(name)

    return column
