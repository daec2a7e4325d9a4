"""A library of past tests: counts by hand, gains and priors by simulation, and the file that others read."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import abtest
from abtest.analysis.lift_prior import load_prior
from abtest.analysis.past_page import figure_of
from abtest.analysis.past_tests import PastComparison, _records, read_library
from abtest.cli.main import app
from micrec.errors import MicrecError

from .logs import users

AB = {"control": "A", "treatment": "B"}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Three tests that ship, two that hold, one that stops, one invalid, four A/A tests; and what is none of them."""
    folder = tmp_path_factory.mktemp("library")
    lifts = {"a": 0.3, "b": 0.25, "sub/c": 0.35, "d": 0.0, "e": 0.01, "f": -0.4}
    for seed, (name, lift) in enumerate(lifts.items()):
        abtest.analyze(users(1500, lift=lift, seed=seed + 20), **AB, out=folder / name, checks=False)
    broken = users(3000, seed=9).filter((np.arange(3000) % 2 == 0) | (np.arange(3000) % 5 != 1))
    abtest.analyze(broken, **AB, out=folder / "g", checks=False)
    for salt in "1234":
        table = users(1500, seed=int(salt)).drop("arm")
        split = {"control": "A", "treatment": "B", "split_by_hash": salt}
        abtest.analyze(table, **split, out=folder / f"aa{salt}", checks=False)
    (folder / "broken").mkdir()
    (folder / "broken" / "results.json").write_text("{")
    (folder / "models").mkdir()
    model_run = {"schema": "micrec-results/1", "kind": "offline_ab"}
    (folder / "models" / "results.json").write_text(json.dumps(model_run))
    return folder


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_counts_are_those_of_the_tests(library):
    found = read_library(library)
    files = [json.loads((library / test.name / "results.json").read_text()) for test in found.tests]
    decisions = [results["verdicts"][0]["decision"] for results in files]
    assert len(found.tests) == 11
    real = [d for d, test in zip(decisions, found.tests, strict=True) if not test.aa and test.name != "g"]
    assert found.counts == {name: real.count(name) for name in ("ship", "hold", "stop")} | {"invalid": 1}
    assert found.counts["ship"] == 3
    assert found.counts["stop"] == 1
    assert found.aa.comparisons == 8
    assert any("broken" in line for line in found.left_out)
    assert any("compares models" in line for line in found.left_out)


def test_a_metric_s_record(library):
    acc = next(one for one in read_library(library).metrics if one.metric == "ACC")
    results = [json.loads((library / name / "results.json").read_text()) for name in ("a", "b", "sub/c")]
    raw = [next(e["lift"] for e in r["effects"] if e["metric"] == "ACC" and e["family"] == "primary") for r in results]
    assert acc.comparisons == 6
    assert acc.shipped_raw == pytest.approx(np.mean(raw))
    assert acc.shipped_shrunken < acc.shipped_raw
    assert not acc.still


class TestSimulated:
    """Many tests whose true lifts are known."""

    def library(self, seed, *, n=400, mean=0.004, sd=0.01):
        rng = np.random.default_rng(seed)
        true = rng.normal(mean, sd, n)
        se = rng.uniform(0.005, 0.02, n)
        lift = rng.normal(true, se)
        won = lift > 1.96 * se
        tests = [
            PastComparison(str(i), "M", "B", lift[i], se[i], 0.5, 10_000, True, bool(won[i]), bool(won[i]))
            for i in range(n)
        ]
        return _records(tests)[0], true[won], lift[won]

    def test_what_shipping_gained_is_the_true_gain(self):
        gaps, raw = [], []
        for seed in range(30):
            record, true, lift = self.library(seed)
            gaps.append(record.shipped_shrunken - true.mean())
            raw.append(lift.mean() - true.mean())
        assert abs(np.mean(gaps)) < 3 * np.std(gaps) / 30**0.5 + 2e-4
        assert np.mean(raw) > 0.002  # as measured it is too large by far

    def test_the_prior_is_that_of_the_true_lifts(self):
        found = [self.library(seed)[0].spread for seed in range(30)]
        assert np.mean([one.mean for one in found]) == pytest.approx(0.004, abs=5e-4)
        assert np.mean([one.sd for one in found]) == pytest.approx(0.01, abs=5e-4)
        held = [abs(one.mean - 0.004) < 1.96 * one.mean_se for one in found]
        assert np.mean(held) > 0.8

    def test_a_metric_that_never_moves(self):
        rng = np.random.default_rng(2)
        tests = [
            PastComparison(str(i), "M", "B", rng.normal(0, 0.01), 0.01, 0.5, 100, True, False, False)
            for i in range(12)
            for i in range(12)
        ]
        record = _records(tests)[0]
        assert record.still
        assert _records(tests[:4])[0].still is False


class TestCommand:
    def test_tables_prior_and_json(self, library, tmp_path):
        done = call("history", library, "--prior", tmp_path / "prior.yaml")
        assert done.exit_code == 0, done.output
        for part in ("Past tests", "Decisions", "A/A record", "Tests to come", "after shrinkage", "prior:"):
            assert part in done.stdout
        prior = load_prior(tmp_path / "prior.yaml")
        assert set(prior) == {"ACC", "ADT"}
        told = json.loads(call("history", library, "--json").stdout)
        metrics = next(table["rows"] for table in told["tables"] if table["title"] == "Metrics")
        assert {row["metric"]: row["mean"] for row in metrics}["ACC"] == pytest.approx(prior["ACC"].mean)
        assert len(told["tables"]) == 5

    def test_python_finds_what_the_command_finds(self, library, tmp_path):
        past = abtest.history(library)
        told = json.loads(call("history", library, "--json").stdout)
        assert past.to_dict()["tables"] == told["tables"]
        assert past.counts == read_library(library).counts
        assert past.to_frame("tests").height == 11
        assert set(past.to_frame("to come")["metric"]) == {"ACC", "ADT"}
        assert load_prior(past.save_prior(tmp_path / "p.yaml")).keys() == past.priors.keys()
        assert "Tests to come" in repr(past)
        with pytest.raises(MicrecError, match="there is no part"):
            past.to_frame("nothing")

    def test_the_page_shows_every_lift_raw_and_shrunken(self, library, tmp_path):
        page = tmp_path / "history.html"
        done = call("history", library, "--html", page)
        assert done.exit_code == 0, done.output
        assert f"page: {page}" in done.stdout
        text = page.read_text()
        assert "What 11 past tests teach" in text
        assert "7 tests and 4 A/A tests, of 17,700 users together." in text
        assert "7 treatments: 3 ship, 2 hold, 1 stop, 1 invalid" in text
        past = read_library(library)
        acc = next(one for one in past.metrics if one.metric == "ACC")
        rows = {row.label: row for row in figure_of(past, acc).rows}
        assert len(rows) == 2 * acc.comparisons
        raw, spread = rows["sub/c"], acc.spread
        se = (raw.high - raw.low) / (2 * 1.959964)
        keep = spread.sd**2 / (spread.sd**2 + se**2)
        assert rows["shrunken, sub/c"].value == pytest.approx(keep * raw.value + (1 - keep) * spread.mean)
        assert rows["shrunken, sub/c"].high - rows["shrunken, sub/c"].low < raw.high - raw.low
        for row in rows.values():
            assert f"{100 * row.value:+.2f} %" in text
        assert not any(label.endswith("aa1") for label in rows)
        assert call("history", library, "--html", page).exit_code == 2
        assert call("history", library, "--html", page, "--force").exit_code == 0

    def test_the_page_of_a_young_library(self, library, tmp_path):
        """One test, no A/A: no shrinkage, no plan, and the page says what is missing."""
        written = abtest.history(library / "a").save_page(tmp_path / "page.html")
        text = written.read_text()
        assert "What 1 past tests teach" not in text
        assert "No A/A test yet" in text
        assert "shrunken, " not in text
        with pytest.raises(MicrecError, match="is there already"):
            abtest.history(library / "a").save_page(written)

    def test_a_test_can_be_read_with_the_prior(self, library, tmp_path):
        assert call("history", library, "--prior", tmp_path / "prior.yaml").exit_code == 0
        users(1500, lift=0.1).write_parquet(tmp_path / "log.parquet")
        words = ["--control", "A", "--treatment", "B", "--prior", tmp_path / "prior.yaml", "--json"]
        done = call("analyze", tmp_path / "log.parquet", *words)
        assert done.exit_code == 0, done.output
        assert "prior.yaml" in done.stdout

    def test_mistakes(self, library, tmp_path):
        for words, part in (
            ((tmp_path / "none",), "there is no such folder"),
            ((tmp_path,), "holds no results of past tests"),
            ((library / "a", "--prior", tmp_path / "p.yaml"), "no metric has three past tests"),
            ((library, "--prior", tmp_path), "is a folder"),
            ((library, "--simulated"), "is an analysed log"),
            ((library, "--html", tmp_path), "is a folder: name the file"),
        ):
            done = call("history", *words)
            assert done.exit_code == 2
            assert part in done.stderr
        assert not (tmp_path / "p.yaml").exists()
        with pytest.raises(MicrecError):
            read_library(tmp_path)
