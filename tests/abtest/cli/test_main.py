"""The composed command: it parses, calls and prints, and never shows a traceback for a user's mistake."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from abtest.cli.main import app
from micrec.errors import MicrecError

from ..offline.fakes import FakeTrainer, fake_baseline, scenario_file, tiny_dataset

HEAVY = ("torch", "polars", "scipy", "sklearn", "faiss", "pydantic", "numpy", "statsmodels", "matplotlib")


@pytest.fixture
def trainer(monkeypatch):
    fake = FakeTrainer()
    monkeypatch.setattr("abtest.offline.trial_runs.default_train", lambda: fake)
    monkeypatch.setattr("abtest.offline.reference_rows.default_baseline", lambda: fake_baseline)
    monkeypatch.setattr("abtest.offline.dataset_run.default_read", lambda: lambda _: tiny_dataset())
    return fake


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


class TestRun:
    def test_prints_the_tables_and_names_the_report(self, tmp_path, trainer):
        out = tmp_path / "out"
        result = call("run", scenario_file(tmp_path), "--set", "alpha=0.1", "--seeds", 2, "--out", out)
        assert result.exit_code == 0, result.output
        assert "90 % over seeds" in result.stdout
        assert f"report: {out / 'report.html'}" in result.stdout
        stored = json.loads((out / "results.json").read_text("utf-8"))
        assert stored["seeds"] == [0, 1]
        assert stored["command"].startswith("micrec run ")
        assert stored["command"].endswith(f"--set alpha=0.1 --set seeds=2 --out {out}")

    def test_the_default_folder_is_named_after_the_scenario(self, tmp_path, trainer, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert call("run", scenario_file(tmp_path)).exit_code == 0
        assert (tmp_path / "runs" / "tiny" / "results.json").exists()

    def test_an_interrupt_says_how_to_go_on(self, tmp_path, trainer):
        trainer.dies_at = 3
        path, out = scenario_file(tmp_path), tmp_path / "out"
        stopped = call("run", path, "--out", out)
        assert stopped.exit_code == 130
        assert f"interrupted: the same command goes on from {out}" in stopped.stderr
        assert call("run", path, "--out", out).exit_code == 0
        assert len(trainer.calls) == 3 + 4

    def test_a_finished_run_needs_force(self, tmp_path, trainer):
        path, out = scenario_file(tmp_path), tmp_path / "out"
        call("run", path, "--out", out)
        refused = call("run", path, "--out", out)
        assert refused.exit_code == 2
        assert "holds a finished run: use --force" in refused.stderr
        assert call("run", path, "--out", out, "--force").exit_code == 0

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (["base.contrast.temperature=-1"], "base.contrast.temperature: must be > 0, got -1"),
            (["bse.train=1"], "bse: unknown key, did you mean base?"),
            (["novalue"], "novalue: must read key=value"),
        ],
    )
    def test_mistakes_exit_with_2_and_write_nothing(self, tmp_path, trainer, overrides, message):
        out = tmp_path / "out"
        result = call("run", scenario_file(tmp_path), "--out", out, *[x for o in overrides for x in ("--set", o)])
        assert result.exit_code == 2
        assert message in result.stderr
        assert "Traceback" not in result.output
        assert not out.exists()
        assert trainer.calls == []

    def test_a_bug_keeps_its_traceback(self, tmp_path, trainer, monkeypatch):
        monkeypatch.setattr("abtest.offline.reference_rows.default_baseline", lambda: 1 / 0)
        result = call("run", scenario_file(tmp_path), "--out", tmp_path / "out")
        assert isinstance(result.exception, ZeroDivisionError)
        assert not isinstance(result.exception, MicrecError)


class TestScenario:
    def test_check(self, tmp_path):
        path = scenario_file(tmp_path)
        good = call("scenario", "check", path, "--set", "data=null")
        assert (good.exit_code, "control (ICAN), treatment (MicRec), 3 seeds: 6 models" in good.stdout) == (0, True)
        bad = call("scenario", "check", path, "--set", "seeds=none")
        assert bad.exit_code == 2
        assert 'seeds: must be an integer from 1 to 10,000, got "none"' in bad.stderr

    def test_explain(self):
        everything, one = call("scenario", "explain").stdout, call("scenario", "explain", "alpha").stdout
        assert (
            one
            == "alpha: number > 0 and < 0.5; default 0.05\n    Level of the tests; intervals have level 1 - alpha.\n"
        )
        assert one in everything
        assert "world.links.strength: " in everything
        wrong = call("scenario", "explain", "alhpa")
        assert (wrong.exit_code, "did you mean alpha" in wrong.stderr) == (2, True)


class TestComposition:
    def test_the_commands_of_all_packages_are_there(self):
        text = call("--help").stdout
        for command in ("convert", "describe", "world", "run", "scenario"):
            assert f" {command} " in text
        assert call("--version").stdout.startswith("micrec ")

    def test_help_loads_nothing_heavy(self):
        program = f"import sys, abtest.cli.main; print([m for m in {HEAVY!r} if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"
