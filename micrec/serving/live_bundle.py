"""The bundle that is served now, and its replacement by the one that its folder holds later."""

import threading
import time
from pathlib import Path
from typing import NamedTuple

from micrec.errors import MicrecError
from micrec.retrieval import ListRequest, Retriever

Stamp = tuple[tuple[str, int, int, int], ...]  # name, inode, time of change and size of each file


class _Served(NamedTuple):
    retriever: Retriever
    loaded_at_s: float  # since 1970


class LiveBundle:
    """A bundle folder that is read again when it changes; who asks meanwhile has the old one, whole.

    Raises:
        MicrecError: If the folder holds no bundle or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last_error: str | None = None  # why the newest folder was not taken; None: it was
        self._reloading = threading.Lock()
        self._tried: Stamp | None = None  # of the folder when it was last read, taken or not
        self._served = self._read()

    @property
    def retriever(self) -> Retriever:
        return self._served.retriever

    @property
    def loaded_at_s(self) -> float:
        """When the bundle that is served now was read, in seconds since 1970."""
        return self._served.loaded_at_s

    def reload(self) -> None:
        """Read the folder, try it with one list, and serve it from now on.

        Raises:
            MicrecError: If it holds no bundle or a damaged one; the one before goes on.
        """
        with self._reloading:
            try:
                self._served = self._read()
            except MicrecError as fault:
                self.last_error = str(fault)
                raise
            self.last_error = None

    def reload_if_changed(self) -> bool:
        """``reload`` if the folder is another than the one that was read last.

        Raises:
            MicrecError: As ``reload``; once for each state of the folder.
        """
        if _stamp(self.folder) in (self._tried, None):
            return False
        self.reload()
        return True

    def _read(self) -> _Served:
        self._tried = _stamp(self.folder)
        retriever = Retriever.load(self.folder)
        retriever.knows_item("")  # what is made at first use is ready before the first request
        users = retriever.bundle.user_ids
        [first] = retriever.recommend_many([ListRequest(k=1, user=users[0]) if len(users) else ListRequest(k=1)])
        if isinstance(first, MicrecError):
            raise first
        return _Served(retriever, time.time())


def _stamp(folder: Path) -> Stamp | None:
    """Changes whenever a file of the folder does; None without a folder, as for a moment while it is replaced."""
    try:
        files = [(file.name, file.stat()) for file in sorted(folder.iterdir())]
    except OSError:
        return None
    return tuple((name, status.st_ino, status.st_mtime_ns, status.st_size) for name, status in files)
