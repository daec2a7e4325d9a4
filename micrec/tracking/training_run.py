"""What trackers know of a training beside its figures."""

import hashlib
from pathlib import Path
from typing import NamedTuple


class TrainingRun(NamedTuple):
    """A training as trackers know it.

    Attributes:
        name: What people see, with slashes between its parts.
        mark: Tells it from other trainings of the same name.
        goes_on: Whether it continues from a checkpoint, so that its figures belong behind those of before.
    """

    name: str
    mark: str = ""
    goes_on: bool = False

    @classmethod
    def of_folder(cls, folder: Path, *, goes_on: bool) -> "TrainingRun":
        """The training that is kept in a folder, called by the folder's end."""
        parts = [part for part in folder.absolute().parts[1:] if part != "model"]
        mark = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
        return cls("/".join(parts[-2:]), mark, goes_on)
