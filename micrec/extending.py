"""Files that stand on others: ``extends`` names the file whose keys are taken where a file sets none itself."""

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from micrec.errors import MicrecError
from micrec.settings import load_yaml, merge
from micrec.shipped import shipped_files

EXTENDS = "extends"
MOST_FILES = 20  # that stand on one another

Places = Callable[[dict[str, Any]], Iterator[tuple[str, dict[str, Any]]]]


def read_extended(path: Path, places: Places | None = None) -> dict[str, Any]:
    """A file's data over those of the file it extends.

    Args:
        path: The file.
        places: Mappings within a file's data, with their dotted paths, that may extend a file as well.

    Raises:
        MicrecError: If a file cannot be read, ``extends`` is no path, or files extend each other in a circle.
    """
    return _read(path, places or (lambda data: iter(())), ())


def extended(data: Mapping[str, Any], where: str, places: Places | None = None) -> dict[str, Any]:
    """The same for a mapping that is no file: paths that it extends are relative to the working directory.

    Args:
        data: Keys, of which ``extends`` may name a file or a shipped one.
        where: What the mapping is called in messages.
        places: As for ``read_extended``.

    Raises:
        MicrecError: As ``read_extended``.
    """
    own, found = copy.deepcopy(dict(data)), places or (lambda data: iter(()))
    here = Path(where)
    for at, keys in found(own):
        merged = _over(here, keys, f"{at}.{EXTENDS}", found, ())
        keys.clear()
        keys.update(merged)
    return _over(here, own, EXTENDS, found, ())


def _read(path: Path, places: Places, below: tuple[Path, ...]) -> dict[str, Any]:
    here = path.resolve()
    if here in below:
        raise MicrecError(f"{path}: {EXTENDS}: the files extend each other in a circle: break it.")
    if len(below) >= MOST_FILES:
        raise MicrecError(f"{path}: {EXTENDS}: more than {MOST_FILES} files stand on one another.")
    data = load_yaml(path)
    for at, keys in places(data):
        merged = _over(path, keys, f"{at}.{EXTENDS}", places, (*below, here))
        keys.clear()
        keys.update(merged)
    return _over(path, data, EXTENDS, places, (*below, here))


def _over(path: Path, data: dict[str, Any], key: str, places: Places, below: tuple[Path, ...]) -> dict[str, Any]:
    parent = data.pop(EXTENDS, None)
    if parent is None:
        return data
    if not isinstance(parent, str):
        raise MicrecError(f"{path}: {key}: must be the path of another file, got {parent!r}.")
    return merge(_read(_parent(path, parent), places, below), data)


def _parent(path: Path, parent: str) -> Path:
    """A path relative to the file that names it, or else the shipped file of that name."""
    beside = path.parent / parent
    return beside if beside.suffix or beside.is_file() else shipped_files().get(parent, beside)
