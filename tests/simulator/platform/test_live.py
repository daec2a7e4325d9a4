"""The platform within the day: what is published and whom a user follows counts at once."""

import polars as pl

from micrec.settings import validate
from simulator.channels import CHANNELS, channel_trainer
from simulator.platform.engine import Engine
from simulator.platform.model_registry import TrainerFactories
from simulator.platform.platform_config import PlatformConfig
from simulator.platform.platform_inputs import PlatformInputs
from simulator.population.population import Population
from simulator.population.population_config import PopulationConfig
from tests.simulator.platform.fakes import (
    DAY_S,
    START_S,
    HighestId,
    ListTrainer,
    ScriptedUsers,
    constant,
    fake_setting,
    run,
    table,
)
from tests.simulator.worlds import small_world

REAL = TrainerFactories(
    {kind: lambda options, kind=kind: channel_trainer(kind, options) for kind in CHANNELS}, {"ctr": HighestId}
)


def test_new_items_are_shown_on_their_day_but_never_before(tmp_path):
    world = small_world("days=6")
    setting = PlatformInputs.of(world, first_day=3)
    users = Population.build(world, PopulationConfig(), first_day=3)
    channels = {name: {"kind": name, "k": 50, "quota": 40} for name in ("popular", "fresh")}
    keys = validate(PlatformConfig, {"warmup_days": 0, "pipeline": {"channels": channels}}, where="test")
    Engine(keys, setting, users, REAL, tmp_path).run(2)
    published = setting.items.select("item_id", "published")
    shown = table(tmp_path, "impressions").join(published, on="item_id")
    assert (shown["timestamp"] >= shown["published"]).all()
    same_day = shown.filter(pl.col("published") >= setting.start_s + DAY_S * pl.col("day"))
    assert same_day["channel"].unique().to_list() == ["fresh"]
    assert same_day["item_id"].n_unique() > 5


class Followers(ScriptedUsers):
    """They follow whatever they are shown on the first place."""

    def respond(self, visits, slates, now_s, request):
        did = super().respond(visits, slates, now_s, request)
        did.clicked[:, 0] = did.follow[:, 0] = slates[:, 0] >= 0
        return did


def test_a_follow_counts_from_the_next_request_on_and_outlives_the_window(tmp_path):
    """Of four providers the list offers item 1 alone, so its provider is followed; days later the log has no follow."""
    setting = fake_setting()
    items = setting.items.with_columns(provider=pl.Series([f"p{item % 4}" for item in range(40)]))
    setting = type(setting)(setting.users, items, setting.history, START_S)
    channels = {
        "a": {"kind": "list", "options": {"items": [1]}, **constant(10)},
        "follow": {"kind": "follow", "k": 20, "options": {"hide_recent": False}, **constant(10)},
    }
    pipeline = {"channels": channels, "ranking": constant(20), "slate_size": 3, "repeats": True}
    keys = validate(PlatformConfig, {"warmup_days": 0, "log_days": 1, "pipeline": pipeline}, where="test")
    makers = TrainerFactories({**REAL.matchers, "list": ListTrainer}, {"ctr": HighestId})
    users = Followers([(7, 100.0)], n_requests=2)
    run(tmp_path, users, keys, days=1, makers=makers, setting=setting)
    first, second = (slate for _, _, _, slate in users.seen)
    assert first == [1, -1, -1]
    assert {item % 4 for item in second} == {1}
    stranger = ScriptedUsers([(3, 100.0)], n_requests=1)
    run(tmp_path, stranger, keys, days=4, makers=makers, setting=setting)
    assert {slate[0] for _, _, _, slate in stranger.seen} == {1}
    assert {slate[1] for _, _, _, slate in stranger.seen} == {-1}
    back = ScriptedUsers([(7, 100.0)], n_requests=1)
    run(tmp_path, back, keys, days=5, makers=makers, setting=setting)
    ((_, _, _, slate),) = back.seen
    assert {item % 4 for item in slate} == {1}
    assert len(set(slate)) == 3
