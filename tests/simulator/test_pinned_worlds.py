"""Worlds without topics are those that the generator made before it knew of any, to the bit."""

import hashlib

import polars as pl
import pytest

from simulator.world.item_table import item_frame
from tests.simulator.worlds import small_history, small_world

# Digests that this file's ``digests`` gave with the generator of commit 5017b9b, which had no topics.
BEFORE = {
    (): {"clicks": "a2de2bed9d6b", "causes": "e619b6d238a1", "users": "0db433619bb5", "interests": "b725c04fa0c5"},
    ("choice.repeat=0.2", "choice.taste=0.4", "taste.drift_days=5"): {
        "clicks": "356b6c41c549",
        "causes": "df9076c98d67",
        "users": "0db433619bb5",
        "interests": "b725c04fa0c5",
    },
}
ITEMS = "29b96fbc0610"


def digest(table: pl.DataFrame) -> str:
    return hashlib.blake2b(repr(table.rows()).encode(), digest_size=6).hexdigest()


def digests(*overrides: str) -> dict[str, str]:
    shard = small_history(*overrides)
    parts = {
        "clicks": shard.clicks.select("user_id", "item_id", "timestamp", "like", "follow"),
        "causes": shard.causes,
        "users": shard.users,
        "interests": shard.ground_truth_users.select("interests"),
    }
    return {name: digest(part) for name, part in parts.items()}


@pytest.mark.parametrize("overrides", BEFORE, ids=["default", "staples"])
def test_histories_are_as_before(overrides):
    assert digests(*overrides) == BEFORE[overrides]


def test_topics_that_nobody_likes_change_no_history():
    """The segments of the topics lie beside the others and move no draw."""
    assert digests("items.topics=5") == BEFORE[()]


def test_items_are_as_before():
    world = small_world()
    columns = ("category", "subcategory", "tags", "provider", "published")
    assert digest(item_frame(world.config, world.catalogue).select(columns)) == ITEMS
