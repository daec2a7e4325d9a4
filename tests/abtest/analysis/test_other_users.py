"""Users in two arms and exposed users: what is judged, and what stands beside."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

import abtest
from abtest.analysis.design import Design
from abtest.analysis.metrics import metrics_of
from micrec.errors import MicrecError
from tests.abtest.analysis.design_logs import START, exposed, two_armed
from tests.abtest.analysis.logs import AB, analysed, effect, read, users


def with_exposures(tmp_path: Path, table: pl.DataFrame, **more) -> object:
    table.write_parquet(tmp_path / "exposures.parquet")
    return replace(AB, checks=False, design=Design(exposures=tmp_path / "exposures.parquet"), **more)


class TestCrossovers:
    def test_are_refused_with_the_cure(self):
        with pytest.raises(MicrecError, match=r"40 users are in more than one arm .* --crossovers drop"):
            read(two_armed())

    def test_dropped_is_the_log_without_them(self):
        log = two_armed()
        found = analysed(log, replace(AB, design=Design(crossovers="drop")))
        crossed = log.group_by("user_id").agg(pl.col("arm").n_unique()).filter(pl.col("arm") > 1)["user_id"]
        without = analysed(log.filter(~pl.col("user_id").is_in(crossed.implode())))
        assert effect(found, "ACC", family="primary").estimate == effect(without, "ACC", family="primary").estimate
        assert "40 of 1,000 users (4 %) were in two arms and were left out; 40 began in A." in found.log.notes

    @pytest.mark.parametrize("shuffled", [False, True])
    def test_first_counts_them_where_they_began_whatever_the_order_of_rows(self, shuffled):
        log = two_armed()
        truth = log.with_columns(arm=pl.when(pl.col("user_id") % 2 == 1).then(pl.lit("B")).otherwise(pl.lit("A")))
        given = log.sample(fraction=1.0, shuffle=True, seed=3) if shuffled else log
        found = analysed(given, replace(AB, design=Design(crossovers="first")))
        assert found.users == {"A": 500, "B": 500}
        expected = effect(analysed(truth), "ACC", family="primary").estimate
        assert effect(found, "ACC", family="primary").estimate.p == pytest.approx(expected.p, rel=1e-12)

    def test_the_other_choice_stands_beside_with_its_sample_ratio(self):
        """200 of 500 users of A crossed: leaving them out is a mismatch, counting them where they began is none."""
        log = two_armed(crossing=200)
        dropped = analysed(log, replace(AB, design=Design(crossovers="drop")))
        judged, other = dropped.variants
        assert judged.ratio.alarm
        assert not other.ratio.alarm
        assert dropped.validity.faults
        kept = analysed(log, replace(AB, design=Design(crossovers="first")))
        assert not kept.validity.faults
        assert [one.ratio.alarm for one in kept.variants] == [False, True]

    def test_one_row_a_user_has_none(self):
        with pytest.raises(MicrecError, match="one row per user"):
            read(users(), replace(AB, design=Design(crossovers="drop")))
        clean = two_armed(crossing=0)
        found = analysed(clean, replace(AB, design=Design(crossovers="first")))
        assert found.variants == []
        assert "No user is in two arms." in found.log.notes


class TestExposures:
    def test_rows_before_the_first_exposure_and_others_users_do_not_count(self, tmp_path):
        log, table = exposed(600, lift=0.5)
        found = read(log, with_exposures(tmp_path, table)).users.collect()
        first = table.group_by("user_id").agg(pl.col("timestamp").min().alias("since"))
        kept = log.join(first, on="user_id").filter(pl.col("timestamp") >= pl.col("since"))
        assert found["clicks"].sum() == len(kept)
        in_log = set(log["user_id"]) & set(table["user_id"])
        assert set(found["user_id"]) == in_log
        assert found.filter(pl.col("clicks") == 0).height == len(in_log) - kept["user_id"].n_unique() > 0

    def test_effect_is_found_among_the_exposed_diluted_among_all_and_absent_elsewhere(self, tmp_path):
        log, table = exposed(4000, lift=0.4)
        found = analysed(log, with_exposures(tmp_path, table))
        by = {one.name: one for one in found.variants}
        lifts = {name: one.effects[0][2] for name, one in by.items()}
        low, high = lifts["users of the verdict"].lift_ci
        assert low < 0.4 < high
        assert lifts["everybody assigned"].lift < 0.2
        assert lifts["never exposed"].p > 0.01
        assert found.log.exposure.p > 0.001
        assert sum(found.log.exposure.exposed.values()) == len(
            table.filter(pl.col("user_id").is_in(log["user_id"].implode()))
        )

    def test_a_table_of_one_arm_is_refused(self, tmp_path):
        log, table = exposed(600)
        plan = with_exposures(tmp_path, table.filter(pl.col("user_id") % 2 == 1))
        with pytest.raises(MicrecError, match="no user of A is in the table"):
            read(log, plan)

    def test_an_arm_that_exposes_more_users_is_an_alarm(self, tmp_path):
        log, table = exposed(4000)
        uneven = table.filter((pl.col("user_id") % 2 == 1) | (pl.col("user_id") % 3 > 0))
        found = analysed(log, with_exposures(tmp_path, uneven))
        assert found.log.exposure.p < 1e-6
        assert found.validity.faults

    def test_days_of_users_count_from_the_day_of_exposure(self, tmp_path):
        days = pl.DataFrame(
            {"user_id": [1, 1, 2, 2] * 50, "arm": ["A", "A", "B", "B"] * 50, "clicks": 1.0, "dwell_s": 1.0}
        )
        days = days.with_columns(user_id=pl.col("user_id") + 10 * (pl.int_range(200) // 4))
        days = days.with_columns(
            day=pl.when(pl.int_range(200) % 2 == 0).then(pl.lit("2026-03-02")).otherwise(pl.lit("2026-03-03"))
        )
        table = days.select("user_id").unique().with_columns(timestamp=pl.lit(START).dt.offset_by("30h"))
        assert read(days, with_exposures(tmp_path, table)).users.collect()["clicks"].to_list() == [1.0] * 100

    def test_hours_of_a_conversion_and_days_of_retention_count_from_the_exposure(self, tmp_path):
        """Loops over the rows from each user's exposure on; what was done before it counts nowhere."""
        log, table = exposed(400)
        log = log.with_columns(event=pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("buy")).otherwise("event"))
        file = {
            "primary": ["ACC"],
            "secondary": ["bought", "shown", "retention-1"],
            "metrics": {
                "bought": {"conversion": "buy", "within_h": 20},
                "shown": {"conversion": "buy", "within_h": 20, "exposure": "click"},
            },
        }
        plan = with_exposures(tmp_path, table, metrics=tuple(metrics_of(file, "test")[0]))
        users = {row["user_id"]: row for row in read(log, plan).users.collect().iter_rows(named=True)}
        since, end = dict(table.iter_rows()), log["timestamp"].max()
        for user, row in users.items():
            mine = log.filter((pl.col("user_id") == user) & (pl.col("timestamp") >= since[user])).rows(named=True)
            clicks = [one["timestamp"] for one in mine if one["event"] == "click"]
            for start, hours in ((since[user], "20h"), (min(clicks, default=None), "20h_of_click")):
                stop = None if start is None else start + timedelta(hours=20)
                bought = stop is not None and any(
                    one["event"] == "buy" and start <= one["timestamp"] <= stop for one in mine
                )
                assert (row[f"buy_within_{hours}"], row[f"observed_for_{hours}"]) == (
                    float(bought),
                    float(stop is not None and stop <= end),
                )
            days = {(one["timestamp"].date() - since[user].date()).days for one in mine}
            if row["observed_day_1"] and mine:
                assert row["retained_day_1"] == float(min(days) + 1 in days)

    def test_one_row_a_user_joins_by_user(self, tmp_path):
        table = pl.DataFrame({"user_id": range(0, 2000, 3), "timestamp": START})
        found = analysed(users(), with_exposures(tmp_path, table))
        assert sum(found.users.values()) == len(table)

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            (pl.DataFrame({"user": [1], "timestamp": [START]}), "no column 'user_id'"),
            (pl.DataFrame({"user_id": [1]}), "no column 'timestamp'"),
            (pl.DataFrame({"user_id": ["u1"], "timestamp": [START]}), "write ids alike"),
        ],
    )
    def test_faults(self, tmp_path, table, message):
        with pytest.raises(MicrecError, match=message):
            read(exposed(60)[0], with_exposures(tmp_path, table))

    def test_the_report_says_who_and_how_diluted(self, tmp_path):
        log, table = exposed(2000, lift=0.4)
        table.write_csv(tmp_path / "e.csv")
        result = abtest.analyze(log, control="A", treatment="B", design={"exposures": tmp_path / "e.csv"})
        result.save(tmp_path / "report")
        text = (tmp_path / "report" / "report.md").read_text()
        assert "Who was exposed" in text
        assert "never exposed" in text
