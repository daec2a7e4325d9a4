"""Where a result is to be written: asked before the work that makes it, which may be long.

A place is fit for a result if it is not part of what the result is made from, can be made and written, and lies on a
disk with room.
"""

import os
import shutil
import tempfile
from pathlib import Path

from micrec.errors import MicrecError

LEAST_BYTES = 1_000_000  # free space without which no command begins
_HIDDEN = ".{}.partial.0123456789abcdef"  # the longest name under which a folder is gathered beside its place


def check_destination(
    out: Path, *inputs: Path, replaced: bool = False, needs: int = LEAST_BYTES, what: str = "the result"
) -> None:
    """Stop before long work if its result cannot be written to ``out``, or would harm what it is made from.

    Args:
        out: Folder or file to be written.
        inputs: Files and folders that are read; what is not there is told when it is read.
        replaced: Whether a folder ``out`` is gathered beside its place and takes it as a whole: an input within it
            would be lost.
        needs: Bytes that the result takes at the least.
        what: The result, for messages.

    Raises:
        MicrecError: If ``out`` is an input or lies in one, cannot be made or written, or the disk is too small.
    """
    try:
        there = [path for path in inputs if path.exists()]
        refuse_inside(out, *there)
        if replaced:
            refuse_around(out, *there)
        place = _nearest(out)
        _check_names(out, place, hidden=replaced)
        _check_writable(out, place)
        if replaced and out.exists():
            _check_writable(out, out.resolve().parent)
    except OSError as fault:
        raise MicrecError(f"{out}: cannot be used ({_reason(fault)}): name another place.") from fault
    check_room(out, needs, what)


def refuse_inside(out: Path, *inputs: Path) -> None:
    """Stop before a result is written into what it is made from.

    Raises:
        MicrecError: If ``out`` is one of the inputs, or lies in one.
    """
    target = out.resolve()
    for path in inputs:
        source = path.resolve()
        if target == source or source in target.parents:
            raise MicrecError(f"{out}: is or lies in {path}, which is read: name a place outside it.")


def refuse_around(out: Path, *inputs: Path) -> None:
    """Stop before a folder is replaced or emptied that holds what the result is made from.

    Raises:
        MicrecError: If one of the inputs lies in ``out``.
    """
    target = out.resolve()
    for path in inputs:
        if target in path.resolve().parents:
            raise MicrecError(f"{out}: would be replaced, and {path}, which is read, lies in it: name another place.")


def check_room(out: Path, needs: int, what: str = "the result") -> None:
    """Stop before a disk fills up.

    Args:
        out: Folder or file to be written; it need not be there yet.
        needs: Bytes that it takes at the least.
        what: The result, for the message.

    Raises:
        MicrecError: Naming what is needed and what is free.
    """
    free = shutil.disk_usage(_nearest(out)).free
    if free < needs:
        raise MicrecError(
            f"{out}: {what} takes {_size(needs)} or more, its disk has {_size(free)} left: free some space, or name a "
            "place on another disk."
        )


def bytes_of(*paths: Path) -> int:
    """Bytes of files, and of all files below folders; 0 for what is not there."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _nearest(out: Path) -> Path:
    """``out``, or the nearest folder above it that is there."""
    return next(path for path in (out.resolve(), *out.resolve().parents) if path.exists())


def _check_names(out: Path, place: Path, *, hidden: bool) -> None:
    """Refuse names that the file system has no room for."""
    most = os.pathconf(place, "PC_NAME_MAX")
    missing = out.resolve().relative_to(place).parts if out.resolve() != place else ()
    names = [*missing, *([_HIDDEN.format(out.resolve().name)] if hidden else [])]
    for name in names:
        if (size := len(os.fsencode(name))) > most:
            raise MicrecError(
                f"{out}: a name of {size} bytes, {name[:20]}…, is needed there, and {most} are the most: shorten it."
            )


def _check_writable(out: Path, place: Path) -> None:
    """Refuse a folder in which no file can be made; one is made and taken away."""
    if place.is_file() and place == out.resolve():
        place = place.parent
    if not place.is_dir():
        raise MicrecError(f"{place}: is a file, where a folder is needed: name another folder.")
    try:
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as fault:
        raise MicrecError(
            f"{out}: cannot be written, as {place} cannot ({_reason(fault)}): name another place, or get the right to "
            "write there."
        ) from fault


def _reason(fault: OSError) -> str:
    return fault.strerror or type(fault).__name__


def _size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
