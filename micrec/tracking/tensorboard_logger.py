"""Event files that ``tensorboard --logdir`` shows."""

import itertools
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from micrec.errors import MicrecError
from micrec.tracking.training_run import TrainingRun

MARK_FILE = "micrec-run.txt"  # in a folder of event files: whose they are


def require_tensorboard() -> ModuleType:
    """``torch.utils.tensorboard``.

    Raises:
        MicrecError: If the package is not installed, with the line that installs it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what tensorboard imports
            import tensorboard  # noqa: F401, which torch's module needs
            import torch.utils.tensorboard as writers
    except ModuleNotFoundError as fault:
        if (fault.name or "").partition(".")[0] != "tensorboard":
            raise
        raise MicrecError(
            'TensorBoard files need the package tensorboard: pip install "micrec[tensorboard]".'
        ) from None
    module: ModuleType = writers
    return module


class TensorBoardLogger:
    """One folder of event files below ``root``; a training that goes on adds a file to its own."""

    def __init__(self, root: Path, run: TrainingRun, settings: Mapping[str, Any]) -> None:
        self._root = root
        try:
            self._writer = require_tensorboard().SummaryWriter(str(run_folder(root, run)))
        except OSError as fault:
            raise self._unwritable(fault) from fault
        text = yaml.safe_dump(dict(settings), sort_keys=False)
        self._writer.add_text("config", "".join(f"    {line}\n" for line in text.splitlines()))

    def log(self, values: Mapping[str, float], step: int) -> None:
        try:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        except OSError as fault:
            raise self._unwritable(fault) from fault

    def close(self, *, finished: bool) -> None:
        try:
            self._writer.close()
        except OSError as fault:
            raise self._unwritable(fault) from fault

    def _unwritable(self, fault: OSError) -> MicrecError:
        return MicrecError(f"{self._root}: cannot be written ({fault}): name another folder for TensorBoard.")


def run_folder(root: Path, run: TrainingRun) -> Path:
    """The folder of a training's events: where it goes on, its last one, else a new one that no other training has.

    Trainings of one name have ``NAME``, ``NAME-2`` … below ``root``: two curves in one folder would be drawn as one.

    Raises:
        OSError: If it cannot be made.
    """
    first, own = root / run.name, None
    for number in itertools.count(1):
        folder = first if number == 1 else first.with_name(f"{first.name}-{number}")
        mark = folder / MARK_FILE
        if mark.is_file():
            own = folder if mark.read_text(encoding="utf-8") == run.mark else own
            continue
        if run.goes_on and own is not None:
            return own
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with mark.open("x", encoding="utf-8") as file:
                file.write(run.mark)
        except FileExistsError:  # another process was faster
            continue
        return folder
    raise AssertionError("numbers do not end")
