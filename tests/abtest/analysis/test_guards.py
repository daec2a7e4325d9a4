"""Broken logs: every fault named with its column, count, first ids and cure."""

import numpy as np
import polars as pl
import pytest

from abtest.analysis.metrics import BUILTIN, Metric
from abtest.analysis.plan import AnalysisPlan
from micrec.errors import MicrecError

from .logs import AB, days, read, users


def refusal(table: pl.DataFrame, plan: AnalysisPlan = AB) -> str:
    with pytest.raises(MicrecError) as fault:
        read(table, plan)
    return str(fault.value)


def spoiled(column: str, at: list[int], value: object, table: pl.DataFrame | None = None) -> pl.DataFrame:
    """Users with a value put into some rows."""
    table = users(100) if table is None else table
    values = table[column].to_list()
    for row in at:
        values[row] = value
    return table.with_columns(pl.Series(column, values, strict=False))


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        (spoiled("clicks", [3, 5, 7, 9], None), ["clicks: 4 rows are empty (user_id 3, 5, 7, ...): write 0"]),
        (spoiled("dwell_s", [4], float("nan")), ["dwell_s: 1 row is NaN (user_id 4)"]),
        (spoiled("dwell_s", [4, 6], float("inf")), ["dwell_s: 2 rows are infinite (user_id 4, 6)"]),
        (spoiled("clicks", [8], -1), ["clicks: 1 row is below 0 (user_id 8): a count or time cannot be"]),
        (spoiled("arm", [2, 3], None), ["arm: 2 rows are empty (user_id 2, 3): log the arm"]),
        (spoiled("arm", [2], " "), ["arm: 1 row is empty (user_id 2)", "1 rows are of arm"][:1]),
        (spoiled("arm", [2, 4], "C"), ["arm: 2 rows are of arm 'C'", "--treatment C", "--ignore-arm C"]),
        (spoiled("user_id", [1], None), ["user_id: 1 row is empty"]),
        (spoiled("cold", [1], None), ["cold: 1 row is empty (user_id 1)"]),
        (spoiled("pre_clicks", [1], float("inf")), ["pre_clicks: 1 row is infinite (user_id 1)"]),
        (users(100).with_columns(cold=pl.lit(2)), ["cold: 100 rows are neither 0 nor 1"]),
        (users(100).with_columns(clicks=pl.lit("many")), ["clicks: holds String, must hold numbers"]),
        (users(100).with_columns(user_id=pl.col("user_id") / 3), ["user_id: is a column of fractions"]),
        (users(100).filter(pl.col("arm") == "A"), ["arm: no row is of arm 'B'"]),
        (users(100).clear(), ["holds no rows"]),
        (users(100).drop("arm"), ["no column 'arm'", "--columns arm=..."]),
        (users(100).drop("clicks", "dwell_s", "likes", "follows", "impressions"), ["no column to measure"]),
        (users(100).drop("clicks", "dwell_s"), ["no primary metric can be measured"]),
    ],
)
def test_one_fault(table, parts):
    text = refusal(table)
    for part in parts:
        assert part in text


def test_all_faults_at_once():
    table = spoiled("clicks", [1], -2)
    table = spoiled("dwell_s", [2, 3], float("nan"), table)
    table = spoiled("arm", [5], "Z", table)
    table = pl.concat([table, table.slice(7, 2)])
    text = refusal(table)
    assert "4 errors" in text
    for part in ("clicks: 1 row is below 0", "dwell_s: 2 rows are NaN", "user_id: 2 users have more", "arm 'Z'"):
        assert part in text


def test_repeated_users_are_refused_with_both_cures():
    """tea-tasting turned p .294 into .008 on the same data without a word."""
    table = users(100)
    text = refusal(pl.concat([table, table.slice(10, 3)]))
    assert "user_id: 3 users have more than one row (user_id 10, 11, 12): the unit of the test is the user" in text
    assert "--rows parts" in text


def test_repeated_user_days_are_refused():
    table = days(20)
    text = refusal(pl.concat([table, table.slice(0, 2)]))
    assert "user_id: 2 pairs of user and day have more than one row (user_id 0, 1)" in text


def test_a_user_in_two_arms_is_refused():
    table = days(20)
    moved = table.with_columns(arm=pl.when((pl.col("user_id") < 2) & (pl.col("day") > 1)).then(pl.lit("B")))
    table = table.with_columns(arm=moved["arm"].fill_null(table["arm"]))
    text = refusal(table)
    assert "arm: 1 user is in more than one arm" in text
    assert "(user_id 0)" in text


def test_a_cold_flag_that_changes_during_the_test_is_refused():
    table = days(20).with_columns(cold=pl.col("day") == 1)
    text = refusal(table)
    assert "cold:" in text
    assert "change their value during the test" in text
    assert "from before the first exposure" in text


def test_a_slice_column_of_many_values_is_refused():
    text = refusal(users(100), AnalysisPlan("A", ("B",), slices=("user_id",)))
    assert "user_id: has 100 values, a slice column at most 50" in text


def test_an_expression_without_a_value_is_refused():
    from abtest.analysis.expressions import parse

    ratio = Metric("CPI", "", parse("clicks / impressions"), role="primary")
    table = users(100).with_columns(impressions=pl.when(pl.col("user_id") < 5).then(0).otherwise(4))
    text = refusal(table.with_columns(clicks=pl.lit(1)), AnalysisPlan("A", ("B",), metrics=(ratio,)))
    assert "metric CPI: 5 users have no finite value (user_id 0, 1, 2, ...)" in text


def test_a_missing_column_is_named_with_the_nearest():
    plan = AnalysisPlan("A", ("B",), columns={"clicks": "n_clik", "likes": "n_like + 1"})
    table = users(100).rename({"clicks": "n_click", "likes": "n_like"})
    text = refusal(table, plan)
    assert "clicks=n_clik: no column 'n_clik', did you mean n_click?" in text
    assert "likes" not in text


def test_ignored_arms_are_left_out_and_told():
    table = users(99).with_columns(arm=pl.Series(np.array(["A", "B", "C"])[np.arange(99) % 3]))
    log = read(table, AnalysisPlan("A", ("B",), ignored_arms=("C",)))
    assert log.users.collect().height == 66
    assert any("arm C were left out" in note for note in log.notes)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"treatments": ()}, "treatment: give at least one arm"),
        ({"treatments": ("A",)}, "arm 'A' is named 2 times"),
        ({"alpha": 0.7}, "alpha: must lie within"),
        ({"alpha": float("nan")}, "alpha: must lie within"),
        ({"planned_days": 0}, "planned-days"),
        ({"looks": "hourly"}, "looks: must be one of final, daily, open"),
        ({"rows": "cells"}, "rows: must be one of"),
        ({"min_users": 1}, "min-users"),
        ({"weights": {"A": 1.0}}, "weight of 'B' is missing"),
        ({"weights": {"A": 1.0, "B": -1.0}}, "weight of 'B': must be > 0"),
        ({"weights": {"A": 1.0, "B": 1.0, "C": 1.0}}, "weight of 'C': no such arm"),
        ({"ignored_arms": ("B",)}, "arm 'B' is compared and ignored"),
    ],
)
def test_a_plan_that_cannot_be(changes, part):
    with pytest.raises(MicrecError) as fault:
        AnalysisPlan(**{"control": "A", "treatments": ("B",), **changes})
    assert part in str(fault.value)


def test_metrics_of_the_plan_need_their_columns():
    text = refusal(users(100).drop("likes"), AnalysisPlan("A", ("B",), metrics=(BUILTIN["ACC"], BUILTIN["ALR"])))
    assert "no column 'likes'" in text
    assert "It is needed by metric ALR." in text
