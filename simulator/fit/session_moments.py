"""Keys of users and sessions: how many, when, how long, how unevenly."""

import datetime

import numpy as np

from simulator.fit.findings import Findings
from simulator.fit.visit_moments import observed, solve
from simulator.realism.log import DAY_S, HOUR_S, Log
from simulator.realism.visit_statistics import sessions_per_user, within_gaps_s
from simulator.world.visits import OPENS_H

LEAST_GAP_S = 0.001  # shorter gaps are read as this where a logarithm is taken
LEAST_WEEKDAY = 0.001
_QUIET_SHARE = 0.02


def span(log: Log) -> tuple[datetime.date, int, float]:
    """First day of the world, its days, and its start in seconds: worlds run from four to four."""
    start_s = float((log.time_s.min() - OPENS_H * HOUR_S) // DAY_S * DAY_S + OPENS_H * HOUR_S)
    days = int((log.time_s.max() - start_s) // DAY_S) + 1
    first = datetime.datetime.fromtimestamp(start_s, tz=datetime.UTC).date()
    return first, days, start_s


def fit_visits(log: Log, start_s: float, days: int, findings: Findings) -> None:
    """Set how often users come and how they come and go."""
    moments = observed(log, start_s, days)
    visitors = solve(moments, days)
    mean = float(sessions_per_user(log).mean())
    findings.set("sessions.per_user", round(max(mean, 1.02), 3), "mean sessions of the users with a click")
    source = f"share of users with one session ({moments.single:.3f}) and mean square of sessions per user"
    findings.set("users.activity_sd", round(visitors.activity_sd, 3), source)
    findings.set(
        "users.new_share",
        round(visitors.new_share, 3),
        f"users are first seen at {moments.first:.3f} of the log on average",
    )
    findings.set(
        "users.churn_per_day",
        round(visitors.churn_per_day, 5),
        f"users are last seen at {moments.last:.3f} of the log on average",
    )


def fit_sessions(log: Log, findings: Findings) -> None:
    """Set the clicks of a session and the pauses between them."""
    more = log.session_clicks - 1.0
    mean = float(more.mean())
    findings.set("sessions.clicks", round(float(np.clip(1.0 + mean, 1.01, 100.0)), 3), "mean clicks of a session")
    square = (float((more**2).mean()) - mean) / 2.0  # of the users' means, were each session geometric
    spread = np.sqrt(np.log(max(1.0, square / max(mean, 1e-9) ** 2)))
    findings.set(
        "sessions.patience_sd", round(float(min(spread, 3.0)), 3), "variance of clicks per session above geometric"
    )
    gaps = within_gaps_s(log)
    if len(gaps) < 50:
        findings.keep("hardly a session has two clicks", "sessions.browse_s")
    elif log.dwell_s is None:
        log_gap = np.log(np.maximum(gaps, LEAST_GAP_S))
        source = "of the log gap between clicks of a session, as the log has no dwell"
        findings.set("behaviour.dwell_log_mean", round(float(log_gap.mean()), 3), f"mean {source}")
        findings.set("behaviour.dwell_log_sd", round(float(min(log_gap.std(), 3.0)), 3), f"sd {source}")
        findings.set("sessions.browse_s", 0.0, "the gaps are taken as dwell, as the log has none")
    else:
        inside = np.append(np.diff(log.session) == 0, False)
        browse_s = float(np.median(gaps - log.dwell_s[inside]))
        findings.set(
            "sessions.browse_s",
            round(max(0.0, browse_s) / float(np.log(2.0)), 2),
            "median of the gap between clicks of a session less the dwell on the first",
        )


def fit_clock(log: Log, findings: Findings) -> list[str]:
    """Set the profiles of the day and the week.

    Returns:
        What a person should know of them.
    """
    start = log.time_s[log.session_start]
    hourly = np.bincount((start % DAY_S // HOUR_S).astype(np.int64), minlength=24) / len(start)
    notes = []
    if hourly[OPENS_H - 1] > _QUIET_SHARE:
        quiet = int(np.argmin(hourly))
        notes.append(
            f"{hourly[OPENS_H - 1]:.1%} of the sessions start between three and four, where a world has none; the "
            f"quietest hour is {quiet}: is --utc-offset {(OPENS_H - 1 - quiet + 12) % 24 - 12:g} the users' clock?"
        )
    hourly[OPENS_H - 1] = 0.0
    findings.set("sessions.hourly", np.round(100.0 * hourly, 2).tolist(), "starts of sessions by hour, in %")
    if log.span_s < 13 * DAY_S:
        findings.keep("fewer than two weeks of log", "sessions.weekly")
        return notes
    weekday = (start // DAY_S + 3) % 7
    first_day, last_day = int(log.time_s.min() // DAY_S), int(log.time_s.max() // DAY_S)
    days = np.bincount((np.arange(first_day, last_day + 1) + 3) % 7, minlength=7)
    a_day = np.bincount(weekday.astype(np.int64), minlength=7) / np.maximum(days, 1)
    findings.set(
        "sessions.weekly",
        np.round(np.maximum(a_day / a_day.mean(), LEAST_WEEKDAY), 3).tolist(),
        "sessions a day by day of the week, over their mean",
    )
    return notes
