"""Losses and metrics as TensorBoard and MLflow hold them, read back by these packages themselves."""

import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from abtest.cli.main import app
from micrec.api import train
from micrec.config import Config
from micrec.errors import MicrecError
from micrec.fitting import fit
from micrec.settings import nested
from micrec.tracking.mlflow_logger import flattened
from micrec.tracking.tensorboard_logger import run_folder
from micrec.tracking.tracking import RunTracker, Tracking, tracked
from micrec.tracking.training_run import TrainingRun

from .factories import random_dataset

FM = {
    **{f"contrast.{name}.weight": 0 for name in ("feature", "semantic", "session")},
    "model.name": "fm",
    "model.embedding_dim": 4,
    "train.device": "cpu",
    "train.epochs": 2,
    "train.batch_size": 64,
    "train.metric": "hit@5",
    "train.patience": 0,
    "evaluation.cutoffs": (5,),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(tmp_path_factory.mktemp("data") / "random", np.random.default_rng(0))


def scalars(folder):
    """Values by tag and step, read by TensorBoard's own reader."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder)).Reload()
    return {tag: {event.step: event.value for event in read.Scalars(tag)} for tag in read.Tags()["scalars"]}


def test_event_files_hold_what_the_training_logged(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("MICREC_TRACK_EVERY", "3")
    model = train(dataset, tmp_path / "fm", settings=FM, tensorboard=tmp_path / "events")
    found = scalars(tmp_path / "events" / tmp_path.name / "fm")
    for phase in ("search", "refit"):
        epochs = [entry for entry in model.fitted.state.log if entry["phase"] == phase]
        logged = found[f"{phase}/epoch/loss/matching"]
        assert logged == pytest.approx({entry["epoch"]: entry["losses"]["matching"] for entry in epochs})
        assert set(found[f"{phase}/step/matching"]) == set(range(3, max(found[f"{phase}/step/matching"]) + 1, 3))
    metric = {entry["epoch"]: entry["metric"] for entry in model.fitted.state.log if entry["phase"] == "search"}
    assert found["search/epoch/validation/hit@5"] == pytest.approx(metric)


def test_tracking_changes_no_number(dataset, tmp_path):
    pytest.importorskip("tensorboard")
    plain = train(dataset, settings=FM)
    watched = train(dataset, settings=FM, tensorboard=tmp_path)
    assert [one["losses"] for one in plain.fitted.state.log] == [one["losses"] for one in watched.fitted.state.log]


def test_a_training_that_goes_on_keeps_its_folder_and_another_of_its_name_has_one_of_its_own(tmp_path):
    ours, theirs = (TrainingRun("shop/fm", mark) for mark in ("ours", "theirs"))
    assert run_folder(tmp_path, ours) == tmp_path / "shop/fm"
    assert run_folder(tmp_path, theirs) == tmp_path / "shop/fm-2"
    assert run_folder(tmp_path, ours) == tmp_path / "shop/fm-3"  # trained anew
    assert run_folder(tmp_path, theirs._replace(goes_on=True)) == tmp_path / "shop/fm-2"
    assert run_folder(tmp_path, ours._replace(goes_on=True)) == tmp_path / "shop/fm-3"
    assert run_folder(tmp_path, TrainingRun("shop/fm", "never seen", goes_on=True)) == tmp_path / "shop/fm-4"


def test_the_mark_of_a_training_is_its_folder(tmp_path):
    first, second = (TrainingRun.of_folder(tmp_path / one / "x" / "fm", goes_on=False) for one in "ab")
    assert first.name == second.name == "x/fm"
    assert first.mark != second.mark
    assert TrainingRun.of_folder(tmp_path / "it's" / "model", goes_on=False).mark.isalnum()


def test_an_interrupted_training_goes_on_in_its_folder(dataset, tmp_path):
    config = Config.model_validate(nested(FM))
    tracking = Tracking(tensorboard=str(tmp_path / "events"))

    def stop(epoch, metric):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(dataset, config, folder=tmp_path / "fm", after_epoch=stop, tracking=tracking)
    fit(dataset, config, folder=tmp_path / "fm", tracking=tracking)
    assert [path.name for path in (tmp_path / "events" / tmp_path.name).iterdir()] == ["fm"]
    assert set(scalars(tmp_path / "events" / tmp_path.name / "fm")["search/epoch/loss/matching"]) == {1, 2}


def test_worker_processes_of_a_search_are_tracked(dataset, tmp_path):
    pytest.importorskip("tensorboard")
    pytest.importorskip("optuna")
    from micrec.tuning.search import SearchRequest, search
    from micrec.tuning.search_space import load_space

    own = ("train.device", "train.metric", "evaluation.cutoffs")
    config = nested({key: value for key, value in FM.items() if key not in own})
    keys = {"config": config, "search": {"optim.learning_rate": {"low": 0.001, "high": 0.1}}}
    file = tmp_path / "space.json"  # JSON is YAML
    file.write_text(
        json.dumps({"base": {"evaluation": {"cutoffs": [5]}}, "branches": {"fm": {"preset": "paper", **keys}}})
    )
    space, same = load_space(file, ())
    with tracked(tmp_path / "events"):
        search(SearchRequest(space, same, metric="hit@5", trials=2, workers=2), dataset, tmp_path, "mark")
    names = {path.parent.name for path in (tmp_path / "events").rglob("events.out.*")}
    assert names == {"trial-0", "trial-1"}


class Remembers:
    """A logger of a test's own: the interface is all that it needs."""

    def __init__(self):
        self.seen, self.closed = [], None

    def log(self, values, step):
        self.seen.append((step, dict(values)))

    def close(self, *, finished):
        self.closed = finished


def test_every_so_many_steps_and_a_phase_begins_anew():
    heard = Remembers()
    tracker = RunTracker([heard], every=2)
    for phase in ("search", "refit"):
        for step in range(1, 6):
            if tracker.wants(step):
                tracker.step(phase, step, {"matching": 1.0})
    assert heard.seen == [(step, {f"{phase}/step/matching": 1.0}) for phase in ("search", "refit") for step in (2, 4)]
    assert not RunTracker([], every=1).wants(1)


class Breaks(Remembers):
    """A logger whose service goes away after some figures."""

    def log(self, values, step):
        super().log(values, step)
        if len(self.seen) > 2:
            raise MicrecError("MLflow at http://there: gone.")

    def close(self, *, finished):
        raise AssertionError("it is left out by then")


def test_a_training_outlives_its_logger(dataset, monkeypatch):
    breaking, heard = Breaks(), Remembers()
    said = []
    monkeypatch.setattr(Tracking, "open", lambda *given, say, **more: RunTracker([breaking, heard], 1, said.append))
    train(dataset, settings=FM)
    assert len(breaking.seen) == 3
    assert len(heard.seen) > 3
    assert heard.closed is True
    assert said == ["warning: MLflow at http://there: gone. The training goes on without it."]


def test_a_failed_training_is_closed_as_such(dataset, monkeypatch):
    heard = Remembers()
    monkeypatch.setattr(Tracking, "open", lambda *given, **more: RunTracker([heard], 1))
    with pytest.raises(MicrecError, match="not finite"):
        train(dataset, settings={**FM, "optim.learning_rate": 1e30, "softmax.denominator": "negatives_only"})
    assert heard.closed is False
    train(dataset, settings=FM)
    assert heard.closed is True


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_package_is_told_before_any_work(name, dataset, tmp_path, monkeypatch):
    for module in [one for one in sys.modules if one.partition(".")[0] == name or one == "torch.utils.tensorboard"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MicrecError, match=rf'pip install "micrec\[{name}\]"'):
        train(dataset, tmp_path / "model", settings=FM, **{name: str(tmp_path / "there")})
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("every", ["often", "0", "²"])
def test_a_bad_number_of_steps(monkeypatch, every):
    monkeypatch.setenv("MICREC_TRACK_EVERY", every)
    with pytest.raises(MicrecError, match="MICREC_TRACK_EVERY: must be a number of steps"):
        Tracking.of_environment()


def test_keys_are_flattened():
    assert flattened({"train": {"epochs": 2, "optim": {"lr": 0.1}}, "seed": 0}) == {
        "train.epochs": 2,
        "train.optim.lr": 0.1,
        "seed": 0,
    }


@pytest.mark.parametrize("command", ["train", "run", "tune"])
def test_commands_have_the_options(command):
    told = CliRunner().invoke(app, [command, "--help"]).output
    assert "--tensorboard" in told
    assert "--mlflow" in told


def test_mlflow_holds_parameters_and_metrics(dataset, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: pip install mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "runs").as_uri()
    model = train(dataset, tmp_path / "fm", settings=FM, mlflow=uri)
    client = mlflow.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("micrec").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["model.name"] == "fm"
    assert run.data.params["train.epochs"] == "2"
    logged = {one.step: one.value for one in client.get_metric_history(run.info.run_id, "search/epoch/loss/matching")}
    searched = [entry for entry in model.fitted.state.log if entry["phase"] == "search"]
    assert logged == pytest.approx({entry["epoch"]: entry["losses"]["matching"] for entry in searched})
    assert "search/epoch/validation/hit_at_5" in run.data.metrics
