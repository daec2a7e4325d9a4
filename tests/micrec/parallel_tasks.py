"""What the workers of test_parallel.py do; they import it."""

import os
import signal
import time
from pathlib import Path
from typing import Any


def square(prepared: int, task: int, progress: Any) -> tuple[int, int]:
    """The square plus what was prepared, and where."""
    progress.say(f"task {task}")
    return task**2 + prepared, os.getpid()


def seven() -> int:
    return 7


def fail(prepared: None, task: int, progress: Any) -> int:
    if task == 3:
        raise ValueError("three")
    return task


def die_at_first(folder: str, task: int, progress: Any) -> int:
    """Task 2 takes its process with it the first time, or as often as the file says."""
    left = Path(folder) / "deaths"
    if task == 2 and (deaths := int(left.read_text())):
        left.write_text(str(deaths - 1))
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return task * 10


def current_folder(prepared: None, task: int, progress: Any) -> str:
    return os.getcwd()
