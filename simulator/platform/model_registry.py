"""Versions of models: trained each morning and deployed after their lag; if the newest is broken, the last good one."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from micrec.errors import MicrecError
from micrec.progress import Progress
from simulator.draws import Draws
from simulator.platform.platform_config import ModelStageConfig
from simulator.platform.serving_plan import RANKING, Models, ServingPlan
from simulator.platform.shared_models import SharedModels
from simulator.ports import Matcher, MatcherTrainer, ObservedLog, Ranker, RankerTrainer

SCHEMA = {
    "day": pl.Int32,
    "model": pl.String,
    "name": pl.String,  # of the channel, or "ranking"
    "trained": pl.Boolean,  # whether the day brought a new version
    "version": pl.Int32,  # day on which the version that serves was trained; null: none serves
    "source": pl.String,  # the version's folder below models of that day: arms share what would be the same
    "status": pl.String,  # ok, waiting, failed, restarted, frozen, damaged, shadow
    "message": pl.String,
}


class TrainerFactories(NamedTuple):
    """Trainers by the kinds that a pipeline may name; each takes the options written beside the kind.

    What they raise about the options is a MicrecError.
    """

    matchers: Mapping[str, Callable[[Mapping[str, Any]], MatcherTrainer]]
    rankers: Mapping[str, Callable[[Mapping[str, Any]], RankerTrainer]]


class Version(NamedTuple):
    """A trained model: its folder is ``models/<model>`` of the day's."""

    day: int
    model: str  # whose id it was trained under; others of the same past share it


class Training(NamedTuple):
    """The inputs that determine one daily training run."""

    name: str
    kind: str
    options: str
    previous: Version | None
    log: int  # identity of the log
    number: int  # of several trainings with other seeds


class Deployed(NamedTuple):
    """What serves on a day.

    Attributes:
        matchers: By id of the model.
        rankers: By id of the model.
        missing: Ids of models of which there is no good version.
        table: One row per model, as in ``SCHEMA``.
    """

    matchers: dict[str, Matcher]
    rankers: dict[str, Ranker]
    missing: frozenset[str]
    table: pl.DataFrame


class ModelRegistry:
    """The versions of all models of a platform.

    Args:
        makers: Trainers by kind.
        seed: Seed of the platform.
        folder_of: Folder of a day, under way or finished.
        experiment_day: First day after the warm-up.
        progress: Receives messages about what went wrong.
        shared: Models of the first morning, shared with other worlds that have the same log; None: no other has.
        first_morning: The day on which they have the same log.
    """

    def __init__(
        self,
        makers: TrainerFactories,
        *,
        seed: int,
        folder_of: Callable[[int], Path],
        experiment_day: int,
        progress: Progress,
        shared: SharedModels | None = None,
        first_morning: int = -1,
    ) -> None:
        self._shared, self._first_morning = shared, first_morning
        self._makers, self._seed, self._folder_of = makers, seed, folder_of
        self._experiment_day, self._progress = experiment_day, progress
        self._versions: dict[str, list[Version]] = {}
        self._serving: dict[str, Version] = {}
        self._loaded: dict[Version, Any] = {}

    def check(self, plan: ServingPlan) -> None:
        """Make every trainer once, so that a wrong kind or option is found before the first day.

        Raises:
            MicrecError: All errors at once.
        """
        check_trainers(plan, self._makers)

    def morning(
        self,
        day: int,
        plan: ServingPlan,
        log_of: Callable[[str | None], ObservedLog],
        shadows: Models = MappingProxyType({}),
    ) -> Deployed:
        """Train what is due, and deploy.

        Args:
            day: The day that begins.
            plan: Its models.
            log_of: The log that the models of an arm (None: all arms) learn from; the same object where it is the same.
            shadows: Models that are trained and kept up to date like the others, but not deployed.

        Raises:
            MicrecError: If a model cannot be trained for the first time.
        """
        matchers: dict[str, Matcher] = {}
        rankers: dict[str, Ranker] = {}
        rows = []
        made: dict[Training, Version] = {}
        for model, (name, keys, arm) in {**plan.models, **shadows}.items():
            if model not in self._versions:  # of an arm: goes on from what served all, or was its shadow
                self._versions[model] = list(self._versions.get(model.removesuffix(f".{arm}"), []))
                if former := self._serving.get(model.removesuffix(f".{arm}")):
                    self._serving.setdefault(model, former)
            trainer = self._trainer(name, keys)
            trained, status, message = self._train(day, model, name, keys, trainer, log_of(arm), made)
            version = loaded = None
            if model in shadows:
                self._serve_later(day, model, keys)
                status = "shadow" if status == "ok" else status
            else:
                version, loaded, fault = self._deploy(day, model, keys, trainer)
                if fault:
                    status, message = "damaged", fault
                elif status == "ok" and self._frozen(keys, day):
                    status = "frozen"
            if message:
                self._progress.say(f"day {day}, {name}: {message}")
            served = version or (None, None)
            rows.append((day, model, name, trained, *served, status, message))
            if loaded is not None:
                (rankers if name == RANKING else matchers)[model] = loaded
            self._progress.advance(1)
        known = plan.models.keys() | shadows.keys()
        self._versions = {model: versions for model, versions in self._versions.items() if model in known}
        self._serving = {model: version for model, version in self._serving.items() if model in known}
        self._loaded = {version: self._loaded[version] for version in self._serving.values() if version in self._loaded}
        missing = frozenset(plan.models) - matchers.keys() - rankers.keys()
        return Deployed(matchers, rankers, missing, pl.DataFrame(rows, schema=SCHEMA, orient="row"))

    def train_ahead(self, day: int, models: Models, log: ObservedLog) -> None:
        """Train models from the start for others to copy on their first morning, the last of them first.

        A model that cannot be trained is left to them: their errors say why.
        """
        assert self._shared is not None
        for model, (name, keys, _) in reversed(list(models.items())):
            folder, seed = self._folder_of(day) / "models" / model, self._training_seed(day, name, keys)
            make = partial(self._trainer(name, keys).train, log, previous=None, folder=folder, seed=seed)
            with suppress(MicrecError):
                self._shared.obtain(_inputs(name, keys, None, seed), folder, make)
            self._progress.advance(1)

    def state(self) -> dict[str, Any]:
        """What must be kept between days, as JSON."""
        return {"versions": self._versions, "serving": self._serving}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up from a :meth:`state`."""
        self._versions = {model: [Version(*one) for one in some] for model, some in state["versions"].items()}
        self._serving = {model: Version(*one) for model, one in state["serving"].items()}

    def _train(
        self,
        day: int,
        model: str,
        name: str,
        keys: ModelStageConfig,
        trainer: MatcherTrainer | RankerTrainer,
        log: ObservedLog,
        made: dict[Training, Version],
    ) -> tuple[bool, str, str]:
        """Whether there is a new version; status and message. What has been ``made`` this morning is not made twice."""
        versions = self._versions[model]
        if versions and day - versions[-1].day < keys.every_days:
            return False, "ok", ""
        if name == RANKING and log.impressions.is_empty():
            return False, "waiting", "no impression to learn ranking from yet: slates keep the order of merging"
        former = versions[-1] if versions else None
        options = json.dumps(keys.options, sort_keys=True)
        training = Training(name, keys.kind, options, former, id(log), keys.training_number)
        if training in made:
            versions.append(made[training])
            return True, "ok", ""
        folder = self._folder_of(day) / "models" / model
        seed = self._training_seed(day, name, keys)
        previous = self._path(former) if former else None
        status, message = "ok", ""
        try:
            make = partial(trainer.train, log, previous=previous, folder=folder, seed=seed)
            if self._shared is None or day != self._first_morning:
                make()
            else:
                self._shared.obtain(_inputs(name, keys, former, seed), folder, make)
        except MicrecError as fault:
            if previous is None:
                if log.clicks.is_empty():
                    return False, "waiting", f"nothing to learn from yet ({fault})"
                raise MicrecError(f"day {day}, {name}: cannot be trained: {fault}") from fault
            status, message = "restarted", f"trained from the start, as the former version could not be used: {fault}"
            try:
                trainer.train(log, previous=None, folder=folder, seed=seed)
            except MicrecError as second:
                return False, "failed", f"not trained, the former version goes on: {second}"
        versions.append(Version(day, model))
        made[training] = versions[-1]
        return True, status, message

    def _training_seed(self, day: int, name: str, keys: ModelStageConfig) -> int:
        of = (day, keys.training_number) if keys.training_number else (day,)
        return int(Draws(self._seed, f"training {name}").bits(*of) & np.uint64(0x7FFFFFFF))

    def _serve_later(self, day: int, model: str, keys: ModelStageConfig) -> None:
        """Note the version that would serve: an index that is frozen from the first day on goes on with it."""
        if ready := self._ready(day, model, keys):
            self._serving[model] = ready[-1]

    def _ready(self, day: int, model: str, keys: ModelStageConfig) -> list[Version]:
        """Versions that may serve, the newest last."""
        versions = self._versions[model]
        ready = [version for version in versions if version.day <= day - keys.lag_days] or versions[:1]
        if self._frozen(keys, day) and model in self._serving:
            ready = [version for version in ready if version.day <= self._serving[model].day]
        return ready

    def _deploy(
        self, day: int, model: str, keys: ModelStageConfig, trainer: MatcherTrainer | RankerTrainer
    ) -> tuple[Version | None, Any, str]:
        """The version that serves, the model itself, and what was wrong with newer ones."""
        faults = []
        for version in reversed(self._ready(day, model, keys)):
            try:
                if version not in self._loaded:
                    self._loaded[version] = trainer.load(self._path(version))
            except MicrecError as fault:
                faults.append(f"version of day {version.day} cannot serve: {fault}")
                continue
            self._serving[model] = version
            return version, self._loaded[version], "; ".join(faults)
        self._serving.pop(model, None)
        return None, None, "; ".join(faults)

    def _frozen(self, keys: ModelStageConfig, day: int) -> bool:
        number = day - self._experiment_day
        return any(fault.frozen and fault.from_day <= number < fault.to_day for fault in keys.faults)

    def _path(self, version: Version) -> Path:
        return self._folder_of(version.day) / "models" / version.model

    def _trainer(self, name: str, keys: ModelStageConfig) -> MatcherTrainer | RankerTrainer:
        return make_trainer(name, keys, self._makers)


def _inputs(name: str, keys: ModelStageConfig, former: Version | None, seed: int) -> dict[str, Any]:
    """What a model of a given log depends on."""
    options = json.dumps(keys.options, sort_keys=True)
    return {"name": name, "kind": keys.kind, "options": options, "previous": former, "seed": seed}


def make_trainer(name: str, keys: ModelStageConfig, makers: TrainerFactories) -> Any:
    """The trainer of a channel, or of ranking.

    Raises:
        MicrecError: If there is none of that kind, or it refuses the options.
    """
    known: Mapping[str, Callable[[Mapping[str, Any]], Any]]
    known = makers.rankers if name == RANKING else makers.matchers
    at = RANKING if name == RANKING else f"channels.{name}"
    if keys.kind not in known:
        raise MicrecError(f"{at}.kind: must be one of {', '.join(known)}, got {keys.kind}")
    return known[keys.kind](keys.options)


def check_trainers(plan: ServingPlan, makers: TrainerFactories) -> None:
    """Make every trainer of a plan once.

    Raises:
        MicrecError: Every wrong kind and option.
    """
    faults = []
    for name, keys, _ in plan.models.values():
        try:
            make_trainer(name, keys, makers)
        except MicrecError as fault:
            faults.append(str(fault))
    if faults:
        raise MicrecError.of("pipeline", list(dict.fromkeys(faults)))
