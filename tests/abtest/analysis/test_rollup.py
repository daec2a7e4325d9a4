"""From events and days to users: sums and stays worked by hand."""

import datetime as dt
import random

import numpy as np
import polars as pl
import pytest

from abtest.analysis import column_roles
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.rollup import FIRST_DAY, on_day
from micrec.errors import MicrecError

from .logs import AB, days, read

#        day  1  2  3  4
# user 1      x  x  .  x     stays 1 of 2 (days 1, 2; day 4 is the last)
# user 2      .  x  x  x     stays 2 of 2 (days 2, 3)
# user 3      x  .  .  .     stays 0 of 1
# user 4      .  .  .  x     could not stay: no next day in the window
VISITS = {1: (1, 2, 4), 2: (2, 3, 4), 3: (1,), 4: (4,)}
STAYS = {1: (1, 2), 2: (2, 2), 3: (0, 1), 4: (0, 0)}


def visits() -> pl.DataFrame:
    rows = [(user, "AB"[user % 2], day, user + day, 1.0) for user, seen in VISITS.items() for day in seen]
    return pl.DataFrame(rows, schema=["user_id", "arm", "day", "clicks", "dwell_s"], orient="row")


def by_user(log) -> dict[int, dict]:
    return {row["user_id"]: row for row in log.users.collect().to_dicts()}


def test_days_are_summed_to_users():
    log = read(visits())
    found = by_user(log)
    for user, seen in VISITS.items():
        assert found[user]["clicks"] == sum(user + day for day in seen)
        assert found[user][FIRST_DAY] == min(seen)
        for day in range(1, 5):
            assert found[user][on_day("clicks", day)] == (user + day if day in seen else 0)
        assert (found[user]["next_day_stays"], found[user]["next_day_eligible"]) == STAYS[user]
    assert log.unit == "8 user-day rows summed to 4 users"
    assert log.days is not None
    assert log.days.labels == ("day 1", "day 2", "day 3", "day 4")


def test_a_panel_row_without_activity_is_no_visit():
    """Rows of zeros count as exposure, not as a day on which the user was there."""
    rows = [(u, "AB"[u % 2], d, int(d in VISITS[u]), 0.0) for u in VISITS for d in range(1, 5)]
    found = by_user(read(pl.DataFrame(rows, schema=["user_id", "arm", "day", "clicks", "dwell_s"], orient="row")))
    assert {user: (row["next_day_stays"], row["next_day_eligible"]) for user, row in found.items()} == STAYS
    assert {row[FIRST_DAY] for row in found.values()} == {1}


def test_a_log_may_say_who_was_there():
    rows = [(u, "AB"[u % 2], d, 0, int(d in VISITS[u])) for u in VISITS for d in range(1, 5)]
    table = pl.DataFrame(rows, schema=["user_id", "arm", "day", "clicks", "active"], orient="row")
    found = by_user(read(table.with_columns(clicks=pl.col("user_id"))))
    assert {user: (row["next_day_stays"], row["next_day_eligible"]) for user, row in found.items()} == STAYS


@pytest.mark.parametrize(
    "day",
    [
        pl.date(2026, 11, 1) + pl.duration(days=pl.col("day") + 2),
        (pl.datetime(2026, 11, 1, 23) + pl.duration(days=pl.col("day") + 2)),
        (pl.date(2026, 11, 1) + pl.duration(days=pl.col("day") + 2)).cast(pl.String),
        pl.col("day") + 20261103,
    ],
    ids=["date", "datetime", "text", "yyyymmdd"],
)
def test_days_in_any_writing(day):
    log = read(visits().with_columns(day=day))
    assert log.days is not None
    assert log.days.labels == ("2026-11-04", "2026-11-05", "2026-11-06", "2026-11-07")
    assert {user: (r["next_day_stays"], r["next_day_eligible"]) for user, r in by_user(log).items()} == STAYS


@pytest.mark.parametrize("unit", [1, 1000, 1_000_000], ids=["s", "ms", "us"])
def test_events_are_counted(unit):
    start = int(dt.datetime(2026, 11, 4, tzinfo=dt.UTC).timestamp())
    rows = []
    for user, seen in VISITS.items():
        for day in seen:
            at = start + (day - 1) * 86_400 + 3600 * user
            rows += [(user, "AB"[user % 2], at * unit, event, s) for event, s in (("impression", None), ("click", 2.5))]
        rows.append((user, "AB"[user % 2], (start + (seen[-1] - 1) * 86_400) * unit, "share", None))
    table = pl.DataFrame(rows, schema=["user_id", "arm", "timestamp", "event", "dwell_s"], orient="row")
    log = read(table)
    found = by_user(log)
    for user, seen in VISITS.items():
        assert found[user]["clicks"] == found[user]["impressions"] == len(seen)
        assert found[user]["dwell_s"] == 2.5 * len(seen)
        assert (found[user]["next_day_stays"], found[user]["next_day_eligible"]) == STAYS[user]
    assert "Events share count as activity only." in log.notes
    assert "likes" not in found[1]


def test_events_without_any_known_one_are_refused():
    table = pl.DataFrame({"user_id": [1], "arm": ["A"], "timestamp": [0], "event": ["buy"]})
    with pytest.raises(MicrecError) as fault:
        read(table)
    assert "none of click, like, follow, impression occurs, only buy" in str(fault.value)


def test_parts_are_summed_when_asked():
    table = pl.DataFrame({"user_id": [1, 1, 2], "arm": ["A", "A", "B"], "clicks": [1, 2, 4]})
    log = read(table, AnalysisPlan("A", ("B",), rows="parts"))
    assert {user: row["clicks"] for user, row in by_user(log).items()} == {1: 3, 2: 4}
    assert log.unit == "3 rows summed to 2 users"
    assert log.days is None


def test_a_split_by_hash_keeps_the_order_of_the_rows():
    """On the order rest a user's first value and the last digits of sums."""
    rows, users = 200_000, 20_000
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"user_id": rng.integers(users, size=rows), "clicks": np.ones(rows), "row": np.arange(rows)})
    plan = AnalysisPlan("A", ("B",), rows="parts", split_salt="s")
    assert all(column_roles._split(table.lazy(), plan).collect(engine="streaming")["row"].is_sorted() for _ in range(5))


def test_repeats_are_dropped_when_asked_and_counted():
    table = pl.DataFrame({"user_id": [1, 1, 2], "arm": ["A", "A", "B"], "item": [7, 7, 7], "clicks": [1, 1, 4]})
    log = read(table, AnalysisPlan("A", ("B",), rows="parts", dedupe=("user_id", "item")))
    assert {user: row["clicks"] for user, row in by_user(log).items()} == {1: 1, 2: 4}
    assert "1 of 3 rows repeat another's user_id, item and were dropped." in log.notes


def test_a_window_of_many_days_is_refused():
    table = visits().with_columns(day=pl.col("day") * 30)
    with pytest.raises(MicrecError) as fault:
        read(table)
    assert "day: spans 91 days, more than 62" in str(fault.value)


def test_missing_past_becomes_zero_and_a_flag():
    table = days(40).with_columns(pre_clicks=pl.when(pl.col("user_id") < 5).then(None).otherwise(3.0))
    log = read(table)
    assert log.covariates == ("pre_clicks", "pre_clicks missing")
    found = by_user(log)
    assert (found[4]["pre_clicks"], found[4]["pre_clicks missing"]) == (0.0, 1.0)
    assert (found[5]["pre_clicks"], found[5]["pre_clicks missing"]) == (3.0, 0.0)


def test_the_hash_split_is_an_even_coin_that_never_changes():
    table = days(2000, length=1).drop("arm")
    plan = AnalysisPlan("A", ("B",), split_salt="salt")
    arms = {user: row["arm"] for user, row in by_user(read(table, plan)).items()}
    assert 900 < sum(arm == "B" for arm in arms.values()) < 1100
    again = by_user(read(table.sample(fraction=1.0, seed=3, shuffle=True), plan))
    assert {user: row["arm"] for user, row in again.items()} == arms
    other = by_user(read(table, AnalysisPlan("A", ("B",), split_salt="pepper")))
    assert any(other[user]["arm"] != arm for user, arm in arms.items())


def test_the_plan_s_arms_are_text_even_where_the_log_has_numbers():
    table = visits().with_columns(arm=pl.col("user_id") % 2)
    log = read(table, AnalysisPlan("0", ("1",)))
    assert set(log.users.collect()["arm"]) == {"0", "1"}


def test_the_order_of_rows_does_not_matter():
    table = days(50)
    first, second = read(table, AB), read(table.sample(fraction=1.0, shuffle=True, seed=2), AB)
    assert by_user(first) == by_user(second)


@pytest.mark.parametrize("at_once", [1 << 23, 40], ids=["all at once", "in shares"])
@pytest.mark.parametrize("ids", [pl.Int64, pl.String], ids=str)
def test_the_first_of_repeated_rows_is_kept(monkeypatch, ids, at_once):
    """Whether all keys fit into memory or a share at a time; a key may be missing."""
    monkeypatch.setattr(column_roles, "_ROWS_AT_ONCE", at_once)
    rng = random.Random(5)
    rows = [(u := rng.randrange(20), "AB"[u % 2], rng.choice([1, 2, None]), rng.random()) for _ in range(300)]
    table = pl.DataFrame(
        rows, {"user_id": pl.Int64, "arm": pl.String, "item": pl.Int64, "clicks": pl.Float64}, orient="row"
    )
    log = read(table.cast({"user_id": ids}), AnalysisPlan("A", ("B",), rows="parts", dedupe=("user_id", "item")))
    first, sums = set(), dict.fromkeys(range(20), 0.0)
    for user, _, item, clicks in rows:
        if (user, item) not in first:
            first.add((user, item))
            sums[user] += clicks
    found = {int(row["user_id"]): row["clicks"] for row in log.users.collect().to_dicts()}
    assert found == pytest.approx(sums, rel=1e-14)
    assert f"{300 - len(first)} of 300 rows repeat another's user_id, item and were dropped." in log.notes
