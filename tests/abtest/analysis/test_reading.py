"""How rows come in: zones, names of columns, spellings of ids, separators, hints; against Python's own calendar."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.userlog import log_of, read_log
from abtest.cli.main import app
from micrec.errors import MicrecError

from .logs import AB, users

RUN = CliRunner()
OSLO = ZoneInfo("Europe/Oslo")


def local_week(n: int = 60, *, start: datetime = datetime(2026, 10, 22), zone: str = "Europe/Oslo") -> list[tuple]:
    """User, arm and instant of visits in seven local days; a change of clocks lies within."""
    rng = np.random.default_rng(3)
    rows = []
    for user in range(n):
        for day in range(7):
            if day in (0, 6) or rng.random() < 0.5:
                clock = start + timedelta(days=day, minutes=int(rng.choice([0, 10, 30, 700, 1_400, 1_439])))
                rows.append((user, "AB"[user % 2], clock.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)))
    return rows


def stays_by_hand(rows: list[tuple], zone: str) -> dict[int, tuple[int, int]]:
    """Per user, days after which they came the next day, and days after which they could."""
    days = defaultdict(set)
    for user, _, moment in rows:
        days[user].add(moment.astimezone(ZoneInfo(zone)).date())
    last = max(day for seen in days.values() for day in seen)
    one = timedelta(days=1)
    return {u: (sum(d + one in seen for d in seen), sum(d < last for d in seen)) for u, seen in days.items()}


WRITINGS = {
    "zoned": lambda moments: pl.Series(moments),
    "seconds": lambda moments: pl.Series([int(m.timestamp()) for m in moments]),
    "milliseconds": lambda moments: pl.Series([int(m.timestamp()) * 1_000 for m in moments]),
    "microseconds": lambda moments: pl.Series([int(m.timestamp()) * 10**6 for m in moments]),
    "nanoseconds": lambda moments: pl.Series([int(m.timestamp()) * 10**9 for m in moments]),
    "digits": lambda moments: pl.Series([str(int(m.timestamp())) for m in moments]),
    "text with offset": lambda moments: pl.Series([m.astimezone(OSLO).isoformat() for m in moments]),
    "text in UTC": lambda moments: pl.Series([m.strftime("%Y-%m-%dT%H:%M:%SZ") for m in moments]),
    "local text": lambda moments: pl.Series([m.astimezone(OSLO).strftime("%Y-%m-%d %H:%M:%S") for m in moments]),
    "local datetime": lambda moments: pl.Series([m.astimezone(OSLO).replace(tzinfo=None) for m in moments]),
    "local date": lambda moments: pl.Series([m.astimezone(OSLO).date() for m in moments]),
    "local YYYYMMDD": lambda moments: pl.Series([int(m.astimezone(OSLO).strftime("%Y%m%d")) for m in moments]),
}


@pytest.mark.parametrize("writing", WRITINGS)
def test_local_days_are_the_same_in_any_writing(writing: str) -> None:
    rows = local_week()
    table = pl.DataFrame({"user_id": [r[0] for r in rows], "arm": [r[1] for r in rows], "clicks": 1.0}).with_columns(
        WRITINGS[writing]([r[2] for r in rows]).alias("timestamp")
    )
    log = log_of(table, AnalysisPlan("A", ("B",), timezone="Europe/Oslo"))
    assert log.days is not None
    assert log.days.labels == tuple(f"2026-10-{day}" for day in range(22, 29))
    found = {r["user_id"]: (r["next_day_stays"], r["next_day_eligible"]) for r in log.users.collect().to_dicts()}
    assert found == stays_by_hand(rows, "Europe/Oslo")


def test_days_that_fit_another_zone_are_refused_with_that_zone() -> None:
    rows = local_week()
    table = pl.DataFrame(rows, schema=["user_id", "arm", "timestamp"], orient="row").with_columns(clicks=1.0)
    log = log_of(table, AB)
    assert log.days is not None
    assert log.days.length == 8
    assert any("--timezone Europe/Berlin" in note for note in log.notes)
    from abtest.analysis.analysis import analyse

    daily = AnalysisPlan("A", ("B",), looks="daily")
    with pytest.raises(MicrecError, match=r"spans 8 days in UTC, the plan 7.*--timezone Europe/Berlin"):
        analyse(log_of(table, daily), daily)


def test_a_zone_is_an_option_of_every_command(tmp_path: Path) -> None:
    rows = local_week()
    path = tmp_path / "log.parquet"
    table = pl.DataFrame(rows, schema=["user_id", "arm", "timestamp"], orient="row")
    table.with_columns(clicks=pl.int_range(pl.len()) % 5, event=pl.lit("click")).write_parquet(path)
    arms = ["--control", "A", "--treatment", "B"]
    done = RUN.invoke(app, ["analyze", str(path), *arms, "--timezone", "Europe/Oslo", "--looks", "daily"])
    assert done.exit_code == 0, done.output
    assert "2026-10-28" in done.output
    assert "2026-10-21" not in done.output
    assert RUN.invoke(app, ["power", str(path), "--timezone", "Europe/Oslo"]).exit_code == 0
    done = RUN.invoke(app, ["analyze", str(path), *arms, "--timezone", "Oslo"])
    assert done.exit_code == 2
    assert "there is no time zone 'Oslo', did you mean Europe/Oslo?" in done.stderr


def test_times_of_two_units_are_refused_and_zeros_dropped_when_asked() -> None:
    start = int(datetime(2026, 11, 2, tzinfo=UTC).timestamp())
    table = pl.DataFrame({"user_id": range(20), "arm": ["A", "B"] * 10, "clicks": [1] * 20})
    halves = table.with_columns(timestamp=pl.Series([start] * 12 + [start * 1_000] * 8))
    with pytest.raises(MicrecError, match=r"timestamp: times in milliseconds in 8 of 20 rows \(row 12: "):
        log_of(halves, AnalysisPlan("A", ("B",), rows="parts"))
    zeros = table.with_columns(timestamp=pl.Series([start] * 18 + [0] * 2))
    with pytest.raises(MicrecError, match=r"times before 1990 in 2 of 20 rows .*--implausible-times drop"):
        log_of(zeros, AnalysisPlan("A", ("B",), rows="parts"))
    log = log_of(zeros, AnalysisPlan("A", ("B",), rows="parts", implausible_times="drop"))
    assert len(log.users.collect()) == 18
    assert "2 rows were left out: timestamp: times before 1990." in log.notes


@pytest.mark.parametrize(
    ("names", "option"),
    [
        (["User_ID", " ARM", "Clicks"], []),
        (["customerId", "variant", "n_clicks"], ["user_id=customerId,arm=variant", "clicks=n_clicks"]),
        (["customerId", "variant", "n clicks"], ["user_id=CUSTOMERID", "arm=variant,clicks=n clicks"]),
    ],
)
def test_columns_are_named_once_or_often_or_recognised(tmp_path: Path, names: list[str], option: list[str]) -> None:
    table = users(200).select("user_id", "arm", "clicks")
    table.columns = names
    table.write_csv(tmp_path / "log.csv")
    flags = [part for pair in option for part in ("--columns", pair)]
    done = RUN.invoke(app, ["analyze", str(tmp_path / "log.csv"), "--control", "A", "--treatment", "B", *flags])
    assert done.exit_code == 0, done.output


def test_a_missing_column_is_told_with_the_option(tmp_path: Path) -> None:
    table = users(200).select("user_id", "arm", "clicks").rename({"user_id": "visitorid", "arm": "Variation"})
    with pytest.raises(MicrecError) as fault:
        log_of(table, AB)
    assert "did you mean visitorid? Name it with --columns user_id=visitorid" in str(fault.value)
    assert "--columns arm=Variation" in str(fault.value)


@pytest.mark.parametrize("name", ["date", "event_date", "dt", "whenever"])
def test_rows_by_day_are_told_to_name_their_days(name: str) -> None:
    table = pl.concat([users(50), users(50)]).with_columns(pl.lit(datetime(2026, 11, 1).date()).alias(name))
    with pytest.raises(MicrecError, match=f"--columns day={name}"):
        log_of(table, AB)


@pytest.mark.parametrize(
    ("labels", "flags"),
    [
        (("A", "B"), "--control A --treatment B"),
        (("test", "Control"), "--control Control --treatment test"),
        (("0", "1"), "--control 0 --treatment 1"),
        (("new list", "old"), "--control old --treatment 'new list'"),
    ],
)
def test_arms_that_nobody_named_are_one_fault_with_the_flags(labels: tuple[str, str], flags: str) -> None:
    table = users(100).with_columns(arm=pl.col("arm").replace_strict({"A": labels[0], "B": labels[1]}))
    with pytest.raises(MicrecError) as fault:
        log_of(table, AnalysisPlan("control", ("treatment",)))
    assert f"use {flags}." in str(fault.value)
    assert " errors" not in str(fault.value)


def test_ids_that_look_alike_are_one_user_and_counted() -> None:
    table = pl.DataFrame(
        {
            "user_id": ["u1", "u1 ", "\u200bu1", "u2", "e\u0301", "é", "U2"] * 2,
            "arm": ["A", "A", "A ", "B", "B", "B", "A"] * 2,
            "clicks": [1] * 14,
        }
    )
    log = log_of(table, AnalysisPlan("A", ("B",), rows="parts"))
    found = dict(log.users.select("user_id", "clicks").collect().iter_rows())
    assert found == {"u1": 6, "u2": 2, "é": 4, "U2": 2}
    assert any("6 ids were read without white space" in note for note in log.notes)
    assert any("1 ids differ from another by upper case alone, such as 'U2' and 'u2'" in note for note in log.notes)


@pytest.mark.parametrize("ids", [pl.Float64, pl.Float32, pl.Decimal(10, 1), pl.String])
def test_whole_numbers_stored_as_fractions_are_ids(ids: pl.DataType) -> None:
    table = users(100).with_columns(pl.col("user_id").cast(pl.Float64).cast(ids))
    assert log_of(table, AB).users.collect()["user_id"].to_list() == list(range(100))


def test_a_folder_of_days_is_a_log_of_days(tmp_path: Path) -> None:
    """Parts of other integer widths, and the day in the names of the folders."""
    for day in range(1, 8):
        folder = tmp_path / "log" / f"date=2026-11-{day:02d}"
        folder.mkdir(parents=True)
        part = (
            users(40, seed=day)
            .drop("pre_clicks")
            .with_columns(pl.col("clicks").cast(pl.Int32 if day % 2 else pl.Int64))
        )
        part.write_parquet(folder / "part-0.parquet")
    log = read_log(tmp_path / "log", AnalysisPlan("A", ("B",), columns={"day": "date"}))
    assert log.days is not None
    assert log.days.labels == tuple(f"2026-11-{day:02d}" for day in range(1, 8))
    total = sum(users(40, seed=day)["clicks"].sum() for day in range(1, 8))
    assert log.users.collect()["clicks"].sum() == total


def test_late_fractions_and_other_separators_are_read(tmp_path: Path) -> None:
    rows = "".join(f"{user};{'AB'[user % 2]};{user % 3}\n" for user in range(10_001))
    (tmp_path / "log.csv").write_text("user_id;arm;clicks\n" + rows + "10001;A;1,5\n")
    log = read_log(tmp_path / "log.csv", AB)
    assert log.users.collect()["clicks"].sum() == sum(user % 3 for user in range(10_001)) + 1.5
    assert log.notes[0] == "Cells are separated by ';' in log.csv."


def test_text_among_numbers_is_named_and_words_for_no_value_are_empty(tmp_path: Path) -> None:
    lines = [f"{user},{'AB'[user % 2]},{user % 4}" for user in range(60)]
    for cell, part in (
        ("many", r"clicks: holds String, .*\(1 rows, such as 'many'\)"),
        ("NULL", "clicks: 1 row is empty"),
    ):
        path = tmp_path / "log.csv"
        path.write_text("\n".join(["user_id,arm,clicks", *lines, f"60,A,{cell}"]) + "\n")
        with pytest.raises(MicrecError, match=part):
            read_log(path, AB)
    texts = pl.DataFrame({"user_id": [1, 2], "arm": ["A", "B"], "clicks": ["1", "2"]})
    with pytest.raises(MicrecError, match="clicks: holds numbers as text"):
        log_of(texts, AB)


def test_users_who_do_the_same_every_day_are_analysed() -> None:
    """The lift of later days is that of the first, to the last bit or so: its variance must not round below 0."""
    from abtest.analysis.analysis import analyse

    one_day = users(400).select("user_id", "arm", "clicks")
    table = pl.concat([one_day.with_columns(day=pl.lit(day)) for day in range(1, 8)])
    assert analyse(log_of(table, AB), AB).novelty


def test_times_of_another_zone_are_told_where_days_are_cut_in_utc() -> None:
    moments = [datetime(2026, 11, 3, 8, tzinfo=UTC), datetime(2026, 11, 4, 8, tzinfo=UTC)]
    table = pl.DataFrame({"user_id": [1, 2], "arm": ["A", "B"], "clicks": [1, 2]})
    zoned = table.with_columns(timestamp=pl.Series(moments).dt.convert_time_zone("Asia/Tokyo"))
    text = table.with_columns(timestamp=pl.Series([m.astimezone(OSLO).isoformat() for m in moments]))
    plan = AnalysisPlan("A", ("B",), rows="parts")
    assert "timestamp: the column is in Asia/Tokyo; days are cut in UTC." in log_of(zoned, plan).notes
    assert "timestamp: 2 times name an offset from UTC; days are cut in UTC." in log_of(text, plan).notes


def test_a_fault_that_comes_from_the_parts_is_told_with_them(tmp_path: Path) -> None:
    users(20).drop("clicks").write_parquet(tmp_path / "a.parquet")
    users(20).with_columns(pl.col("user_id") + 20).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(MicrecError) as fault:
        read_log(tmp_path, AB)
    assert "clicks: 20 rows are empty" in str(fault.value)
    assert "note: clicks: 1 part file lacks the column, a.parquet first" in str(fault.value)
