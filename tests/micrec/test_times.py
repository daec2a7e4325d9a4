"""Times of any type against Python's own datetime and zoneinfo."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.data.log_times import coarse_times
from micrec.data.times import LogDays, Times, check_timezone, read_days, read_times
from micrec.errors import MicrecError

NOW = datetime(2026, 11, 29, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = ("UTC", "Europe/Oslo", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia")
seconds = st.integers(int(datetime(1991, 1, 1, tzinfo=UTC).timestamp()), int(NOW.timestamp()))
logs = st.lists(seconds, min_size=1, max_size=8)


def utc(moment_s: float) -> datetime:
    return EPOCH + timedelta(seconds=moment_s)


def read(values: list | pl.Series, zone: str = "UTC", **options) -> tuple[Times, list]:
    rows = pl.LazyFrame({"t": values})
    times = read_times(rows, "t", timezone=zone, now=NOW, **options)
    return times, rows.select(times.instants.alias("t")).collect()["t"].to_list() if not times.faults else []


INSTANTS = {
    "seconds": lambda s: pl.Series(s),
    "float seconds": lambda s: pl.Series([float(x) for x in s]),
    "milliseconds": lambda s: pl.Series([x * 1_000 for x in s]),
    "microseconds": lambda s: pl.Series([x * 1_000_000 for x in s]),
    "nanoseconds": lambda s: pl.Series([x * 1_000_000_000 for x in s]),
    "Int32": lambda s: pl.Series(s, dtype=pl.Int32),
    "UInt64": lambda s: pl.Series([x * 1_000 for x in s], dtype=pl.UInt64),
    "Decimal": lambda s: pl.Series([str(x) for x in s]).cast(pl.Decimal(20, 3)),
    "digits": lambda s: pl.Series([f" {x} " for x in s]),
    "fractions in text": lambda s: pl.Series([f"{x}.0" for x in s]),
    "Z": lambda s: pl.Series([utc(x).strftime("%Y-%m-%dT%H:%M:%SZ") for x in s]),
    "BigQuery": lambda s: pl.Series([utc(x).strftime("%Y-%m-%d %H:%M:%S.000 UTC") for x in s]),
    "offset": lambda s: pl.Series([utc(x).astimezone(ZoneInfo("Asia/Kolkata")).isoformat() for x in s]),
    "western offset": lambda s: pl.Series(
        [utc(x).astimezone(ZoneInfo("America/St_Johns")).strftime("%Y-%m-%d %H:%M:%S%z") for x in s]
    ),
    "zoned": lambda s: pl.Series([utc(x) for x in s]).dt.convert_time_zone("America/New_York"),
    "zoned ns": lambda s: pl.Series([utc(x) for x in s]).cast(pl.Datetime("ns", "UTC")),
}


@pytest.mark.parametrize("kind", INSTANTS)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Oslo"])
@settings(max_examples=25, deadline=None)
@given(moments=logs)
def test_an_instant_is_an_instant_in_any_type_and_zone(kind: str, zone: str, moments: list[int]) -> None:
    times, found = read(INSTANTS[kind](moments), zone)
    assert times.faults == ()
    assert found == [utc(moment) for moment in moments]


LOCAL = {
    "naive": lambda clocks: pl.Series(clocks),
    "naive ms": lambda clocks: pl.Series(clocks).cast(pl.Datetime("ms")),
    "text": lambda clocks: pl.Series([clock.strftime("%Y-%m-%d %H:%M:%S") for clock in clocks]),
    "T": lambda clocks: pl.Series([clock.isoformat() for clock in clocks]),
    "slashes": lambda clocks: pl.Series([clock.strftime("%Y/%m/%d %H:%M:%S.000") for clock in clocks]),
    "compact": lambda clocks: pl.Series([int(clock.strftime("%Y%m%d%H%M%S")) for clock in clocks]),
}


@pytest.mark.parametrize("kind", LOCAL)
@settings(max_examples=40, deadline=None)
@given(moments=logs, zone=st.sampled_from(ZONES))
def test_a_time_without_a_zone_is_local_and_its_day_is_the_local_day(kind: str, zone: str, moments: list[int]) -> None:
    clocks = [utc(moment).astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0) for moment in moments]
    _, found = read(LOCAL[kind](clocks), zone)
    assert found == [clock.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) for clock in clocks]  # fold=0: the first
    rows = pl.LazyFrame({"day": LOCAL[kind](clocks)})
    days = read_days(rows, "day", timezone=zone, now=NOW)
    assert rows.select(days.number.cast(pl.Date).alias("day")).collect()["day"].to_list() == [c.date() for c in clocks]


@settings(max_examples=60, deadline=None)
@given(moments=logs, zone=st.sampled_from(ZONES), starts_at=st.sampled_from(["00:00", "04:00", "23:30"]))
def test_days_of_a_log_are_those_of_the_clock(moments: list[int], zone: str, starts_at: str) -> None:
    days, hours = LogDays(zone, starts_at), timedelta(hours=int(starts_at[:2]), minutes=int(starts_at[3:]))
    clocks = [utc(moment).astimezone(ZoneInfo(zone)).replace(tzinfo=None) - hours for moment in moments]
    found = days.numbers(np.array(moments) * 1_000).tolist()
    assert found == [(clock.date() - date(1970, 1, 1)).days for clock in clocks]


def test_days_of_a_change_of_clocks_have_23_and_25_hours() -> None:
    days = LogDays("Europe/Oslo")
    for first, hours in ((date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 7, 1), 24)):
        number = (first - date(1970, 1, 1)).days
        assert days.start_ms(number + 1) - days.start_ms(number) == hours * 3_600_000
        both = np.array([days.start_ms(number), days.start_ms(number) - 1])
        assert days.numbers(both).tolist() == [number, number - 1]


def test_a_clock_time_that_is_skipped_is_read_an_hour_later() -> None:
    _, found = read([datetime(2026, 3, 29, 2, 30), datetime(2026, 10, 25, 2, 30)], "Europe/Oslo")
    assert found == [datetime(2026, 3, 29, 1, 30, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)]


@pytest.mark.parametrize(
    "values",
    [
        [date(2026, 11, 24)],
        ["2026-11-24"],
        ["2026/11/24"],
        [20261124],
        ["20261124"],
        [datetime(2026, 11, 24)],
        pl.Series([datetime(2026, 11, 24, tzinfo=UTC)]),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Apia"])
def test_a_date_is_the_day_it_names(values: list, zone: str) -> None:
    rows = pl.LazyFrame({"day": values})
    days = read_days(rows, "day", timezone=zone, now=NOW)
    assert rows.select(days.number.cast(pl.Date)).collect().item() == date(2026, 11, 24)


@pytest.mark.parametrize(
    "values",
    [
        [date(2026, 11, 24)] * 3 + [date(1970, 1, 1)],
        ["2026-11-24"] * 3 + ["1970-01-01"],
        [datetime(2026, 11, 24)] * 3 + [datetime(1970, 1, 1)],
        [20261124] * 3 + [0],
    ],
)
def test_days_that_no_log_has_are_refused_or_dropped_too(values: list) -> None:
    rows = pl.LazyFrame({"day": values})
    assert "day: times before 1990 in 1 of 4 rows" in read_days(rows, "day", now=NOW).faults[0]
    days = read_days(rows, "day", implausible="drop", now=NOW)
    assert days.faults == ()
    assert days.kept is not None
    assert len(rows.filter(days.kept).collect()) == 3


def test_the_log_s_own_day_numbers_stay() -> None:
    for values in ([1, 2], ["1", "2"], [1.0, 2.0], pl.Series([1, 2], dtype=pl.UInt8)):
        rows = pl.LazyFrame({"day": values})
        days = read_days(rows, "day")
        assert not days.dated
        assert rows.select(days.number.alias("d")).collect()["d"].to_list() == [1, 2]


S = 1_795_500_000


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ([S, S, S * 1_000], "times in milliseconds in 1 of 3 rows (row 2: 1795500000000"),
        ([S * 1_000, S * 1_000, S * 10**6], "times in microseconds in 1 of 3 rows (row 2"),
        ([str(S), str(S), str(S * 10**9)], "times in nanoseconds in 1 of 3 rows (row 2"),
        ([float(S), S * 1e3, S * 1e3], "times in seconds in 1 of 3 rows (row 0"),
        ([S, 0, -3, S, 0, 0], "times before 1990 in 4 of 6 rows (row 1: 0; row 2: -3; row 4: 0; ...)"),
        ([S, 4_115_500_000], "times after 2027-11-30, in the future in 1 of 2 rows (row 1: 4115500000"),
        ([S] * 19 + [S + 1_000_000], "times after 2026-12-01, in the future in 1 of 20 rows (row 19: 1796500000)"),
        ([datetime(2026, 11, 1), datetime(2100, 1, 1)], "in the future in 1 of 2 rows (row 1: 2100-01-01 00:00:00"),
        ([date(2026, 11, 1), date(1900, 1, 1)], "before 1990 in 1 of 2 rows (row 1: 1900-01-01"),
        (["2026-11-01 10:00", "1970-01-01 00:00"], "before 1990 in 1 of 2 rows (row 1: '1970-01-01 00:00'"),
        (["2026-11-01 10:00", "soon"], "text that is not an ISO date in 1 of 2 rows (row 1: 'soon"),
        (["2026-11-01 10:00", "2026-02-30 10:00"], "text that is not an ISO date in 1 of 2 rows (row 1: '2026-02-30"),
        (["5", "6", "soon"], "text that is not a number in 1 of 3 rows (row 2: 'soon'"),
        (["24.11.2026 15:00"], "text that is not an ISO date in 1 of 1 rows (row 0: '24.11.2026"),
        ([20261124, 20261131, 20261125], "no moment before the year 10000 in 1 of 3 rows (row 1: 20261131"),
        ([float(S), float("inf")], "no moment before the year 10000 in 1 of 2 rows (row 1: inf"),
        ([float(S), float("nan")], "no moment before the year 10000 in 1 of 2 rows (row 1: nan"),
        ([True, False], "holds Boolean, must hold dates, times or numbers"),
    ],
)
def test_what_is_no_log_of_one_clock_is_refused(values: list, part: str) -> None:
    times, _ = read(values)
    assert any(part in fault for fault in times.faults), times.faults


def test_single_implausible_times_are_dropped_when_asked_and_counted() -> None:
    rows = pl.LazyFrame({"t": [S, 0, -3, S + 1, 4_115_500_000]})
    times = read_times(rows, "t", implausible="drop", now=NOW)
    assert times.faults == ()
    assert times.kept is not None
    assert rows.filter(times.kept).collect()["t"].to_list() == [S, S + 1]
    assert dict(times.dropped) == {
        "t: times before 1990": 2,
        "t: times after 2027-11-30, in the future": 1,
    }


def test_a_log_that_goes_on_into_the_future_is_told_and_taken() -> None:
    times, found = read([S + day * 86_400 for day in range(-5, 12)])
    assert len(found) == 17
    assert times.notes == ("t: 29% of the times lie in the future: check their unit and the clock.",)


def test_a_log_that_counts_from_its_own_start_is_taken_as_it_is() -> None:
    times, found = read([0, 10, 3_600])
    assert found == [utc(0), utc(10), utc(3_600)]
    assert times.notes[-1] == "t: all times lie before 1990, as if counted from a start of their own."


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=6),
        st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=6),
        st.lists(st.one_of(st.none(), st.floats()), max_size=6),
        st.lists(st.one_of(st.none(), st.datetimes()), max_size=6),
        st.lists(st.one_of(st.none(), st.dates()), max_size=6),
    )
)
def test_any_column_is_read_or_refused_in_words(values: list) -> None:
    rows = pl.LazyFrame({"t": pl.Series("t", values)})
    times, days = (function(rows, "t", timezone="Europe/Oslo", now=NOW) for function in (read_times, read_days))
    for found, values_of in ((times, times.instants), (days, days.number)):
        assert all(fault.startswith("t: ") for fault in found.faults)
        if not found.faults:
            assert rows.select(values_of.alias("t")).collect()["t"].null_count() >= values.count(None)


def test_coarse_times_are_told() -> None:
    days = LogDays("Europe/Oslo")
    midnights = np.array([days.start_ms(day) for day in range(20_740, 20_760)])  # the clocks change in between
    assert "dates without a time of day" in str(coarse_times(midnights, days))
    assert "rounded to hours" in str(coarse_times(np.arange(5) * 3_600_000, LogDays()))
    assert coarse_times(np.array([0, 1_000, 3_600_000]), LogDays()) is None


def test_an_unknown_zone_is_refused_with_the_nearest() -> None:
    for name, cure in (("Oslo", "did you mean Europe/Oslo?"), ("new york", "America/New_York"), ("+5", "IANA name")):
        with pytest.raises(MicrecError, match="there is no time zone") as fault:
            check_timezone(name)
        assert cure in str(fault.value)
