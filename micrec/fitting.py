"""One run from a dataset to a fitted model: search for the number of epochs, refit, resume after a kill."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from micrec.applicable_config import applicable_config
from micrec.artifact import whole_artifact
from micrec.checkpoint import MANIFEST, load_checkpoint, save_checkpoint
from micrec.config import Config, EvalConfig, model_label
from micrec.data.dataset import Dataset
from micrec.data.log_times import coarse_times
from micrec.data.recency import ClickDays
from micrec.data.semantics import check_roles
from micrec.data.split import Split, temporal_split
from micrec.destination import bytes_of, check_room
from micrec.errors import MicrecError
from micrec.estimates.pace import PacedProgress
from micrec.estimates.training_memory import training_memory
from micrec.evaluation import (
    EmbeddingScores,
    EvalResult,
    EvalTask,
    OwnTerms,
    embedding_scores,
    evaluate,
    evaluation_task,
)
from micrec.inference import encode_items, encode_users, histories_of, item_priors, join_prior, own_items
from micrec.manifest import CheckpointManifest
from micrec.model_popularity import known_popularity
from micrec.models.columns import Ragged, choose_fields
from micrec.models.two_tower import TwoTower
from micrec.progress import NoProgress, Progress
from micrec.settings import check
from micrec.sharded.rank_group import present
from micrec.sharded.support import check_supported
from micrec.tracking.tracking import RunTracker, Tracking
from micrec.tracking.training_run import TrainingRun
from micrec.train_data import Fields
from micrec.training import Trainer
from micrec.warm_start import EarlierModel


@dataclass
class RunState:
    """Where a run stands, beside the trainer's own tensors."""

    phase: str = "search"  # search | refit | done
    epoch: int = 0  # finished epochs of the phase
    best_epoch: int = 0
    best_metric: float = float("-inf")
    log: list[dict[str, Any]] = field(default_factory=list)
    estimate: dict[str, float] = field(default_factory=dict)  # memory_mb at the peak; train_s by its first steps


@dataclass(frozen=True)
class Fitted:
    """A trained model with the encoded fields it reads; it was trained on the first ``trained_clicks`` of the log."""

    model: TwoTower
    fields: Fields
    config: Config
    state: RunState
    trained_clicks: int

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def with_evaluation(self, evaluation: EvalConfig) -> "Fitted":
        """The same model under another offline protocol."""
        return replace(self, config=self.config.model_copy(update={"evaluation": evaluation}))

    def embed(self, task: EvalTask) -> tuple[Tensor, Tensor]:
        """Outputs of the towers: for the task's queries (Q, D) and for all items (N, D)."""
        item_fields, item_emb = encode_items(self.model, self.fields.items)
        users = self.fields.users.take(torch.from_numpy(task.user_ids).long().to(self.device))
        return encode_users(self.model, users, self._histories(task), item_fields), item_emb

    def scores(self, task: EvalTask, embeddings: tuple[Tensor, Tensor] | None = None) -> EmbeddingScores:
        """The scores that rank the items: dot products, and what the model adds to them.

        Args:
            task: The queries.
            embeddings: What ``embed`` gave for the task, where it is known.
        """
        user_emb, item_emb = self.embed(task) if embeddings is None else embeddings
        model = self.model
        if model.prior is not None:
            popularity, place = self._popularity(task)
            prior = item_priors(model, self.fields.items, popularity)
            assert prior is not None
            user_emb, item_emb = join_prior(user_emb, item_emb, prior, place)
        own = None
        if model.personal is not None:
            counted = own_items(model, self._histories(task), len(item_emb))
            assert counted is not None
            assert counted.weights is not None
            own = OwnTerms(counted.offsets, counted.values, counted.weights)
        return embedding_scores(user_emb, item_emb, own)

    def evaluate(self, task: EvalTask, *, coverage: bool = True) -> EvalResult:
        """All offline metrics of the model on a task."""
        return evaluate(self.scores(task), task, self.config.evaluation, coverage=coverage)

    def _histories(self, task: EvalTask) -> Ragged:
        config, clock = self.model.config, task.clock
        return histories_of(
            task.histories.items,
            task.begin,
            task.end,
            config.history_length,
            self.device,
            click_ms=None if clock is None else clock.click_ms,
            now_ms=None if clock is None else clock.query_ms,
            half_life_days=config.half_life_days,
        )

    def _popularity(self, task: EvalTask) -> tuple[Tensor | None, Tensor | None]:
        """Popularity of all items on the days that the task asks on, (N, m), and the day of each query among them."""
        model, clock = self.model, task.clock
        if model.prior is None or clock is None:
            return None, None
        popularity = known_popularity(
            model.config,
            model.prior.forecast,
            task.histories.items,
            ClickDays(clock.click_ms),
            self.fields.items,
        )
        if popularity is None:
            return None, None
        days, place = np.unique(clock.query_days, return_inverse=True)
        values = popularity.grid(torch.from_numpy(days))
        return values.T.to(self.device), torch.from_numpy(place).to(self.device)


AfterEpoch: TypeAlias = Callable[[int, float], None]
"""Told the number of an epoch of the search, from 1, and its validation metric; what it raises ends the training."""


def fit(
    dataset: Dataset,
    config: Config,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
    after_epoch: AfterEpoch | None = None,
    earlier: EarlierModel | None = None,
    tracking: Tracking | None = None,
) -> Fitted:
    """Train on the clicks before the test period; of several processes, all call it alike, and the first keeps files.

    With a validation slice, ``train.metric`` on it picks the number of epochs, and with ``train.refit`` a fresh model
    is then trained that long on training and validation clicks together. Without one, ``train.epochs`` epochs.

    Args:
        dataset: The data.
        config: Everything else; ``config.train.seed`` fixes the result. The semantic loss is off without titles.
        folder: Where to keep the checkpoint of the run; an interrupted run found there goes on to the same result.
        progress: Where to report.
        after_epoch: Called at the end of each epoch of the search, and at once for those of an interrupted run.
        earlier: A model to start from, in the search and in the refit; None = from random start values.
        tracking: Where losses and validation metrics go meanwhile; None = as the environment says, usually nowhere.

    Raises:
        MicrecError: On an impossible split, a loss that is not finite, or a checkpoint of another run.
    """
    progress = progress or NoProgress()
    if not present().alone:
        check_supported(config, warm_start=earlier is not None)
    config, notes = applicable_config(dataset, config)
    coarse = coarse_times(dataset.clicks.time_ms, dataset.schema.days) if config.contrast.session.weight > 0 else None
    for note in [*notes, *([f"Sessions: {coarse}"] if coarse else [])]:
        progress.say(note)
    run = _Run(dataset, config, folder, progress, after_epoch, earlier)
    wanted = (tracking or Tracking.of_environment()) if present().is_first else Tracking()
    run.tracker = wanted.open(run.as_tracked(), config.model_dump(mode="json"), say=progress.say)
    is_finished = False
    try:
        fitted = run.complete()
        is_finished = True
        return fitted
    finally:
        run.tracker.close(finished=is_finished)


def check_inputs(dataset: Dataset, config: Config) -> None:
    """Refuse, before anything is trained or written, what this config cannot do on this dataset.

    Raises:
        MicrecError: If a part of the split would be empty, a field is not in the dataset, or the semantic loss has no
            source.
    """
    temporal_split(dataset.clicks, config.split, dataset.schema.days)
    choose_fields(dataset.users, config.model.user_fields, key="model.user_fields")
    choose_fields(dataset.items, config.model.item_fields, key="model.item_fields")
    config, _ = applicable_config(dataset, config)
    if config.contrast.semantic.weight > 0:
        check_roles(dataset.items, dataset.schema.roles, config.contrast.semantic)


class Snapshot(NamedTuple):
    """A trainer's state as read from a checkpoint."""

    tensors: dict[str, Tensor]
    skeleton: Any


class _Run:
    def __init__(
        self,
        dataset: Dataset,
        config: Config,
        folder: Path | None,
        progress: Progress,
        after_epoch: AfterEpoch | None,
        earlier: EarlierModel | None = None,
    ) -> None:
        self.dataset, self.config, self.after_epoch = dataset, config, after_epoch
        self.progress: Progress = PacedProgress(progress, self._planned_epochs, self._estimate_seconds)
        self.group = present()
        self.split: Split = temporal_split(dataset.clicks, config.split, dataset.schema.days)
        self.folder = folder / "checkpoint" if folder else None
        self.identity = run_identity(dataset, config)
        self.group.check_same(self.identity, "the dataset and the config")
        self.earlier = earlier
        if earlier is not None:
            earlier.check(dataset, self.split, config)
            self.identity |= {"from": earlier.mark}
        self.state = RunState()
        self.tracker = RunTracker([], 1)
        if config.split.valid_fraction == 0:
            self.state = RunState(phase="refit", best_epoch=config.train.epochs)
        self.best: dict[str, Tensor] = {}

    def as_tracked(self) -> TrainingRun:
        """What trackers call the training: by its folder, or by its model and seed."""
        if self.folder is None:
            return TrainingRun(f"{self.config.model.name}-seed{self.config.train.seed}")
        return TrainingRun.of_folder(self.folder.parent, goes_on=self.folder.exists())

    def complete(self) -> Fitted:
        saved = self._restore()
        keeps_checkpoint = self.folder is not None
        memory = training_memory(
            self.dataset, self.config, keeps_checkpoint=keeps_checkpoint, processes=self.group.size
        )
        self.state.estimate = {**self.state.estimate, "memory_mb": round(memory.bytes / 1e6, 1)}
        if self.state.phase == "search":
            found = self._searched(saved)
            if found is not None:
                return found
            self.state.phase, self.state.epoch = "refit", 0
            saved = None
        trainer = self._trainer(self.split.fit, saved)
        trainer.planned_epochs = self.state.best_epoch
        while self.state.epoch < self.state.best_epoch:
            log = trainer.epoch(self.progress, label=f"{model_label(self.config)} refit")
            self._advance(trainer, log.as_dict())
        return self._fitted(trainer, whole=True)

    def _searched(self, saved: Snapshot | None) -> Fitted | None:
        """The model of the best epoch; None where another is to be trained, whose tables then have this one's room."""
        trainer = self._trainer(self.split.train, saved)
        self._search(trainer)
        if self.config.train.refit:
            return None
        trainer.load_parameters(self.best)
        return self._fitted(trainer, whole=True)

    def _planned_epochs(self) -> float:
        """Epochs that are still to come at most, in epochs of the phase under way."""
        train, state = self.config.train, self.state
        if state.phase == "refit":
            return state.best_epoch - state.epoch
        clicks = len(self.dataset.clicks[self.split.fit]) / len(self.dataset.clicks[self.split.train])
        return train.epochs - state.epoch + (train.epochs * clicks if train.refit else 0)

    def _estimate_seconds(self, seconds: float) -> None:
        self.state.estimate.setdefault("train_s", round(seconds, 1))

    def _search(self, trainer: Trainer) -> None:
        train = self.config.train
        task = evaluation_task(self.dataset, self.split, self.config.evaluation, "valid")
        if self.after_epoch:
            for entry in self.state.log:
                self.after_epoch(entry["epoch"], entry["metric"])
        while self.state.epoch < train.epochs and not self._out_of_patience():
            log = trainer.epoch(self.progress, label=f"{model_label(self.config)} search")
            metric = self._metric(trainer, task)
            log.metric = metric
            if metric > self.state.best_metric:
                self.state.best_metric, self.state.best_epoch = metric, self.state.epoch + 1
                self.best = {} if train.refit else trainer.parameters()
            self.progress.say(f"  epoch {log.epoch}: validation {train.metric} {metric:.4f}")
            self._advance(trainer, log.as_dict())
            if self.after_epoch:
                self.after_epoch(log.epoch, metric)

    def _out_of_patience(self) -> bool:
        patience = self.config.train.patience
        return 0 < patience <= self.state.epoch - self.state.best_epoch

    def _metric(self, trainer: Trainer, task: EvalTask) -> float:
        name, evaluation = self.config.train.metric, self.config.evaluation
        kind, at, cutoff = name.partition("@")
        if at:
            evaluation = evaluation.model_copy(update={"cutoffs": (int(cutoff),)})
        fitted = self._fitted(trainer).with_evaluation(evaluation)
        return fitted.evaluate(task, coverage=kind == "coverage").metrics[name]

    # -- state ---------------------------------------------------------------------------------------------------

    def _trainer(self, part: slice, saved: Snapshot | None) -> Trainer:
        trainer = Trainer(self.dataset, self.dataset.clicks[part], self.config, progress=self.progress)
        if self.tracker.is_on:
            trainer.after_step = self._track_step
        self.group.by_first(lambda: self._check_room(trainer))
        if saved is None and self.earlier is not None:
            for line in self.earlier.carry_into(trainer.model, self.dataset):
                self.progress.say(line)
        if saved is not None:
            assert self.folder is not None
            with whole_artifact(self.folder):
                trainer.restore(saved.tensors, saved.skeleton, epoch=self.state.epoch)
        return trainer

    def _track_step(self, step: int, names: list[str], losses: Tensor) -> None:
        if self.tracker.wants(step):
            self.tracker.step(self.state.phase, step, dict(zip(names, losses.tolist(), strict=True)))

    def _check_room(self, trainer: Trainer) -> None:
        """Stop before the first step if the disk has no room for the checkpoints: one is written before one goes.

        Raises:
            MicrecError: Naming what is needed and what is free.
        """
        if self.folder is None:
            return
        parameters = trainer.parameter_bytes
        moments, best = 2 * parameters, 0 if self.config.train.refit else parameters
        epochs = self.state.best_epoch if self.state.phase == "refit" else self.config.train.epochs
        copies = 2 if epochs > 1 or self.state.phase == "search" else 1
        needs = copies * (parameters + moments + best) - bytes_of(self.folder)
        check_room(self.folder, needs, f"the training of {self.config.model.name}")

    def _advance(self, trainer: Trainer, log: dict[str, Any]) -> None:
        self.state.epoch += 1
        self.tracker.epoch(self.state.phase, log, self.config.train.metric)
        self.state.log.append({"phase": self.state.phase, **log})
        if self.folder is not None:
            folder, (parts, skeleton) = self.folder, trainer.snapshot()
            tensors = {f"trainer.{k}": v for k, v in parts.items()} | {f"best.{k}": v for k, v in self.best.items()}
            manifest = {"identity": self.identity, "state": vars(self.state), "skeleton": skeleton}
            self.group.by_first(lambda: save_checkpoint(folder, tensors, manifest))

    def _restore(self) -> Snapshot | None:
        """The checkpoint, of which other processes than the first know the state of the run alone."""
        found: list[Snapshot] = []
        state = self.group.by_first(lambda: self._read_checkpoint(found))
        if state is None:
            return None
        self.state = RunState(**state)
        return found[0] if found else Snapshot({}, None)

    def _read_checkpoint(self, found: list[Snapshot]) -> dict[str, Any] | None:
        """The state of the run as JSON; what was read goes into ``found``."""
        if self.folder is None or not self.folder.exists():
            return None
        tensors, manifest = load_checkpoint(self.folder)
        if faults := check(CheckpointManifest, manifest)[1]:
            raise MicrecError.of(str(self.folder / MANIFEST), [f"{fault}: delete the folder" for fault in faults])
        if manifest["identity"] != self.identity:
            raise MicrecError(
                f"{self.folder}: this checkpoint belongs to another config or dataset: "
                "choose another folder or delete it."
            )
        state: dict[str, Any] = manifest["state"]
        self.best = {k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")}
        self.progress.say(f"resuming after {state['phase']} epoch {state['epoch']}")
        parts = {k.removeprefix("trainer."): v for k, v in tensors.items() if k.startswith("trainer.")}
        found.append(Snapshot(parts, manifest["skeleton"]))
        return state

    def _fitted(self, trainer: Trainer, *, whole: bool = False) -> Fitted:
        """The model as it is; if it is to be ``whole``, with all rows of its tables in the first process."""
        model = trainer.whole_model() if whole else trainer.model.eval()
        return Fitted(model, trainer.data.fields, self.config, self.state, trained_clicks=len(trainer.data))


def run_identity(dataset: Dataset, config: Config) -> dict[str, str]:
    """What a run depends on: the resolved config and the data."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return {
        "config": hashlib.sha256(text.encode()).hexdigest()[:16],
        "dataset": dataset.fingerprint,
        "clicks": str(len(dataset.clicks)),
    }
