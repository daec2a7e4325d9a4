"""When users come: Poisson visits with daily and weekly profiles, at least two hours apart, until they leave for good.

Time runs in seconds from four in the morning of the first day; a world's day runs from four to four, and no visit
starts in its last hour, so that no session reaches into the next day.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Draws
from simulator.world.world_config import WorldConfig

DAY_S = 86_400
OPENS_H = 4  # hour of the day at which a world's day starts
APART_S = 7_260.0  # least time between two starts: a session of an hour, an hour's gap, a minute
_PILOT_USERS = (2_048, 32_768)
_PILOT_USER_DAYS = 400_000
_PILOT_FIRST = 1 << 40  # ids that no user has
_MOST_RATE = 100.0  # visits a day


class Visits(NamedTuple):
    """Sessions in order of user and time."""

    row: NDArray[np.int64]  # (S,) row of the user in the array asked for
    start_s: NDArray[np.float64]  # (S,) seconds since the start of the log
    ordinal: NDArray[np.int64]  # (S,) number of the session within its day


class Calendar:
    """The visit intensity of a user of rate 1, and its inverse."""

    def __init__(self, config: WorldConfig, days: int) -> None:
        hourly = np.roll(np.array(config.sessions.hourly), -OPENS_H)
        self._cumulative = np.append(0.0, np.cumsum(hourly)) / hourly.sum()
        self._edges_s = np.arange(25) * 3_600.0
        weekly = np.array(config.sessions.weekly)
        first = config.start.weekday()
        self.days = days
        self.weight = weekly[(first + np.arange(days)) % 7] / weekly.mean()  # (days,)
        self.before = np.append(0.0, np.cumsum(self.weight))  # (days + 1,) intensity before each day

    def share_at(self, second: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of a day's intensity before ``second`` of the day."""
        share: NDArray[np.float64] = np.interp(second, self._edges_s, self._cumulative)
        return share

    def second_at(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """Second of the day before which ``share`` of its intensity lies."""
        second: NDArray[np.float64] = np.interp(share, self._cumulative, self._edges_s)
        return second


class VisitDraws:
    """Draws the visits of any users.

    Args:
        config: The world.
        rate: Visits a day of a user of activity 1 (:func:`calibrate_rate`).
    """

    def __init__(self, config: WorldConfig, rate: float) -> None:
        self._config, self._rate = config, rate
        self._activity = Draws(config.seed, "activity")
        self._entry = Draws(config.seed, "entry")
        self._lifetime = Draws(config.seed, "lifetime")
        self._visit = Draws(config.seed, "visit")
        self._window = Calendar(config, config.window_days)

    def activity(self, users: NDArray[np.int64]) -> NDArray[np.float64]:
        """Relative visit rate, log-normal with median 1, shape (B,)."""
        activity: NDArray[np.float64] = np.exp(self._config.users.activity_sd * self._activity.normal(users))
        return activity

    def entry(self, users: NDArray[np.int64], activity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Intensity on the calendar that passes before the first visit, shape (B,), less than the whole window's.

        The visits of an old user are a Poisson process given that at least one falls into the window; a new user
        appears at a moment spread like everybody's visits.
        """
        whole = self._window.before[-1]
        _, place = self._entry.two_uniforms(users)
        rate = self._rate * activity
        old = -np.log1p(place * np.expm1(-rate * whole)) / rate
        return np.minimum(np.where(self.is_new(users), place * whole, old), whole * (1 - 1e-12))

    def draw(self, users: NDArray[np.int64], activity: NDArray[np.float64], days: int) -> Visits:
        """All visits of users (B,) within the first ``days`` days."""
        return _in_order(self._found(users, activity, days))

    def count(self, users: NDArray[np.int64], activity: NDArray[np.float64], days: int) -> int:
        """How many visits :meth:`draw` makes."""
        return sum(len(rows) for rows, _, _ in self._found(users, activity, days))

    def is_new(self, users: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Who appears only during the window, shape (B,)."""
        kind, _ = self._entry.two_uniforms(users)
        return kind < self._config.users.new_share

    def presence(
        self, users: NDArray[np.int64], activity: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Start of the first visit of users (B,), and the moment after which they never come again; seconds."""
        day, share = self._first(users, activity, self._window)
        first_s = day * DAY_S + self._window.second_at(share)
        return first_s, first_s + self._lifetime_s(users)

    def _first(
        self, users: NDArray[np.int64], activity: NDArray[np.float64], calendar: Calendar
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Day of the first visit, and the share of the day's intensity before it."""
        entry = self.entry(users, activity)
        day = np.searchsorted(calendar.before, entry, side="right") - 1
        return day, (entry - calendar.before[day]) / calendar.weight[day]

    def _found(
        self, users: NDArray[np.int64], activity: NDArray[np.float64], days: int
    ) -> list[tuple[NDArray, NDArray, NDArray]]:
        """Row, start and ordinal of all visits: day by day, and within a day the first of everybody, the second …"""
        calendar = Calendar(self._config, max(days, self._config.window_days))
        first_day, first_share = self._first(users, activity, calendar)
        first_s = first_day * DAY_S + calendar.second_at(first_share)
        last_s = first_s + self._lifetime_s(users)
        found: list[tuple[NDArray, NDArray, NDArray]] = []
        for day in range(days):
            rows = np.flatnonzero((first_day <= day) & (last_s >= day * DAY_S))
            enters = first_day[rows] == day
            share = self._next_share(users[rows], day, 0, self._rate * activity[rows] * calendar.weight[day])
            share = np.where(enters, first_share[rows], share)
            ordinal = 0
            while True:
                come = share < 1.0
                rows, share = rows[come], share[come]
                second = calendar.second_at(share)
                start_s = day * DAY_S + second
                stay = start_s <= last_s[rows]
                rows, second, start_s = rows[stay], second[stay], start_s[stay]
                if not len(rows):
                    break
                found.append((rows, start_s, np.full(len(rows), ordinal)))
                ordinal += 1
                wait = self._next_share(users[rows], day, ordinal, self._rate * activity[rows] * calendar.weight[day])
                share = calendar.share_at(second + APART_S) + wait
        return found

    def _lifetime_s(self, users: NDArray[np.int64]) -> NDArray[np.float64]:
        churn = self._config.users.churn_per_day
        if churn == 0.0:
            return np.full(len(users), np.inf)
        if churn == 1.0:
            return np.zeros(len(users))
        return np.log(self._lifetime.uniform(users)) / np.log1p(-churn) * DAY_S

    def _next_share(
        self, users: NDArray[np.int64], day: int, ordinal: int, rate: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Share of the day's intensity that passes until the next visit."""
        return -np.log(self._visit.uniform(users, day * 64 + ordinal)) / rate


def calibrate_rate(config: WorldConfig) -> float:
    """Visits a day of a user of activity 1, so that users make ``sessions.per_user`` visits in the window on average.

    Found by Brent's method over a pilot of users who are not in the world, with even quantiles of activity. One who
    leaves at once still makes a visit, so there is a least mean of 1.

    Raises:
        ValueError: If the mean cannot be reached, because visits lie two hours apart or users leave too soon.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    least, most = _PILOT_USERS
    n = int(np.clip(_PILOT_USER_DAYS // config.window_days, least, most))
    users = _PILOT_FIRST + np.arange(n)
    activity = np.exp(config.users.activity_sd * ndtri((np.arange(n) + 0.5) / n))

    def sessions(rate: float) -> float:
        return VisitDraws(config, rate).count(users, activity, config.window_days) / n

    low = high = config.sessions.per_user / config.window_days
    while sessions(high) < config.sessions.per_user:
        high *= 4.0
        if high > _MOST_RATE:
            raise ValueError(
                f"sessions.per_user: {config.sessions.per_user:g} cannot be reached within {config.window_days} days: "
                f"about {sessions(_MOST_RATE):.2f} is the most with visits two hours apart, users.new_share "
                f"{config.users.new_share:g} and users.churn_per_day {config.users.churn_per_day:g}: lower it or raise "
                "window_days"
            )
    while sessions(low) > config.sessions.per_user:
        low /= 4.0
    if low == high:
        return low
    log_rate = brentq(
        lambda log_rate: sessions(float(np.exp(log_rate))) - config.sessions.per_user,
        np.log(low),
        np.log(high),
        xtol=1e-4,
    )
    return float(np.exp(log_rate))


def pilot_users(count: int) -> NDArray[np.int64]:
    """Ids of users who are in no world, for calibration."""
    return 2 * _PILOT_FIRST + np.arange(count)


def _in_order(found: list[tuple[NDArray, NDArray, NDArray]]) -> Visits:
    if not found:
        return Visits(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))
    row, start_s, ordinal = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((start_s, row))
    return Visits(row[order], start_s[order], ordinal[order])
