"""``import abtest``: experiments as calls on plain objects, with the commands' own numbers."""

import copy
import gc
import json

import jsonschema
import pandas as pd
import polars as pl
import pytest
from typer.testing import CliRunner

import abtest
import micrec
from abtest.cli.main import app
from abtest.schema import results_schema
from tests.abtest.analysis.logs import days, users
from tests.abtest.offline.fakes import SCENARIO, FakeTrainer, fake_baseline, tiny_dataset
from tests.abtest.offline.table_fakes import TABLE, TableTrainer
from tests.abtest.online.tiny_runs import TINY
from tests.public_names import failed_examples, loaded_after, undocumented, without_example


def call(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def comparable(results: dict) -> dict:
    """Contents of results.json without what differs between a file and a table in memory, and from run to run."""
    results = copy.deepcopy(results)
    for key in ("command", "runtime_s", "versions"):
        results.pop(key, None)
    for key in ("name", "hash"):
        results.get("dataset", {}).pop(key, None)
    for model in results.get("models", ()):
        model.pop("seconds", None)
    return results


class TestPackage:
    def test_importing_it_loads_no_library(self):
        assert loaded_after("import abtest; dir(abtest)") == set()

    def test_judging_a_log_needs_no_torch(self):
        code = (
            "import abtest; log = {'user_id': list(range(200)), 'arm': ['A', 'B'] * 100, 'clicks': [1, 2, 3, 4] * 50};"
            "repr(abtest.analyze(log, control='A', treatment='B')); abtest.aa(log, splits=10); abtest.power(log)"
        )
        assert loaded_after(code) & {"torch", "faiss", "sklearn", "matplotlib", "pandas"} == set()

    def test_every_public_name_is_documented_and_typed(self):
        assert undocumented(abtest) == []
        assert without_example("abtest.api", ["analyze", "power", "aa", "history", "run_scenario", "load_run"]) == []

    def test_the_examples_hold(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert failed_examples("abtest", "abtest.api") == 0


class TestAnalyze:
    def test_it_finds_what_the_command_finds(self, tmp_path):
        table = days(800, lift=0.1)
        table.write_parquet(tmp_path / "log.parquet")
        options = ["--control", "A", "--treatment", "B", "--looks", "daily", "--slices", "cold"]
        told = json.loads(call("analyze", tmp_path / "log.parquet", *options, "--json"))
        given = {"control": "A", "treatment": "B", "looks": "daily", "slices": ["cold"]}
        found = abtest.analyze(table, **given)
        assert comparable(found.to_dict()) == comparable(told)
        assert comparable(abtest.analyze(str(tmp_path / "log.parquet"), **given).to_dict()) == comparable(told)
        jsonschema.validate(found.to_dict(), results_schema())

    def test_any_table_gives_the_same_numbers(self):
        table = users(1000, lift=0.2)
        expected = abtest.analyze(table, control="A", treatment="B").to_frame()
        arrays = {name: table[name].to_numpy() for name in table.columns}
        for log in (table.lazy(), table.to_pandas(), table.to_pandas().set_index("user_id"), arrays, table.to_arrow()):
            assert abtest.analyze(log, control="A", treatment=["B"]).to_frame().equals(expected)

    def test_the_frame_holds_means_that_can_be_counted_by_hand(self):
        table = users(600, lift=0.5)
        result = abtest.analyze(table, control="A", treatment="B")
        row = result.to_frame().filter(metric="ACC", slice="all").row(0, named=True)
        means = dict(table.group_by("arm").agg(pl.col("clicks").mean()).iter_rows())
        assert row["control_mean"] == pytest.approx(means["A"])
        assert row["treatment_mean"] == pytest.approx(means["B"])
        assert row["difference"] == pytest.approx(means["B"] - means["A"])
        assert row["lift"] == pytest.approx(means["B"] / means["A"] - 1)
        assert row["lift_low"] < row["lift"] < row["lift_high"]
        assert (row["control_n"], row["treatment_n"], row["family"]) == (300, 300, "primary")
        assert row["true_lift"] is None
        assert result.valid
        assert result.decision == result.verdicts[0].decision == "ship"
        assert result.srm.filter(scope="all").select("users_A", "users_B").row(0) == (300, 300)

    def test_a_sample_ratio_mismatch_is_told_first(self):
        table = users(3000).filter((pl.col("arm") == "A") | (pl.col("user_id") % 3 != 0))
        result = abtest.analyze(table, control="A", treatment="B")
        assert not result.valid
        assert result.decision == "hold"
        assert repr(result).startswith("NOT VALID: ")
        assert result.srm["alarm"].any()

    def test_metrics_may_be_keys(self, tmp_path):
        metrics = {
            "primary": ["signs"],
            "metrics": {"signs": {"value": "likes + follows", "label": "likes and follows"}},
        }
        file = tmp_path / "metrics.yaml"
        file.write_text(json.dumps(metrics))
        table = users(1000)
        by_keys = abtest.analyze(table, control="A", treatment="B", metrics=metrics)
        assert by_keys.to_frame().equals(abtest.analyze(table, control="A", treatment="B", metrics=file).to_frame())
        mean = table.filter(arm="A").select(pl.col("likes") + pl.col("follows"))["likes"].mean()
        assert by_keys.to_frame().row(0, named=True)["control_mean"] == pytest.approx(mean)
        with pytest.raises(micrec.MicrecError, match="metrics: primary: no metric 'ACCC'"):
            abtest.analyze(table, control="A", treatment="B", metrics={"primary": ["ACCC"]})

    def test_reports_are_written_whole(self, tmp_path):
        table, out = users(400), tmp_path / "out"
        result = abtest.analyze(table, control="A", treatment="B", out=out)
        assert {path.name for path in out.iterdir()} == {"results.json", "report.html", "report.md", "table.tex"}
        assert json.loads((out / "results.json").read_text()) == result.to_dict()
        with pytest.raises(micrec.MicrecError, match="holds a finished analysis"):
            result.save(out)
        assert result.save(out, overwrite=True) == out / "report.html"

    def test_several_treatments_have_several_verdicts(self):
        table = users(3000).with_columns(arm=pl.col("user_id").mod(3).replace_strict({0: "A", 1: "B", 2: "C"}))
        result = abtest.analyze(table, control="A", treatment=["B", "C"])
        assert [verdict.arm for verdict in result.verdicts] == ["B", "C"]
        with pytest.raises(micrec.MicrecError, match="there are 2 treatments: read verdicts"):
            result.decision  # noqa: B018

    def test_html_escapes_what_the_data_say(self):
        table = users(400).with_columns(arm=pl.col("arm").replace("B", "<b>B</b>"))
        page = abtest.analyze(table, control="A", treatment="<b>B</b>")._repr_html_()
        assert "<b>" not in page
        assert "&lt;b&gt;B&lt;/b&gt;" in page

    def test_results_are_not_changed_through_a_copy(self):
        result = abtest.analyze(users(400), control="A", treatment="B")
        result.to_dict()["effects"].clear()
        assert result.to_frame().height > 0
        with pytest.raises(AttributeError):
            result.results = {}

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"log": 3}, "log: is a int, where a table is needed"),
            ({"log": "nosuch.csv"}, "nosuch.csv: there is no such file"),
            ({"treatment": "C"}, "the arms are A"),
            ({"alpha": 2.0}, "alpha: must lie within"),
            ({"alpha": "small"}, "alpha: must be a number, got 'small'"),
            ({"weights": {"A": "half", "B": 1}}, "weights.A: must be a number, got 'half'"),
            ({"columns": ["clicks=n"]}, "columns: is a list, where a mapping is needed"),
            ({"slices": [3]}, "slices: must be names, got 3"),
        ],
    )
    def test_what_is_wrong_is_named(self, given, message):
        with pytest.raises(micrec.MicrecError, match=message):
            abtest.analyze(**{"log": users(100), "control": "A", "treatment": "B", **given})

    def test_one_name_is_one_name(self):
        found = abtest.analyze(users(1000), control="A", treatment="B", covariates="pre_clicks")
        assert found.to_dict()["scenario"]["covariates"] == ["pre_clicks"]


class TestPower:
    def test_a_log_gives_the_commands_plan(self, tmp_path):
        table = days(600)
        table.write_parquet(tmp_path / "log.parquet")
        told = json.loads(call("power", tmp_path / "log.parquet", "--lift", 0.03, "--looks", "daily", "--json"))
        found = abtest.power(table, lifts=[0.03], looks="daily")
        assert found.to_dict()["tables"] == told["tables"]
        assert found.to_frame()["n_control"].to_list() == [row["n_control"] for row in told["tables"][0]["rows"]]
        assert found.smallest_lift["lift"].to_list() == [row["lift"] for row in told["tables"][1]["rows"]]

    def test_numbers_give_the_textbooks_count(self):
        """2 (z_.975 + z_.8)^2 (sd / (lift mean))^2 for equal arms, and a little for the treatment's larger spread."""
        frame = abtest.power(mean=2.0, sd=3.0, lifts=[0.01, 0.02], users_per_day=10_000).to_frame()
        expected = [2 * (1.959964 + 0.841621) ** 2 * (3.0 / (lift * 2.0)) ** 2 for lift in (0.01, 0.02)]
        for found, about, lift in zip(frame["n_control"], expected, (0.01, 0.02), strict=True):
            assert about <= found <= about * (1 + 1.5 * lift)
        assert frame["days"].to_list() == [-(-2 * n // 10_000) for n in frame["n_control"]]
        assert abtest.power(mean=2.0, sd=3.0).smallest_lift.is_empty()

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, "give a log, or both mean and sd"),
            ({"mean": 1.0}, "give a log, or both mean and sd"),
            ({"mean": 1.0, "sd": 1.0, "lifts": [0.0]}, "must be a number above -1"),
            ({"mean": "1", "sd": 1.0}, "mean: must be a number, got '1'"),
            ({"mean": 1.0, "sd": 1.0, "lifts": "2%"}, "lifts.0: must be a number, got '2%'"),
            ({"mean": 1.0, "sd": 1.0, "users": True}, "users: must be a number, got True"),
            ({"mean": 1.0, "sd": 1.0, "looks": "open"}, "looks: must be final or daily, got 'open'"),
            ({"mean": 1.0, "sd": 1.0, "metrics": "metrics"}, "metrics: needs a log"),
            ({"log": {"user_id": [1]}, "mean": 1.0}, "mean and sd are for plans without a log"),
        ],
    )
    def test_what_is_wrong_is_named(self, given, message):
        with pytest.raises(micrec.MicrecError, match=message):
            abtest.power(**given)


class TestAa:
    def test_a_log_gives_the_commands_rates(self, tmp_path):
        table = users(900)
        table.write_parquet(tmp_path / "log.parquet")
        told = json.loads(call("aa", tmp_path / "log.parquet", "--splits", 300, "--seed", 5, "--lift", 0.1, "--json"))
        found = abtest.aa(pd.DataFrame(table.to_dict(as_series=False)), splits=300, seed=5, lifts=[0.1])
        assert found.to_dict()["tables"] == told["tables"]
        rows = told["tables"][0]["rows"]
        frame = found.to_frame()
        assert frame["rate"].to_list() == [row["rate"] for row in rows]
        assert frame["coverage"].to_list() == [row["planted"][0]["coverage"] for row in rows]
        assert found.sound == all(row["sound"] for row in rows)
        assert repr(found).splitlines()[0] in ("sound", "NOT SOUND, or not testable: see the verdict of each metric")

    def test_a_metric_that_does_not_vary_is_not_sound(self):
        found = abtest.aa({"user_id": range(100), "clicks": [1] * 100}, splits=50)
        assert not found.sound
        assert found.to_frame()["rate"].to_list() == [None]
        assert found.to_frame()["reason"][0]

    def test_what_is_wrong_is_named(self):
        with pytest.raises(micrec.MicrecError, match="splits: must be a whole number >= 1, got 0"):
            abtest.aa(users(100), splits=0)
        with pytest.raises(micrec.MicrecError, match="lifts: -1: must be a number above -1"):
            abtest.aa(users(100), lifts=[-1.0])


@pytest.fixture
def fakes(monkeypatch):
    monkeypatch.setattr("abtest.offline.trial_runs.default_train", lambda: FakeTrainer())
    monkeypatch.setattr("abtest.offline.reference_rows.default_baseline", lambda: fake_baseline)
    monkeypatch.setattr("abtest.offline.dataset_run.default_read", lambda: lambda _: tiny_dataset())
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def table_fakes(fakes, monkeypatch):
    monkeypatch.setattr("abtest.offline.trial_runs.default_train", lambda: TableTrainer())
    monkeypatch.setattr("abtest.offline.dataset_run.default_read", lambda: lambda path: tiny_dataset(path.name))
    monkeypatch.setattr("abtest.report.pages.table_files.figure_files", lambda _: {})


class TestScenario:
    def test_an_offline_comparison_has_the_commands_numbers(self, tmp_path, fakes):
        file = tmp_path / "tiny.yaml"
        file.write_text(json.dumps(SCENARIO))
        call("run", file, "--set", "alpha=0.1", "--out", tmp_path / "by-command")
        told = abtest.load_run(tmp_path / "by-command")
        for given in (file, SCENARIO):
            found = abtest.run_scenario(given, {"alpha": 0.1})
            assert comparable(found.to_dict()) == comparable(told.to_dict())
        assert (found.kind, found.name) == ("offline_ab", "tiny")
        frame = found.to_frame()
        hit = frame.filter(metric="hit@5", slice="all").row(0, named=True)
        stored = next(e for e in told.to_dict()["effects"] if e["metric"] == "hit@5" and e["slice"] == "all")
        assert hit["treatment.mean"] == stored["treatment"]["mean"]
        assert [hit["lift_low"], hit["lift_high"]] == stored["lift_ci"]
        assert hit["users.p"] == stored["users"]["p"]
        models = found.to_frame("models")
        assert models.columns[:4] == ["dataset", "model", "arm", "seed"]
        assert models.filter(pl.col("arm").is_null())["model"].str.contains("popularity").any()
        assert models.filter(arm="treatment").height == 3
        assert found.verdicts[0].startswith("MicRec against ICAN on tiny data: ")
        assert "Models (mean" in repr(found)
        assert "<details>" in found._repr_html_()

    def test_a_table_answers_its_claims(self, table_fakes):
        found = abtest.run_scenario(TABLE)
        assert found.parts == ("effects", "models", "datasets")
        assert found.to_frame().columns[0] == "dataset"
        assert set(found.to_frame("datasets")["dataset"]) == {"video", "news"}
        assert any("Each loss adds" in line for line in found.verdicts)
        assert "Tiny table (News & more)" in repr(found)
        page = found._repr_html_()
        assert "News &amp; more" in page
        assert "News & more" not in page
        with pytest.raises(micrec.MicrecError, match="has no srm: choose from effects, models, datasets"):
            found.to_frame("srm")

    def test_an_experiment_on_a_platform_has_the_truth_beside(self, tmp_path):
        settings = {"truth": True, "world.users.count": 100, "days": 1}
        found = abtest.run_scenario(TINY, settings, out=tmp_path / "run", workers=1)
        frame = found.to_frame()
        assert frame.filter(metric="ACC", slice="all")["true_lift"].to_list() == [0.0]  # both arms serve alike
        assert found.verdicts[0].startswith("HOLD: ")
        assert found.report.is_file()
        assert "true lift" in repr(found)
        again = abtest.load_run(tmp_path / "run")
        assert again.to_dict() == found.to_dict()
        with pytest.raises(micrec.MicrecError, match="holds a finished run"):
            abtest.run_scenario(TINY, settings, out=tmp_path / "run", workers=1)

    def test_a_temporary_folder_goes_with_the_result(self, fakes):
        found = abtest.run_scenario(SCENARIO)
        folder = found.folder
        assert found.report.is_file()
        del found
        gc.collect()
        assert not folder.exists()

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (("quikstart",), "did you mean quickstart"),
            ((3,), "scenario: is a int: give the name of a shipped one"),
            (({"kind": "nosuch"},), "scenario: kind: must be one of offline_ab"),
            ((SCENARIO, {"seedz": 3}), "seedz: unknown key, did you mean seeds"),
            ((SCENARIO, {"base.train.epochz": 3}), "train.epochz: unknown key, did you mean epochs"),
            (({"extends": "nosuch"},), "nosuch"),
        ],
    )
    def test_what_is_wrong_is_named(self, given, message):
        with pytest.raises(micrec.MicrecError, match=message):
            abtest.run_scenario(*given)

    def test_a_mapping_may_extend_a_shipped_scenario(self):
        from abtest.scenario_files import load_scenario, scenario_of
        from micrec.shipped import find_file

        by_keys, _ = scenario_of({"extends": "quickstart", "days": 2, "name": "quickstart"})
        by_file, _ = load_scenario(find_file("quickstart"), ["days=2"])
        assert by_keys == by_file

    def test_only_a_finished_run_is_loaded(self, tmp_path):
        (tmp_path / "results.json").write_text('{"schema": "other"}')
        with pytest.raises(micrec.MicrecError, match="is not a results file of this version"):
            abtest.load_run(tmp_path)
        with pytest.raises(micrec.MicrecError, match="give the folder of a finished run"):
            abtest.load_run(tmp_path / "none")
