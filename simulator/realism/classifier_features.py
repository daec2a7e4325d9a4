"""Sessions and users as rows of numbers, for the classifier that tries to tell a world from a real log."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.realism.log import DAY_S, HOUR_S, Log
from simulator.realism.response_statistics import log_dwell

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassifierFeatures:
    """Rows of one kind, sessions or users.

    Attributes:
        user: Whose row it is, shape (R,).
        columns: Feature -> values, shape (R,), NaN where a row has none.
    """

    user: NDArray[np.int64]
    columns: dict[str, Floats]


# The group of statistics that a feature speaks of: ``--without`` leaves it out as well.
GROUPS = {
    "clicks": "sessions",
    "duration": "sessions",
    "gap": "sessions",
    "clicks per session": "sessions",
    "spread of clicks per session": "sessions",
    "hours since last session": "returns",
    "number of session": "returns",
    "sessions": "returns",
    "days from first to last": "returns",
    "hours between sessions": "returns",
    "clicks of user": "activity",
    "hour": "time",
    "weekday": "time",
    "popularity of items": "popularity",
    "spread of popularity": "popularity",
    "repeats of session": "repetition",
    "repeats of user": "repetition",
    "categories": "repetition",
    "steps within category": "co_clicks",
    "dwell": "behaviour",
    "spread of dwell": "behaviour",
    "likes": "behaviour",
    "follows": "behaviour",
}


def session_features(log: Log) -> ClassifierFeatures:
    """One row for each session, shape (S,)."""
    start, n = log.session_start, log.session_clicks
    session = np.repeat(np.arange(len(start)), n)
    user, begin = log.user[start], log.time_s[start]
    end = log.time_s[start + n - 1]
    same_user = np.diff(user, prepend=-1) == 0
    since = np.full(len(start), np.nan)
    since[1:] = np.where(same_user[1:], (begin[1:] - end[:-1]) / HOUR_S, np.nan)
    first = np.flatnonzero(~same_user)
    number = np.arange(len(start)) - np.repeat(first, np.diff(first, append=len(start))) + 1.0
    columns = {
        "clicks": np.log(n),
        "duration": _log_or_nan(end - begin, n > 1),
        "gap": _log_or_nan((end - begin) / np.maximum(n - 1, 1), n > 1),
        "hours since last session": np.log1p(since),
        "number of session": np.log(number),
        "hour": np.floor(begin % DAY_S / HOUR_S),
        "weekday": (begin // DAY_S + 3) % 7,
        "popularity of items": _mean(session, popularity(log)[log.item], n),
        "repeats of session": _mean(session, log.repeated.astype(np.float64), n),
        **_responses(log, session, n),
    }
    if log.category is not None:
        category = log.category[log.item]
        step = np.append((np.diff(session) == 0) & (category[1:] == category[:-1]) & (category[1:] > 0), False)
        columns["steps within category"] = np.where(
            n > 1, np.bincount(session, step, minlength=len(n)) / np.maximum(n - 1, 1), np.nan
        )
    return ClassifierFeatures(user, columns)


def user_features(log: Log) -> ClassifierFeatures:
    """One row for each user, shape (U,)."""
    start = log.user_start
    n = np.diff(start, append=len(log))
    row = np.repeat(np.arange(len(start)), n)
    session_row = row[log.session_start]
    sessions = np.bincount(session_row, minlength=len(start))
    length = np.log(log.session_clicks)
    rank = popularity(log)[log.item]
    last = log.time_s[start + n - 1]
    columns = {
        "clicks of user": np.log(n),
        "sessions": np.log(sessions),
        "clicks per session": _mean(session_row, length, sessions),
        "spread of clicks per session": _sd(session_row, length, sessions),
        "days from first to last": np.log1p((last - log.time_s[start]) / DAY_S),
        "hours between sessions": _log_or_nan(
            (last - log.time_s[start]) / HOUR_S / np.maximum(sessions - 1, 1), sessions > 1
        ),
        "popularity of items": _mean(row, rank, n),
        "spread of popularity": _sd(row, rank, n),
        "repeats of user": _mean(row, log.repeated.astype(np.float64), n),
        **_responses(log, row, n),
    }
    if log.dwell_s is not None:
        columns["spread of dwell"] = _sd(row, log_dwell(log), n)
    if log.category is not None:
        pairs = np.unique(row * (int(log.category.max()) + 1) + log.category[log.item])
        distinct = np.bincount(pairs // (int(log.category.max()) + 1), minlength=len(n))
        columns["categories"] = np.log(distinct)
    return ClassifierFeatures(log.user[start], columns)


def popularity(log: Log) -> Floats:
    """Share of the clicks that go to items less clicked than each item, ties half, shape (N,)."""
    clicks = log.item_clicks
    order = np.argsort(clicks, kind="stable")
    values, first = np.unique(clicks[order], return_index=True)
    before = np.append(0, np.cumsum(clicks[order]))
    share = (before[first] + before[np.append(first[1:], len(clicks))]) / 2.0 / max(len(log), 1)
    result: Floats = share[np.searchsorted(values, clicks)]
    return result


def _responses(log: Log, row: NDArray[np.int64], n: NDArray[np.int64]) -> dict[str, Floats]:
    columns = {}
    if log.dwell_s is not None:
        columns["dwell"] = _mean(row, log_dwell(log), n)
    for name, events in (("likes", log.like), ("follows", log.follow)):
        if events is not None:
            columns[name] = _mean(row, events.astype(np.float64), n)
    return columns


def _mean(row: NDArray[np.int64], values: Floats, n: NDArray[np.int64]) -> Floats:
    return np.bincount(row, values, minlength=len(n)) / n


def _sd(row: NDArray[np.int64], values: Floats, n: NDArray[np.int64]) -> Floats:
    mean = _mean(row, values, n)
    variance = np.bincount(row, (values - mean[row]) ** 2, minlength=len(n)) / np.maximum(n - 1, 1)
    return np.where(n > 1, np.sqrt(variance), np.nan)


def _log_or_nan(values: Floats, known: NDArray[np.bool_]) -> Floats:
    return np.where(known, np.log1p(values), np.nan)
