"""Totals of users from batches, against Python's dictionaries."""

import math
import random
from collections import defaultdict

import polars as pl
import pytest

from abtest.analysis import rollup
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.user_totals import THERE, UserTotals

from .logs import days, read

IDS = {
    "dense": (range(40), pl.Int64),
    "int8": (range(-128, 128, 7), pl.Int8),
    "negative and spread": ([-(2**40), -3, 0, 5, 2**62], pl.Int64),
    "lookup widens both ways": ([500, 501, 10, 900_000, 3, 2_000_000], pl.Int32),
    "uint64": (range(2**64 - 60, 2**64), pl.UInt64),
    "uint8": (range(200, 256), pl.UInt8),
    "text": ([f"user {u}" for u in range(30)], pl.String),
}


def log_rows(ids: list, n: int = 600) -> list[dict]:
    """Random rows; user's own arm except for a few, a covariate that is nan for some users and changes for some."""
    rng = random.Random(3)
    rows = []
    for at in range(n):
        place = rng.randrange(min(len(ids), 1 + at // 8))  # users turn up little by little
        past = math.nan if place % 5 == 0 else float(place + (place % 7 == 3 and rng.random() < 0.5))
        arm = place % 2 if rng.random() > 0.01 else 1 - place % 2
        rows.append(
            {
                "user_id": ids[place],
                "arm": arm,
                "past": past,
                "day": rng.randrange(1, 5),
                "clicks": float(rng.randrange(3) == 0),
                "dwell_s": rng.random(),
                THERE: rng.random() < 0.7,
            }
        )
    return rows


@pytest.mark.parametrize("size", [1, 13, 600], ids=lambda size: f"batches of {size}")
@pytest.mark.parametrize(("ids", "kind"), IDS.values(), ids=IDS)
def test_totals_are_those_of_dictionaries(ids, kind, size):
    rows = log_rows(list(ids))
    schema = {"user_id": kind, "arm": pl.Int16, "past": pl.Float64, "day": pl.Int32, "clicks": pl.Float64}
    table = pl.DataFrame(rows, {**schema, "dwell_s": pl.Float64, THERE: pl.Boolean})
    totals = UserTotals(("clicks", "dwell_s"), ("dwell_s",), ("arm",), ("past",), 4)
    for batch in table.iter_slices(size):
        totals.add(batch)
    mine = defaultdict(list)
    for row in rows:
        mine[row["user_id"]].append(row)
    assert totals.ids().to_list() == list(mine)
    for place, own in enumerate(mine.values()):
        assert totals.rows()[place] == len(own)
        assert totals.total("clicks")[place] == sum(row["clicks"] for row in own)
        assert totals.total("dwell_s")[place] == pytest.approx(sum(row["dwell_s"] for row in own), rel=1e-14)
        for day in range(1, 5):
            today = [row for row in own if row["day"] == day]
            assert totals.on_days("dwell_s")[day - 1, place] == sum(row["dwell_s"] for row in today)
            assert totals.seen()[day - 1, place] == bool(today)
            assert totals.active()[day - 1, place] == any(row[THERE] for row in today)
        assert totals.first("arm")[place] == own[0]["arm"]
        assert totals.varies("arm")[place] == (len({row["arm"] for row in own}) > 1)
        assert str(totals.first("past")[place]) == str(own[0]["past"])
        assert totals.varies("past")[place] == (len({str(row["past"]) for row in own}) > 1)


def test_ids_too_spread_for_the_table_go_on_with_their_codes():
    """The look-up table is given up when an id far away turns up, not the users met before."""
    totals = UserTotals(("clicks",))
    for ids in ([5, 7, 5], [2**50, 7], [5, -(2**50)]):
        totals.add(pl.DataFrame({"user_id": ids, "clicks": [1.0] * len(ids)}))
    found = dict(zip(totals.ids().to_list(), totals.total("clicks").tolist(), strict=True))
    assert found == {5: 3.0, 7: 2.0, 2**50: 1.0, -(2**50): 1.0}


def test_no_rows_are_no_users():
    totals = UserTotals(("clicks",), days=2)
    assert (len(totals.ids()), totals.total("clicks").shape, totals.seen().shape) == (0, (0,), (2, 0))


def test_the_size_of_a_batch_changes_nothing(monkeypatch):
    """Not a bit: rows are added in the order of the log."""
    table = days(200).sample(fraction=1.0, shuffle=True, seed=4)
    whole = read(table, AnalysisPlan("A", ("B",))).users.collect()
    monkeypatch.setattr(rollup, "BATCH_ROWS", 50)
    assert read(table, AnalysisPlan("A", ("B",))).users.collect().equals(whole)
