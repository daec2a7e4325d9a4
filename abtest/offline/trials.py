"""Trials: one trained model each, stored whole, so that an interrupted run goes on where it stopped."""

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from abtest.run_folder import write_arrays, write_json
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.errors import MicrecError

KEY_FILE = "trial.json"  # what the trial was started with
RESULT_FILE = "result.json"  # written last: a trial that has it is finished
USERS_FILE = "users.npz"
MODEL_FOLDER = "model"  # the trainer's own: checkpoints


class TrialResult(Protocol):
    """What the runner needs of ``micrec.experiment.TrialResult``."""

    @property
    def metrics(self) -> dict[str, float]: ...
    @property
    def slices(self) -> dict[str, dict[str, float]]: ...  # metrics by slice; users and lines are its size
    @property
    def user_hits(self) -> NDArray[Any]: ...
    @property
    def user_lines(self) -> NDArray[Any]: ...
    @property
    def info(self) -> dict[str, Any]: ...


class TrialUsers(NamedTuple):
    """Per-user results of one trial."""

    hits: NDArray[np.floating]  # (Q, C) hits of each test user at each cutoff of evaluation.cutoffs
    clicks: NDArray[np.floating]  # (Q,) test clicks of each user


class Trial(NamedTuple):
    """One finished model; ``users`` are read when asked for, as they are many."""

    folder: Path
    metrics: dict[str, float]
    slices: dict[str, dict[str, float]]
    info: dict[str, Any]
    seconds: float  # wall clock of training and evaluation in the run that finished the trial

    def users(self) -> TrialUsers:
        with np.load(self.folder / USERS_FILE, allow_pickle=False) as arrays:
            return TrialUsers(hits=arrays["hits"], clicks=arrays["clicks"])


class TrialStore:
    """The trials of one run folder, by name, such as ``treatment-seed3``.

    A trial is valid for one key (config, data, versions); a trial with another key is removed when it is asked for.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def load(self, name: str, key: dict[str, str]) -> Trial | None:
        """The finished trial, or None if there is none with this key."""
        folder = self._root / name
        if not (folder / RESULT_FILE).exists() or _read(folder / KEY_FILE) != key:
            return None
        data = _read(folder / RESULT_FILE)
        return Trial(
            folder=folder,
            metrics=_numbers(data["metrics"]),
            slices={slice_: _numbers(metrics) for slice_, metrics in data["slices"].items()},
            info=data["info"],
            seconds=data["seconds"],
        )

    def start(self, name: str, key: dict[str, str]) -> Path:
        """The folder in which the model may keep its checkpoints; work with the same key is kept."""
        folder = self._root / name
        if folder.exists() and _read(folder / KEY_FILE) != key:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / KEY_FILE, key)
        return folder / MODEL_FOLDER

    def save(self, name: str, result: TrialResult, *, seconds: float) -> None:
        """Store a finished trial; the result file comes last and makes it count.

        Raises:
            ValueError: If the per-user arrays do not fit each other.
        """
        if len(result.user_hits) != len(result.user_lines) or result.user_hits.ndim != 2:
            raise ValueError(f"{name}: user_hits {result.user_hits.shape} must be (Q, C) and fit user_lines (Q,).")
        folder = self._root / name
        # float32 holds counts below 2 ** 24 exactly, at half the bytes.
        hits, clicks = result.user_hits.astype(np.float32), result.user_lines.astype(np.float32)
        write_arrays(folder / USERS_FILE, hits=hits, clicks=clicks)
        stored = {"metrics": result.metrics, "slices": result.slices, "info": result.info, "seconds": seconds}
        write_json(folder / RESULT_FILE, stored)


def trial_key(config: Config, data_hash: str, versions: dict[str, str]) -> dict[str, str]:
    """What a trial's numbers depend on; equal keys give equal numbers on one machine."""
    text = json.dumps(config.model_dump(), sort_keys=True, default=str)
    return {
        "config": hashlib.sha256(text.encode()).hexdigest()[:16],
        "data": data_hash,
        "micrec": versions["micrec"],
        "torch": versions["torch"],
    }


def hash_dataset(dataset: Dataset) -> str:
    """Hash of the id maps and of every file a model may read: the fingerprint alone would not see a changed click."""
    digest = hashlib.sha256(dataset.fingerprint.encode())
    if dataset.folder is not None:
        files = [dataset.folder / "dataset.yaml", *sorted(dataset.folder.glob("*.parquet"))]
        for path in [*files, *sorted(dataset.folder.glob("clicks/*.parquet"))]:
            digest.update(f"\x1e{path.name}\x1f".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _numbers(metrics: dict[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in metrics.items()}


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise MicrecError(f"{path}: cannot be read ({fault}): delete {path.parent} to train this trial anew.") from None
    assert isinstance(data, dict)
    return data
