"""Every scenario that is shipped loads, passes its own check, and starts with the command that runs it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from abtest.cli.main import app
from abtest.online.online_scenario import OnlineScenario
from abtest.online.simulate import simulations_of
from abtest.scenario_files import load_scenario

FILES = sorted(path for path in (Path(__file__).parents[3] / "scenarios").glob("*.yaml") if path.name != "metrics.yaml")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario_is_valid_and_says_how_to_run_it(path):
    result = CliRunner().invoke(app, ["scenario", "check", str(path)])
    assert result.exit_code == 0, result.output
    assert "valid" in result.output
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert f"micrec run {path.stem}" in text


def scenario(name, *overrides):
    loaded, _ = load_scenario(Path(FILES[0]).parent / f"{name}.yaml", list(overrides))
    assert isinstance(loaded, OnlineScenario)
    return loaded


def test_the_scenarios_ask_what_they_promise():
    assert scenario("aa").splits >= 200
    assert scenario("coverage").replications >= 100
    assert len(scenario("misspecified").variants) >= 3
    assert {"shared", "diverted"} <= set(scenario("interference").variants)
    values = scenario("dose_response").doses.values
    assert (min(values), max(values)) == (0.0, 1.0)
    assert scenario("online_ab_video").days == scenario("online_ab_news").days == 7


def test_placebo_is_control_with_another_noise_of_training():
    """One click a batch less: the same model, trained in another order."""
    one = scenario("dose_response")
    control, placebo = one.config("control").model_dump(), one.config("placebo").model_dump()
    assert control["train"].pop("batch_size") - placebo["train"].pop("batch_size") == 1
    assert control == placebo
    assert all(control["contrast"][loss]["weight"] == 0 for loss in ("feature", "semantic", "session"))


def test_fault_variants_share_users_and_noise():
    one = scenario("faults")
    variants = [one.variant(name) for name in one.variants]
    assert len({variant.world_config(0).model_dump_json() for variant in variants}) == 1
    assert len({variant.population_config(0).model_dump_json() for variant in variants}) == 1
    assert len({variant.platform_config(0).seed for variant in variants}) == 1
    worlds = [simulation for simulation in simulations_of(one) if "." not in simulation.part]
    assert len(worlds) == 4 * len(variants)
