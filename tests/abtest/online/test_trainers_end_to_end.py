"""A spy beside every trainer of a running platform: what each is handed, and what it can find in it of the truth."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from abtest.online import simulate as simulation
from simulator.channels import CHANNELS
from simulator.platform.model_registry import TrainerFactories
from simulator.ports import ObservedLog
from simulator.world.item_table import ground_truth_items
from simulator.world.world import World
from tests.abtest.online.tiny_runs import tiny

# Written down by hand from what a platform can log; a column more is a leak until it is added here.
CLICKS = {"user_id", "item_id", "timestamp", "dwell_s", "like", "follow"}
IMPRESSIONS = {"user_id", "item_id", "timestamp", "position", "channel", "channel_place", "clicked"}
ITEMS = {"item_id", "title", "category", "subcategory", "provider", "tags", "published"}
HIDDEN_WORDS = (
    "appeal",
    "quality",
    "clickbait",
    "group",
    "cause",
    "examined",
    "satisf",
    "suscept",
    "interest",
    "ground_truth",
)
KINDS = (*CHANNELS, "ctr")


class Spy:
    """Stands before a trainer and keeps what it is handed."""

    def __init__(self, kind, trainer, seen):
        self._kind, self._trainer, self._seen = kind, trainer, seen

    def train(self, log, *, previous, folder, seed):
        self._seen.append((self._kind, log, previous, folder, seed))
        self._trainer.train(log, previous=previous, folder=folder, seed=seed)

    def load(self, folder):
        return self._trainer.load(folder)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Every call of every trainer in an experiment with a channel of each kind, warm-up included."""
    found = []
    makers = simulation.registered_trainers()

    def spied(kinds):
        return {
            kind: lambda options, kind=kind, make=make: Spy(kind, make(options), found) for kind, make in kinds.items()
        }

    channels = ", ".join(f"{kind}: {{kind: {kind}, k: 40, quota: 20}}" for kind in CHANNELS)
    scenario, root = (
        tiny("platform.warmup_days=1", f"platform.pipeline.channels={{{channels}}}"),
        tmp_path_factory.mktemp("spy"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            simulation, "registered_trainers", lambda: TrainerFactories(spied(makers.matchers), spied(makers.rankers))
        )
        for one in simulation.simulations_of(scenario):
            simulation.simulate(scenario, root, one)
    return scenario, found


def test_every_kind_of_trainer_was_at_work(seen):
    _, found = seen
    days = {kind: len({log.now_s for name, log, *_ in found if name == kind}) for kind in KINDS}
    assert days == {kind: 2 if kind == "ctr" else 3 for kind in KINDS}  # ranking waits for the first impressions


def test_a_trainer_is_handed_a_log_and_nothing_that_leads_elsewhere(seen):
    """Plain values, its own folders, and tables: no object through which the world could be reached."""
    for kind, log, previous, folder, seed in seen[1]:
        assert type(log) is ObservedLog
        assert type(seed) is int
        assert previous is None or isinstance(previous, Path)
        assert folder.parent.name == "models"
        for field in dataclasses.fields(log):
            value = getattr(log, field.name)
            assert type(value) in (pl.DataFrame, float, int), (kind, field.name)


def test_its_tables_have_the_columns_of_a_log(seen):
    scenario, found = seen
    fields = {"user_id", *scenario.world.users.fields}
    for _, log, *_ in found:
        assert set(log.clicks.columns) == CLICKS
        assert set(log.impressions.columns) == IMPRESSIONS
        assert set(log.items.columns) <= ITEMS
        assert set(log.users.columns) <= fields
        names = {name for table in (log.clicks, log.impressions, log.items, log.users) for name in table.columns}
        assert not [name for name in names for word in HIDDEN_WORDS if word in name.lower()]


def test_it_is_handed_nothing_of_the_future(seen):
    for _, log, *_ in seen[1]:
        now = log.start_s + log.now_s
        assert log.items["published"].max() <= now
        for table in (log.clicks, log.impressions):
            assert table.is_empty() or table["timestamp"].min() >= log.start_s
        assert log.clicks["timestamp"].max() < now + 3_600  # clicks of visits that go on over midnight


def test_no_column_is_a_hidden_trait_under_another_name(seen):
    """No number that trainers see of an item follows one that they must not see."""
    scenario, found = seen
    config = scenario.world_config(0)
    hidden = ground_truth_items(config, World.build(config).catalogue)
    numeric = [name for name in hidden.columns if name != "item_id" and hidden[name].dtype.is_numeric()]
    traits = [name for name in numeric if not hidden[name].has_nulls()]
    assert {"appeal", "quality"} <= set(traits)
    log = found[-1][1]
    joined = log.items.join(hidden, on="item_id", suffix=" hidden")
    observed = [name for name, kind in log.items.schema.items() if kind.is_numeric() and name != "item_id"]
    for name in observed:
        for trait in traits:
            pair = joined.select(
                pl.col(name).rank(), pl.col(trait if trait not in log.items.columns else f"{trait} hidden").rank()
            )
            if min(pair.to_numpy().std(axis=0)) > 0 and trait not in ("published", "evergreen"):
                assert abs(np.corrcoef(pair.to_numpy().T)[0, 1]) < 0.9, (name, trait)
    for name in ("dwell_s",):  # what users show of an item is noisy, not its quality itself
        means = log.clicks.group_by("item_id").agg(pl.col(name).mean(), pl.len()).join(hidden, on="item_id")
        assert abs(np.corrcoef(means[name], means["quality"])[0, 1]) < 0.95
