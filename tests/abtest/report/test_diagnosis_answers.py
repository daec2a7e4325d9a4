"""The answers of a diagnosis, from a run with a fake trainer: every effect under its question, once."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from abtest.report.pages.diagnosis_answers import answers, diagnosis_tables
from abtest.report.pages.diagnosis_questions import QUESTIONS, is_diagnosis
from abtest.scenario_files import load_scenario
from tests.abtest.offline.fakes import SCENARIO, FakeTrainer, run_fake

OFF = {loss: {"weight": 0} for loss in ("feature", "semantic", "session")}
ARMS = {
    **SCENARIO["arms"],
    "session": {"label": "+ session *", "config": {"contrast": {**OFF, "session": {"weight": 0.5}}}},
}
SECONDARY = ["coverage@5", "uniformity", "nearer_titles", "nearer_links", "link_recall_cross@5"]


class Trainer(FakeTrainer):
    """Knows the geometry, of which nearer_links is undefined here, and says how hard it pulls."""

    def __call__(self, dataset, config, *, folder, progress):
        result = super().__call__(dataset, config, folder=folder, progress=progress)
        weight, seed = config.contrast.session.weight, config.train.seed
        result.metrics.update(
            {"uniformity": -2.0 - weight + 0.01 * seed**2 * weight, "nearer_titles": 0.7 + 0.01 * seed}
        )
        pull = {"session_pull_early": 0.1 + 0.1 * seed, "session_pull_late": 0.5} if weight else {}
        return result._replace(info=result.info | pull)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("diagnosis") / "run"
    sets = [f"metrics.secondary={json.dumps(SECONDARY)}", f"arms={json.dumps(ARMS)}"]
    return out, run_fake(out, sets=sets, train=Trainer())


def test_every_metric_stands_under_one_question(run):
    names = [answer.name for _, found in answers(run[1]) for answer in found]
    assert sorted(names) == sorted({"hit@5", "hit@10", "tail: hit@5", "tail: hit@10", *SECONDARY})
    starts = [start for question in QUESTIONS for start in question.metrics]
    assert len(starts) == len(set(starts))


def test_differences_and_intervals_are_those_of_scipy(run):
    rows = list(csv.DictReader(io.StringIO((run[0] / "diagnosis.csv").read_text("utf-8"))))
    row = next(row for row in rows if row["metric"] == "uniformity" and row["arm"] == "session")
    weights, seeds = (0.1, 0.5), np.arange(3)
    treatment = -2.0 - weights[1] + 0.01 * seeds**2 * weights[1]
    found = stats.ttest_rel(treatment, np.full(3, -2.0))
    assert float(row["difference"]) == pytest.approx(treatment.mean() + 2.0)
    assert [float(row["low"]), float(row["high"])] == pytest.approx(list(found.confidence_interval(0.95)))
    assert float(row["p"]) == pytest.approx(found.pvalue)


def test_the_page_says_what_is_known_and_escapes_the_rest(run):
    text = (run[0] / "diagnosis.md").read_text("utf-8")
    assert "| uniformity (lower: more spread out) | -2.0000 | -0.0983 \\[" in text
    assert "nearer\\_links" not in text  # undefined for every arm
    assert "+ session \\*" in text
    assert "| + session \\*: session | 0.20 to 0.50 | n/a | n/a |" in text
    assert diagnosis_tables(run[1])[0].title == QUESTIONS[0].title


def test_pictures_are_whole_and_the_same_again(run, tmp_path):
    from abtest.report.pages.diagnosis_figure import picture_files

    files = {name: (run[0] / name).read_bytes() for name in ("diagnosis.png", "diagnosis.pdf")}
    assert files["diagnosis.png"].startswith(b"\x89PNG")
    assert files["diagnosis.pdf"].startswith(b"%PDF")
    assert picture_files(run[1], "diagnosis") == files


def test_other_comparisons_have_none(tmp_path):
    results = run_fake(tmp_path / "run")
    assert not is_diagnosis(results)
    assert not list((tmp_path / "run").glob("diagnosis*"))


def test_one_seed_has_differences_but_no_intervals(tmp_path):
    sets = [f"metrics.secondary={json.dumps(SECONDARY)}", "seeds=1"]
    run_fake(tmp_path / "run", sets=sets, train=Trainer())
    text = (tmp_path / "run" / "diagnosis.md").read_text("utf-8")
    assert "| uniformity (lower: more spread out) | -2.0000 | -0.1000 |" in text
    assert "one training seed, so there are no intervals" in text


def test_the_shipped_scenario_asks_one_loss_at_a_time():
    scenario, _ = load_scenario(Path(__file__).parents[3] / "scenarios" / "diagnosis.yaml")
    weights = {}
    for arm in scenario.arms:
        contrast = scenario.config(arm, 0).contrast
        weights[arm] = tuple(getattr(contrast, loss).weight for loss in ("feature", "semantic", "session"))
    assert weights == {
        "control": (0, 0, 0),
        "feature": (1.0, 0, 0),
        "semantic": (0, 0.3, 0),
        "session": (0, 0, 0.1),
        "treatment": (1.0, 0.3, 0.1),
    }
    assert scenario.config("control", 0).train.watch_gradients > 0
