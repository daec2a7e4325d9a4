"""Trainers on a real world with its real users: nothing of the hidden truth can reach them."""

import polars as pl

from micrec.settings import validate
from simulator.channels import CHANNELS, channel_trainer
from simulator.platform.engine import Engine
from simulator.platform.model_registry import TrainerFactories
from simulator.platform.platform_config import PlatformConfig
from simulator.platform.platform_inputs import PlatformInputs
from simulator.population.population import Population
from simulator.population.population_config import PopulationConfig
from simulator.world.item_table import dataset_schema
from tests.simulator.platform.fakes import HighestId, table
from tests.simulator.worlds import small_world


class Spying:
    """A trainer that notes what it is given and passes it on."""

    def __init__(self, inner, logs: list) -> None:
        self._inner, self._logs = inner, logs

    def train(self, log, *, previous, folder, seed):
        self._logs.append(log)
        self._inner.train(log, previous=previous, folder=folder, seed=seed)

    def load(self, folder):
        return self._inner.load(folder)


def test_trainers_see_only_what_a_platform_could_have_logged(tmp_path):
    world, logs = small_world("days=6"), []
    makers = TrainerFactories(
        {kind: lambda options, kind=kind: Spying(channel_trainer(kind, options), logs) for kind in CHANNELS},
        {"ctr": lambda options: Spying(HighestId(options), logs)},
    )
    setting = PlatformInputs.of(world, first_day=3)
    users = Population.build(world, PopulationConfig(), first_day=3)
    Engine(validate(PlatformConfig, {"warmup_days": 1}, where="test"), setting, users, makers, tmp_path).run(3)
    schema = dataset_schema(world.config)
    assert len(logs) == 5 * 3 + 2  # ranking has nothing to learn from on the first day
    for log in logs:
        assert vars(log).keys() == {"users", "items", "clicks", "impressions", "now_s", "start_s"}
        assert set(log.users.columns) == {"user_id", *schema.users}
        assert set(log.items.columns) == {"item_id", *schema.items}
        assert set(log.clicks.columns) == {"user_id", "item_id", "timestamp", "dwell_s", "like", "follow"}
        shown = {"user_id", "item_id", "timestamp", "position", "channel", "channel_place", "clicked"}
        assert set(log.impressions.columns) == shown
        assert log.clicks["timestamp"].is_sorted()
        assert log.impressions["timestamp"].is_sorted()
        now_s = log.start_s + log.now_s
        assert log.items["published"].max() <= now_s
        assert log.impressions.is_empty() or log.impressions["timestamp"].max() < now_s
    assert logs[0].impressions.is_empty()
    assert logs[-1].impressions.height == sum(table(tmp_path, "impressions", day).height for day in (3, 4))
    hidden = set(table(tmp_path, "ground_truth").columns) - set(table(tmp_path, "impressions").columns)
    assert hidden == {"examined", "cause"}
    # what was logged is what happened: every click is an impression that was clicked, at its position
    clicks = table(tmp_path, "behaviours").select("day", "visit", "request", "position", "item_id", "channel")
    shown = table(tmp_path, "impressions").filter(pl.col("clicked")).select(clicks.columns)
    assert clicks.rows() == shown.rows()
    assert clicks.height > 100
    visits = table(tmp_path, "impressions").group_by("day", "visit").agg(pl.col("item_id"))
    assert all(len(items) == len(set(items)) for items in visits["item_id"])  # nothing twice in a visit
