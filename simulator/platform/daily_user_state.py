"""Hidden truth of the users each evening: their satisfaction, and who has left for good. No trainer sees it."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray


def daily_user_state(
    day: int,
    users: NDArray[np.int64],
    arms: NDArray[np.int64],
    names: Sequence[str],
    satisfaction: NDArray[np.float64],
    left: NDArray[np.bool_],
) -> pl.DataFrame:
    """One row per user whose state changed on this day; for all others the row of an earlier day is still valid.

    Args:
        day: Number of the day.
        users: Who had a visit, or left for good this evening, ascending, shape (n,).
        arms: Number of the arm of each, shape (n,).
        names: Names of the arms.
        satisfaction: Satisfaction of every user this evening, shape (U,); 0 before the first visit.
        left: Who has left for good this evening, shape (U,).
    """
    return pl.DataFrame(
        {
            "day": np.full(len(users), day, np.int32),
            "user_id": users,
            "arm": pl.Series(list(names), dtype=pl.String).gather(arms),
            "satisfaction": satisfaction[users].astype(np.float32),
            "left": left[users],
        }
    )
