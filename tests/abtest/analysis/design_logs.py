"""Logs of designs beyond two arms of users, with effects that are known."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl

START = datetime(2026, 3, 2)


def households(clusters: int = 60, *, lift: float = 0.0, seed: int = 1) -> pl.DataFrame:
    """One row per user; households of unequal size were assigned, and share a taste."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 9, clusters)
    household = np.repeat(np.arange(clusters), sizes)
    arm = rng.permutation(clusters) % 2
    taste = rng.gamma(4.0, 0.5, clusters)[household]
    mean = 3.0 * taste * np.where(arm[household] == 1, 1.0 + lift, 1.0)
    clicks = rng.poisson(mean)
    return pl.DataFrame(
        {
            "user_id": np.arange(len(household)),
            "household": [f"h{one}" for one in household],
            "arm": np.where(arm[household] == 1, "B", "A"),
            "clicks": clicks,
            "dwell_s": clicks * rng.lognormal(2.0, 0.4, len(clicks)),
            "cold": np.arange(len(household)) % 3 == 0,
            "pre_clicks": rng.poisson(3.0 * taste),
        }
    )


def daily_households(
    clusters: int = 40, *, days: int = 5, lift: float = 0.0, shared: float = 0.1, per: float = 8.0, seed: int = 1
) -> pl.DataFrame:
    """One row per user and day: users of a household come on a first day of their own, and often again.

    Args:
        clusters: Households, half of them in each arm.
        days: Days of the log.
        lift: Of clicks under B.
        shared: Variance of what a household shares, relative to the mean's square.
        per: Users of a household in the middle.
        seed: Random seed.
    """
    rng = np.random.default_rng(seed)
    sizes = np.maximum(np.round(per * rng.lognormal(0.0, 0.3, clusters)), 2).astype(int)
    arm, taste = rng.permutation(clusters) % 2, np.maximum(1.0 + np.sqrt(shared) * rng.normal(size=clusters), 0.05)
    household = np.repeat(np.arange(clusters), sizes)
    own, first = rng.gamma(2.0, 0.5, len(household)), rng.integers(1, days + 1, len(household))
    rows = []
    for day in range(1, days + 1):
        user = np.flatnonzero((first == day) | ((first < day) & (rng.random(len(household)) < 0.4)))
        house = household[user]
        mean = 2.0 * taste[house] * own[user] * (1.0 + lift * arm[house])
        rows.append(
            pl.DataFrame(
                {
                    "user_id": user,
                    "household": house,
                    "arm": np.where(arm[house] == 1, "B", "A"),
                    "day": np.full(len(user), day),
                    "clicks": rng.poisson(mean),
                    "pre_clicks": np.random.default_rng([seed, 1]).poisson(2.0 * taste[household] * own)[user],
                    "cold": (user % 3 == 0),
                }
            )
        )
    return pl.concat(rows).with_columns(pl.col("household").cast(pl.String))


def switchback(
    *, days: int = 10, regions: int = 4, lift: float = 0.0, carry_min: float = 0.0, seed: int = 1, rate: float = 6.0
) -> pl.DataFrame:
    """Events of users in regions whose arm is drawn anew every two hours.

    Args:
        days: Days of the log.
        regions: Places.
        lift: Of clicks a minute under B.
        carry_min: Minutes at the start of a period in which the arm of the period before still acts.
        seed: Random seed.
        rate: Clicks of a region in ten minutes under A, on average.
    """
    rng = np.random.default_rng(seed)
    periods, slots = days * 12, 12  # of two hours, in ten minutes
    arm = rng.integers(0, 2, (regions, periods))
    before = np.concatenate([arm[:, :1], arm[:, :-1]], axis=1)
    minute = np.arange(slots) * 10.0
    acting = np.where(minute[None, None, :] < carry_min, before[:, :, None], arm[:, :, None])
    place = rng.gamma(20.0, 1.0 / 20.0, regions)[:, None, None] * (1.0 + 0.3 * rng.random((1, periods, 1)))
    counts = rng.poisson(rate * place * (1.0 + lift * acting))
    region, period, slot = (np.repeat(at.ravel(), counts.ravel()) for at in np.indices(counts.shape))
    seconds = period * 7200.0 + slot * 600.0 + rng.random(len(period)) * 600.0
    return pl.DataFrame(
        {
            "user_id": rng.integers(0, 40, len(period)) + 1000 * region,
            "region": [f"r{one}" for one in region],
            "arm": np.where(arm[region, period] == 1, "B", "A"),
            "timestamp": pl.Series([START + timedelta(seconds=float(one)) for one in seconds]).dt.replace_time_zone(
                "UTC"
            ),
            "event": "click",
        }
    ).sort("timestamp")


def switchback_schedule(*, days: int = 10, regions: int = 4, seed: int = 1) -> pl.DataFrame:
    """The arm of every period of ``switchback`` with the same seed, as a schedule has it."""
    arm = np.random.default_rng(seed).integers(0, 2, (regions, days * 12))
    region, period = (at.ravel() for at in np.indices(arm.shape))
    starts = pl.Series([START + timedelta(hours=2 * int(one)) for one in period]).dt.replace_time_zone("UTC")
    arms = np.where(arm.ravel() == 1, "B", "A")
    return pl.DataFrame({"region": [f"r{one}" for one in region], "timestamp": starts, "arm": arms})


def two_armed(users: int = 1000, crossing: int = 40, *, seed: int = 1) -> pl.DataFrame:
    """Events over five days; some users of A were seen in B from the third day on."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), rng.integers(2, 9, users))
    day = rng.integers(0, 5, len(user))
    first = np.unique(user, return_index=True)[1]
    day[first], day[first + 1] = 0, 4
    arm = np.where(user % 2 == 1, "B", "A")
    arm = np.where((user < 2 * crossing) & (user % 2 == 0) & (day >= 2), "B", arm)
    moments = [
        START + timedelta(days=int(one), minutes=int(minute))
        for one, minute in zip(day, rng.integers(0, 1400, len(day)), strict=True)
    ]
    return pl.DataFrame(
        {"user_id": user, "arm": arm, "timestamp": pl.Series(moments).dt.replace_time_zone("UTC"), "event": "click"}
    ).sort("timestamp")


def exposed(
    users: int = 4000, *, share: float = 0.4, lift: float = 0.0, seed: int = 1
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events over four days and the exposures of some users, whose clicks change from then on."""
    rng = np.random.default_rng(seed)
    arm = np.arange(users) % 2
    at_h = np.where(rng.random(users) < share, rng.uniform(0.0, 72.0, users), np.inf)
    rows, when = [], []
    for half in range(8):  # half days
        begun = at_h <= half * 12.0
        mean = 0.8 * np.where(begun & (arm == 1), 1.0 + lift, 1.0)
        counts = rng.poisson(mean)
        user = np.repeat(np.arange(users), counts)
        rows.append(user)
        when.append(half * 12.0 + rng.random(len(user)) * 11.9)
    user, hours = np.concatenate(rows), np.concatenate(when)
    moments = pl.Series([START + timedelta(hours=float(one)) for one in hours]).dt.replace_time_zone("UTC")
    log = pl.DataFrame(
        {"user_id": user, "arm": np.where(arm[user] == 1, "B", "A"), "timestamp": moments, "event": "click"}
    )
    met = np.flatnonzero(np.isfinite(at_h))
    first = pl.Series(
        [START + timedelta(hours=float(np.ceil(at_h[one] / 12.0) * 12.0)) for one in met]
    ).dt.replace_time_zone("UTC")
    return log.sort("timestamp"), pl.DataFrame({"user_id": met, "timestamp": first})
