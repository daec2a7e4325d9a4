"""Lifts of shipped tests added up, and compared with a holdout."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

import abtest
from abtest.analysis.cumulative import cumulative_lift
from abtest.cli.main import app
from micrec.errors import MicrecError
from tests.abtest.analysis.logs import users


def past(folder, lifts, *, n=3000, first=0):
    """Results of tests with these true lifts."""
    for seed, lift in enumerate(lifts, start=first):
        log = users(n, lift=lift, seed=seed)
        metrics = {"primary": ["ACC"]}
        abtest.analyze(log, control="A", treatment="B", checks=False, metrics=metrics).save(folder / f"test{seed}")


class TestCumulative:
    def test_is_the_product_of_shipped_lifts_and_less_when_shrunken(self, tmp_path):
        past(tmp_path, [0.1, 0.0, 0.15, 0.0, 0.05, 0.12])
        (found,) = cumulative_lift(tmp_path)
        shipped = []
        for file in sorted(tmp_path.rglob("results.json")):
            results = json.loads(file.read_text())
            if results["verdicts"][0]["decision"] == "ship":
                shipped.append(next(e["lift"] for e in results["effects"] if e["family"] == "primary"))
        assert found.raw == pytest.approx(math.prod(1 + lift for lift in shipped) - 1)
        assert found.interval[0] < found.shrunken < found.raw
        assert len(found.tests) == 6

    def test_shrinking_takes_the_winners_curse_off(self):
        """Over many series of tests the shrunken sum is right on average where the raw one is a third too large."""
        from abtest.stats.posterior import posterior, prior_of

        rng = np.random.default_rng(3)
        raw, shrunken, truth = [], [], []
        for _ in range(200):
            lifts = rng.normal(0.0, 0.02, 40)
            seen = rng.normal(lifts, 0.015)
            prior = prior_of(list(seen), [0.015] * 40)
            won = seen > 1.96 * 0.015
            raw.append(seen[won].sum())
            shrunken.append(sum(posterior(one, 0.015, prior).mean for one in seen[won]))
            truth.append(lifts[won].sum())
        assert np.mean(raw) > 1.3 * np.mean(truth)
        assert np.mean(shrunken) == pytest.approx(np.mean(truth), rel=0.06)

    def test_a_holdout_agrees_or_does_not(self, tmp_path):
        past(tmp_path / "tests", [0.1, 0.0, 0.15, 0.0])
        (alone,) = cumulative_lift(tmp_path / "tests")
        for name, lift in (("same", alone.shrunken), ("less", -0.2)):
            log = users(6000, lift=lift, seed=77)
            abtest.analyze(log, control="A", treatment="B", checks=False).save(tmp_path / name)
        assert cumulative_lift(tmp_path / "tests", tmp_path / "same")[0].p > 0.01
        (found,) = cumulative_lift(tmp_path / "tests", tmp_path / "less" / "results.json")
        assert found.p < 1e-4
        assert found.gap < 0

    def test_command(self, tmp_path):
        past(tmp_path, [0.2, 0.2, 0.2])
        done = CliRunner().invoke(app, ["cumulative", str(tmp_path)], catch_exceptions=False)
        assert "What the shipped tests add up to" in done.output
        done = CliRunner().invoke(app, ["cumulative", str(tmp_path), "--json"], catch_exceptions=False)
        assert json.loads(done.output)["tables"][0]["rows"][0]["metric"] == "ACC"

    def test_too_few_tests_are_refused(self, tmp_path):
        with pytest.raises(MicrecError, match="no metric has 3 past tests"):
            cumulative_lift(tmp_path)
        (tmp_path / "results.json").write_text("{")
        with pytest.raises(MicrecError, match="cannot be read"):
            cumulative_lift(tmp_path)
