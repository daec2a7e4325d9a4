"""``import micrec``: one call per command, on plain objects, with the commands' own numbers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from typer.testing import CliRunner

import micrec
from abtest.cli.main import app
from micrec.baselines import BASELINES
from micrec.baselines.baseline_scores import affordable
from tests.public_names import failed_examples, loaded_after, undocumented, without_example

from .factories import (
    START_S,
    random_frames,
    tiny_clicks,
    tiny_items,
    tiny_schema,
    tiny_users,
    write_random,
    write_tiny,
)

SMALL = {
    "model.name": "fm",
    "model.embedding_dim": 8,
    "train.epochs": 2,
    "train.batch_size": 128,
    "train.device": "cpu",
    "evaluation.cutoffs": [5, 10],
    "train.metric": "hit@10",
}
SETS = [part for key, value in SMALL.items() for part in ("--set", f"{key}={json.dumps(value)}")]


def call(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_random(tmp_path_factory.mktemp("data") / "d", np.random.default_rng(3))


@pytest.fixture(scope="module")
def model(folder: Path) -> micrec.TrainedModel:
    return micrec.train(folder, settings=SMALL)


class TestPackage:
    def test_importing_it_loads_no_library(self):
        assert loaded_after("import micrec; dir(micrec); micrec.__version__") == set()

    def test_describing_a_dataset_needs_no_torch(self, folder):
        code = f"import micrec; micrec.describe({str(folder)!r})"
        assert loaded_after(code) & {"torch", "faiss", "scipy", "sklearn", "matplotlib", "pandas"} == set()

    def test_its_names_are_listed_and_there(self):
        assert set(micrec.__all__) <= set(dir(micrec))
        assert {"load", "convert", "describe", "train", "evaluate", "Retriever"} <= set(micrec.__all__)
        with pytest.raises(AttributeError, match="no attribute 'tran'"):
            micrec.tran  # noqa: B018

    def test_every_public_name_is_documented_and_typed(self):
        assert undocumented(micrec) == []
        names = ["load", "convert", "describe", "train", "load_model", "evaluate"]
        assert without_example("micrec.api", names) == []

    def test_the_examples_hold(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        modules = {getattr(micrec, name).__module__ for name in micrec.__all__}
        assert {"micrec.api.datasets", "micrec.api.model_training", "micrec.api.model_evaluation"} <= modules
        assert failed_examples("micrec", *sorted(modules)) == 0


LOG = {"user_id": [7, 7, 8], "item_id": ["a", "b", "a"], "timestamp": [START_S, START_S + 60, START_S + 90]}


class TestFrames:
    @pytest.mark.parametrize(
        "log",
        [
            pl.DataFrame(LOG),
            pl.LazyFrame(LOG),
            pd.DataFrame(LOG),
            pd.DataFrame(LOG).set_index("user_id"),
            {name: np.array(values) for name, values in LOG.items()},
            {**LOG, "timestamp": np.array(LOG["timestamp"], dtype="datetime64[s]")},
            np.array(
                list(zip(*LOG.values(), strict=True)), dtype=[("user_id", int), ("item_id", "U1"), ("timestamp", int)]
            ),
            pd.DataFrame(LOG).assign(timestamp=pd.to_datetime(LOG["timestamp"], unit="s")),
            pl.DataFrame(LOG).to_arrow(),
        ],
        ids=["polars", "lazy", "pandas", "pandas index", "numpy", "numpy times", "structured", "pandas times", "arrow"],
    )
    def test_any_table_becomes_the_same_dataset(self, log):
        found = micrec.convert(log, name="three")
        assert found.users.ids.to_list() == [7, 8]
        assert found.items.ids.to_list() == ["a", "b"]
        assert found.clicks.user_ids.tolist() == [0, 0, 1]
        assert found.clicks.item_ids.tolist() == [0, 1, 0]
        assert (found.clicks.time_ms - 1000 * START_S).tolist() == [0, 60_000, 90_000]
        assert repr(found).startswith("Dataset three: 2 users, 2 items, 3 clicks, in memory")

    def test_missing_text_of_pandas_is_missing(self):
        items = pd.DataFrame(
            {"item_id": ["a", "b"], "title": ["red mug", None], "category": pd.Categorical(["x", None])}
        )
        found = micrec.convert(pd.DataFrame(LOG), items=items)
        assert found.items.frame["title"].to_list() == ["red mug", None]
        assert found.items.columns["category"].codes is not None
        assert found.items.columns["category"].codes.tolist() == [1, 0]

    def test_frames_and_files_give_the_same_dataset(self, tmp_path):
        _, users, items, clicks = random_frames(np.random.default_rng(5))
        source = tmp_path / "source"
        source.mkdir()
        for name, frame in (("users", users), ("items", items), ("clicks", clicks)):
            frame.write_parquet(source / f"{name}.parquet")
        call("convert", "table", source, tmp_path / "out")
        read = micrec.load(tmp_path / "out")
        for found in (
            micrec.convert(clicks, users=users, items=items),
            micrec.convert(source),
            micrec.convert(source / "clicks.parquet", users=users, items=source / "items.parquet"),
            micrec.convert(clicks, tmp_path / "again", users=users, items=items),
        ):
            assert found.fingerprint == read.fingerprint
            assert found.schema.items == read.schema.items
            assert found.schema.roles == read.schema.roles
            assert found.to_frame().equals(read.to_frame())
        assert micrec.load(tmp_path / "again").name == "clicks"

    def test_the_clicks_come_back_with_their_outside_ids(self, tmp_path):
        frame = micrec.load(write_tiny(tmp_path / "d")).to_frame()
        assert frame["user_id"].to_list() == [30, 10, 30, 20, 10, 30]  # by time, ties in the order of the file
        assert frame["item_id"].to_list() == ["d", "b", "a", "a", "a", "d"]
        assert frame["dwell_s"].to_list() == [2.0, 3.0, 4.0, 5.0, 1.0, 6.0]
        assert frame["timestamp"][0].timestamp() == START_S
        assert frame["like"].sum() == 2

    def test_columns_and_settings_reach_the_reader(self):
        log = {"who": ["1", "2"], "item_id": ["A", "a"], "timestamp": ["2020-09-13 12:00", "2020-09-13 13:00"]}
        found = micrec.convert(log, columns={"user_id": "who"}, timezone="Europe/Oslo", settings={"ids": "lower"})
        assert found.users.ids.to_list() == [1, 2]
        assert found.items.ids.to_list() == ["a"]
        assert found.clicks.time_ms[0] == 1_599_991_200_000  # ten o'clock in UTC
        assert found.schema.timezone == "Europe/Oslo"

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (3.0, "clicks: is a float, where a table is needed: give a Polars or pandas frame"),
            (pd.Series([1, 2]), "clicks: is a Series, where a table is needed"),
            (pl.Series([1, 2]), "clicks: is a Series, where a table is needed"),
            (np.zeros((3, 3)), "clicks: is a ndarray, where a table is needed"),
            ({**LOG, "x": np.ones(3) * 1j}, "clicks: .*x"),
            (pd.DataFrame(LOG).assign(day=pd.period_range("2020", periods=3)), "column 'day' is of type .*period"),
            (pd.DataFrame(LOG).assign(item_id=["a", 1, None]), "clicks: cannot be read as a table"),
            (pd.DataFrame(np.zeros((2, 2)), columns=["a", "a"]), "clicks: cannot be read as a table"),
            (pl.DataFrame({"user_id": [object()]}), "column 'user_id' is of type Object"),
            ({"user_id": [1], "item_id": [2, 3], "timestamp": [4]}, "clicks: cannot be read as a table"),
            ({"user": [1], "item_id": [2], "timestamp": [START_S]}, "user_id: missing column"),
            ({"user_id": [], "item_id": [], "timestamp": []}, "the log is empty"),
        ],
    )
    def test_what_is_no_log_is_refused_with_the_cure(self, given, message):
        with pytest.raises(micrec.MicrecError, match=message):
            micrec.convert(given)

    def test_what_is_read_is_not_replaced(self, tmp_path):
        source = tmp_path / "whole" / "clicks.parquet"
        source.parent.mkdir()
        pl.DataFrame(LOG).write_parquet(source)
        for clicks, items in ((source, None), (LOG, source)):
            with pytest.raises(micrec.MicrecError, match="which is read, lies in it"):
                micrec.convert(clicks, source.parent, items=items, overwrite=True)
        assert source.is_file()

    def test_a_reader_of_files_takes_no_frames(self):
        with pytest.raises(micrec.MicrecError, match="'movielens' reads files"):
            micrec.convert(LOG, reader="movielens")

    def test_html_escapes_what_the_data_say(self):
        items = {"item_id": ["a", "b"], "<b>name</b>": ["x", "y"]}
        page = micrec.convert(LOG, items=items, name="<i>")._repr_html_()
        assert "<b>name" not in page
        assert "&lt;b&gt;name&lt;/b&gt;" in page
        assert "Dataset &lt;i&gt;" in page


class TestDescribe:
    def test_it_counts_what_the_command_counts(self, folder):
        found = micrec.describe(folder, test_days=2)
        assert json.loads(json.dumps(found.to_dict())) == json.loads(
            call("describe", folder, "--test-days", 2, "--json")
        )
        frame = dict(found.to_frame().iter_rows())
        assert frame["clicks"] == 600.0
        assert frame["item_gini"] == found.item_gini
        assert "600" in repr(found)
        assert "<td" in found._repr_html_()

    def test_a_dataset_in_memory_counts_alike(self, folder):
        assert micrec.describe(micrec.load(folder)) == micrec.describe(folder)

    def test_what_is_no_dataset_is_refused(self):
        with pytest.raises(micrec.MicrecError, match="data: is a list: give a dataset"):
            micrec.describe([1])
        with pytest.raises(micrec.MicrecError, match="test_fraction"):
            micrec.describe(micrec.convert(LOG), test_fraction=2.0)


def untimed(told: dict) -> dict:
    """An evaluation without the time it took."""
    assert set(told["seconds"]) == set(told["models"])
    return {key: value for key, value in told.items() if key != "seconds"}


class TestTrain:
    def test_one_model_has_the_commands_numbers(self, folder, model, tmp_path):
        call("train", folder, tmp_path / "m", *SETS)
        told = json.loads(call("evaluate", tmp_path / "m", folder, "--device", "cpu", "--json"))
        found = micrec.evaluate(model)
        assert untimed(json.loads(json.dumps(found.to_dict()))) == untimed(told)
        assert untimed(micrec.evaluate(tmp_path / "m", folder, device="cpu").to_dict()) == untimed(found.to_dict())
        assert found.model == "fm + feature, semantic, session"
        assert found.metrics["hit@10"] == told["models"][found.model]["metrics"]["hit@10"]

    def test_baselines_stand_beside_it(self, model):
        found = model.evaluate()
        assert set(found.baselines) == set(affordable(BASELINES, model.dataset))
        frame = found.to_frame()
        hit = frame.filter(slice="all", metric="hit@10")
        assert dict(zip(hit["model"], hit["value"], strict=True)) == {
            found.model: found.metrics["hit@10"],
            **{name: metrics["hit@10"] for name, metrics in found.baselines.items()},
        }
        assert frame.filter(slice="tail", model="popularity").height > 0
        assert "popularity" in repr(found)
        assert f"Verdict: {found.verdict}." in repr(found)
        assert f"{found.metrics['hit@10']:.4f}" in found._repr_html_()
        assert f"{found.metrics['mrr']:.4f}" in found._repr_html_()

    def test_settings_of_the_evaluation(self, model):
        found = model.evaluate(settings={"cutoffs": (3,)})
        assert "hit@3" in found.metrics
        assert "hit@10" not in found.metrics
        with pytest.raises(micrec.MicrecError, match="did you mean cutoffs"):
            model.evaluate(settings={"cutofs": (3,)})

    def test_the_log_of_the_epochs(self, model):
        frame = model.to_frame()
        assert frame["phase"].to_list()[:2] == ["search", "search"]
        assert frame["epoch"].to_list()[:2] == [1, 2]
        assert frame["loss_matching"].is_finite().all()
        assert frame.filter(phase="refit")["validation"].is_null().all()
        assert model.to_dict()["parameters"] > 0
        assert repr(model).startswith("fm + feature, semantic, session on random: ")

    def test_a_saved_model_is_the_same(self, model, folder, tmp_path):
        saved = model.save(tmp_path / "m")
        assert saved.folder == tmp_path / "m"
        again = micrec.load_model(tmp_path / "m", folder, device="cpu")
        assert untimed(again.evaluate().to_dict()) == untimed(model.evaluate().to_dict())
        with pytest.raises(micrec.MicrecError, match="holds a trained model"):
            model.save(tmp_path / "m")

    def test_the_config_may_come_in_four_ways(self, tmp_path):
        from micrec.api import resolve_config

        file = tmp_path / "config.yaml"
        file.write_text("model: {name: fm}\ntrain: {epochs: 3}\n")
        found = [
            resolve_config(config=file),
            resolve_config(config={"model.name": "fm", "train": {"epochs": 3}}),
            resolve_config("paper", settings={"model.name": "fm", "train.epochs": 3}),
            resolve_config(config=resolve_config(settings={"model.name": "fm"}), settings={"train.epochs": 3}),
        ]
        assert found == found[:1] * 4
        assert (found[0].model.name, found[0].train.epochs, found[0].preset) == ("fm", 3, "paper")
        assert resolve_config(config=resolve_config("modern")).preset == "modern"
        assert resolve_config(device="cpu").train.device == "cpu"

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"train.epoch": 3}, "train.epoch: unknown key, did you mean epochs"),
            ({"train": 3, "train.epochs": 3}, "train.epochs: train is 3, which has no keys"),
            ({"": 3}, "must be a key such as train.epochs"),
            ({3: 3}, "must be a key such as train.epochs"),
            ("train.epochs=3", "settings: is a str, where a mapping is needed"),
        ],
    )
    def test_a_wrong_key_is_named(self, folder, settings, message):
        with pytest.raises(micrec.MicrecError, match=message):
            micrec.train(folder, settings=settings)

    def test_a_model_is_not_written_into_its_data(self, folder):
        with pytest.raises(micrec.MicrecError, match="name a place outside it"):
            micrec.train(micrec.load(folder), folder / "m", settings=SMALL)

    def test_it_belongs_to_its_data(self, model, tmp_path):
        other = micrec.load(write_random(tmp_path / "o", np.random.default_rng(4), n_users=41))
        with pytest.raises(micrec.MicrecError, match="has other user or item ids"):
            micrec.evaluate(model, other)
        with pytest.raises(micrec.MicrecError, match=r"needs its data: evaluate\(folder, data\)"):
            micrec.evaluate(tmp_path / "m")
        with pytest.raises(micrec.MicrecError, match="holds no trained model"):
            micrec.load_model(tmp_path / "o", other)


class TestRetriever:
    def test_it_answers_as_the_commands_do(self, model, folder, tmp_path):
        model.save(tmp_path / "m")
        call("index", tmp_path / "m", folder, tmp_path / "b", "--k", 10)
        user = model.dataset.users.ids[0]
        told = json.loads(call("recommend", tmp_path / "b", "--user", user, "--k", 4, "--json"))
        retriever = model.retriever(k=10)
        assert isinstance(retriever, micrec.Retriever)
        found = retriever.recommend(user, 4)
        assert found.item_ids == told["item_ids"]
        frame = found.to_frame()
        assert frame["rank"].to_list() == [1, 2, 3, 4]
        assert frame["item_id"].to_list() == told["item_ids"]
        assert frame["title"].to_list() == told["titles"]
        assert frame["score"].to_list() == pytest.approx(told["scores"])

    def test_items_of_any_table_are_added_and_a_bundle_lies_in_a_folder_of_any_name(self, model, tmp_path):
        retriever = model.retriever()
        retriever.add_items({"item_id": np.array(["new1"]), "title": ["word1 thing"], "category": ["c1"]})
        retriever.add_items(pd.DataFrame({"item_id": ["new2"], "category": ["c2"]}))
        assert retriever.knows_item("new1")
        assert retriever.knows_item("new2")
        retriever.save(str(tmp_path / "b"))
        assert micrec.Retriever.load(str(tmp_path / "b")).knows_item("new2")

    def test_a_list_in_a_notebook_is_escaped(self):
        found = micrec.Recommendation(["a<b"], [0.5], ["<i>mug</i>"])
        page = found._repr_html_()
        assert "<i>" not in page
        assert "a&lt;b" in page
        assert micrec.Recommendation([1], [0.25], None).to_frame().columns == ["rank", "item_id", "score"]


def test_commands_start_without_libraries():
    """What the calls brought into the commands' modules does not make their help slow."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "micrec", "train", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "| torch" not in done.stderr
    assert "| polars" not in done.stderr


def test_the_tiny_dataset_in_memory_equals_the_one_on_disk(tmp_path):
    from micrec.data.store import dataset_of_frames

    read = micrec.load(write_tiny(tmp_path / "d"))
    made = dataset_of_frames(tiny_schema(), tiny_users(), tiny_items(), tiny_clicks())
    assert made.fingerprint == read.fingerprint
    assert made.to_frame().equals(read.to_frame())
    assert made.items.columns.keys() == read.items.columns.keys()
    assert made.items.columns["category"].labels == read.items.columns["category"].labels
    with pytest.raises(micrec.MicrecError, match="unknown item id"):
        dataset_of_frames(tiny_schema(), tiny_users(), tiny_items().head(2), tiny_clicks())
