"""Where the figures of trainings go, and the one interface that TensorBoard, MLflow and others fill."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from micrec.errors import MicrecError
from micrec.tracking.training_run import TrainingRun

TENSORBOARD, MLFLOW, EVERY = "MICREC_TENSORBOARD", "MICREC_MLFLOW", "MICREC_TRACK_EVERY"
EVERY_STEPS = 50
TENSORBOARD_HELP = "Folder for TensorBoard: losses and the validation metric while it trains, a folder per training."
MLFLOW_HELP = "MLflow's tracking URI, such as http://localhost:5000, for the same figures."


class MetricLogger(Protocol):
    """One training run as a service of experiment tracking sees it."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Figures by name, such as ``search/epoch/validation/hit@100``, as of a step or an epoch from 1.

        Raises:
            MicrecError: If they cannot be written, or the service does not answer.
        """

    def close(self, *, finished: bool) -> None:
        """The training is over: finished, or stopped by an error or a kill; raises as ``log`` does."""


class Tracking(NamedTuple):
    """Where the figures of trainings go; nowhere by default.

    Attributes:
        tensorboard: Folder of the event files; each training has a folder of its own in it.
        mlflow: Tracking URI of MLflow, such as ``http://localhost:5000``.
        every: Steps between two values of the losses of steps.
    """

    tensorboard: str | None = None
    mlflow: str | None = None
    every: int = EVERY_STEPS

    @classmethod
    def of_environment(cls) -> "Tracking":
        """What ``MICREC_TENSORBOARD``, ``MICREC_MLFLOW`` and ``MICREC_TRACK_EVERY`` say.

        Raises:
            MicrecError: If the last is no number of steps.
        """
        every = os.environ.get(EVERY) or str(EVERY_STEPS)
        if not every.isdecimal() or int(every) < 1:
            raise MicrecError(f"{EVERY}: must be a number of steps, 1 or more, got {every!r}.")
        return cls(os.environ.get(TENSORBOARD) or None, os.environ.get(MLFLOW) or None, int(every))

    @property
    def is_on(self) -> bool:
        """Whether anything is tracked."""
        return self.tensorboard is not None or self.mlflow is not None

    def check(self) -> None:
        """Refuse, before any work, what a missing package cannot write.

        Raises:
            MicrecError: With the line that installs it.
        """
        if self.tensorboard is not None:
            from micrec.tracking.tensorboard_logger import require_tensorboard

            require_tensorboard()
        if self.mlflow is not None:
            from micrec.tracking.mlflow_logger import require_mlflow

            require_mlflow()

    def open(
        self, run: TrainingRun, settings: Mapping[str, Any], *, say: Callable[[str], None] | None = None
    ) -> "RunTracker":
        """Begin, or go on with, the figures of one training.

        Args:
            run: The training.
            settings: The resolved config, nested.
            say: Told where a logger fails while the training is under way.

        Raises:
            MicrecError: If a package is missing, or a logger cannot begin.
        """
        self.check()
        loggers: list[MetricLogger] = []
        if self.tensorboard is not None:
            from micrec.tracking.tensorboard_logger import TensorBoardLogger

            loggers.append(TensorBoardLogger(Path(self.tensorboard), run, settings))
        if self.mlflow is not None:
            from micrec.tracking.mlflow_logger import MlflowLogger

            loggers.append(MlflowLogger(self.mlflow, run, settings))
        return RunTracker(loggers, self.every, say)


class RunTracker:
    """Passes the figures of one training to its loggers: of every so many steps, and of every epoch.

    A logger that fails under way is told of once and left out from then on: no training ends because a service does.
    """

    def __init__(self, loggers: list[MetricLogger], every: int, say: Callable[[str], None] | None = None) -> None:
        self._loggers, self._every, self._say, self._told = loggers, every, say, 0

    @property
    def is_on(self) -> bool:
        """Whether anybody listens."""
        return bool(self._loggers)

    def wants(self, step: int) -> bool:
        """Whether the losses of a step, counted from 1 in its phase, are to be told."""
        self._told = 0 if step < self._told else self._told  # another phase begins
        return self.is_on and step - self._told >= self._every

    def step(self, phase: str, step: int, losses: Mapping[str, float]) -> None:
        """Losses of one step of a phase, ``search`` or ``refit``, in nats."""
        self._told = step
        self._log({f"{phase}/step/{name}": value for name, value in losses.items()}, step)

    def epoch(self, phase: str, log: Mapping[str, Any], metric: str) -> None:
        """The figures of one epoch, as ``EpochLog.as_dict`` has them; ``metric`` names the validation metric."""
        values = {f"loss/{name}": value for name, value in log["losses"].items()}
        values |= {f"gradients/{name}": value for name, value in (log.get("gradients") or {}).items()}
        if log["metric"] is not None:
            values[f"validation/{metric}"] = log["metric"]
        if log["seconds"] > 0:
            values["samples_per_s"] = log["samples"] / log["seconds"]
        self._log({f"{phase}/epoch/{name}": value for name, value in values.items()}, log["epoch"])

    def close(self, *, finished: bool) -> None:
        """The training is over."""
        self._to_each(lambda logger: logger.close(finished=finished))

    def _log(self, values: Mapping[str, float], step: int) -> None:
        self._to_each(lambda logger: logger.log(values, step))

    def _to_each(self, call: Callable[[MetricLogger], None]) -> None:
        for logger in list(self._loggers):
            try:
                call(logger)
            except MicrecError as fault:
                self._loggers.remove(logger)
                if self._say is not None:
                    self._say(f"warning: {fault} The training goes on without it.")


@contextmanager
def tracked(tensorboard: str | Path | None = None, mlflow: str | None = None) -> Iterator[None]:
    """Track every training of the block, those in worker processes that it starts among them.

    Raises:
        MicrecError: If a package is missing, with the line that installs it.
    """
    given = {TENSORBOARD: None if tensorboard is None else str(Path(tensorboard).absolute()), MLFLOW: mlflow}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update({name: value for name, value in given.items() if value is not None})
    try:
        Tracking.of_environment().check()
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
