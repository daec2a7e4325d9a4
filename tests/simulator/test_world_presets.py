"""The presets hold to what they are named after, as read back by the data layer and its one-hour sessions."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from micrec.config import Config
from micrec.data.describe import DatasetStatistics, describe
from micrec.data.schema import EMBEDDABLE
from micrec.data.store import read_dataset
from simulator.world.files import load_world
from simulator.world.generate import generate_world
from simulator.world.items import make_catalogue
from simulator.world.world import World

PRESETS = Path(__file__).parents[2] / "scenarios" / "worlds"
SCALE = 0.002
# Table 1 of the paper and its 5.1 and 5.3: users, items, sessions, clicks, tags, fields.
TABLE_1 = {
    "video": (25_476_322, 2_406_028, 58_595_540, 635_774_650, 202_000, 8),
    "news": (6_364_403, 1_056_630, 11_455_920, 76_303_835, 141_000, 17),
}


@functools.cache
def statistics(preset: str, scale: float) -> DatasetStatistics:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / preset
        generate_world(load_world(PRESETS / f"{preset}.yaml", scale=scale), out)
        return describe(read_dataset(out), Config().split, Config().sessions)


@pytest.mark.parametrize("preset", TABLE_1)
def test_table_1_at_a_small_scale(preset):
    users, items, sessions, clicks, tags, _ = TABLE_1[preset]
    got = statistics(preset, SCALE)
    assert got.users == got.users_with_clicks == pytest.approx(users * SCALE, abs=1)
    assert got.items == pytest.approx(items * SCALE, abs=1)
    assert got.sessions / got.users == pytest.approx(sessions / users, rel=0.02)
    assert got.clicks / got.sessions == pytest.approx(clicks / sessions, rel=0.02)
    assert got.clicks_per_user_mean == pytest.approx(clicks / users, rel=0.03)
    vocabulary = next(field.vocabulary for field in got.fields if field.name == "tags")
    assert vocabulary == pytest.approx(tags * SCALE, rel=0.03)


@pytest.mark.parametrize("preset", TABLE_1)
def test_fields_are_as_many_as_the_paper_says(preset):
    got = [field for field in statistics(preset, SCALE).fields if field.type in EMBEDDABLE]
    assert len(got) == TABLE_1[preset][-1]


@pytest.mark.parametrize("preset", TABLE_1)
def test_scale_1_is_table_1(preset):
    users, items, sessions, clicks, tags, _ = TABLE_1[preset]
    config = load_world(PRESETS / f"{preset}.yaml")
    assert (config.users.count, config.items.count, config.tags.count) == (users, items, tags)
    assert config.sessions.per_user == pytest.approx(sessions / users, rel=1e-3)
    assert config.sessions.clicks == pytest.approx(clicks / sessions, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 0.5, 2.0])
@pytest.mark.parametrize("preset", ["video", "news", "tiny", "grocery", "topics", "video_topics", "news_topics"])
def test_any_scale_is_a_world(preset, scale):
    config = load_world(PRESETS / f"{preset}.yaml", scale=scale)
    assert config.users.count == max(1, round(load_world(PRESETS / f"{preset}.yaml").users.count * scale))
    assert config.items.subcategories >= 1


def test_a_world_of_three_hundred_users_is_sensible():
    got = statistics("video", 1e-5)
    assert got.users == 255
    assert got.items_with_clicks > 10
    assert got.clicks_per_user_mean == pytest.approx(24.96, rel=0.25)


def test_grocery_is_like_online_retail():
    """Figures of micrec describe on Online Retail; the repeats and the medians are looser, as nothing sets them."""
    got = statistics("grocery", 1.0)
    assert (got.users, got.items) == (4_339, 3_665)
    assert got.sessions / got.users == pytest.approx(3.91, rel=0.05)
    assert got.session_clicks_mean == pytest.approx(23.43, rel=0.03)
    assert got.session_clicks_median == pytest.approx(17, abs=2)
    assert got.session_clicks_p95 == pytest.approx(68, rel=0.1)
    assert got.clicks_per_user_median == pytest.approx(41, rel=0.15)
    assert got.item_gini == pytest.approx(0.638, abs=0.05)
    assert got.repeat_share == pytest.approx(0.33, abs=0.05)


@pytest.mark.parametrize("preset", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_begin_with_the_command_that_runs_them(preset):
    assert f"#   micrec world {preset.stem} --out" in preset.read_text(encoding="utf-8")
    assert isinstance(yaml.safe_load(preset.read_text(encoding="utf-8")), dict)


def test_topics_hold_what_the_file_says():
    """Figures of the file's head; two thirds of the clicks go to topics of the user."""
    world = World.build(load_world(PRESETS / "topics.yaml"))
    config, catalogue = world.config, world.catalogue
    shard = world.history(0, config.users.count)
    assert len(shard.users) == 10_000
    assert len(shard.clicks) == pytest.approx(200_000, rel=0.05)
    assert len(catalogue) == pytest.approx(10_000, rel=0.01)
    assert len(shard.clicks) / len(catalogue) == pytest.approx(20, rel=0.05)
    assert 990 < len(np.unique(catalogue.topic)) <= 1_000  # one may be empty
    topic = pl.DataFrame({"item_id": np.arange(len(catalogue)), "topic": catalogue.topic})
    own = shard.clicks.join(topic, on="item_id").join(shard.ground_truth_users, on="user_id")
    share = own.select(pl.col("interest_topics").list.contains(pl.col("topic")).mean()).item()
    assert share == pytest.approx(0.65, abs=0.03)


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_clicks_per_item_stay_as_set_at_any_scale(scale):
    config = load_world(PRESETS / "topics.yaml", ["items.clicks_per_item=8"], scale=scale)
    clicks = config.users.count * config.sessions.per_user * config.sessions.clicks
    assert clicks / config.items.count == pytest.approx(8, rel=0.01)
    plain = load_world(PRESETS / "tiny.yaml", scale=scale)
    whole = load_world(PRESETS / "tiny.yaml")
    assert plain.users.count / plain.items.count == pytest.approx(whole.users.count / whole.items.count, rel=0.01)


def test_the_example_of_the_worlds_page_is_a_world(tmp_path):
    page = (PRESETS.parents[1] / "docs/worlds.md").read_text(encoding="utf-8")
    (example,) = [block.split("```")[0] for block in page.split("```yaml\n")[1:] if "my_world.yaml" in block]
    (tmp_path / "my_world.yaml").write_text(example)
    config = load_world(tmp_path / "my_world.yaml", scale=0.1)
    assert (config.signals.titles, config.taste.depth.item, config.items.count) == (0.8, 0.2, 2_010)


def test_rarely_shown_items_have_a_fiftieth_of_their_appeal():
    usual, rare = (make_catalogue(load_world(PRESETS / "topics.yaml", [f"items.rare_share={x}"])) for x in (0, 0.3))
    ratio = rare.appeal / usual.appeal
    assert set(np.round(ratio, 12)) == {0.02, 1.0}
    assert (ratio < 0.5).mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / len(ratio)))


@pytest.mark.parametrize("preset", TABLE_1)
def test_presets_with_topics_keep_the_shape_of_table_1(preset):
    """They differ from the preset of that shape in what users like and in what tells it, and in nothing else."""
    old, new = (load_world(PRESETS / f"{name}.yaml").model_dump() for name in (preset, f"{preset}_topics"))
    moved = {
        part: {key for key in old[part] if old[part][key] != new[part][key]} for part in ("items", "taste", "signals")
    }
    assert moved == {
        "items": {"topics"},
        "taste": {"depth"},
        "signals": {"titles", "tags", "provider", "sessions", "missing", "noise"},
    }
    assert {key for key in old if old[key] != new[key]} == {"name", "items", "taste", "signals"}
    assert new["taste"]["depth"]["topic"] > new["taste"]["depth"]["subcategory"]
