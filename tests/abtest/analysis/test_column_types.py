"""Columns of every type that a warehouse exports: summed without overflow, or refused with reason and cure."""

import datetime as dt
from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest
from typer.testing import CliRunner

from abtest.analysis.plan import AnalysisPlan
from abtest.cli.main import app
from micrec.errors import MicrecError

from .logs import AB, analysed, effect, read, users

PARTS = AnalysisPlan("A", ("B",), rows="parts")
DAYS = AnalysisPlan("A", ("B",), rows="days")
LARGEST = {
    pl.Int8: 2**7 - 1,
    pl.Int16: 2**15 - 1,
    pl.Int32: 2**31 - 1,
    pl.Int64: 2**63 - 1,
    pl.UInt8: 2**8 - 1,
    pl.UInt16: 2**16 - 1,
    pl.UInt32: 2**32 - 1,
    pl.UInt64: 2**64 - 1,
    pl.Int128: 2**100,
    pl.Boolean: True,
    pl.Float32: 16_777_216.0,  # beyond which a Float32 sum no longer counts ones
    pl.Float64: 1e300,
    pl.Decimal(20, 4): Decimal("1234567890123456.7891"),
}


def rolled(values: list, kind: pl.DataType, plan: AnalysisPlan = PARTS) -> float:
    """Sum that one user's rows of ``values`` come to."""
    n = len(values)
    table = pl.DataFrame(
        {
            "user_id": [1] * n + [2],
            "arm": ["A"] * n + ["B"],
            "day": [*range(1, n + 1), 1],
            "clicks": pl.Series([*values, values[0]], dtype=kind),
        }
    )
    return read(table, plan).users.filter(pl.col("user_id") == 1).collect()["clicks"].item()


@pytest.mark.parametrize(("kind", "largest"), LARGEST.items(), ids=[str(kind) for kind in LARGEST])
@pytest.mark.parametrize("plan", [PARTS, DAYS], ids=["parts", "days"])
def test_sums_are_those_of_fractions(kind, largest, plan):
    """Many rows at the largest value of the type, and ones, which a narrow sum would lose."""
    values = [largest] * 5 + [type(largest)(1)] * 4
    exact = sum(Fraction(value) for value in values)
    found = rolled(values, kind, plan)
    assert isinstance(found, float)
    assert abs(Fraction(found) - exact) <= exact * Fraction(1, 2**51)


def test_ones_after_a_large_float32_are_counted():
    assert rolled([16_777_216.0] + [1.0] * 20, pl.Float32) == 16_777_236.0


def test_clicks_that_wrap_32_bits_give_the_right_verdict(tmp_path):
    """200 users of five Int32 parts of 5e8 clicks and more: each user's sum is above 2^31."""
    clicks = [500_000_000 + 100_000 * (u // 2) + (u % 2) * (50_000_000 + 10_000 * (u // 2)) for u in range(200)]
    table = pl.DataFrame({"user_id": range(200), "arm": ["A", "B"] * 100, "clicks": clicks})
    part = table.with_columns(pl.col("clicks").cast(pl.Int32))
    log = pl.concat([part] * 5)  # of 2.5e9 clicks a user
    log.write_parquet(tmp_path / "wrap.parquet")
    args = ["analyze", str(tmp_path / "wrap.parquet"), "--control", "A", "--treatment", "B", "--rows", "parts"]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, done.output
    means = [sum(5 * c for u, c in enumerate(clicks) if u % 2 == arm) / 100 for arm in (0, 1)]
    found = effect(analysed(log, PARTS), "ACC")
    assert (found.estimate.control.mean, found.estimate.treatment.mean) == pytest.approx(means, rel=1e-14)
    assert "SHIP: B is better than A on ACC" in done.stdout
    assert "+10.00 %" in done.stdout


def test_sums_beyond_any_number_are_refused():
    with pytest.raises(MicrecError, match=r"clicks: 1 user has sums too large for a number \(user_id 1\)"):
        rolled([1.7e308, 1.7e308], pl.Float64)


def test_expressions_of_narrow_columns_do_not_wrap():
    table = users(400, lift=0.3).with_columns((pl.col("clicks") + 100).cast(pl.UInt8))
    plan = AnalysisPlan("A", ("B",), columns={"dwell_s": "clicks * 1000 - likes * 500"})
    table = table.with_columns(pl.col("likes").cast(pl.Int8))
    exact = [1000 * clicks - 500 * likes for clicks, likes in table.select("clicks", "likes").iter_rows()]
    assert read(table, plan).users.collect()["dwell_s"].to_list() == exact


@pytest.mark.parametrize("kind", [pl.Boolean, pl.Int8, pl.UInt64, pl.Int128, pl.Float32, pl.Decimal(10, 2)], ids=str)
def test_a_column_of_zeros_and_ones_is_the_same_in_every_type(kind):
    """The metric of a share, whichever way it was exported, as counts and as covariate."""
    table = users(600).with_columns(clicks=pl.col("likes") > 0, pre_clicks=pl.col("follows") > 0)
    typed = table.with_columns(pl.col("clicks", "pre_clicks").cast(pl.Int64).cast(kind))
    plain = table.with_columns(pl.col("clicks", "pre_clicks").cast(pl.Float64))
    for name in ("ACC", "CTR"):
        found, wanted = (effect(analysed(one), name).estimate for one in (typed, plain))
        assert (found.lift, found.p) == (wanted.lift, wanted.p)


def test_durations_are_seconds():
    table = users(600)
    for unit in ("ms", "us", "ns"):
        spans = pl.Series([dt.timedelta(seconds=1.5) * clicks for clicks in table["clicks"]], dtype=pl.Duration(unit))
        log = read(table.with_columns(dwell_s=spans))
        assert log.users.collect()["dwell_s"].to_list() == pytest.approx([1.5 * clicks for clicks in table["clicks"]])
        assert "dwell_s: durations were read as seconds." in log.notes


@pytest.mark.parametrize(
    ("column", "values", "part"),
    [
        ("clicks", pl.lit(dt.date(2026, 11, 1)), "clicks: holds Date, must hold numbers: make a number of them first"),
        ("clicks", pl.lit(dt.time(1)), "clicks: holds Time, must hold numbers"),
        ("clicks", pl.lit([1, 2]), "clicks: holds List(Int64), must hold numbers: give one number a row"),
        ("clicks", pl.col("arm").cast(pl.Categorical), "must hold numbers: correct the values that are not numbers"),
        ("clicks", pl.lit(b"7"), "clicks: holds Binary, must hold numbers"),
        ("clicks", pl.lit(None), "clicks: 100 rows are empty"),
        ("pre_clicks", pl.lit("x"), "pre_clicks: holds String, must hold numbers"),
        ("arm", pl.lit([1]), "arm: holds List(Int64), must hold one label a row"),
        ("arm", pl.lit(None), "arm: 100 rows are empty"),
        ("arm", pl.lit(b"A"), "arm: holds Binary, must hold one label a row"),
        ("cold", pl.lit("yes"), "cold: holds String, must be true or false"),
        ("cold", pl.lit([True]), "cold: holds List(Boolean), must hold one label a row"),
        ("cold", pl.lit(0.5), "cold: 100 rows are neither 0 nor 1"),
        ("user_id", pl.lit(True), "user_id: holds Boolean, which names no user"),
        ("user_id", pl.lit([1]), "user_id: holds List(Int64), which names no user"),
        ("user_id", pl.lit(dt.date(2026, 11, 1)), "user_id: holds Date, which names no user"),
        ("user_id", pl.lit(None), "user_id: 100 rows are empty"),
    ],
)
def test_what_is_no_number_or_label_is_refused_with_its_cure(column, values, part):
    with pytest.raises(MicrecError) as fault:
        read(users(100).with_columns(values.alias(column)))
    assert part in str(fault.value)


def test_an_expression_on_times_is_refused():
    plan = AnalysisPlan("A", ("B",), columns={"clicks": "seen / 7"})
    with pytest.raises(MicrecError, match="clicks=seen / 7: seen: holds Date, must hold numbers"):
        read(users(100).drop("clicks").with_columns(seen=pl.lit(dt.date(2026, 11, 1))), plan)


@pytest.mark.parametrize(
    "ids",
    [
        pl.col("user_id").cast(pl.Int128) + 2**100,
        pl.col("user_id").cast(pl.UInt64) + (2**64 - 10_000),
        pl.col("user_id").cast(pl.UInt8),
        pl.col("user_id").cast(pl.Decimal(38, 0)),
        pl.col("user_id").cast(pl.String).cast(pl.Categorical),
        pl.format("u{}", "user_id").cast(pl.Binary),
    ],
    ids=["int128", "uint64", "uint8", "decimal", "categorical", "binary"],
)
@pytest.mark.parametrize("rows", ["users", "parts"])
def test_ids_of_every_type_name_users(ids, rows):
    table = users(200, lift=0.2).with_columns(arm=pl.col("arm").cast(pl.Categorical))
    plan = AnalysisPlan("A", ("B",), rows=rows)
    found, wanted = (effect(analysed(one, plan), "ACC").estimate for one in (table.with_columns(ids), table))
    assert (found.lift, found.p) == pytest.approx((wanted.lift, wanted.p), rel=1e-9)


def test_slices_of_every_type_are_labels():
    table = users(400).with_columns(
        flag=pl.col("user_id") % 4 < 2,
        since=pl.lit(dt.date(2026, 11, 1)) + pl.duration(days=pl.col("user_id") % 4 // 2),
        word=pl.when(pl.col("user_id") % 4 < 2).then(pl.lit("x")).otherwise(pl.lit("y")).cast(pl.Enum(["y", "x"])),
        price=(pl.col("user_id") % 4 // 2).cast(pl.Decimal(8, 2)),
        nothing=pl.lit(None),
        cold=(pl.col("user_id") % 4 // 2).cast(pl.Decimal(8, 2)),
    )
    for rows in ("users", "parts"):
        plan = AnalysisPlan("A", ("B",), slices=("flag", "since", "word", "price", "nothing"), rows=rows)
        log = read(table, plan)
        assert log.slices == {
            "cold": ("cold", "warm"),
            "flag": ("false", "true"),
            "since": ("2026-11-01", "2026-11-02"),
            "word": ("x", "y"),
            "price": ("0.00", "1.00"),
            "nothing": ("missing",),
        }
        assert effect(analysed(table, plan), "ACC", "since=2026-11-02").estimate.control.n == 100


def test_a_list_as_slice_is_refused():
    with pytest.raises(MicrecError, match="tags: holds List"):
        read(users(100).with_columns(tags=pl.lit(["a"])), AnalysisPlan("A", ("B",), slices=("tags",)))


def test_ab_plan_reads_its_own_days():
    """Day sums are wide as well: 7 days of the largest 32-bit count."""
    rows = [(u, "AB"[u % 2], d, 2**31 - 1) for u in range(4) for d in range(1, 8)]
    table = pl.DataFrame(
        rows, {"user_id": pl.Int64, "arm": pl.String, "day": pl.Int8, "clicks": pl.Int32}, orient="row"
    )
    assert read(table, AB).users.collect()["clicks"].to_list() == [7.0 * (2**31 - 1)] * 4


@pytest.mark.parametrize("kind", [pl.Boolean, pl.UInt8, pl.Float32, pl.Decimal(4, 1)], ids=str)
def test_days_of_activity_in_every_type(kind):
    """User 1 is there on days 1 and 2 of 3; a row that does not say so is no day of activity."""
    rows = [(1, "A", 1, 5, 1), (1, "A", 2, 5, 1), (1, "A", 3, 5, 0), (2, "B", 1, 5, 1), (2, "B", 2, 5, None)]
    table = pl.DataFrame(rows, ["user_id", "arm", "day", "clicks", "active"], orient="row")
    log = read(table.with_columns(pl.col("active").cast(kind)), AB)
    assert log.users.collect()["next_day_stays"].to_list() == [1, 0]
    assert log.users.collect()["next_day_eligible"].to_list() == [2, 1]


def test_activity_in_words_is_refused():
    table = pl.DataFrame({"user_id": [1, 2], "arm": ["A", "B"], "day": [1, 1], "clicks": [1, 1], "active": ["y", "n"]})
    with pytest.raises(MicrecError, match="active: holds String, must be true or false"):
        read(table, AB)
