"""What the oracle says of users, and that nobody who serves can tell."""

import numpy as np
import polars as pl

from simulator.platform.engine import Engine
from simulator.platform.platform_inputs import PlatformInputs
from simulator.population.population import Population
from simulator.population.population_config import PopulationConfig
from tests.simulator.platform.fakes import BOTH, MAKERS, ScriptedUsers, fake_setting, run, table, tiny_keys
from tests.simulator.worlds import small_world


def moods_of(folder, day="*"):
    at = f"day-{day:04d}" if isinstance(day, int) else f"day-{day}"
    return pl.read_parquet(folder / at / "ground_truth/users-*.parquet")


def test_one_row_for_each_user_of_the_day_as_they_are_in_the_evening(tmp_path):
    """User 7 has two visits of three requests a day, user 3 one: after nine requests a user leaves for good."""
    users = ScriptedUsers([(7, 100.0), (3, 200.0), (7, 5_000.0)], n_requests=3)
    run(tmp_path, users, tiny_keys(warmup_days=1, arms=BOTH), days=2)
    found = moods_of(tmp_path).sort("day", "user_id")
    assert found.select("day", "user_id", "satisfaction", "left").rows() == [
        (0, 3, 3.0, False),
        (0, 7, 6.0, False),
        (1, 3, 6.0, False),
        (1, 7, 12.0, True),
    ]
    arms = dict(table(tmp_path, "requests", 1).select("user_id", "arm").unique().iter_rows())
    assert dict(moods_of(tmp_path, 1).select("user_id", "arm").iter_rows()) == arms
    assert moods_of(tmp_path, 0)["arm"].unique().to_list() == ["warmup"]


def test_who_leaves_without_a_visit_that_day_is_told(tmp_path):
    class Leavers(ScriptedUsers):
        def end_day(self, day):
            super().end_day(day)
            self.gone[5] = True

    run(tmp_path, Leavers([(7, 100.0)], n_requests=1), tiny_keys(), days=1)
    assert moods_of(tmp_path).select("user_id", "satisfaction", "left").rows() == [(5, 0.0, True), (7, 1.0, False)]


def test_real_users_moods_are_those_of_the_population(tmp_path):
    world = small_world("days=6")
    users = Population.build(world, PopulationConfig(), first_day=3)
    setting = PlatformInputs.of(world, first_day=3)
    popular = {"items": setting.items["item_id"].head(30).to_list()}
    keys = tiny_keys(pipeline={"channels": {name: {"options": popular, "k": 30} for name in ("a", "b")}})
    before = users.gone.copy()
    Engine(keys, setting, users, MAKERS, tmp_path).run(2)
    last = moods_of(tmp_path).sort("day").group_by("user_id", maintain_order=True).last()
    told = last["user_id"].to_numpy()
    np.testing.assert_array_equal(last["satisfaction"], users.satisfaction[told].astype(np.float32))
    assert (users.satisfaction[np.setdiff1d(np.arange(len(users.gone)), told)] == 0.0).all()
    left = moods_of(tmp_path).filter("left")["user_id"].sort().to_list()
    assert left == np.flatnonzero(users.gone & ~before).tolist()
    assert last["satisfaction"].n_unique() > 100
    assert "satisfaction" not in {*table(tmp_path, "impressions").columns, *fake_setting().users.columns}
