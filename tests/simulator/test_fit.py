"""Fit finds the keys of a generated world again, halves distances, and says where each key came from."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from micrec.data.convert import convert
from micrec.errors import MicrecError
from simulator.fit.field_moments import zipf_exponent
from simulator.fit.fit import fit_folder, fit_world
from simulator.fit.simulate import world_log
from simulator.fit.visit_moments import Visitors, expected, solve
from simulator.fit.world_file import world_yaml
from simulator.realism.compare import mean_distance, mean_ks
from simulator.world.files import load_world
from simulator.world.world import World
from simulator.world.world_config import WorldConfig
from tests.simulator.worlds import small_config

RETAIL = Path(__file__).parents[3] / "shared" / "data" / "online_retail"
HIDDEN = {
    "users": {"count": 2_500, "activity_sd": 0.7, "new_share": 0.5, "churn_per_day": 0.03},
    "sessions": {"per_user": 5.0, "clicks": 7.0, "patience_sd": 0.6, "browse_s": 20.0},
    "items": {"count": 1_200, "new_share": 0.3, "evergreen_share": 0.3, "half_life_h": 12.0, "categories": 10},
    "choice": {"taste": 0.4, "popular": 0.2, "fresh": 0.1, "similar": 0.1, "repeat": 0.2},
    "tags": {"count": 200, "per_item": 4.0},
    "behaviour": {
        "dwell_log_mean": 2.5,
        "dwell_log_sd": 1.4,
        "dwell_user": 0.5,
        "dwell_quality": 0.2,
        "like_rate": 0.08,
        "like_user": 0.4,
        "like_quality": 0.3,
        "like_dwell": 0.4,
        "follow_rate": 0.01,
        "follow_given_like": 0.06,
    },
}


@pytest.fixture(scope="module")
def round_trip():
    config = WorldConfig.model_validate({"seed": 3, "days": 21, "window_days": 21, **HIDDEN})
    return config, fit_world(world_log(World.build(config)), small_config("users.count=1000"))


def test_fit_finds_the_keys_of_a_world(round_trip):
    hidden, fitted = round_trip[0], round_trip[1].config
    near = pytest.approx
    assert (fitted.days, fitted.window_days, fitted.start) == (21, 21, hidden.start)
    assert fitted.users.count == 2_500
    assert fitted.users.activity_sd == near(0.7, abs=0.12)
    assert fitted.users.new_share == near(0.5, abs=0.1)
    assert fitted.users.churn_per_day == near(0.03, abs=0.012)
    assert fitted.sessions.per_user == near(5.0, rel=0.03)
    assert fitted.sessions.clicks == near(7.0, rel=0.05)
    assert fitted.sessions.patience_sd == near(0.6, abs=0.1)
    assert fitted.sessions.browse_s == near(20.0, rel=0.15)
    hourly, found = np.array(hidden.sessions.hourly), np.array(fitted.sessions.hourly)
    assert np.abs(hourly / hourly.sum() - found / found.sum()).max() < 0.01
    assert fitted.items.new_share == near(0.3, abs=0.05)
    assert fitted.items.half_life_h == near(12.0, rel=0.4)
    assert fitted.items.categories == near(10, abs=1)


def test_fit_finds_the_responses_of_a_world(round_trip):
    hidden, fitted = round_trip[0].behaviour, round_trip[1].config.behaviour
    tolerance = {"dwell_log_mean": 0.05, "dwell_log_sd": 0.03, "like_rate": 0.006, "follow_rate": 0.002}
    for key in HIDDEN["behaviour"]:
        assert getattr(fitted, key) == pytest.approx(getattr(hidden, key), abs=tolerance.get(key, 0.1)), key


def test_fit_halves_the_distances_of_its_base(round_trip):
    fitted = round_trip[1]
    assert mean_distance(fitted.after) < 0.5 * mean_distance(fitted.before)
    assert mean_ks(fitted.after) < 0.5 * mean_ks(fitted.before)


def test_the_file_loads_as_the_world_and_explains_its_keys(round_trip, tmp_path):
    fitted = round_trip[1]
    text = world_yaml(fitted.config, fitted.findings, header=["by a test\n- not a key"], base="small.yaml")
    (tmp_path / "w.yaml").write_text(text)
    assert load_world(tmp_path / "w.yaml") == fitted.config
    lines = text.splitlines()
    for key, finding in fitted.findings.found.items():
        place = next(i for i, line in enumerate(lines) if line.strip().startswith(f"{key.split('.')[-1]}: "))
        assert lines[place - 1].strip().startswith("# "), key
        assert finding.source in text
    assert "# kept from small.yaml: how many groups are linked is not told apart from how strongly" in text


def test_what_is_left_out_keeps_the_value_of_the_base(round_trip):
    real = world_log(World.build(round_trip[0])).thinned(400)
    base = small_config("sessions.per_user=2.5", "sessions.clicks=3.5", "users.activity_sd=0.25")
    fitted = fit_world(real, base, without=("sessions", "returns", "behaviour"))
    assert fitted.config.sessions.per_user == 2.5
    assert fitted.config.sessions.clicks == 3.5
    assert fitted.config.users.activity_sd == 0.25
    assert fitted.config.behaviour == base.behaviour
    assert {c.statistic.group for c in fitted.after}.isdisjoint({"sessions", "returns", "behaviour"})


def test_visits_in_closed_form_are_read_backwards():
    keys = Visitors(activity_sd=0.8, new_share=0.3, churn_per_day=0.02)
    found = solve(expected(0.4, keys, 28.0), 28.0)
    assert found == pytest.approx(keys, abs=0.02)


def test_zipf_exponent():
    counts = np.round(1e6 * np.arange(1, 51) ** -0.9).astype(np.int64)
    assert zipf_exponent(counts) == pytest.approx(0.9, abs=0.01)
    assert zipf_exponent(np.full(5, 10)) == 0.0


def test_a_foreign_clock_is_noticed():
    """Users eight hours east, as KuaiRand's are: the quiet of their night falls into the evening of UTC."""
    real = world_log(World.build(small_config("seed=9")))
    shifted = dataclasses.replace(real, time_s=real.time_s - 8 * 3_600)
    notes = fit_world(
        shifted, small_config(), without=("behaviour", "items", "repetition", "co_clicks", "popularity")
    ).notes
    assert any("is --utc-offset 8 the users' clock?" in note for note in notes)


def test_too_small_a_log_is_refused():
    real = world_log(World.build(small_config("users.count=60")))
    with pytest.raises(MicrecError, match="fit needs 200 or more"):
        fit_world(real.of_users(np.arange(real.n_users) < 3), small_config())


@pytest.mark.skipif(not RETAIL.exists(), reason="needs Online Retail in ../shared/data")
def test_fit_halves_the_distances_on_online_retail(tmp_path):
    convert("online-retail", RETAIL, tmp_path / "retail")
    base = Path(__file__).parents[2] / "scenarios" / "worlds" / "grocery.yaml"
    fitted = fit_folder(tmp_path / "retail", tmp_path / "w.yaml", base=base, users=1_000)
    assert mean_distance(fitted.after) < 0.5 * mean_distance(fitted.before)
    assert load_world(tmp_path / "w.yaml") == fitted.config
