"""What a user should know of the times of a log as a whole: that they are coarse, that the last day is cut short."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from micrec.data.sorting import distinct, parts_of
from micrec.data.times import HOUR_MS, LogDays

_DAYS_BEFORE = 7  # the last day, with which it is compared


def coarse_times(time_ms: NDArray[np.int64], days: LogDays) -> str | None:
    """A warning where times are dates alone or whole hours, in which one-hour sessions mean something else."""
    seen = _SeenTimes(days)
    for part in parts_of(len(time_ms)):
        seen.add(time_ms[part])
        if not (seen.are_dates or seen.are_hours):
            return None
    return seen.coarse()


def notes_on_times(parts: Iterable[NDArray[np.int64]], days: LogDays) -> list[str]:
    """Notes on the times of a log.

    Args:
        parts: Milliseconds since 1970-01-01 UTC, in arrays of any length and in any order.
        days: How the log is cut into days.
    """
    seen = _SeenTimes(days)
    for time_ms in parts:
        seen.add(time_ms)
        seen.add_ends(time_ms)
    notes = [note for note in (seen.coarse(), seen.cut_short()) if note is not None]
    return [note[0].upper() + note[1:] for note in notes]


class _SeenTimes:
    """What is remembered of times that pass: nothing that grows with them."""

    def __init__(self, days: LogDays) -> None:
        self.are_dates = self.are_hours = True
        self._days = days
        self._n = 0
        self._first_ms = self._last_ms = 0
        self._some_ms = np.empty(0, np.int64)  # three different moments, or as many as there are
        self._ends_ms: dict[int, int] = {}  # latest moment of each of the latest days

    def add(self, time_ms: NDArray[np.int64]) -> None:
        """Take moments, shape (n,)."""
        if not len(time_ms):
            return
        if not self._n:
            self._first_ms = self._last_ms = int(time_ms[0])
        self._n += len(time_ms)
        self._last_ms = max(self._last_ms, int(time_ms.max()))
        first = np.array([self._first_ms])
        into_day = self._days.ms_into_day
        self.are_dates = self.are_dates and bool((into_day(time_ms) == into_day(first)).all())
        self.are_hours = self.are_hours and bool((time_ms % HOUR_MS == first % HOUR_MS).all())
        if len(self._some_ms) < 3:
            self._some_ms = distinct(np.concatenate([self._some_ms, distinct(time_ms)[:3]]))[:3]

    def add_ends(self, time_ms: NDArray[np.int64]) -> None:
        """Take the same moments after ``add``, to know when the latest days end."""
        if not len(time_ms):
            return
        last = self._last_day()
        lowest_ms, highest_ms = int(time_ms.min()), int(time_ms.max())
        self._ends_ms = {day: end for day, end in self._ends_ms.items() if day >= last - _DAYS_BEFORE}
        for day in range(last - _DAYS_BEFORE, last + 1):
            begin_ms, end_ms = self._days.start_ms(day), self._days.start_ms(day + 1)
            if highest_ms < begin_ms or lowest_ms >= end_ms:
                continue
            of_day = time_ms[(time_ms >= begin_ms) & (time_ms < end_ms)]
            if len(of_day):
                self._ends_ms[day] = max(int(of_day.max()), self._ends_ms.get(day, begin_ms))

    def coarse(self) -> str | None:
        """See ``coarse_times``."""
        if len(self._some_ms) < 2:
            return None
        if self.are_dates:
            return (
                "the times are dates without a time of day: every one-hour session is a user's whole day, and clicks "
                "of one day have no order."
            )
        if self.are_hours and len(self._some_ms) > 2:
            return "the times are rounded to hours: a one-hour session is what a user clicked in one hour of the clock."
        return None

    def cut_short(self) -> str | None:
        """That the last day ends early, if it does so by an hour against each of the days before."""
        if not self._n:
            return None
        last = self._last_day()
        ends = [self._into_day(end) for day, end in self._ends_ms.items() if last - _DAYS_BEFORE <= day < last]
        reached = self._into_day(self._last_ms)
        if len(ends) < 2 or reached > min(ends) - HOUR_MS:
            return None
        clock_min = (reached + self._days.starts_at_ms) // 60_000 % 1440
        return (
            f"the last day of the log ends at {clock_min // 60:02d}:{clock_min % 60:02d} {self._days.timezone}, "
            f"earlier than each of the {len(ends)} days before it: it may be cut short, and split.test_days counts it "
            "as a day."
        )

    def _last_day(self) -> int:
        return int(self._days.numbers(np.array([self._last_ms]))[0])

    def _into_day(self, moment_ms: int) -> int:
        return int(self._days.ms_into_day(np.array([moment_ms]))[0])
