"""Worker processes that end with their parent: a killed run leaves nobody behind who writes to its files."""

import os
import threading
import time

WATCH_EVERY_S = 1.0  # a worker whose parent is gone stops within this time


def end_with(parent: int) -> None:
    """From now on, end this process when process ``parent`` is no longer its parent.

    Two runs must never write one checkpoint: the attempt after a kill has workers of its own.
    """
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_EVERY_S)
    os._exit(1)
