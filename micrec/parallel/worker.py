"""What happens in a worker: it checks that it may do a task, prepares itself once per run, and does it."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from micrec.errors import MicrecError
from micrec.parallel.parent import end_with
from micrec.progress import NoProgress, Task
from micrec.registry import import_extensions
from micrec.version import __version__

SAY_EVERY_S = 5.0  # of one worker's progress
SAME = ("torch", "numpy", "polars")  # packages whose version can move a number


class TaskRun(NamedTuple):
    """What every task of a run has in common; it travels with each task, so it holds nothing large.

    Attributes:
        name: Of this run among all that a worker sees.
        function: Called as ``function(prepared, task, progress)``; of a module, so that workers can import it.
        prepare: Makes what a worker keeps between the tasks of a run; None = nothing.
        modules: Modules that registered something, see :mod:`micrec.registry`.
        folders: Those that every worker must see; the first is where relative paths begin.
        versions: Of the packages that the results depend on.
    """

    name: str
    function: Callable[[Any, Any, Any], Any]
    prepare: Callable[[], Any] | None
    modules: tuple[str, ...]
    folders: tuple[Path, ...]
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """Version of each package that can move a number."""
    return {"micrec": __version__} | {name: metadata.version(name) for name in SAME}


def do_task(run: TaskRun, task: Any, label: str) -> Any:
    """Do one task in this process."""
    _check(run)
    os.chdir(run.folders[0])
    import_extensions(run.modules)
    if _State.run != run.name:
        _State.run, _State.prepared = "", None  # what another run kept goes first
        _State.prepared = run.prepare() if run.prepare else None
        _State.run = run.name
    return run.function(_State.prepared, task, SentProgress(label, partial(_send, run.name)))


def start_process(lines: Any, parent: int, modules: Sequence[str], finishes_on_interrupt: bool) -> None:
    """Make a new process of this machine a worker."""
    if finishes_on_interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    end_with(parent)
    import_extensions(modules)
    _State.send = lines.put


class _State:
    """What a worker process keeps between tasks."""

    run: ClassVar[str] = ""
    prepared: ClassVar[Any] = None
    send: ClassVar[Callable[[str], None] | None] = None


def _check(run: TaskRun) -> None:
    here, mine = _worker_name(), versions()
    other = [f"{name} {mine[name]} instead of {asked}" for name, asked in run.versions.items() if mine[name] != asked]
    if other:
        raise MicrecError(f"{here}: has {', '.join(other)}: install the same versions on all workers.")
    for folder in run.folders:
        if not folder.is_dir():
            raise MicrecError(
                f"{here}: sees no folder {folder}: workers need the file system of this command, under the same paths."
            )
    if (threads := _dask_threads()) > 1:
        raise MicrecError(
            f"{here}: has {threads} threads, and a training needs a process of its own: start it as "
            f"dask worker ADDRESS --nworkers {threads} --nthreads 1."
        )


def _worker_name() -> str:
    worker = _dask_worker()
    return f"process {os.getpid()}" if worker is None else f"worker {worker.address}"


def _dask_threads() -> int:
    worker = _dask_worker()
    return 1 if worker is None else int(worker.state.nthreads)


def _dask_worker() -> Any:
    """The Dask worker whose task this is; None elsewhere."""
    if "distributed.worker" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


class TaskCancelled(Exception):
    """Nobody waits for the result any more: the command was interrupted, or its process is gone."""


def stop_if_cancelled() -> None:
    """Dask cannot end a task that runs, so tasks look for themselves whenever they report progress."""
    worker = _dask_worker()
    if worker is not None and worker.state.tasks[worker.get_current_task()].state in ("cancelled", "resumed"):
        raise TaskCancelled


def forget(name: str) -> None:
    """Let go of what this worker kept for a run."""
    if _State.run == name:
        _State.run, _State.prepared = "", None


def _send(name: str, line: str) -> None:
    worker = _dask_worker()
    if worker is not None:
        worker.log_event(name, line)
    elif _State.send is not None:
        _State.send(line)


class SentProgress(NoProgress):
    """Sends lines to whoever gave the task: what is worth keeping at once, the rest now and then."""

    def __init__(self, label: str, send: Callable[[str], None]) -> None:
        self._label, self._send = label, send
        self._tasks: list[Task] = []
        self._sent_s = time.monotonic()

    def start(self, task: str, total: int, unit: str) -> None:
        now_s = time.monotonic()
        self._tasks.append(Task(task, total, unit, now_s, now_s))

    def advance(self, amount: int, note: str = "") -> None:
        stop_if_cancelled()
        self._tasks[-1].done += amount
        now_s = time.monotonic()
        if now_s - self._sent_s >= SAY_EVERY_S:
            self._sent_s = now_s
            self.say(self._tasks[-1].line(note))

    def finish(self, note: str = "") -> None:
        self._tasks.pop()

    def say(self, line: str) -> None:
        self._send(f"{self._label}: {line.strip()}")
