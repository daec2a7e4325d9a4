"""Time in scores: clicks that count less with age, and popularity that fades."""

from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from micrec.data.day_table import DayTable
from micrec.data.sorting import parts_of
from micrec.data.tally import KeyTally
from micrec.shapes import is_fixed

DAY_MS = 86_400_000
SMOOTHING = 0.3  # clicks that every item has in addition, so that the logarithm exists
TABLE_NUMBERS = 1 << 25  # days times items up to which the popularity of every day is kept: 128 MB


def faded(age_ms: Tensor, half_life_days: float) -> Tensor:
    """What a click of this age counts, float32: 1 when it is new, half after the half-life; before or after alike."""
    return torch.exp2(age_ms.abs().double() / (-half_life_days * DAY_MS)).float()


def days_of(time_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the UTC day of each moment."""
    return np.asarray(time_ms, np.int64) // DAY_MS


class ClickDays:
    """``days_of`` the clicks of a log, made a part at a time where a part is asked for."""

    def __init__(self, time_ms: NDArray[np.int64]) -> None:
        self._time_ms = time_ms

    def __len__(self) -> int:
        return len(self._time_ms)

    def __getitem__(self, part: slice) -> NDArray[np.int64]:
        return days_of(self._time_ms[part])

    def min(self) -> int:
        """The first day."""
        return int(self._time_ms.min()) // DAY_MS

    def max(self) -> int:
        """The last day."""
        return int(self._time_ms.max()) // DAY_MS


Days: TypeAlias = NDArray[np.int64] | ClickDays


class DriftingPopularity:
    """log of an item's faded clicks over the mean of all items, as of the morning of any day.

    A click counts 2 ** (-age / half-life), its age being the days from its own day to the day that is asked for; the
    clicks of that day itself are not known yet. An item x of N has log(N (x + c) / (sum of all x + c N)), c being
    ``SMOOTHING``: 0 for a mean item, finite for one without clicks.

    Memory follows the pairs of an item and a day with clicks; where days times items are few, the values of all days
    are kept, which makes a look-up a gather.
    """

    def __init__(
        self, item_ids: ArrayLike, days: Days, n_items: int, half_life_days: float, *, tabulate: bool = False
    ) -> None:
        """Take in clicks in any order.

        Args:
            item_ids: Items of the clicks, shape (n,).
            days: Their days, shape (n,).
            n_items: N.
            half_life_days: Days after which a click counts half, > 0.
            tabulate: Keep the values of all days where they are few.
        """
        items, at = np.asarray(item_ids), days if isinstance(days, ClickDays) else np.asarray(days)
        self.n_items, self.half_life_days = n_items, half_life_days
        self.first_day = int(at.min()) if len(at) else 0
        self.n_days = (int(at.max()) - self.first_day if len(at) else 0) + 2  # the morning after the last click too
        cells, counts = _cells(items, at, self.first_day, self.n_days)
        values = _faded_sums(cells, counts.astype(np.float64), self.n_days, half_life_days)
        totals = np.zeros(self.n_days)
        np.add.at(totals, cells % self.n_days, counts)
        mornings = np.zeros(self.n_days)
        for day in range(1, self.n_days):
            mornings[day] = (mornings[day - 1] + totals[day - 1]) * 0.5 ** (1.0 / half_life_days)
        self._cells, self._values = torch.from_numpy(cells), torch.from_numpy(values)
        self._totals = torch.from_numpy(mornings)
        self._table: DayTable | None = None
        if tabulate and self.n_days * n_items <= TABLE_NUMBERS:
            self._table = DayTable(self._whole_table())

    def to(self, device: torch.device | str) -> "DriftingPopularity":
        """The same on a device."""
        moved = object.__new__(DriftingPopularity)
        moved.__dict__.update(
            {
                name: value.to(device) if isinstance(value, Tensor | DayTable) else value
                for name, value in vars(self).items()
            }
        )
        return moved

    def grid(
        self, days: Tensor, items: Tensor | None = None, *, within: bool = False, out: Tensor | None = None
    ) -> Tensor:
        """Values as of each of ``days`` (B,) for each of ``items`` (K,), None = all N, float32, shape (B, K).

        ``within`` says that all days are those of clicks of the log, which saves a look at them. The values may be put
        into ``out``, (B, K).
        """
        known = (days - self.first_day).clamp(0, self.n_days - 1)
        if self._table is not None and (within or (days < self.first_day + self.n_days).all()):
            return self._table.on(known, items, out)
        items = torch.arange(self.n_items, device=days.device) if items is None else items
        if is_fixed(days):
            return self.pairs(days[:, None].expand(-1, len(items)), items.expand(len(days), -1))
        distinct, place = torch.unique(days - self.first_day, return_inverse=True)
        return self._grid(distinct, items)[place]

    def pairs(self, days: Tensor, items: Tensor, known: "LatestClicks | None" = None) -> Tensor:
        """The value of each item on the day beside it, in the shape of both, float32; ``known`` as in ``clicks``."""
        if not len(self._cells):
            return torch.zeros(items.shape, device=items.device)
        day = days - self.first_day
        last = day.clamp(0, self.n_days - 1)  # later than all clicks, everything only fades
        later = (day - last).double()
        total = self._totals[last] * torch.exp2(-later.clamp_min(0) / self.half_life_days)
        c, n = SMOOTHING, self.n_items
        return torch.log(n * (self.clicks(days, items, known) + c) / (total + c * n)).float()

    def places(self) -> NDArray[np.int32]:
        """Where each item's latest day with clicks before each day stands among all of them, (days, N); -1: none.

        Of the days of the log and the morning after it. What is the same for every half-life is searched for once.
        """
        found = np.full((self.n_days, self.n_items), -1, np.int32)
        cells = self._cells.numpy()
        found[cells % self.n_days + 1, cells // self.n_days] = np.arange(len(cells))
        return np.maximum.accumulate(found, axis=0, out=found)

    def latest(self, days: Tensor, items: Tensor, places: Tensor | None = None) -> "LatestClicks":
        """Each item's latest day with clicks before the day beside it, in the shape of both; ``places`` if known."""
        if not len(self._cells):
            nothing = torch.zeros(items.shape, device=items.device)
            return LatestClicks(nothing.long(), nothing.bool(), nothing.double())
        day = days - self.first_day
        if places is None:
            last = day.clamp(0, self.n_days - 1)
            places = torch.searchsorted(self._cells, items * self.n_days + last) - 1
        place = places.long().clamp_min(0)
        cell = self._cells[place]
        return LatestClicks(place, (places >= 0) & (cell // self.n_days == items), (day - cell % self.n_days).double())

    def clicks(self, days: Tensor, items: Tensor, known: "LatestClicks | None" = None) -> Tensor:
        """Faded clicks of each item as of the day beside it, in the shape of both, float64.

        ``known`` is what ``latest`` gives, of this popularity or of another half-life over the same clicks.
        """
        if not len(self._cells):
            return torch.zeros(items.shape, dtype=torch.float64, device=items.device)
        place, has, age = self.latest(days, items) if known is None else known
        return torch.where(has, self._values[place] * torch.exp2(-age / self.half_life_days), 0.0)

    def _whole_table(self) -> Tensor:
        items = torch.arange(self.n_items)
        days = (torch.arange(self.n_days) + self.first_day)[:, None].expand(-1, self.n_items)
        rows = zip(days, torch.from_numpy(self.places()), strict=True)
        return torch.stack([self.pairs(day, items, self.latest(day, items, places)) for day, places in rows])

    def _grid(self, days: Tensor, items: Tensor) -> Tensor:
        return torch.stack([self.pairs(day.expand(len(items)) + self.first_day, items) for day in days])


class LatestClicks(NamedTuple):
    """Where items stand among the days on which they were clicked, as of some days; the same for every half-life."""

    place: Tensor  # of an item's latest day with clicks before the day asked for, int64
    has: Tensor  # whether there is one, bool
    age: Tensor  # in days, float64


def _cells(
    items: NDArray[np.integer], days: Days, first_day: int, n_days: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct ``item * n_days + day``, ascending, the days counted from the first, and the clicks of each."""
    tally = KeyTally()
    for part in parts_of(len(days)):
        tally.add(*np.unique(items[part].astype(np.int64) * n_days + (days[part] - first_day), return_counts=True))
    return tally.total()


def _faded_sums(
    cells: NDArray[np.int64], counts: NDArray[np.float64], n_days: int, half_life_days: float
) -> NDArray[np.float64]:
    """Faded clicks of each cell's item up to its day, its own included; cells ascend by item, then day."""
    values = counts.copy()
    items, days = cells // n_days, cells % n_days
    starts = np.flatnonzero(np.diff(items, prepend=-1))
    lengths = np.diff(np.append(starts, len(cells)))
    for rank in range(1, int(lengths.max(initial=0))):  # the rank-th day of every item that has so many
        at = starts[lengths > rank] + rank
        values[at] += values[at - 1] * 0.5 ** ((days[at] - days[at - 1]) / half_life_days)
    return values
