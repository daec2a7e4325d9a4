"""Progress of long work: a live line on a terminal, plain lines elsewhere."""

import sys
import time
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


class LineProgress:
    """Rate and time left: rewritten in place on a terminal, at most one line every ``every_s`` elsewhere."""

    def __init__(self, stream: TextIO | None = None, *, every_s: float = 10.0) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._every_s = 0.2 if self._live else every_s
        self._task, self._unit = "", ""
        self._total = self._done = 0
        self._started_s = self._printed_s = 0.0

    def start(self, task: str, total: int, unit: str) -> None:
        self._task, self._total, self._unit = task, total, unit
        self._done = 0
        self._started_s = time.monotonic()
        self._printed_s = self._started_s - self._every_s + min(self._every_s, _FIRST_AFTER_S)
        if self._live:
            self._stream.write(f"\r\x1b[K{task}: {total:,} {unit} …")
            self._stream.flush()

    def advance(self, amount: int, note: str = "") -> None:
        self._done += amount
        now_s = time.monotonic()
        if now_s - self._printed_s >= self._every_s and self._done < self._total:  # the end is for finish
            self._printed_s = now_s
            self._write(note, last=False)

    def finish(self, note: str = "") -> None:
        if self._live or time.monotonic() - self._started_s >= 2.0:
            self._write(note, last=True)

    def say(self, line: str) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")
        self._stream.write(line + "\n")
        self._stream.flush()

    def _write(self, note: str, *, last: bool) -> None:
        elapsed_s = max(time.monotonic() - self._started_s, 1e-9)
        rate = self._done / elapsed_s
        left_s = (self._total - self._done) / rate if rate else 0.0
        when = f"{elapsed_s:.1f} s" if last else f"{left_s:.0f} s left"
        pace = f"{rate:,.0f} {self._unit}/s" if rate >= 1 or not rate else f"{1 / rate:.0f} s each"
        line = f"{self._task}: {self._done:,}/{self._total:,} {self._unit}, {pace}, {when}"
        line += f", {note}" if note else ""
        if self._live:
            self._stream.write(f"\r\x1b[K{line}" + ("\n" if last else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()
