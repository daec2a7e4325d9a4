"""Progress of long work: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from dataclasses import dataclass
from typing import Protocol, TextIO

_FIRST_AFTER_S = 1.0  # where lines stay, the first comes this soon, so that nobody wonders whether anything happens


class Progress(Protocol):
    """What long-running functions report to; see ``LineProgress`` and ``NoProgress``."""

    def start(self, task: str, total: int, unit: str) -> None:
        """A piece of work of ``total`` units begins."""

    def advance(self, amount: int, note: str = "") -> None:
        """``amount`` more units are done."""

    def finish(self, note: str = "") -> None:
        """The piece of work is over."""

    def say(self, line: str) -> None:
        """One line worth keeping."""


class NoProgress:
    """Says nothing."""

    def start(self, task: str, total: int, unit: str) -> None:
        pass

    def advance(self, amount: int, note: str = "") -> None:
        pass

    def finish(self, note: str = "") -> None:
        pass

    def say(self, line: str) -> None:
        pass


@dataclass
class Task:
    """A piece of work that has begun, on the clock of ``time.monotonic``."""

    name: str
    total: int
    unit: str
    started_s: float
    printed_s: float
    done: int = 0

    def line(self, note: str = "", *, last: bool = False) -> str:
        """How far it is, how fast, and how long it takes: nothing is said of a speed that is not known yet."""
        elapsed_s = max(time.monotonic() - self.started_s, 1e-9)
        done = min(self.done, self.total)
        rate = done / elapsed_s
        parts = [f"{done:,}/{self.total:,} {self.unit}"]
        if rate:
            parts.append(f"{rate:,.0f} {self.unit}/s" if rate >= 1 else f"{1 / rate:.0f} s each")
        if last:
            parts.append(f"{elapsed_s:.1f} s")
        elif rate:
            parts.append(f"{(self.total - done) / rate:.0f} s left")
        return f"{self.name}: {', '.join([*parts, *([note] if note else [])])}"


class LineProgress(Progress):
    """Rate and time left: rewritten in place on a terminal, at most one line every ``every_s`` elsewhere.

    Work may begin inside other work, such as the epochs of one model among many: lines tell the inner one until it is
    over.
    """

    def __init__(self, stream: TextIO | None = None, *, every_s: float = 10.0) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._every_s = 0.2 if self._live else every_s
        self._tasks: list[Task] = []

    def start(self, task: str, total: int, unit: str) -> None:
        now_s = time.monotonic()
        soon_s = now_s - self._every_s + min(self._every_s, _FIRST_AFTER_S)
        self._tasks.append(Task(task, total, unit, now_s, soon_s))
        if self._live:
            self._stream.write(f"\r\x1b[K{task}: {total:,} {unit} …")
            self._stream.flush()

    def advance(self, amount: int, note: str = "") -> None:
        task = self._tasks[-1]
        task.done += amount
        now_s = time.monotonic()
        if now_s - task.printed_s >= self._every_s and task.done < task.total:  # the end is for finish
            task.printed_s = now_s
            self._write(task, note, last=False)

    def finish(self, note: str = "") -> None:
        task = self._tasks.pop()
        if self._live or time.monotonic() - task.started_s >= 2.0:
            self._write(task, note, last=True)

    def say(self, line: str) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")
        self._stream.write(line + "\n")
        self._stream.flush()

    def _write(self, task: Task, note: str, *, last: bool) -> None:
        line = task.line(note, last=last)
        if self._live:
            self._stream.write(f"\r\x1b[K{line}" + ("\n" if last else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()
