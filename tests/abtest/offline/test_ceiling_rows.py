"""Ceilings stand in the tables of generated worlds, unnamed, with each row's way from popularity to the highest."""

import pytest

from abtest.report.pages import table_layout
from abtest.report.tables import WAY, report_tables
from micrec.baselines.baseline_scores import NO_CEILING
from micrec.data.store import read_dataset
from simulator.world.generate import generate_world
from tests.simulator.worlds import small_config

from .fakes import draw_result, run_fake
from .table_fakes import run_fake_table

RATES = {"popularity": (0.1, 0.2), "users_known": (0.6, 0.8), "items_known": (0.5, 0.7), "structure_known": (0.4, 0.6)}
CEILINGS = ["items_known (ceiling)", "structure_known (ceiling)", "users_known (ceiling)"]


def drawn(name, dataset, config):
    return draw_result(99, RATES.get(name, (0.25, 0.45)))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp("tables") / "world"
    return read_dataset(generate_world(small_config(), out).folder)


def without_training(results):
    return [model["model"] for model in results["models"] if model["arm"] is None]


def test_a_two_arm_test_on_a_world_shows_them(tmp_path, world):
    results = run_fake(tmp_path / "run", dataset=world, baseline=drawn)
    assert without_training(results)[-3:] == CEILINGS
    way = next(table for table in report_tables(results) if table.title == WAY)
    means = {model["model"]: model["hit@5"] for model in results["models"] if model["arm"] is None}
    low, high = means["popularity (baseline)"], means["users_known (ceiling)"]
    cells = {row[0]: row[1] for row in way.rows}
    assert "popularity (baseline)" not in cells
    assert "users known (ceiling)" not in cells
    for name, label in (("items_known", "items known"), ("structure_known", "structure known")):
        share = (means[f"{name} (ceiling)"] - low) / (high - low)
        assert cells[f"{label} (ceiling)"] == f"{100 * share:.1f} %"
    assert WAY in (tmp_path / "run" / "report.md").read_text("utf-8")


def test_a_table_shows_them_on_the_world_alone(tmp_path, world):
    plain = run_fake_table(tmp_path / "plain", baseline=drawn)
    assert not [name for name in without_training(plain) if "ceiling" in name]
    assert WAY not in (tmp_path / "plain" / "report.md").read_text("utf-8")
    changes = {"datasets": {"world": {"data": "world", "label": "World"}}}
    results = run_fake_table(tmp_path / "run", changes=changes, baseline=drawn, read=lambda path: world)
    assert without_training(results)[-3:] == CEILINGS
    titles = [table.title for part in table_layout.sections(results) for table in part.blocks]
    assert WAY in titles


def test_lists_for_single_clicks_have_none(tmp_path, world):
    sets = ["base.evaluation.history=rolling"]
    changes = {"datasets": {"world": {"data": "world", "label": "World"}}}
    results = run_fake_table(tmp_path / "run", changes=changes, sets=sets, baseline=drawn, read=lambda path: world)
    assert not [name for name in without_training(results) if "ceiling" in name]
    every = ("items_known", "structure_known", "users_known")
    assert results["datasets"]["world"]["left_out"] == dict.fromkeys(every, NO_CEILING)
    assert f"Left out: items known, structure known, users known: {NO_CEILING}." in (
        tmp_path / "run" / "report.md"
    ).read_text("utf-8")


def test_ceilings_that_are_named_are_told_to_be_missing_too(tmp_path, world):
    sets = ["base.evaluation.history=rolling", "baselines=[popularity, users_known]"]
    results = run_fake(tmp_path / "run", dataset=world, sets=sets, baseline=drawn)
    assert without_training(results) == ["popularity (baseline)"]
    every = ("users_known", "items_known", "structure_known")  # the one that was named first
    assert results["dataset"]["left_out"] == dict.fromkeys(every, NO_CEILING)
    assert f"Left out: users known, items known, structure known: {NO_CEILING}." in (
        tmp_path / "run" / "report.md"
    ).read_text("utf-8")
