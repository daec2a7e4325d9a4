"""One rule for time, whatever the type of the column: instants in UTC, days cut in a named zone.

- An instant is an instant: numbers since 1970, datetimes with a zone, text with an offset.
- A datetime, text or date without a zone is local in the zone that the user names (UTC unless they do).
- Numbers are seconds, milliseconds, microseconds or nanoseconds by their size, or YYYYMMDD[HHMM[SS]].
- Columns of two units are refused. Times before 1990 (a zero, a clock that was not set) and times in the future (more
  than a year ahead, or a few more than two days ahead) are refused, or dropped and counted; a log that lies there as a
  whole is taken as it is.
- A local time that a change of clocks skips is read an hour later, one that it repeats is read as the first of both.
"""

import difflib
import reprlib
from datetime import UTC, date, datetime, timedelta
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from micrec.errors import MicrecError

Implausible = Literal["refuse", "drop"]
Unit = Literal["s", "ms", "us", "ns"]
INSTANT = pl.Datetime("us", "UTC")
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=2)  # clocks and zones err by less
FAR_AHEAD = timedelta(days=366)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000

_EARLIEST_S = int(EARLIEST.timestamp())
_LATEST_S = 10_000_000_000  # the year 2286; so the sizes of the four units do not overlap
_UNITS: dict[Unit, int] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}  # in a second
_UNIT_WORDS: dict[Unit, str] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_COMPACT = (8, 12, 14)  # digits of YYYYMMDD, with HHMM, with SS
_MOST_DAY_NUMBER = 100_000  # a larger integer is a date or a time
_EXAMPLES = 3
_FEW = 0.1  # a smaller share of times in the future is a fault of clocks, a larger one a log to come
_BODY = (
    r"^(\d{4}[-/]\d{1,2}[-/]\d{1,2}(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?)?)"
    r"(?:[T ]?)\s?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2})?$"
)
_OFFSET = r":\d{2}(?:[.,]\d+)?\s?(Z|UTC|GMT|[+-]\d{2}:?(?:\d{2})?)$"


class Times(NamedTuple):
    """A column of times, understood.

    Attributes:
        instants: The moment of each row, of type ``INSTANT``; null where the cell is null or no time.
        kept: True for the rows to keep; None keeps all.
        faults: Why the column cannot be used, as sentences.
        notes: What was assumed, as sentences.
        dropped: Rows that ``kept`` leaves out, by reason.
        unit: Unit of a column of numbers since 1970; None for dates.
        value: The column as numbers, where ``unit`` is not None.
    """

    instants: pl.Expr
    kept: pl.Expr | None = None
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    dropped: tuple[tuple[str, int], ...] = ()
    unit: Unit | None = None
    value: pl.Expr | None = None


class DayNumbers(NamedTuple):
    """A column of days, understood.

    Attributes:
        number: Days since 1970-01-01, or the log's own numbers where ``dated`` is False; Int32.
        dated: Whether the numbers are dates.
        faults: Why the column cannot be used.
        notes: What was assumed.
        kept: As in ``Times``.
        instants: The moment of each row, if the column holds moments.
    """

    number: pl.Expr
    dated: bool = True
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kept: pl.Expr | None = None
    instants: pl.Expr | None = None
    dropped: tuple[tuple[str, int], ...] = ()


class LogDays(NamedTuple):
    """How a log's time is cut into days.

    Attributes:
        timezone: IANA name of the zone whose clocks count.
        starts_at: Clock time at which a day starts, ``HH:MM``.
    """

    timezone: str = "UTC"
    starts_at: str = "00:00"

    @property
    def starts_at_ms(self) -> int:
        hours, minutes = self.starts_at.split(":")
        return int(hours) * HOUR_MS + int(minutes) * 60_000

    def numbers(self, time_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Day of each moment, counted from 1970-01-01."""
        return self._clock_ms(time_ms) // DAY_MS

    def ms_into_day(self, time_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Milliseconds by the clock since the start of the day."""
        return self._clock_ms(time_ms) % DAY_MS

    def utc_offset_h(self, time_ms: int) -> float:
        """Hours by which the zone's clocks are ahead of UTC at a moment."""
        clock_ms = int(self._clock_ms(np.array([time_ms]))[0]) + self.starts_at_ms
        return (clock_ms - time_ms) / HOUR_MS

    def start_ms(self, day: int) -> int:
        """First moment of a day, in milliseconds since 1970-01-01 UTC."""
        clock = pl.DataFrame({"clock": pl.Series([day * DAY_MS + self.starts_at_ms]).cast(pl.Datetime("ms"))})
        return int(clock.select(local(pl.col("clock"), self.timezone).dt.timestamp("ms")).item())

    def _clock_ms(self, time_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.timezone == "UTC":
            return time_ms - self.starts_at_ms
        clocks = pl.Series(time_ms).cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone(self.timezone)
        return clocks.dt.replace_time_zone(None).cast(pl.Int64).to_numpy() - self.starts_at_ms


def check_timezone(name: str, key: str = "timezone") -> None:
    """Refuse what is no zone.

    Raises:
        MicrecError: With the nearest name.
    """
    try:
        pl.Series([0]).cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone(name)
    except pl.exceptions.PolarsError:
        import zoneinfo

        zones = sorted(zoneinfo.available_timezones())
        by_city = {zone.rsplit("/", 1)[-1].lower(): zone for zone in zones} | {zone.lower(): zone for zone in zones}
        close = difflib.get_close_matches(name.lower().replace(" ", "_"), by_city, n=1, cutoff=0.75)
        cure = f"did you mean {by_city[close[0]]}?" if close else "write an IANA name such as Europe/Oslo, or UTC."
        raise MicrecError(f"{key}: there is no time zone {name!r}, {cure}") from None


def read_times(
    rows: pl.LazyFrame,
    name: str,
    *,
    timezone: str = "UTC",
    implausible: Implausible = "refuse",
    option: str = "--implausible-times drop",
    unit: Unit | None = None,
    now: datetime | None = None,
) -> Times:
    """Understand a column of times; the rows are read once or twice, in a stream.

    Args:
        rows: The table.
        name: Its column of times.
        timezone: Zone of times that name none.
        implausible: What to do with single times before 1990 or more than two days ahead.
        option: How the user asks for "drop", for the error.
        unit: Unit of numbers, if it is known; None = recognised by their size.
        now: The present; None = by the clock.
    """
    times = _instants(rows, name, timezone, unit)
    if times.faults:
        return times
    return _judged(rows, name, times, implausible, option, now or datetime.now(UTC))


def local(naive: pl.Expr, timezone: str) -> pl.Expr:
    """The instants of clock times in a zone: an hour later where clocks skip them, the first where they repeat."""
    if timezone == "UTC":
        return naive.dt.replace_time_zone("UTC")
    found = naive.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    later = naive.dt.offset_by("1h").dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    return pl.coalesce(found, later).dt.convert_time_zone("UTC")


def local_date(instants: pl.Expr, timezone: str) -> pl.Expr:
    """The calendar day of each instant by the clocks of a zone."""
    return instants.dt.convert_time_zone(timezone).dt.date()


def read_days(
    rows: pl.LazyFrame,
    name: str,
    *,
    timezone: str = "UTC",
    implausible: Implausible = "refuse",
    option: str = "--implausible-times drop",
    now: datetime | None = None,
) -> DayNumbers:
    """Understand a column of days: dates, the log's own numbers (1, 2, ...), or times that are cut into days.

    A date is the day it names, whatever the zone; so is a column of midnights.
    """
    value, kind = _value_of(rows, name)
    now = now or datetime.now(UTC)
    if (dates := _dates(rows, value, kind)) is not None:
        if kind == pl.String and (faults := _unreadable(rows, name, _naive(value))):
            return DayNumbers(value, faults=faults)
        midnights = Times(dates.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
        judged = _judged(rows, name, midnights, implausible, option, now)
        return DayNumbers(dates.cast(pl.Int32), True, judged.faults, judged.notes, judged.kept, dropped=judged.dropped)
    if kind.is_numeric():
        whole = value.cast(pl.Int64, strict=False)
        if _all_true(rows, whole.is_between(-_MOST_DAY_NUMBER, _MOST_DAY_NUMBER) & (whole == value)):
            return DayNumbers(whole.cast(pl.Int32), dated=False)
    times = read_times(rows, name, timezone=timezone, implausible=implausible, option=option, now=now)
    number = local_date(times.instants, timezone).cast(pl.Int32)
    return DayNumbers(number, True, times.faults, times.notes, times.kept, times.instants, times.dropped)


def _dates(rows: pl.LazyFrame, value: pl.Expr, kind: pl.DataType) -> pl.Expr | None:
    """The dates of a column that holds nothing else: of type Date, written as text, or midnights."""
    if kind == pl.Date:
        return value
    if kind == pl.String and _all_true(rows, value.str.contains(r"^\d{4}[-/]\d{1,2}[-/]\d{1,2}$")):
        return _naive(value).dt.date()
    if isinstance(kind, pl.Datetime) and _all_true(rows, value.dt.time() == pl.time(0, 0, 0)):
        return value.dt.date()
    return None


def _instants(rows: pl.LazyFrame, name: str, timezone: str, unit: Unit | None) -> Times:
    """The moments of a column, whether or not they are plausible."""
    value, kind = _value_of(rows, name)
    if kind == pl.Date:
        note = f"{name}: holds dates without a time of day; each counts as the day's first moment."
        return Times(local(value.cast(pl.Datetime("us")), timezone), notes=(note,))
    if isinstance(kind, pl.Datetime):
        if kind.time_zone is None:
            return Times(local(value.cast(pl.Datetime("us")), timezone))
        zone = kind.time_zone
        notes = () if zone in ("UTC", timezone) else (f"{name}: the column is in {zone}; days are cut in {timezone}.",)
        return Times(value.dt.convert_time_zone("UTC").cast(INSTANT), notes=notes)
    if kind == pl.String:
        return _from_text(rows, name, value, timezone)
    if kind == pl.Null:
        return Times(value.cast(INSTANT))
    if kind.is_numeric():
        return _from_numbers(rows, name, value, timezone, unit)
    return Times(value, faults=(f"{name}: holds {kind}, must hold dates, times or numbers.",))


def _value_of(rows: pl.LazyFrame, name: str) -> tuple[pl.Expr, pl.DataType]:
    """The column, as numbers where it is text that holds nothing but numbers; text is stripped."""
    value, kind = pl.col(name), rows.collect_schema()[name]
    if isinstance(kind, pl.Categorical | pl.Enum):
        value, kind = value.cast(pl.String), pl.String()
    if kind.is_decimal():
        return value.cast(pl.Float64), pl.Float64()
    if kind.is_integer():
        return value.cast(pl.Int64, strict=False), pl.Int64()
    if kind != pl.String:
        return value, kind
    value = value.str.strip_chars()
    integers, numbers = value.cast(pl.Int64, strict=False), value.cast(pl.Float64, strict=False)
    n, whole, real = (
        rows.select(value.count().alias("n"), integers.count().alias("i"), numbers.count().alias("f"))
        .collect(engine="streaming")
        .row(0)
    )
    if 0 < n == whole:
        return integers, pl.Int64()
    return (numbers, pl.Float64()) if 0 < n == real else (value, kind)


def _from_text(rows: pl.LazyFrame, name: str, value: pl.Expr, timezone: str) -> Times:
    naive, offset = _naive(value), _offset_minutes(value)
    faults = _unreadable(rows, name, naive)
    zoned = (naive - pl.duration(minutes=offset)).dt.replace_time_zone("UTC")
    with_offset, elsewhere, without, dates = (
        rows.select(
            offset.count().alias("a"),
            (offset != 0).sum().alias("e"),
            (naive.is_not_null() & offset.is_null()).sum().alias("b"),
            (value.str.len_chars() <= 10).sum().alias("c"),
        )
        .collect(engine="streaming")
        .row(0)
    )
    if not with_offset:
        instants = local(naive, timezone)
    else:
        instants = zoned if not without else pl.when(offset.is_null()).then(local(naive, timezone)).otherwise(zoned)
    notes = []
    if with_offset and without:
        notes.append(
            f"{name}: {without:,} times name no zone and are read as local in {timezone}; the others name one."
        )
    if elsewhere and timezone == "UTC":
        notes.append(f"{name}: {elsewhere:,} times name an offset from UTC; days are cut in UTC.")
    if dates:
        notes.append(f"{name}: {dates:,} are dates without a time of day; each counts as the day's first moment.")
    return Times(instants, faults=faults, notes=tuple(notes))


def _naive(text: pl.Expr) -> pl.Expr:
    """Clock time of ISO text, without its offset; null where the text is no date."""
    body = text.str.extract(_BODY, 1).str.replace_all("/", "-", literal=True).str.replace("T", " ", literal=True)
    body = body.str.replace(",", ".", literal=True)
    body = pl.when(body.str.contains(":", literal=True)).then(body).otherwise(body + " 00:00:00")
    body = pl.when(body.str.contains(r":\d{2}:")).then(body).otherwise(body + ":00")
    return body.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)


def _offset_minutes(text: pl.Expr) -> pl.Expr:
    """Minutes east of UTC that a text names; null where it names none."""
    zone = text.str.extract(_OFFSET, 1)
    digits = zone.str.replace(":", "", literal=True)
    sign = pl.when(digits.str.starts_with("-")).then(-1).otherwise(1)
    hours = digits.str.slice(1, 2).cast(pl.Int32, strict=False)
    minutes = digits.str.slice(3, 2).cast(pl.Int32, strict=False).fill_null(0)
    named = pl.when(zone.is_in(["Z", "UTC", "GMT"])).then(0).otherwise(sign * (hours * 60 + minutes))
    return pl.when(zone.is_not_null()).then(named)


def _unreadable(rows: pl.LazyFrame, name: str, naive: pl.Expr) -> tuple[str, ...]:
    """Text that is no date, or no number where most texts are numbers."""
    text = pl.col(name).cast(pl.String).str.strip_chars()
    is_there, is_number = text.fill_null("") != "", text.cast(pl.Float64, strict=False).is_not_null()
    found = rows.select(there=is_there, number=is_number, date=naive.is_not_null())
    dates, numbers, no_number, no_date = (
        found.select(
            pl.col("date").sum(),
            pl.col("number").sum(),
            (pl.col("there") & ~pl.col("number")).sum().alias("no number"),
            (pl.col("there") & ~pl.col("date")).sum().alias("no date"),
        )
        .collect(engine="streaming")
        .row(0)
    )
    if not (no_number if numbers > dates else no_date):
        return ()
    if numbers > dates:
        return _fault(rows, name, ~is_number & is_there, "text that is not a number", "write all times in one way")
    cure = "write 2011-12-09 12:50:00 or 2011-12-09T12:50:00+01:00"
    return _fault(rows, name, naive.is_null() & is_there, "text that is not an ISO date", cure)


def _from_numbers(rows: pl.LazyFrame, name: str, value: pl.Expr, timezone: str, given: Unit | None) -> Times:
    size = value.cast(pl.Float64).fill_nan(None).abs()
    is_of = {
        unit: (size >= _EARLIEST_S * per_s) & ((size < _LATEST_S * per_s) if unit != "ns" else size.is_finite())
        for unit, per_s in _UNITS.items()
    }
    compact = {digits: _compact(value, digits) for digits in _COMPACT}
    tests = [value.count().alias("n"), (value <= 0).sum().alias("none"), size.max().alias("largest")]
    tests += [(is_of[unit] & (value > 0)).sum().alias(unit) for unit in _UNITS]
    tests += [dates.count().alias(f"compact {digits}") for digits, dates in compact.items()]
    tests += [value.is_between(*_compact_range(digits)).sum().alias(f"sized {digits}") for digits in _COMPACT]
    found = rows.select(tests).collect(engine="streaming").row(0, named=True)
    for digits, dates in compact.items():
        if _are_dates(found, digits):
            epoch = pl.lit(0, pl.Int64).cast(pl.Datetime("us"))  # zeros and below stand for no date
            naive = pl.when(value <= 0).then(epoch).otherwise(dates)
            form = "YYYYMMDDHHMMSS"[:digits]
            return Times(local(naive, timezone), notes=(f"{name}: the numbers are read as dates, {form}.",))
    if given is not None:
        return Times(_since_epoch(value, given), unit=given, value=value)
    units: list[Unit] = [unit for unit in _UNITS if found[unit]]
    if len(units) > 1:
        return Times(value, faults=tuple(_mixed(rows, name, value, is_of, found, units)))
    unit = units[0] if units else _unit_of(found["largest"])
    notes = () if unit == "s" and units else (f"{name}: the numbers are read as {_UNIT_WORDS[unit]}.",)
    return Times(_since_epoch(value, unit), notes=notes, unit=unit, value=value)


def _are_dates(found: dict[str, int], digits: int) -> bool:
    """Whether all numbers above 0 have the size of written dates, and most of them are some."""
    positive = found["n"] - found["none"]
    return 0 < positive == found[f"sized {digits}"] and 2 * found[f"compact {digits}"] >= positive


def _compact_range(digits: int) -> tuple[int, int]:
    return 1900 * 10 ** (digits - 4), 2200 * 10 ** (digits - 4)


def _mixed(
    rows: pl.LazyFrame, name: str, value: pl.Expr, is_of: dict[Unit, pl.Expr], found: dict[str, int], units: list[Unit]
) -> list[str]:
    """One error for each unit but the most frequent."""
    main = max(units, key=lambda unit: found[unit])
    cure = f"write all in one unit; most are {_UNIT_WORDS[main]}"
    others = [unit for unit in units if unit != main]
    return [
        fault
        for unit in others
        for fault in _fault(
            rows,
            name,
            is_of[unit] & (value > 0),
            f"times in {_UNIT_WORDS[unit]}",
            cure,
        )
    ]


def _compact(value: pl.Expr, digits: int) -> pl.Expr:
    """Clock times from numbers such as 20261124; null where the number is no date of that many digits."""
    whole = value.cast(pl.Int64, strict=False)
    is_sized = whole.is_between(*_compact_range(digits)) & (whole == value)
    dates = pl.when(is_sized).then(whole.cast(pl.String))
    if digits == 8:
        return dates.str.to_date("%Y%m%d", strict=False).cast(pl.Datetime("us"))
    padded = dates + "00" if digits == 12 else dates
    return padded.str.to_datetime("%Y%m%d%H%M%S", time_unit="us", strict=False)


def _unit_of(largest: float | None) -> Unit:
    """Unit of a log that lies before 1990 as a whole, such as one that counts from its own start."""
    return next((unit for unit, per_s in _UNITS.items() if (largest or 0) < 100_000_000_000 * per_s), "ns")


def _since_epoch(value: pl.Expr, unit: Unit) -> pl.Expr:
    per_us = _UNITS["us"] / _UNITS[unit]  # microseconds in one
    number = value.cast(pl.Float64, strict=False)
    is_sane = number.is_finite() & ((number.abs() * per_us) < 2.5e17)  # the year 9999
    exact = value.cast(pl.Int64, strict=False)
    scaled = exact * int(per_us) if per_us >= 1 else exact.floordiv(int(1 / per_us))
    in_us = pl.when(number == exact).then(scaled).otherwise((number * per_us).round().cast(pl.Int64, strict=False))
    return pl.when(is_sane).then(in_us).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _judged(rows: pl.LazyFrame, name: str, times: Times, implausible: Implausible, option: str, now: datetime) -> Times:
    """Single implausible times are reported as errors or dropped; a whole log of them is noted."""
    early, late, far, none = _implausible(rows, name, times.instants, now)
    read, seen = rows.select(pl.col(name), times.instants.alias("moment\x1f")), pl.col("moment\x1f")  # parsed once
    tests = {what: test.sum() for what, test in zip("elfn", _implausible(rows, name, seen, now), strict=True)}
    try:
        n, n_early, n_late, n_far, n_none = read.select(all=seen.count(), **tests).collect(engine="streaming").row(0)
    except pl.exceptions.PanicException:  # a day beyond the years that times can have
        return times._replace(faults=(*times.faults, f"{name}: holds days beyond the year 9999: correct them."))
    checks = []
    notes = list(times.notes)
    if 0 < n == n_early:
        notes.append(f"{name}: all times lie before 1990, as if counted from a start of their own.")
    elif n_early:
        checks.append((early, "times before 1990", "such as 0 for a clock that was not set"))
    if 0 < n_late < n and n_late < _FEW * n:
        checks.append((late, f"times after {now + AHEAD:%Y-%m-%d}, in the future", "such as a clock that runs ahead"))
    elif 0 < n_far < n:
        checks.append(
            (far, f"times after {now + FAR_AHEAD:%Y-%m-%d}, in the future", "such as a clock that runs ahead")
        )
    elif n_late:
        share = "all" if n_late == n else f"{n_late / n:.0%} of the"
        notes.append(f"{name}: {share} times lie in the future: check their unit and the clock.")
    if n_none:
        checks.append((none, "no moment before the year 10000", "such as 20261131"))
    if not checks:
        return times._replace(notes=tuple(notes))
    if implausible == "drop":
        bad = checks[0][0]
        for broken, _, _ in checks[1:]:
            bad = bad | broken
        counts = rows.select(broken.sum().alias(what) for broken, what, _ in checks).collect(engine="streaming")
        dropped = tuple((f"{name}: {what}", int(counts[what].item())) for _, what, _ in checks)
        return times._replace(notes=tuple(notes), kept=~bad.fill_null(False), dropped=dropped)
    faults = [
        fault
        for broken, what, why in checks
        for fault in _fault(rows, name, broken, what, f"correct them ({why}), or leave these rows out with {option}")
    ]
    return times._replace(notes=tuple(notes), faults=tuple(faults))


def _implausible(rows: pl.LazyFrame, name: str, moment: pl.Expr, now: datetime) -> tuple[pl.Expr, ...]:
    """Which moments are too early, somewhat late, far too late, and which cells are no moment."""
    none = moment.is_null() & pl.col(name).is_not_null()
    if rows.collect_schema()[name] == pl.String:
        none &= pl.col(name).str.strip_chars() != ""
    return moment < EARLIEST, moment > now + AHEAD, moment > now + FAR_AHEAD, none


def _fault(rows: pl.LazyFrame, name: str, broken: pl.Expr, rule: str, cure: str) -> tuple[str, ...]:
    """The rule that is broken, by how many rows and which first, and the cure; nothing if no row breaks it."""
    n, total = rows.select(broken.sum().alias("n"), pl.len().alias("total")).collect(engine="streaming").row(0)
    if not n:
        return ()
    marked = rows.select(pl.col(name), broken.alias("broken\x1f")).with_row_index("row\x1f")
    first = marked.filter(pl.col("broken\x1f")).head(_EXAMPLES).collect(engine="streaming")
    values = zip(first["row\x1f"].to_list(), first[name].to_list(), strict=True)
    shown = "; ".join(f"row {row}: {_shown(value)}" for row, value in values)
    more = "; ..." if n > len(first) else ""
    return (f"{name}: {rule} in {n:,} of {total:,} rows ({shown}{more}): {cure}",)


def _shown(value: object) -> str:
    return str(value) if isinstance(value, date) else reprlib.repr(value)


def _all_true(rows: pl.LazyFrame, test: pl.Expr) -> bool:
    """Whether a test holds wherever it is defined, and is defined somewhere."""
    n, true = rows.select(test.count().alias("n"), test.sum().alias("true")).collect(engine="streaming").row(0)
    return bool(0 < n == true)
