"""Gain maps: which worlds are drawn, what is trained on them, what a square says, and what the report shows."""

import csv
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from scipy import stats

from abtest.offline.dose_trends import dose_trends
from abtest.offline.gain_map import run_gain_map
from abtest.offline.gain_map_scenario import GainMapScenario
from abtest.report.draw import NARROW, draw
from abtest.report.figures import HeatMap, Lines, from_data, to_data
from abtest.report.pages.gain_map_page import figure_of, grid_table, map_html
from abtest.scenario_files import load_scenario
from abtest.schema import results_schema
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.progress import Progress
from micrec.settings import load_yaml

from .fakes import CUTOFFS, FakeResult, draw_result, fake_baseline, tiny_dataset

MAP: dict[str, Any] = {
    "kind": "gain_map",
    "name": "tiny-map",
    "world": {"users": {"count": 40}, "items": {"categories": 3, "topics": 2}, "links": {"strength": 0}},
    "across": {"label": "clicks per item", "keys": ["items.clicks_per_item"], "values": [5, 20]},
    "panels": {
        "titles": {
            "label": "By titles",
            "row": "semantic",
            "against": "base",
            "dial": {"keys": ["signals.titles"], "values": [0, 0.5, 1]},
        },
        "fields": {
            "label": "By fields",
            "row": "feature",
            "against": "base",
            "dial": {"keys": ["signals.tags", "signals.provider"], "values": [0, 1]},
        },
    },
    "seeds": 3,
    "base": {"evaluation": {"cutoffs": list(CUTOFFS)}},
    "rows": {
        "base": {"label": "ICAN", "losses": []},
        "semantic": {"label": "+ semantic", "losses": ["semantic"]},
        "feature": {"label": "+ feature", "losses": ["feature"]},
    },
    "metrics": ["hit@5"],
}


class MapTrainer:
    """Its semantic loss gains as much as the titles of the dataset's world tell; no other loss does anything."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bool, int]] = []

    def __call__(
        self, dataset: Dataset, config: Config, *, folder: Path, progress: Progress, part: str = "test"
    ) -> FakeResult:
        semantic = config.contrast.semantic.weight > 0
        titles = float(dataset.schema.name)
        self.calls.append((dataset.schema.name, semantic, config.train.seed))
        rate = 0.3 + 0.4 * titles * semantic
        luck = config.train.seed * 7 + 100 * semantic + 200 * (config.contrast.feature.weight > 0)
        return draw_result(luck, (rate, 0.8), n_users=600)


def read(folder: Path) -> Dataset:
    """A tiny dataset named after what the titles of the drawn world tell."""
    config = load_yaml(folder / "dataset.yaml")["provenance"]["config"]
    assert config["items"]["clicks_per_item"] in (5, 20)
    return tiny_dataset(str(config["signals"]["titles"]))


def load(folder: Path, *sets: str) -> tuple[GainMapScenario, dict[str, Any]]:
    path = folder / "map.yaml"
    path.write_text(yaml.safe_dump(MAP, sort_keys=False), encoding="utf-8")
    scenario, resolved = load_scenario(path, sets)
    assert isinstance(scenario, GainMapScenario)
    return scenario, resolved


def run(out: Path, *sets: str, **given: Any) -> dict[str, Any]:
    scenario, resolved = load(out.parent, *sets)
    fakes = {"train": MapTrainer(), "baseline": fake_baseline, "read": read}
    return run_gain_map(scenario, out, resolved=resolved, command="micrec run map.yaml", **{**fakes, **given})


@pytest.fixture(scope="module")
def trainer():
    return MapTrainer()


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("map") / "run"


@pytest.fixture(scope="module")
def results(out, trainer):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        return run(out, train=trainer)


class TestWorlds:
    def test_every_square_has_the_keys_of_its_dials(self, tmp_path):
        scenario, _ = load(tmp_path)
        worlds = scenario.worlds()
        for square in scenario.squares("fields"):
            world = worlds[square.dataset]
            assert world.signals.tags == world.signals.provider == (0, 1)[square.dial]
            assert world.items.clicks_per_item == (5, 20)[square.across]
            assert world.signals.titles == 0
        assert len(scenario.squares("titles")) == 6

    def test_the_same_world_is_drawn_once_for_all_maps(self, tmp_path):
        """Where every dial is at 0 the maps share their worlds: 6 + 4 squares, 2 of them shared."""
        scenario, _ = load(tmp_path)
        assert len(scenario.worlds()) == 8
        shared = [{one.dataset for one in scenario.squares(name) if one.dial == 0} for name in ("titles", "fields")]
        assert shared[0] == shared[1]
        assert "8 worlds, 3 seeds: 54 models" in scenario.work()  # 8 bases, 6 + 4 with a loss, 3 seeds

    def test_a_map_may_have_keys_of_its_own_and_be_left_out(self, tmp_path):
        scenario, _ = load(tmp_path, "panels.fields.world={items: {topics: 4}}", "only=[fields]")
        assert {world.items.topics for world in scenario.worlds().values()} == {4}
        assert list(scenario.tables()) == ["fields"]

    def test_values_of_whole_numbered_keys_are_whole(self, tmp_path):
        scenario, _ = load(tmp_path, "panels.titles.dial={keys: [items.topics], values: [1, 2]}", "only=[titles]")
        assert [world.items.topics for world in scenario.worlds().values()] == [1, 2, 1, 2]


class TestRun:
    def test_results_are_as_the_schema_says(self, results):
        jsonschema.validate(results, results_schema())

    def test_each_model_is_trained_once(self, results, trainer):
        assert len(trainer.calls) == len(results["models"]) - 8 == 54

    def test_gains_follow_the_dial_and_nothing_else(self, results):
        lifts = {(one["map"], one["dial"], one["across"]): one for one in results["squares"]}
        assert len(lifts) == 10
        for across in (5, 20):
            assert lifts["titles", 1, across]["outcome"] == "gain"
            assert lifts["titles", 1, across]["lift"] == pytest.approx(0.4 / 0.3, rel=0.1)
            assert lifts["titles", 0.5, across]["lift"] == pytest.approx(0.2 / 0.3, rel=0.15)
            for name, dial in (("titles", 0), ("fields", 0), ("fields", 1)):
                assert lifts[name, dial, across]["outcome"] == "open", (name, dial)

    def test_a_square_is_the_ratio_of_the_means_of_its_models(self, results):
        square = next(one for one in results["squares"] if one["map"] == "titles" and one["dial"] == 1)
        mean = {
            arm: sum(m["hit@5"] for m in results["models"] if (m["dataset"], m["arm"]) == (square["dataset"], arm)) / 3
            for arm in ("base", "semantic")
        }
        assert square["lift"] == pytest.approx(mean["semantic"] / mean["base"] - 1)
        assert square["lift_ci"][0] < square["lift"] < square["lift_ci"][1]
        assert square["references"]["popularity (baseline)"] is not None

    def test_tests_are_adjusted_over_all_maps(self, results):
        """Holm by hand: the least p of ten times ten, where it is below 1."""
        users = [one["users"] for one in results["effects"]]
        least = min(users, key=lambda test: test["p"])
        tested = sum(test["p"] is not None for test in users)
        assert len(results["effects"]) == 10
        assert least["p_adjusted"] == pytest.approx(min(1.0, least["p"] * tested))

    def test_a_finished_run_is_kept_and_an_interrupted_one_goes_on(self, results, out, monkeypatch):
        with pytest.raises(MicrecError, match="holds a finished run"):
            run(out)
        (out / "results.json").unlink()
        second = MapTrainer()
        again = run(out, train=second)
        assert second.calls == []
        assert again["squares"] == results["squares"]


@pytest.fixture(scope="module")
def anew(tmp_path_factory):
    """Runs whose vertical axis is the draw of the world."""
    sets = (
        "world.items.clicks_per_item=5",
        "across={label: world, keys: [seed], values: [1, 2, 3]}",
        "panels.fields.dial.values=[0, 0.5, 1]",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        return run(tmp_path_factory.mktemp("anew") / "run", *sets, train=MapTrainer())


class TestWorldsAnew:
    def test_the_slope_is_that_of_the_worlds(self):
        """By hand: the slope of each world by numpy.polyfit, the intervals by scipy's t."""
        rng, dials, worlds = np.random.default_rng(0), [0, 0.4, 0.8], [1, 2, 3, 4]
        lifts = {(dial, world): 0.5 * dial + 0.05 * rng.standard_normal() for world in worlds for dial in dials}
        named = {"map": "titles", "metric": "hit@5"}
        squares = [{**named, "dial": dial, "across": world, "lift": lift} for (dial, world), lift in lifts.items()]
        (found,) = dose_trends(squares, 0.05)
        slopes = [np.polyfit(dials, [lifts[dial, world] for dial in dials], 1)[0] for world in worlds]
        assert (found["worlds"], found["dials"]) == (4, dials)
        assert found["slope"] == pytest.approx(np.mean(slopes))
        assert found["slope_ci"] == pytest.approx(stats.t.interval(0.95, 3, np.mean(slopes), stats.sem(slopes)))
        for dial, gain, ends in zip(dials, found["gains"], found["gain_cis"], strict=True):
            own = [lifts[dial, world] for world in worlds]
            assert gain == pytest.approx(np.mean(own))
            assert ends == pytest.approx(stats.t.interval(0.95, 3, gain, stats.sem(own)))

    def test_a_map_with_an_undefined_gain_has_no_trend(self):
        square = {"map": "titles", "metric": "hit@5", "dial": 0, "across": 1, "lift": None}
        assert dose_trends([square], 0.05) == []

    def test_results_have_the_trend_of_each_map(self, anew):
        jsonschema.validate(anew, results_schema())
        titles, fields = anew["trends"]
        assert (titles["map"], titles["worlds"], titles["dials"]) == ("titles", 3, [0, 0.5, 1])
        assert titles["slope"] == pytest.approx(0.4 / 0.3, rel=0.15)
        assert fields["slope"] == pytest.approx(0.0, abs=0.1)

    def test_the_report_has_the_curve_and_the_slope(self, anew):
        figure = figure_of(anew, "titles", "hit@5")
        assert isinstance(figure, Lines)
        text = map_html(anew)
        assert "mean of 3 worlds" in text
        assert "from 0 to 1 on the dial" in text

    def test_without_replicated_worlds_there_is_no_trend(self, out):
        assert "trends" not in json.loads((out / "results.json").read_text("utf-8"))


class TestReport:
    def test_files(self, results, out):
        names = {path.name for path in out.iterdir()}
        assert {"report.html", "report.md", "table.csv", "trials.csv", "results.json"} <= names
        lines = list(csv.DictReader(io.StringIO((out / "table.csv").read_text("utf-8"))))
        assert len(lines) == 10
        for line, square in zip(lines, results["squares"], strict=True):
            assert float(line["lift"]) == pytest.approx(square["lift"])
            assert float(line["lift_low"]) == pytest.approx(square["lift_ci"][0])
        report = (out / "report.md").read_text("utf-8")
        assert "Of 6 squares 4 show a gain, 0 a loss, and 2 neither" in report

    def test_the_map_has_a_square_each_in_its_place_and_colour(self, results):
        figure = figure_of(results, "titles", "hit@5")
        assert isinstance(figure, HeatMap)
        assert to_data(from_data(to_data(figure))) == to_data(figure)
        assert {(one.column, one.row) for one in figure.squares} == {(x, y) for x in range(3) for y in range(2)}
        for width in (720, NARROW):
            drawing = draw(figure, width)
            squares = [mark for mark in drawing.marks if mark.shape == "rect"]
            assert len(squares) == 6
            assert max(mark.x2 for mark in squares) <= width
            by_column = {round(mark.x): mark.style for mark in squares}
            first, *_, last = (by_column[x] for x in sorted(by_column))
            assert " open " in first
            assert "gain sure" in last
            heights = sorted({mark.y for mark in squares})
            below = [one for one in figure.squares if one.row == 0]
            texts = [
                mark.text for mark in drawing.marks if mark.style.startswith("heat-number") and mark.y > heights[1]
            ]
            assert sorted(texts) == sorted(one.text for one in below)

    def test_the_strongest_gain_has_the_strongest_colour(self, results):
        figure = figure_of(results, "titles", "hit@5")
        assert figure.most == pytest.approx(max(abs(one["lift"]) for one in results["squares"]))
        top = max(figure.squares, key=lambda one: one.value)
        drawing = draw(figure)
        styles = [mark.style for mark in drawing.marks if mark.shape == "rect"]
        assert styles[list(figure.squares).index(top)].endswith("shade-5")

    def test_texts_stay_within_their_squares_on_a_phone(self, results):
        drawing = draw(figure_of(results, "titles", "hit@5"), NARROW)
        squares = [mark for mark in drawing.marks if mark.shape == "rect"]
        for mark in (m for m in drawing.marks if m.style.startswith("heat-")):
            half = 7.6 * len(mark.text) / 2
            assert any(
                one.x <= mark.x - half and mark.x + half <= one.x2 and one.y < mark.y < one.y2 for one in squares
            ), mark

    def test_one_row_is_a_curve_of_the_dial(self, tmp_path, monkeypatch):
        monkeypatch.setattr("os.fsync", lambda _: None)
        results = run(tmp_path / "run", "across.values=[20]", "only=[titles]")
        figure = figure_of(results, "titles", "hit@5")
        assert isinstance(figure, Lines)
        (series,) = figure.series
        assert list(series.x) == [0, 0.5, 1]
        assert series.y[0] < series.y[1] < series.y[2]
        assert "clicks per item 20" in figure.caption

    def test_the_terminal_shows_the_map_in_its_own_shape(self, results):
        table = grid_table(results, "titles", "hit@5")
        assert table.header == ("clicks per item", *(f"signals.titles {value}" for value in ("0", "0.5", "1")))
        assert [row[0] for row in table.rows] == ["20", "5"]

    def test_labels_do_no_harm(self, results):
        nasty = json.loads(json.dumps(results))
        nasty["scenario"]["panels"]["titles"]["label"] = "<script>alert(1)</script>"
        nasty["scenario"]["across"]["label"] = "<b>&"
        page = map_html(nasty)
        assert "<script>" not in page
        svg = page[page.index("<svg") : page.index("</svg>") + 6]
        ET.fromstring(svg.replace("&#34;", "&quot;"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("only=[title]", "only: no map title: did you mean titles?"),
        ("panels.titles.row=sematic", "panels.titles.row: no row sematic: did you mean semantic?"),
        ("panels.titles.row=base", "panels.titles: base is compared with itself"),
        ("panels.titles.dial.values=[1, 0]", "panels.titles.dial.values: must rise, got 1, 0"),
        ("panels.titles.dial.keys=[signals.titel]", "panels.titles: world.signals.titel: unknown key, did you mean"),
        ("panels.titles.dial.values=[0, 2]", "panels.titles: world.signals.titles: must be <= 1, got 2"),
        ("panels.titles.dial.keys=[items.clicks_per_item]", "is the other axis as well: name another key"),
        ("metrics=[coverage@5]", "metrics: coverage@5 has no hits of single users"),
        ("metrics=[hit@51]", "metrics: hit@51 needs 51 among base.evaluation.cutoffs"),
        ("seeds=1", "seeds: must be >= 2, got 1"),
        ("base={model: {item_fields: [colour]}}", "the world has no field colour"),
    ],
)
def test_what_is_refused(tmp_path, override, message):
    with pytest.raises(MicrecError) as caught:
        load(tmp_path, override)
    assert message in str(caught.value)
