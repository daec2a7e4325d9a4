"""Statistics of sessions, returns, activity and the clock."""

import numpy as np

from simulator.realism.log import DAY_S, HOUR_S, LEAST_WEEKDAYS, Log
from simulator.realism.statistics import Floats, Kind, Missing, Statistic

RETURN_DAYS = 7


def within_gaps_s(log: Log) -> Floats:
    """Seconds between clicks that follow each other in a session."""
    gap = np.diff(log.time_s)
    return gap[np.diff(log.session) == 0]


def between_gaps_h(log: Log) -> Floats:
    """Hours from the last click of a session to the first of the same user's next."""
    gap = np.diff(log.time_s)[log.session_start[1:] - 1] / HOUR_S
    return gap[np.diff(log.user[log.session_start]) == 0]


def sessions_per_user(log: Log) -> Floats:
    """Sessions of every user with a click, shape (U,)."""
    user = log.user[log.session_start]
    return np.diff(np.flatnonzero(np.diff(user, prepend=-1)), append=len(user)).astype(np.float64)


def clicks_per_user(log: Log) -> Floats:
    """Clicks of every user with one, shape (U,)."""
    return np.diff(log.user_start, append=len(log)).astype(np.float64)


def return_curve(log: Log) -> Floats:
    """Share of users seen again exactly 1 … 7 days after the day they were first seen, and on any of those days.

    A day counts users for whom it lies within the log; first seen is not sign-up where the log starts in the middle.
    """
    day = ((log.time_s - log.first_s) // DAY_S).astype(np.int64)
    first = np.repeat(day[log.user_start], np.diff(log.user_start, append=len(log)))
    after = day - first
    last_day = int(day.max())
    curve = np.full(RETURN_DAYS + 1, np.nan)
    for ahead in range(1, RETURN_DAYS + 1):
        eligible = day[log.user_start] + ahead <= last_day
        if eligible.any():
            curve[ahead - 1] = len(np.unique(log.user[after == ahead])) / eligible.sum()
    week = day[log.user_start] + RETURN_DAYS <= last_day
    if week.any():
        eligible_click = first + RETURN_DAYS <= last_day
        soon = (after >= 1) & (after <= RETURN_DAYS) & eligible_click
        curve[-1] = len(np.unique(log.user[soon])) / week.sum()
    return curve


def hour_of_day(log: Log) -> Floats:
    """Hour of the day at which each session starts, 0 … 24."""
    return log.time_s[log.session_start] % DAY_S / HOUR_S


def day_of_week(log: Log) -> Floats:
    """Day of the week on which each session starts, 0 = Monday."""
    if log.span_s < LEAST_WEEKDAYS * DAY_S:
        raise Missing(f"fewer than {LEAST_WEEKDAYS} days")
    return (log.time_s[log.session_start] // DAY_S + 3) % 7


VISITS = [
    Statistic(
        "clicks_per_session",
        "sessions",
        Kind.DISTRIBUTION,
        lambda log: log.session_clicks.astype(np.float64),
        "clicks",
        "Clicks in an hour from the first one.",
        log_scale=True,
    ),
    Statistic(
        "gap_within_session",
        "sessions",
        Kind.DISTRIBUTION,
        within_gaps_s,
        "s",
        "Seconds between one click of a session and the next.",
        log_scale=True,
    ),
    Statistic(
        "sessions_per_user",
        "returns",
        Kind.DISTRIBUTION,
        sessions_per_user,
        "sessions",
        "Sessions of a user over the whole log.",
        log_scale=True,
    ),
    Statistic(
        "gap_between_sessions",
        "returns",
        Kind.DISTRIBUTION,
        between_gaps_h,
        "h",
        "Hours from one session of a user to the next.",
        log_scale=True,
    ),
    Statistic(
        "return_curve",
        "returns",
        Kind.CURVE,
        return_curve,
        "share of users",
        "Share of users seen again exactly 1 … 7 days after the day they were first seen, and on any of them.",
        points=(*(f"D{day}" for day in range(1, RETURN_DAYS + 1)), "D1-7"),
    ),
    Statistic(
        "clicks_per_user",
        "activity",
        Kind.DISTRIBUTION,
        clicks_per_user,
        "clicks",
        "Clicks of a user over the whole log.",
        log_scale=True,
    ),
    Statistic(
        "hour_of_day",
        "time",
        Kind.CLOCK,
        hour_of_day,
        "h",
        "Hour of the day at which sessions start.",
        period=24.0,
    ),
    Statistic(
        "day_of_week",
        "time",
        Kind.CLOCK,
        day_of_week,
        "day, 0 = Monday",
        "Day of the week on which sessions start.",
        period=7.0,
    ),
]
