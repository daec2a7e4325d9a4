"""Event files that ``tensorboard --logdir`` shows."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from micrec.errors import MicrecError


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
    """One folder of event files; a training that goes on adds a file to it."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            self._writer = require_tensorboard().SummaryWriter(str(folder))
        except OSError as fault:
            raise MicrecError(f"{folder}: cannot be written ({fault}): name another folder for TensorBoard.") from fault
        text = yaml.safe_dump(dict(settings), sort_keys=False)
        self._writer.add_text("config", "".join(f"    {line}\n" for line in text.splitlines()))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, *, finished: bool) -> None:
        self._writer.close()
