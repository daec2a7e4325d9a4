"""Days, arms, kills and damage: the same bytes, or a word about it."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from micrec.errors import MicrecError
from tests.simulator.platform.fakes import (
    BOTH,
    ScriptedUsers,
    contents,
    many,
    run,
    snapshots_of,
    spying,
    table,
    tiny_keys,
)

LOGS = ("requests", "impressions", "behaviours", "serving", "ground_truth")


def rows(folder: Path, *, without: tuple[str, ...] = ()) -> list:
    return [table(folder, name).drop(without).rows() for name in LOGS]


def test_the_same_run_twice_is_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        run(tmp_path / name, many(), tiny_keys(warmup_days=1, arms=BOTH), days=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert table(tmp_path / "one", "requests")["arm"].unique().sort().to_list() == ["control", "treatment", "warmup"]


@pytest.mark.parametrize("batch_window_s", [5.0, 400.0])
def test_logs_do_not_depend_on_how_requests_are_gathered(tmp_path, batch_window_s):
    run(tmp_path / "whole", many(), tiny_keys(arms=BOTH), days=2)
    run(tmp_path / "parts", many(), tiny_keys(arms=BOTH, batch_window_s=batch_window_s), days=2)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


class Killed(Exception):
    pass


class KilledUsers(ScriptedUsers):
    """Dies at the n-th slate or evening."""

    def __init__(self, at: int) -> None:
        super().__init__([(user % 20, 50.0 * user) for user in range(60)], n_requests=3)
        self._left = at

    def respond(self, *args):
        self._left -= 1
        if self._left < 0:
            raise Killed
        return super().respond(*args)

    def end_day(self, day):
        self._left -= 1
        if self._left < 0:
            raise Killed
        super().end_day(day)


@pytest.mark.parametrize("at", [0, 1, 3, 7, 8, 11])
def test_a_run_taken_up_after_a_kill_is_the_same_bytes(tmp_path, at):
    keys = tiny_keys(warmup_days=1, arms=BOTH)
    run(tmp_path / "whole", many(), keys, days=3)
    with pytest.raises(Killed):
        run(tmp_path / "killed", KilledUsers(at), keys, days=3)
    run(tmp_path / "killed", many(), keys, days=3)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_worlds_that_share_a_warm_up_are_as_if_they_had_run_their_own(tmp_path):
    run(tmp_path / "warm", many(), tiny_keys(warmup_days=2, arms=BOTH), days=2)
    before = contents(tmp_path / "warm")
    run(tmp_path / "fork", many(), tiny_keys(warmup_days=2, arms=BOTH), days=4, base=tmp_path / "warm")
    run(tmp_path / "alone", many(), tiny_keys(warmup_days=2, arms=BOTH), days=4)
    assert contents(tmp_path / "warm") == before
    for day in (2, 3):
        assert contents(tmp_path / "fork" / f"day-{day:04d}") == contents(tmp_path / "alone" / f"day-{day:04d}")


def test_a_base_that_is_another_platform_or_unfinished_is_refused(tmp_path):
    run(tmp_path / "warm", many(), tiny_keys(warmup_days=2), days=1)
    with pytest.raises(MicrecError, match="its warm-up of 2 days is not over"):
        run(tmp_path / "fork", many(), tiny_keys(warmup_days=2), days=4, base=tmp_path / "warm")
    with pytest.raises(MicrecError, match="another seed"):
        run(tmp_path / "other", many(), tiny_keys(warmup_days=2, seed=1), days=4, base=tmp_path / "warm")


def test_identical_arms_are_one_arm(tmp_path):
    run(tmp_path / "one", many(), tiny_keys(), days=3)
    run(tmp_path / "two", many(), tiny_keys(arms={"control": {}, "same": {"weight": 2.0}}), days=3)
    assert table(tmp_path / "two", "requests")["arm"].n_unique() == 2
    assert rows(tmp_path / "one", without=("arm",)) == rows(tmp_path / "two", without=("arm",))


def test_an_arm_without_users_has_no_rows(tmp_path):
    arms = {"control": {}, "nobody": {"weight": 1e-12}}
    run(tmp_path, many(), tiny_keys(arms=arms, training="diverted"), days=3)
    assert table(tmp_path, "requests")["arm"].unique().to_list() == ["control"]


def test_no_visit_at_all_is_a_day_of_empty_tables(tmp_path):
    run(tmp_path, ScriptedUsers([]), tiny_keys(), days=2)
    assert [table(tmp_path, name).height for name in LOGS] == [0] * len(LOGS)


def test_diverted_models_learn_from_their_own_arm_and_shared_ones_from_all(tmp_path):
    for training in ("shared", "diverted"):
        logs: list = []
        keys = tiny_keys(warmup_days=1, arms=BOTH, training=training)
        run(tmp_path / training, many(), keys, days=3, makers=spying(logs))
        shown = {name: set(log.clicks["user_id"]) for day, name, log, _, _ in logs if "0002" in day}
        arm = {row["user_id"]: row["arm"] for row in table(tmp_path / training, "requests", 1).iter_rows(named=True)}
        warm = table(tmp_path / training, "behaviours", 0).height
        counts = {name: len(log.clicks) for day, name, log, _, _ in logs if "0002" in day}
        per_arm = table(tmp_path / training, "behaviours", 1)["arm"].value_counts()
        own = dict(per_arm.iter_rows())
        if training == "shared":
            assert set(counts.values()) == {warm + sum(own.values())}
            assert len(counts) == 3  # a is common to both arms, b is not
        else:
            assert {name.split(".")[1] for name in counts} == {"control", "treatment"}
            assert all(counts[name] == warm + own[name.split(".")[1]] for name in counts)
        assert set(arm.values()) == {"control", "treatment"}
        assert all(users == set(range(20)) for users in shown.values())  # the warm-up is everybody's


def test_models_are_warm_started_from_their_last_version_and_seeded_by_the_day(tmp_path):
    logs: list = []
    run(tmp_path, many(), tiny_keys(training="diverted", warmup_days=1, arms=BOTH), days=4, makers=spying(logs))
    of_a = [
        (day, name.split(".")[1:], previous, seed) for day, name, _, previous, seed in logs if name.startswith("a-")
    ]
    assert [(day, arm) for day, arm, _, _ in of_a] == [
        (".day-0000.partial", []),
        (".day-0001.partial", ["control"]),  # both arms go on from the warm-up's, on its log: once for both
        (".day-0002.partial", ["control"]),
        (".day-0002.partial", ["treatment"]),
        (".day-0003.partial", ["control"]),
        (".day-0003.partial", ["treatment"]),
    ]
    assert of_a[0][2] is None
    assert of_a[1][2].parent.parent.name == "day-0000"
    assert of_a[2][2] == of_a[3][2]
    assert of_a[2][2].parent.parent.name == "day-0001"
    assert of_a[4][2].name.endswith(".control")
    assert of_a[5][2].name.endswith(".treatment")
    assert of_a[2][3] == of_a[3][3] != of_a[4][3] == of_a[5][3]


def test_lag_and_frozen_index(tmp_path):
    channels = {
        "a": {"lag_days": 2},
        "b": {"faults": [{"from_day": 1.0, "to_day": 3.0, "frozen": True}]},
    }
    run(tmp_path, many(), tiny_keys(pipeline={"channels": channels}), days=5)
    snapshots = snapshots_of(tmp_path)
    assert snapshots.filter(pl.col("name") == "a")["version"].to_list() == [0, 0, 0, 1, 2]
    assert snapshots.filter(pl.col("name") == "b")["version"].to_list() == [0, 0, 0, 3, 4]
    assert snapshots.filter(pl.col("name") == "ranking")["status"].to_list() == ["waiting", "ok", "ok", "ok", "ok"]


def test_a_damaged_snapshot_leaves_the_last_good_one_serving(tmp_path):
    keys = tiny_keys(pipeline={"channels": {"a": {"lag_days": 1}}})
    run(tmp_path, many(), keys, days=2)
    for model in (tmp_path / "day-0001/models").glob("a-*"):
        shutil.rmtree(model)
    run(tmp_path, many(), keys, days=3)
    row = snapshots_of(tmp_path).filter((pl.col("name") == "a") & (pl.col("day") == 2)).row(0, named=True)
    assert (row["status"], row["version"]) == ("damaged", 0)
    assert "version of day 1 cannot serve" in row["message"]


def test_a_channel_without_any_good_snapshot_is_down(tmp_path):
    keys = tiny_keys(pipeline={"channels": {"a": {"every_days": 9}}})
    run(tmp_path, many(), keys, days=1)
    for model in (tmp_path / "day-0000/models").glob("a-*"):
        shutil.rmtree(model)
    run(tmp_path, many(), keys, days=2)
    serving = table(tmp_path, "serving", 1)
    assert serving.filter(pl.col("stage") == "a")["outcome"].unique().to_list() == ["down"]
    assert table(tmp_path, "requests", 1)["result"].unique().to_list() == ["slate"]


def test_a_damaged_checkpoint_is_gone_back_behind(tmp_path):
    run(tmp_path / "whole", many(), tiny_keys(), days=4)
    run(tmp_path / "hurt", many(), tiny_keys(), days=3)
    (tmp_path / "hurt/day-0002/checkpoint/arrays.npz").write_bytes(b"nothing")
    run(tmp_path / "hurt", many(), tiny_keys(), days=4)
    assert contents(tmp_path / "hurt") == contents(tmp_path / "whole")


def test_a_damaged_log_is_named(tmp_path):
    run(tmp_path, many(), tiny_keys(), days=2)
    (tmp_path / "day-0000/behaviours-000.parquet").write_bytes(b"nothing")
    with pytest.raises(MicrecError, match="day-0000: its behaviours cannot be read"):
        run(tmp_path, many(), tiny_keys(), days=3)


def test_another_platforms_folder_is_refused(tmp_path):
    run(tmp_path, many(), tiny_keys(), days=1)
    with pytest.raises(MicrecError, match="holds a run of another platform"):
        run(tmp_path, many(), tiny_keys(seed=1), days=1)


def test_a_model_that_cannot_be_trained_the_first_time_stops_the_run(tmp_path):
    """Without a click it waits; with clicks that is an error, and what was done stays."""
    channels = {"a": {"options": {"refuses": True}}}
    with pytest.raises(MicrecError, match="day 1, a: cannot be trained: this model cannot be trained"):
        run(tmp_path, many(), tiny_keys(pipeline={"channels": channels}), days=2)
    assert (tmp_path / "day-0000").is_dir()
    assert not (tmp_path / "day-0001").exists()


def test_wrong_kinds_and_fields_are_found_before_the_first_day(tmp_path):
    with pytest.raises(MicrecError, match=r"channels\.a\.kind: must be one of list, got lisp"):
        run(tmp_path / "kind", many(), tiny_keys(pipeline={"channels": {"a": {"kind": "lisp"}}}))
    with pytest.raises(MicrecError, match="the item table has no colour"):
        run(tmp_path / "field", many(), tiny_keys(pipeline={"diversity": {"field": "colour"}}))


def test_a_fault_of_the_warm_up_belongs_to_the_platform_and_works_there(tmp_path):
    down = [{"from_day": -1.0, "to_day": 0.5, "down": True}]
    keys = tiny_keys(warmup_days=2, arms=BOTH, pipeline={"channels": {"b": {"faults": down}}})
    run(tmp_path, many(), keys, days=4)
    found = table(tmp_path, "serving").filter(pl.col("stage") == "b")
    by_day = dict(found.group_by("day").agg((pl.col("outcome") == "down").mean()).rows())
    assert by_day == {0: 0.0, 1: 1.0, 2: 1.0, 3: 0.0}
    own = {"control": {}, "treatment": {"pipeline": {"channels": {"b": {"faults": down}}}}}
    with pytest.raises(MicrecError, match=r"treatment.pipeline.channels.b.faults.0.from_day: must be >= 0, got -1"):
        run(tmp_path / "own", many(), tiny_keys(warmup_days=2, arms=own))
    early = {"pipeline": {"channels": {"b": {"faults": [{"from_day": -9.0, "to_day": -3.0, "down": True}]}}}}
    with pytest.raises(MicrecError, match=r"channels.b.faults.0.to_day: -3 lies before the first of 2 warm-up days"):
        tiny_keys(warmup_days=2, **early)
