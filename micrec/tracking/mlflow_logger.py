"""A run of an MLflow experiment."""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from micrec.errors import MicrecError
from micrec.tracking.training_run import TrainingRun

EXPERIMENT, EXPERIMENT_VARIABLE = "micrec", "MLFLOW_EXPERIMENT_NAME"  # MLflow's own variable names another
MARK_TAG = "micrec.mark"  # by which a training that goes on finds its run
PARAMETERS = 100  # of one call
LONGEST = 500  # letters of a parameter


def require_mlflow() -> ModuleType:
    """The package ``mlflow``, whose client is all that is used.

    Raises:
        MicrecError: If it is not installed, with the line that installs it.
    """
    try:
        with _quiet():
            import mlflow
    except ModuleNotFoundError as fault:
        if (fault.name or "").partition(".")[0] != "mlflow":
            raise
        raise MicrecError('MLflow needs the package mlflow: pip install "micrec[mlflow]".') from None
    module: ModuleType = mlflow
    return module


class MlflowLogger:
    """One run in the experiment ``micrec``, or in that of ``MLFLOW_EXPERIMENT_NAME``."""

    def __init__(self, uri: str, run: TrainingRun, settings: Mapping[str, Any]) -> None:
        package = require_mlflow()
        with _quiet(), _told(uri, package):
            self._client: Any = package.MlflowClient(tracking_uri=uri)
            self._uri, self._package = uri, package
            experiment = self._experiment(os.environ.get(EXPERIMENT_VARIABLE) or EXPERIMENT)
            self._run = self._unfinished(experiment, run.mark) if run.goes_on else None
            if self._run is None:
                made = self._client.create_run(experiment, run_name=run.name, tags={MARK_TAG: run.mark})
                self._run = made.info.run_id
                self._tell_settings(settings)

    def log(self, values: Mapping[str, float], step: int) -> None:
        import time

        now_ms = int(time.time() * 1000)
        entities = self._package.entities
        metrics = [entities.Metric(_name(name), value, now_ms, step) for name, value in values.items()]
        with _quiet(), _told(self._uri, self._package):
            self._client.log_batch(self._run, metrics=metrics)

    def close(self, *, finished: bool) -> None:
        with _quiet(), _told(self._uri, self._package):
            self._client.set_terminated(self._run, status="FINISHED" if finished else "KILLED")

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found is not None else self._client.create_experiment(name))

    def _unfinished(self, experiment: str, mark: str) -> str | None:
        """The latest run of an interrupted training."""
        wanted = f"tags.`{MARK_TAG}` = '{mark}' and attributes.status != 'FINISHED'"
        found = self._client.search_runs([experiment], filter_string=wanted, max_results=1)
        if not found:
            return None
        self._client.update_run(found[0].info.run_id, status="RUNNING")
        return str(found[0].info.run_id)

    def _tell_settings(self, settings: Mapping[str, Any]) -> None:
        entities = self._package.entities
        told = [entities.Param(key, str(value)[:LONGEST]) for key, value in flattened(settings).items()]
        for first in range(0, len(told), PARAMETERS):
            self._client.log_batch(self._run, params=told[first : first + PARAMETERS])


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _name(name: str) -> str:
    """A name as MLflow takes it: it knows no @."""
    return name.replace("@", "_at_")


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow warns of its own imports and stores."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = logging.getLogger("mlflow").level
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.getLogger("mlflow").setLevel(before)


@contextmanager
def _told(uri: str, package: ModuleType) -> Iterator[None]:
    """What MLflow raises, for people."""
    try:
        yield
    except (package.exceptions.MlflowException, OSError) as fault:
        reason = str(fault).strip().splitlines()[0]
        raise MicrecError(f"MLflow at {uri}: {reason}: check the address, or leave out --mlflow.") from fault
