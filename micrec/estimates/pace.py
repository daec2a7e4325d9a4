"""The time that a training is going to take, from the pace of its first steps."""

import time
from collections.abc import Callable

from micrec.estimates.machine import time_in_words
from micrec.progress import Progress

WATCHED_S = 3.0  # of steps, after the first, which also loads and plans
LEAST_TOLD_S = 60.0  # shorter trainings are over before one has read how long they take
SAMPLES = "samples"  # the unit in which a training reports its steps


class PacedProgress:
    """Passes reports on, and says once how long the training takes at the pace of the first steps that it sees.

    Args:
        progress: Where reports go.
        planned: Epochs that are still to come, of the size of the one under way; the last part may be a fraction.
        known: Told the seconds of the whole training, once they are known.
    """

    def __init__(self, progress: Progress, planned: Callable[[], float], known: Callable[[float], None]) -> None:
        self._progress, self._planned, self._known = progress, planned, known
        self._samples: int | None = None  # of the epoch under way
        self._begun_s: float | None = None  # after the first step
        self._done = 0
        self._is_told = False

    def start(self, task: str, total: int, unit: str) -> None:
        self._progress.start(task, total, unit)
        self._samples, self._begun_s, self._done = (total if unit == SAMPLES else None), None, 0

    def advance(self, amount: int, note: str = "") -> None:
        self._progress.advance(amount, note)
        if self._is_told or not self._samples:
            return
        now_s = time.perf_counter()
        if self._begun_s is None:
            self._begun_s = now_s
            return
        self._done += amount
        if now_s - self._begun_s >= WATCHED_S:
            self._tell(self._done / (now_s - self._begun_s))

    def finish(self, note: str = "") -> None:
        self._progress.finish(note)
        self._samples = None

    def say(self, line: str) -> None:
        self._progress.say(line)

    def _tell(self, per_s: float) -> None:
        self._is_told = True
        assert self._samples is not None
        epochs = self._planned()
        seconds = epochs * self._samples / per_s
        self._known(seconds)
        if seconds >= LEAST_TOLD_S:
            self._progress.say(
                f"needs about {time_in_words(seconds)} at this pace ({per_s:,.0f} samples/s, up to {epochs:.0f} "
                "epochs; stopping early and validation not counted)"
            )
