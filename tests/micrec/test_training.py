"""Training as a whole: the joint loss, paired seeds, learning, guards, resume."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.split import temporal_split
from micrec.errors import MicrecError
from micrec.evaluation import evaluation_task
from micrec.experiment import run_baseline, run_model
from micrec.fitting import fit
from micrec.progress import NoProgress
from micrec.settings import merge
from micrec.training import Trainer, resolve_device
from tests.micrec.factories import random_dataset, write_random

OFF = {"feature": {"weight": 0}, "semantic": {"weight": 0}, "session": {"weight": 0}}
SMALL = {
    "model": {"embedding_dim": 8, "hidden": [12, 8], "options": {"heads": 2}, "history_length": 5},
    "softmax": {"num_negatives": 5},
    "contrast": {"semantic": {"svd_dim": 4, "top_k": 3, "negatives": 5}, "session": {"negatives": 5}},
    "train": {"batch_size": 128, "epochs": 3, "device": "cpu"},
    "evaluation": {"cutoffs": [3, 10], "cold_clicks": 2},
    "optim": {"learning_rate": 0.01},
}
SMALL["train"]["metric"] = "hit@3"


def config_of(**changes) -> Config:
    return Config.model_validate(merge(SMALL, changes))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return random_dataset(tmp_path_factory.mktemp("data") / "random", np.random.default_rng(0))


def trainer_of(dataset: Dataset, **changes) -> Trainer:
    config = config_of(**changes)
    return Trainer(dataset, dataset.clicks[temporal_split(dataset.clicks, config.split).train], config)


def test_the_joint_loss_is_the_weighted_sum_of_eq_8(dataset):
    """Same seed, same draws: weights scale their loss and nothing else, and the gradient is that of the sum."""
    positions = torch.arange(100)
    unit = {name: {"weight": 1.0} for name in ("feature", "semantic", "session")}
    plain = trainer_of(dataset, contrast=unit).losses(positions)
    lambdas = {"feature": 0.9, "semantic": 0.3, "session": 0.1}
    trainer = trainer_of(dataset, contrast={name: {"weight": w} for name, w in lambdas.items()})
    weighted = trainer.losses(positions)
    assert weighted["matching"].item() == pytest.approx(plain["matching"].item())
    for name, weight in lambdas.items():
        assert weighted[name].item() == pytest.approx(weight * plain[name].item(), rel=1e-5)
    parameters = list(trainer.model.parameters())
    total = torch.autograd.grad(sum(weighted.values()), parameters, retain_graph=True, allow_unused=True)
    parts = [torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) for loss in weighted.values()]
    for i, whole in enumerate(total):
        found = [part[i].to_dense() for part in parts if part[i] is not None]
        if whole is not None:
            torch.testing.assert_close(whole.to_dense(), torch.stack(found).sum(dim=0), rtol=1e-4, atol=1e-6)


def test_arms_with_one_seed_share_weights_order_and_negatives(dataset):
    """What makes a paired comparison of seeds a pair: the treatment differs by its losses alone."""
    control, treatment = trainer_of(dataset, contrast=OFF), trainer_of(dataset)
    for name, weight in control.model.state_dict().items():
        assert torch.equal(weight, treatment.model.state_dict()[name]), name
    assert torch.equal(control.order(1), treatment.order(1))
    positions = torch.arange(64)
    assert control.losses(positions)["matching"].item() == treatment.losses(positions)["matching"].item()
    other = trainer_of(dataset, train={"seed": 1})
    assert not torch.equal(control.order(1), other.order(1))
    assert any(not torch.equal(a, b) for a, b in zip(control.model.parameters(), other.model.parameters(), strict=True))


def test_one_seed_gives_one_result_bit_for_bit(dataset):
    first, second = fit(dataset, config_of()), fit(dataset, config_of())
    for name, weight in first.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name]), name
    assert [log["losses"] for log in first.state.log] == [log["losses"] for log in second.state.log]


def test_caught_up_embeddings_train_as_dense_adam_does(dataset):
    """Equal up to rounding; lazy, another optimiser, is held against loops in test_optim."""
    options = {"contrast": OFF, "train": {"epochs": 2}, "split": {"valid_fraction": 0.0}}
    catchup = fit(dataset, config_of(**options))
    dense = fit(dataset, config_of(**options, optim={"embedding_update": "dense"}))
    assert dense.state.best_epoch == catchup.state.best_epoch == 2
    for name, weight in catchup.model.state_dict().items():
        torch.testing.assert_close(weight, dense.model.state_dict()[name], rtol=1e-3, atol=1e-5)


def test_training_learns_what_there_is_to_learn(tmp_path):
    """Users who only click one category: ICAN and MicRec must beat popularity by far."""
    import polars as pl

    from micrec.data.store import read_dataset, write_dataset
    from tests.micrec.factories import random_frames

    rng = np.random.default_rng(1)
    schema, users, items, clicks = random_frames(rng, n_users=60, n_items=60, n_clicks=4000, n_categories=6)
    taste = dict(zip(users["user_id"], rng.integers(0, 6, len(users)), strict=True))
    members = {
        c: [i for i, x in zip(items["item_id"], items["category"], strict=True) if x == f"c{c}"] for c in range(6)
    }
    chosen = [rng.choice(members[taste[u]]) for u in clicks["user_id"]]
    write_dataset(tmp_path / "taste", schema, users, items, clicks.with_columns(pl.Series("item_id", chosen)))
    data = read_dataset(tmp_path / "taste")
    popularity = run_baseline("popularity", data, config_of()).metrics["hit@10"]
    for contrast in (OFF, {}):
        found = run_model(data, config_of(contrast=contrast, train={"epochs": 6})).metrics["hit@10"]
        assert found > 2 * popularity


def test_early_stopping_keeps_the_best_epoch_and_refits_that_long(dataset):
    fitted = fit(dataset, config_of(train={"epochs": 6, "patience": 1}))
    search = [log for log in fitted.state.log if log["phase"] == "search"]
    refit = [log for log in fitted.state.log if log["phase"] == "refit"]
    metrics = [log["metric"] for log in search]
    assert fitted.state.best_epoch == int(np.argmax(metrics)) + 1
    assert len(search) == min(6, fitted.state.best_epoch + 1)
    assert len(refit) == fitted.state.best_epoch
    split = temporal_split(dataset.clicks, fitted.config.split)
    assert {log["samples"] for log in search} == {split.n_train}
    assert {log["samples"] for log in refit} == {split.n_fit}
    assert fitted.trained_clicks == split.n_fit


def rates(trainer: Trainer, epochs: int) -> list[float]:
    """The learning rate at each step of some epochs; the same in both groups."""
    found, step = [], trainer.optimizer.step

    def watched() -> None:
        dense, rows = trainer.optimizer.param_groups
        assert dense["lr"] == rows["lr"]
        found.append(dense["lr"])
        step()

    trainer.optimizer.step = watched  # type: ignore[method-assign]
    for _ in range(epochs):
        trainer.epoch(NoProgress())
    return found


def test_a_linear_schedule_falls_to_zero_over_the_planned_epochs(dataset):
    assert set(rates(trainer_of(dataset), 1)) == {0.01}
    found = rates(trainer_of(dataset, optim={"schedule": "linear"}), 3)
    assert found == pytest.approx(0.01 * (1 - np.arange(len(found)) / len(found)))


def test_a_refit_plans_with_the_epochs_it_will_have(dataset, monkeypatch):
    """The search plans with the most there may be; the model that is tested ends at a rate of zero."""
    planned, epoch = [], Trainer.epoch

    def watched(self, *args, **kwargs):
        planned.append((kwargs["label"].split()[-1], self.planned_epochs))
        return epoch(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "epoch", watched)
    best = fit(dataset, config_of(optim={"schedule": "linear"}, train={"patience": 1})).state.best_epoch
    assert set(planned) == {("search", 3), ("refit", best)}
    assert [phase for phase, _ in planned].count("refit") == best


def test_without_refit_the_best_epoch_is_served(dataset):
    """The weights handed out are those of the epoch with the best validation metric, not of the last."""
    config = config_of(train={"epochs": 5, "patience": 0, "refit": False})
    fitted = fit(dataset, config)
    task = evaluation_task(dataset, temporal_split(dataset.clicks, config.split), config.evaluation, "valid")
    assert fitted.evaluate(task).metrics["hit@3"] == pytest.approx(fitted.state.best_metric)
    assert fitted.trained_clicks == temporal_split(dataset.clicks, config.split).n_train


def test_the_stopping_metric_has_a_cutoff_of_its_own(dataset):
    """It needs not be among those that are reported."""
    fitted = fit(dataset, config_of(train={"metric": "recall@7", "epochs": 1, "refit": False}))
    assert 7 not in fitted.config.evaluation.cutoffs
    wider = fitted.with_evaluation(fitted.config.evaluation.model_copy(update={"cutoffs": (7,)}))
    task = evaluation_task(
        dataset, temporal_split(dataset.clicks, fitted.config.split), wider.config.evaluation, "valid"
    )
    assert wider.evaluate(task).metrics["recall@7"] == pytest.approx(fitted.state.best_metric)


def test_a_loss_that_is_not_finite_stops_with_epoch_step_and_loss(dataset):
    trainer = trainer_of(dataset, contrast=OFF)
    with torch.no_grad():
        trainer.model.user_mlp[0].bias[0] = float("nan")
    with pytest.raises(MicrecError, match="the matching loss is not finite in epoch 1, step 1 of 4"):
        trainer.epoch(NoProgress())


def test_unknown_device_is_refused():
    with pytest.raises(MicrecError, match=r"train\.device: cannot use 'tpu7'.*use auto or cpu"):
        resolve_device("tpu7")


def test_bf16_stays_close_to_float32(dataset):
    """Opt-in mixed precision: one step's losses agree to bfloat16's three digits."""
    positions = torch.arange(200)
    exact, rough = (trainer_of(dataset, train={"bf16": flag}).losses(positions) for flag in (False, True))
    for name in exact:
        assert rough[name].item() == pytest.approx(exact[name].item(), rel=0.02), name


@pytest.mark.filterwarnings("default")  # torch's tracer warns itself
def test_compiled_towers_agree_with_eager_ones(dataset):
    """Opt-in torch.compile, with its eager backend so that no compiler is needed: the same losses."""
    positions = torch.arange(200)
    plain, compiled = trainer_of(dataset), trainer_of(dataset)
    compiled.model.encode_item = torch.compile(compiled.model.encode_item, dynamic=True, backend="aot_eager")
    compiled.model.encode_user = torch.compile(compiled.model.encode_user, dynamic=True, backend="aot_eager")
    found = compiled.losses(positions)
    for name, loss in plain.losses(positions).items():
        assert found[name].item() == pytest.approx(loss.item(), rel=1e-4), name


class Stop(Exception):
    """Raised by a test in the place of a kill."""


class StopAfter(NoProgress):
    """Interrupts after a number of finished epochs."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def start(self, task: str, total: int, unit: str) -> None:
        if unit != "samples":  # a preparation
            return
        if self.left == 0:
            raise Stop
        self.left -= 1


@pytest.mark.parametrize(
    ("finished", "refit", "valid_fraction"),
    [
        (1, True, 0.1),  # in the search
        (3, True, 0.1),  # between search and refit
        (1, False, 0.1),
        (2, False, 0.1),
        (1, True, 0.0),  # in the refit
        (2, True, 0.0),
    ],
)
def test_an_interrupted_run_resumes_to_the_identical_result(dataset, tmp_path, finished, refit, valid_fraction):
    config = config_of(
        train={"epochs": 3, "patience": 0, "refit": refit},
        model={"history_dropout": 0.2, "id_dropout": 0.1},
        optim={"schedule": "linear"},
        split={"valid_fraction": valid_fraction},
    )
    whole = fit(dataset, config)
    assert finished < len(whole.state.log)
    with pytest.raises(Stop):
        fit(dataset, config, folder=tmp_path, progress=StopAfter(finished))
    resumed = fit(dataset, config, folder=tmp_path)
    assert len(resumed.state.log) == len(whole.state.log)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_killed_with_sigkill_resumes_to_the_identical_result(tmp_path):
    """A real kill -9 in the middle of an epoch, in another process."""
    folder = write_random(tmp_path / "data", np.random.default_rng(0))
    script = textwrap.dedent(f"""
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from micrec.data.store import read_dataset
        from micrec.fitting import fit
        from micrec.progress import NoProgress
        from tests.micrec.test_training import config_of

        class Kill(NoProgress):
            steps = 0
            training = False
            def start(self, task, total, unit):
                self.training = unit == "samples"
            def advance(self, amount, note=""):
                self.steps += self.training
                if self.training and self.steps == int(sys.argv[1]):
                    os.kill(os.getpid(), signal.SIGKILL)

        fitted = fit(read_dataset(Path({str(folder)!r})), config_of(), folder=Path(sys.argv[2]), progress=Kill())
        print(float(sum(w.double().abs().sum() for w in fitted.model.state_dict().values())).hex())
    """)

    def run(steps: int, out: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", script, str(steps), str(tmp_path / out)]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})

    whole = run(0, "whole")
    assert whole.returncode == 0, whole.stderr
    killed = run(6, "killed")
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "killed" / "checkpoint").exists()
    resumed = run(0, "killed")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == whole.stdout


def test_a_checkpoint_of_another_config_is_refused(dataset, tmp_path):
    with pytest.raises(Stop):
        fit(dataset, config_of(), folder=tmp_path, progress=StopAfter(1))
    with pytest.raises(MicrecError, match="belongs to another config or dataset: choose another folder or delete it"):
        fit(dataset, config_of(optim={"learning_rate": 0.02}), folder=tmp_path)
