"""Models of the treatments grow up beside production's, unseen, and are of one age on the first day."""

import polars as pl
import pytest

from micrec.errors import MicrecError
from tests.simulator.platform.fakes import BOTH, contents, many, run, snapshots_of, spying, table, tiny_keys


def trainings(logs: list, channel: str, *, with_name: str = "") -> list[tuple]:
    """Day, clicks and impressions seen, day of the version before, seed: of each training of a channel."""
    return [
        (
            day.removesuffix(".partial")[-4:],
            len(log.clicks),
            len(log.impressions),
            previous and previous.parent.parent.name,
            seed,
        )
        for day, name, log, previous, seed in logs
        if name.startswith(channel) and with_name in name
    ]


def ids_of_b(logs: list) -> list[str]:
    return list(dict.fromkeys(name for _, name, *_ in logs if name.startswith("b-")))


@pytest.mark.parametrize("changes", [{}, {"every_days": 2}, {"every_days": 2, "lag_days": 1}])
def test_a_treatments_model_has_the_past_of_the_one_it_replaces(tmp_path, changes):
    """Trained on the same mornings, from its own version before, on the same log, with the same seed."""
    logs: list = []
    keys = tiny_keys(warmup_days=3, arms=BOTH, pipeline={"channels": {"b": changes}})
    run(tmp_path, many(), keys, days=5, makers=spying(logs))
    ours, theirs = ids_of_b(logs)
    assert trainings(logs, ours) == trainings(logs, theirs)
    assert [training[0] for training in trainings(logs, ours)][:2] == ["0000", "0002" if changes else "0001"]
    first = snapshots_of(tmp_path).filter((pl.col("day") == 3) & (pl.col("name") == "b"))
    assert first.height == 2
    assert first["model"].n_unique() == 2
    assert first.select("trained", "version", "status").n_unique() == 1
    assert first["version"][0] == (2 if changes else 3)


def test_shadows_serve_nobody(tmp_path):
    for name, arms in (("alone", {}), ("shadowed", BOTH)):
        run(tmp_path / name, many(), tiny_keys(warmup_days=2, arms=arms or {"control": {}}), days=2)
    for name in ("requests", "impressions", "behaviours", "serving", "ground_truth"):
        assert table(tmp_path / "alone", name).rows() == table(tmp_path / "shadowed", name).rows()
    snapshots = snapshots_of(tmp_path / "shadowed").filter(pl.col("status") == "shadow")
    assert snapshots.select("day", "name", "trained", "version", "source").rows() == [
        (0, "b", True, None, None),
        (1, "b", True, None, None),
    ]


def test_without_shadows_a_treatment_begins_untrained(tmp_path):
    logs: list = []
    run(tmp_path, many(), tiny_keys(warmup_days=2, arms=BOTH, shadow_warm_up=False), days=4, makers=spying(logs))
    ours, theirs = ids_of_b(logs)
    assert [training[0] for training in trainings(logs, ours)] == ["0000", "0001", "0002", "0003"]
    assert [(day, previous) for day, _, _, previous, _ in trainings(logs, theirs)] == [
        ("0002", None),
        ("0003", "day-0002"),
    ]


@pytest.mark.parametrize("training", ["shared", "diverted"])
def test_what_arms_have_in_common_is_trained_once(tmp_path, training):
    """Also where they differ in what happens after training; diverted logs part after the first day."""
    arms = {
        "control": {},
        "same": {},
        "slow": {"pipeline": {"channels": {"b": {"servers": 2}}}},
        "late": {"pipeline": {"channels": {"b": {"lag_days": 1}}}},
    }
    logs: list = []
    run(tmp_path, many(), tiny_keys(warmup_days=2, arms=arms, training=training), days=4, makers=spying(logs))
    per_day = [day for day, *_ in trainings(logs, "b-")]
    assert per_day == ["0000", "0001", "0002", *["0003"] * (4 if training == "diverted" else 1)]
    first = snapshots_of(tmp_path).filter((pl.col("day") == 2) & (pl.col("name") == "b"))
    assert set(first["version"]) == {1, 2}
    assert first["source"].str.head(len(ids_of_b(logs)[0])).n_unique() == 1  # of the late arm too


def test_an_index_that_is_frozen_from_the_first_day_goes_on_with_the_last_of_the_warm_up(tmp_path):
    frozen = {"from_day": 0.0, "to_day": 9.0, "frozen": True}
    arms = {"control": {}, "frozen": {"pipeline": {"channels": {"b": {"faults": [frozen]}}}}}
    run(tmp_path, many(), tiny_keys(warmup_days=2, arms=arms), days=4)
    later = snapshots_of(tmp_path).filter((pl.col("day") >= 2) & (pl.col("status") == "frozen"))
    assert later["version"].to_list() == [1, 1]


def test_a_world_may_start_from_a_warm_up_of_more_arms_but_not_of_fewer(tmp_path):
    alone = {"treatment": BOTH["treatment"]}
    run(tmp_path / "both", many(), tiny_keys(warmup_days=2, arms=BOTH), days=2)
    run(tmp_path / "fork", many(), tiny_keys(warmup_days=2, arms=alone), days=4, base=tmp_path / "both")
    run(tmp_path / "whole", many(), tiny_keys(warmup_days=2, arms=alone), days=4)
    for day in (2, 3):
        assert contents(tmp_path / f"fork/day-{day:04d}") == contents(tmp_path / f"whole/day-{day:04d}")
    run(tmp_path / "control", many(), tiny_keys(warmup_days=2), days=2)
    with pytest.raises(MicrecError, match=r"its warm-up has not trained b-\w+: run it with the same arms"):
        run(tmp_path / "other", many(), tiny_keys(warmup_days=2, arms=BOTH), days=4, base=tmp_path / "control")
