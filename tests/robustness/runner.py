"""Runs one command in a forked child with limits on time and memory, and says what came of it.

The child inherits the imported libraries, so that a case costs milliseconds, not the seconds of a fresh interpreter.
The parent must only import: thread pools that have run do not survive a fork.
"""

import contextlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

MEMORY_BYTES = 8 << 30
CRASHED = 70  # exit code of a child whose command raised something else than SystemExit


class Outcome(StrEnum):
    """What came of a command."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # exit code 2 and a message
    TRACEBACK = "traceback"  # an exception, a signal, or an exit code that is not documented
    HANG = "hang"
    SILENT = "silent acceptance"  # accepted although a rule forbids it
    LEFTOVER = "leftover"  # refused, but something was written


@dataclass(frozen=True)
class Result:
    """What came of a command, how long it took, and the end of what it printed."""

    outcome: Outcome
    seconds: float
    output: str


def preload() -> None:
    """Import what commands import, so that children need not."""
    import faiss  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import polars  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.feature_extraction.text  # noqa: F401
    import torch

    import abtest.analysis.analysis
    import abtest.cli.main
    import abtest.online.run
    import abtest.scenario_files  # noqa: F401

    torch.set_num_threads(1)


def run_command(
    arguments: Sequence[str], folder: Path, *, limit_s: float, accepted_codes: Sequence[int] = (0,)
) -> Result:
    """Run ``micrec`` with ``arguments`` in ``folder``.

    Args:
        arguments: Words after ``micrec``.
        folder: Working directory; the output goes to the file ``output`` in it.
        limit_s: Seconds after which the command is killed and counts as hung.
        accepted_codes: Exit codes that mean that the command did its work.
    """
    output = folder / "output"
    started_s = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_the_command(arguments, folder, output)
    status = _wait(child, started_s + limit_s)
    seconds = time.monotonic() - started_s
    text = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
    if status is None:
        return Result(Outcome.HANG, seconds, text)
    code = os.waitstatus_to_exitcode(status)
    if "Traceback (most recent call last)" in text:
        return Result(Outcome.TRACEBACK, seconds, text)
    if code in accepted_codes:
        return Result(Outcome.ACCEPTED, seconds, text)
    if code == 2 and ("error:" in text.lower() or "usage:" in text.lower()):
        return Result(Outcome.REFUSED, seconds, text)
    return Result(Outcome.TRACEBACK, seconds, f"{text}\n(exit code {code})")


def _be_the_command(arguments: Sequence[str], folder: Path, output: Path) -> None:
    """What the child does: never returns."""
    code = CRASHED
    try:
        os.setsid()  # so that its own children can be ended with it
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (file, 1), (file, 2)):
            os.dup2(source, target)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", buffering=1)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1)
        from abtest.cli.main import app

        try:
            app(list(arguments), prog_name="micrec")
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _wait(child: int, until_s: float) -> int | None:
    """The child's status, or None after it was killed at ``until_s``; its own children end with it."""
    pause_s = 0.002
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
            return status
        if time.monotonic() > until_s:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.05)
