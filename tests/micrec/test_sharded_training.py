"""Several processes compute what one computes: losses, weights, checkpoints; and end together when one fails."""

import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import micrec
from micrec.checkpoint import MANIFEST
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.split import temporal_split
from micrec.errors import MicrecError
from micrec.evaluation import evaluation_task
from micrec.fitting import fit
from micrec.model_folder import load_model
from micrec.optim import adam
from micrec.presets import PRESETS
from micrec.progress import LineProgress, NoProgress
from micrec.settings import merge
from micrec.sharded.rank_group import RankGroup, joined
from micrec.sharded.sharded_table import ShardedTable
from micrec.sharded.support import check_supported
from micrec.training import Trainer
from tests.micrec.factories import random_dataset
from tests.micrec.ranks import in_ranks, run_ranks

SMALL = {
    "model": {"embedding_dim": 8, "hidden": [12, 8], "options": {"heads": 2}, "history_length": 5},
    "softmax": {"num_negatives": 5},
    "contrast": {"semantic": {"svd_dim": 4, "top_k": 3, "negatives": 5}, "session": {"negatives": 5}},
    "train": {"batch_size": 147, "epochs": 3, "device": "cpu", "shard_rows": 8, "metric": "hit@3"},
    "evaluation": {"cutoffs": [3, 10], "cold_clicks": 2},
    "optim": {"learning_rate": 0.01},
}
FM = {"name": "fm", "options": None, "item_bias": True, "user_id": True}
CASES: dict[str, dict[str, Any]] = {
    "uniform": {},
    "popularity": {"softmax": {"negatives": "popularity", "logq": "refined"}, "model": FM},
    "in_batch": {"softmax": {"negatives": "in_batch", "logq": "standard"}, "model": FM},
    "shared": {"softmax": {"negatives": "shared"}, "model": FM | {"personal": True, "popularity_half_life_days": 5.0}},
    "mixed": {
        "softmax": {"negatives": "mixed", "logq": "refined", "reject_clicked": False},
        "train": {"rows": "session", "context": "other_sessions"},
        "model": FM,
    },
    "sum": {"train": {"reduction": "sum", "context": "profile"}, "model": FM | {"history_dropout": 0.3}},
    "lazy": {"optim": {"embedding_update": "lazy"}, "model": FM},
    "nothing_divided": {"train": {"shard_rows": 1000}, "model": FM},
}
WITHOUT_TITLES = {"feature": {"weight": 0}, "semantic": {"weight": 0}}  # Polars reads them; it survives no fork
NO_GRADIENT = ".qkv.bias"  # keys' part: softmax does not see it, and Adam makes a step of rounding errors


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return random_dataset(tmp_path_factory.mktemp("data") / "random", np.random.default_rng(0))


def config_of(changes: dict[str, Any], preset: str = "paper") -> Config:
    base = PRESETS[preset].model_dump() if preset != "paper" else {}
    return Config.model_validate(merge(merge(base, SMALL), changes))


def best_config() -> Config:
    """The preset best in small: every term beside the vectors, a fitted start, noise in the tower, EASE's vectors."""
    options = {"start": "ease", "title_dim": 8, "id_gate": 3.0}
    model = {"options": options, "field_term_values": 64, "hidden": [12, 8], "popularity_half_lives_days": [1.0, 3.0]}
    changes = {"model": model, "train": {"metric": "hit@3"}, "contrast": {"semantic": {"weight": 0.1}}}
    keys = {key: SMALL[key] for key in ("evaluation", "train")} | {"model": {"embedding_dim": 8}}
    return Config.model_validate(merge(merge(PRESETS["best"].model_dump(), keys), changes))


def train(dataset: Dataset, config: Config, epochs: int = 1) -> tuple[list[dict[str, float]], dict[str, np.ndarray]]:
    """Losses of each epoch, and the weights after them."""
    trainer = Trainer(dataset, dataset.clicks[temporal_split(dataset.clicks, config.split).train], config)
    losses = [trainer.epoch(NoProgress()).losses for _ in range(epochs)]
    return losses, {name: tensor.numpy() for name, tensor in trainer.parameters().items()}


def check_alike(several: tuple, one: tuple, *, atol: float = 2e-5) -> None:
    for ours, theirs in zip(several[0], one[0], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    assert several[1].keys() == one[1].keys()
    for name, weights in one[1].items():
        if not name.endswith(NO_GRADIENT):
            np.testing.assert_allclose(several[1][name], weights, rtol=1e-4, atol=atol, err_msg=name)


@pytest.fixture(scope="module")
def of_two(dataset, tmp_path_factory) -> list[dict[str, tuple]]:
    """What two processes make of all cases, with the number of tables that they divided."""

    def work(group: RankGroup) -> dict[str, tuple]:
        found = {name: train(dataset, config_of(changes)) for name, changes in CASES.items()}
        return found | {"best": train(dataset, best_config())}

    return in_ranks(2, tmp_path_factory.mktemp("two"), work)


@pytest.mark.parametrize("name", [*CASES, "best"])
def test_two_processes_train_what_one_trains(dataset, of_two, name):
    config = best_config() if name == "best" else config_of(CASES[name])
    check_alike(of_two[0][name], train(dataset, config))
    assert of_two[1][name][0] == of_two[0][name][0], "every process knows the losses of all"
    assert of_two[1][name][1] == {}, "weights are whole in the first process alone"


def test_catching_up_on_divided_rows_equals_dense_adam(dataset, tmp_path, monkeypatch):
    """Tables are divided, and their skipped steps made up for by the owners of the rows."""
    monkeypatch.setitem(adam.DENSE_NUMBERS, "cpu", 0)
    sparse = {"model": FM, "train": {"batch_size": 40}, "softmax": {"negatives": "in_batch"}}
    sparse |= {"contrast": {"session": {"weight": 0}} | WITHOUT_TITLES}

    def work(group: RankGroup) -> tuple:
        config = config_of(sparse)
        trainer = Trainer(dataset, dataset.clicks[temporal_split(dataset.clicks, config.split).train], config)
        tables = [one for one in trainer.model.modules() if isinstance(one, ShardedTable)]
        assert all(table.sparse for table in tables)
        rows = {len(table.weight) for table in tables}
        return (*train(dataset, config), len(tables), rows)

    first, second = in_ranks(2, tmp_path / "two", work)
    assert first[2] == second[2] == 6  # user_id, country, item_id, category, tags, bias: no table may be swept whole
    assert max(first[3]) < 25
    check_alike(first[:2], train(dataset, config_of(sparse | {"optim": {"embedding_update": "dense"}})))


def test_a_checkpoint_of_two_goes_on_with_one_and_with_four(dataset, tmp_path):
    """Interrupted in the search, in which the best weights are kept; the end is that of one process undisturbed."""
    config = config_of({"model": FM, "train": {"refit": False, "batch_size": 250}, "contrast": WITHOUT_TITLES})

    def run(folder: Path | None, stop_after: int = 99) -> tuple | None:
        def stop(epoch: int, metric: float) -> None:
            if epoch == stop_after:
                raise MicrecError("enough")

        fitted = fit(dataset, config, folder=folder, after_epoch=stop)
        weights = {name: tensor.numpy() for name, tensor in fitted.model.state_dict().items()}
        return [entry["losses"] for entry in fitted.state.log], weights

    undisturbed = run(None)
    _, codes = run_ranks(2, tmp_path / "two", lambda group: run(tmp_path / "a", stop_after=2))
    assert codes == [2, 2]
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    check_alike(run(tmp_path / "a"), undisturbed)
    check_alike(in_ranks(4, tmp_path / "four", lambda group: run(tmp_path / "b"))[0], undisturbed)


def _train(dataset: Dataset, out: Path, config: Config) -> None:
    """What torchrun runs in each process; of the first attempt rank 1 is killed once there is a checkpoint."""
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        threading.Thread(target=_die_after, args=(out / "checkpoint" / MANIFEST,), daemon=True).start()
    with joined() as group:
        micrec.train(dataset, out, config=config, progress=LineProgress() if group.is_first else NoProgress())


def _die_after(file: Path) -> None:
    while not file.exists():
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_started_again_and_the_result_is_the_same(dataset, tmp_path, capfd):
    """Under torchrun's own agent; the model is to the bit that of two processes that nobody disturbed."""
    config = config_of({"model": FM, "train": {"batch_size": 250}, "contrast": WITHOUT_TITLES})
    launch = LaunchConfig(
        1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=1, start_method="fork"
    )
    launch.monitor_interval = 0.05
    elastic_launch(launch, _train)(dataset, tmp_path / "killed", config)
    assert capfd.readouterr().err.count("resuming after") == 1
    in_ranks(2, tmp_path / "calm", lambda group: micrec.train(dataset, tmp_path / "calm", config=config) and None)
    models = [load_model(tmp_path / name / "model", dataset).model.state_dict() for name in ("killed", "calm")]
    for name, tensor in models[1].items():
        assert torch.equal(models[0][name], tensor), name


def test_an_error_in_one_process_ends_all_with_one_message(tmp_path, capfd):
    def work(group: RankGroup) -> None:
        if group.rank == 1:
            raise MicrecError("disk: full")
        group.add_up(torch.ones(1))

    _, codes = run_ranks(3, tmp_path, work)
    assert codes == [2, 2, 2]
    assert capfd.readouterr().err == "error: disk: full\n"


def test_processes_with_other_data_are_refused(tmp_path, capfd):
    _, codes = run_ranks(2, tmp_path, lambda group: group.check_same({"dataset": f"{group.rank}"}, "the dataset"))
    assert codes == [2, 2]
    assert capfd.readouterr().err.startswith("error: rank 1: its dataset differ from those of rank 0")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model": {"dropout": 0.1}}, "model.dropout: must be 0, got 0.1"),
        ({"model": {"id_dropout": 0.1}}, "model.id_dropout: must be 0"),
        ({"model": {"name": "fism", "history_dropout": 0.1}}, "model.history_dropout: must be 0 for fism"),
        ({"softmax": {"denominator": "negatives_only"}}, "softmax.denominator"),
        ({"contrast": {"feature": {"form": "momentum"}}}, "contrast.feature.form"),
        ({"train": {"compile": True}}, "train.compile"),
        ({"train": {"watch_gradients": 2}}, "train.watch_gradients"),
        ({"train": {"device": "cuda:1"}}, "train.device"),
    ],
)
def test_what_would_not_be_equal_is_refused(changes, key):
    with pytest.raises(MicrecError, match=key):
        check_supported(Config.model_validate(changes), warm_start=False)


def test_each_process_ranks_its_share_of_the_users(dataset, tmp_path):
    """Blocks of few queries, so that both have some; every metric is that of one process, to the bit."""
    config = config_of({"model": FM, "train": {"epochs": 1, "refit": False}})
    fitted = fit(dataset, config)
    task = evaluation_task(dataset, temporal_split(dataset.clicks, config.split), config.evaluation, "test")
    scores = fitted.scores(task)

    def metrics(group: RankGroup | None) -> dict[str, float]:
        from micrec.evaluation import evaluate

        return evaluate(scores, task, config.evaluation, block_bytes=1024).metrics

    one, two = metrics(None), in_ranks(2, tmp_path / "two", metrics)
    assert two[0] == two[1] == one
