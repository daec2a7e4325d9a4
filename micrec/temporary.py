"""Folders of results that were given no folder: they last as long as the result object."""

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


def in_folder(given: Path | None, make: Callable[[Path], Result]) -> Result:
    """What ``make`` makes in a folder.

    Args:
        given: The folder; None takes a temporary one, which is removed together with the result, at the end of the
            process at the latest, or at once if ``make`` fails.
        make: Fills a folder and returns a result that refers to it.
    """
    if given is not None:
        return make(given)
    folder = Path(tempfile.mkdtemp(prefix="micrec-"))
    try:
        result = make(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(result, shutil.rmtree, folder, ignore_errors=True)
    return result
