"""One process at a time in a folder. The lock is on the open folder itself: no file stays behind, whatever ends it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from micrec.errors import MicrecError

try:
    import fcntl
except ImportError:  # a system without flock: two processes are not kept apart there
    fcntl = None  # type: ignore[assignment]


def lock(folder: Path, *, told: Path | None = None) -> int | None:
    """Take an existing folder for this process, until ``unlock`` or its end, whatever ends it.

    Args:
        folder: The folder.
        told: What to call it in the error; None = as it is.

    Returns:
        What ``unlock`` needs.

    Raises:
        MicrecError: If another process has it.
    """
    if fcntl is None:
        return None
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise MicrecError(
            f"{told or folder}: another command is writing there now: wait until it ends, or name another folder."
        ) from None
    except OSError:  # a file system without locks
        os.close(held)
        return None
    return held


def unlock(held: int | None) -> None:
    """Give back what ``lock`` took."""
    if held is not None:
        os.close(held)


@contextmanager
def locked(folder: Path, *, told: Path | None = None) -> Iterator[None]:
    """``lock`` for the length of a block."""
    held = lock(folder, told=told)
    try:
        yield
    finally:
        unlock(held)


@contextmanager
def waiting_for(folder: Path) -> Iterator[None]:
    """Hold an existing folder through the block, as soon as no other process or thread holds it."""
    if fcntl is None:
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
