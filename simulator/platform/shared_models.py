"""Models that several worlds would train alike, from one log with one seed: the first makes them, the others copy.

On their first morning all worlds that go on from one warm-up have the same log, and the warm-up has the history alone.
What a model is then depends on its inputs alone, so that a copy is what training would have brought, bit for bit.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from micrec.folder_lock import waiting_for

_MODEL = "model"


class SharedModels:
    """A folder of models by their inputs.

    Args:
        folder: Where they are kept; made when the first one is. Only worlds of one warm-up may share it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def obtain(self, inputs: Mapping[str, Any], folder: Path, train: Callable[[], None]) -> None:
        """Put a model into ``folder``: a copy if another world has made it, else that of ``train``, and keep a copy.

        A second world that wants the same model at the same time waits for the first.

        Args:
            inputs: All that tells the model from others, as JSON knows it.
            folder: New folder of the model.
            train: Writes it; what it raises goes on to the caller, and nothing is kept.
        """
        text = json.dumps(inputs, sort_keys=True)
        place = self._folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        place.mkdir(parents=True, exist_ok=True)
        kept, partial = place / _MODEL, place / ".partial"
        with waiting_for(place):
            if kept.is_dir():
                shutil.copytree(kept, folder)
                return
            train()
            shutil.rmtree(partial, ignore_errors=True)  # of a world that was killed
            shutil.copytree(folder, partial)
            partial.rename(kept)
