"""The check from folders to reports."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from abtest.cli.main import app
from micrec.data.store import write_dataset
from micrec.errors import MicrecError
from simulator.realism import ranking
from simulator.realism.check import check_realism, load_pair
from simulator.realism.folder import write_folder
from simulator.realism.log import load_sample
from simulator.realism.ranking import ranking_agreement
from simulator.realism.report import verdict_lines
from simulator.world.in_memory import draw_world, drawn_dataset
from simulator.world.item_table import dataset_schema, item_frame
from simulator.world.world_config import WorldConfig
from tests.simulator.worlds import small_history, small_world


def save(folder, *overrides):
    world, shard = small_world(*overrides), small_history(*overrides)
    schema = dataset_schema(world.config)
    write_dataset(folder, schema, shard.users, item_frame(world.config, world.catalogue), shard.clicks)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("realism")
    busy = save(root / "busy", "name=busy", "seed=5", "sessions.clicks=9")
    return save(root / "one", "name=one"), save(root / "twin", "name=twin", "seed=1"), busy


def test_a_log_is_not_told_from_itself(folders):
    result = check_realism(load_pair(folders[0], folders[0]), ranking=False)
    assert {c.distance for c in result.comparisons} == {0.0}
    assert {test.auc for test in result.tests} == {0.5}


def test_another_seed_is_alike_and_longer_sessions_are_told(folders):
    twin = check_realism(load_pair(folders[0], folders[1]), ranking=False)
    busy = check_realism(load_pair(folders[0], folders[2]), ranking=False)
    assert [test for test in twin.tests if not 0.4 < test.auc < 0.6] == []
    sessions = busy.tests[0]
    assert sessions.low > 0.55
    assert {"clicks", "repeats of session"} & {giveaway.feature for giveaway in sessions.giveaways[:2]}
    by_name = {c.statistic.name: c for c in busy.comparisons}
    assert by_name["clicks_per_session"].verdict == "apart"
    assert by_name["hour_of_day"].verdict == "alike"
    assert by_name["hour_of_day"].floor > 0


def test_the_larger_log_is_thinned_by_a_key(folders):
    pair = load_pair(folders[0], folders[1], users=400)
    assert 300 < pair.real.n_users < 500
    assert pair.real.sampled is not None
    again = load_pair(folders[0], folders[1], users=400)
    assert np.array_equal(pair.real.item, again.real.item)


def test_command_writes_the_same_report_twice(folders, tmp_path):
    run = CliRunner().invoke
    command = ["realism", str(folders[0]), str(folders[1]), "--no-ranking", "--without", "items"]
    for name in ("a", "b"):
        done = run(app, [*command, "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    for file in ("realism.json", "realism.md", "statistics.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    data = json.loads((tmp_path / "a" / "realism.json").read_text())
    assert data["ranking"] is None
    assert all(statistic["group"] != "items" for statistic in data["statistics"])
    refused = run(app, [*command, "--out", str(tmp_path / "a")])
    assert refused.exit_code == 2
    assert "holds a realism check" in refused.stderr
    assert not (tmp_path / ".a.partial").exists()


def test_recommenders_of_one_log_come_in_one_order(folders):
    checked = check_realism(load_pair(folders[0], folders[0]), classifier=False)
    agreement = checked.ranking
    assert str(folders[0]) in checked.real.name  # two logs of one name are told apart by their folders
    assert agreement.tau == pytest.approx(1.0)
    (draw,) = agreement.draws
    assert draw.agreed == draw.decided > 0
    assert 0.5 < agreement.real.self_tau <= 1.0
    assert len(agreement.real.hit) == 11
    assert agreement.left_out == {}
    assert agreement.real.hit == draw.order.hit
    highest = agreement.real.shares[f"hit_ceiling@{agreement.cutoff}"]
    assert max(agreement.real.hit.values()) <= highest <= agreement.real.shares["hittable_share"] <= 1
    assert (
        sum(f"highest possible HIT: {highest:.4f} at {agreement.cutoff}" in line for line in verdict_lines(checked))
        == 2
    )


def test_recommenders_that_a_log_cannot_have_are_left_out_on_both_sides_and_named(folders):
    """Without titles there is no title-kNN; the other simple ones read no title, and hit what they hit."""
    full = load_sample(folders[0], 10_000)[0]
    untitled = full.schema.roles.model_copy(update={"title": None})
    bare = dataclasses.replace(full, schema=full.schema.model_copy(update={"name": "bare", "roles": untitled}))
    agreement = ranking_agreement(full, bare)
    other = agreement.draws[0].order
    assert agreement.left_out == {"title-kNN": "bare: it has no titles (roles.title)"}
    assert set(agreement.real.hit) == set(other.hit)
    assert "title-kNN" not in agreement.real.hit
    assert len(agreement.real.hit) >= 8
    same = [name for name in agreement.real.hit if name not in ("FM", "ICAN")]
    assert {name: agreement.real.hit[name] for name in same} == {name: other.hit[name] for name in same}


def test_further_draws_are_worlds_of_the_next_seeds(folders, monkeypatch):
    """The second draw of a world of seed 0 is the world of seed 1; EASE keeps the settings that the log chose."""
    monkeypatch.setattr(ranking, "SIMPLE", ("popularity", "ease"))
    monkeypatch.setattr(ranking, "TOWERS", {})
    world = load_sample(folders[0], 10_000)[0]
    keys = WorldConfig.model_validate_json(json.dumps(world.schema.provenance["config"], default=str))
    agreement = ranking_agreement(world, world, draws=2)
    first, second = (draw.order for draw in agreement.draws)
    assert first.hit == agreement.real.hit
    assert first.settings == second.settings == agreement.real.settings
    again = drawn_dataset(draw_world(keys.model_copy(update={"seed": keys.seed + 1})))
    assert ranking_agreement(world, again).draws[0].order.hit == second.hit
    foreign = dataclasses.replace(world, schema=world.schema.model_copy(update={"provenance": {}}))
    with pytest.raises(MicrecError, match="no world of micrec world"):
        ranking_agreement(world, foreign, draws=2)


def test_errors_for_people(folders, tmp_path):
    run = CliRunner().invoke
    missing = run(app, ["realism", str(tmp_path / "none"), str(folders[0])])
    assert missing.exit_code == 2
    assert "there is no such dataset folder" in missing.stderr
    unknown = run(app, ["realism", str(folders[0]), str(folders[1]), "--without", "dwel"])
    assert unknown.exit_code == 2
    assert "no such statistic" in unknown.stderr
    world, shard = small_world("name=one"), small_history("name=one")
    still = tmp_path / "still"
    write_dataset(
        still,
        dataset_schema(world.config),
        shard.users,
        item_frame(world.config, world.catalogue),
        shard.clicks.with_columns(pl.lit(1_700_000_000).alias("timestamp")),
    )
    for command in (["realism", str(still), str(folders[0])], ["fit", str(still), "--out", str(tmp_path / "w.yaml")]):
        frozen = run(app, command)
        assert frozen.exit_code == 2
        assert "check the timestamps" in frozen.stderr
    assert not (tmp_path / "w.yaml").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(MicrecError, match="holds no realism check"):
        write_folder(tmp_path, {"realism.json": b"{}"}, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()
