"""What passes between the platform and its users."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NO_CAUSE = 255  # beside items that were not clicked


class DayVisits(NamedTuple):
    """The visits of a day in order of their start."""

    user: NDArray[np.int64]  # (V,)
    start_s: NDArray[np.float64]  # (V,) seconds since the start of the log
    ordinal: NDArray[np.int64]  # (V,) number of the visit within the user's day
    key: NDArray[np.uint64]  # (V,) key of every draw in the visit: seed, user, day, ordinal


class Responses(NamedTuple):
    """What users did with B slates of K items; padding is neither examined nor clicked."""

    examined: NDArray[np.bool_]  # (B, K)
    clicked: NDArray[np.bool_]  # (B, K), only what was examined
    dwell_s: NDArray[np.float32]  # (B, K), 0 where not clicked
    like: NDArray[np.bool_]  # (B, K), only of clicks
    follow: NDArray[np.bool_]  # (B, K) follows the item's provider, only with a click
    cause: NDArray[np.uint8]  # (B, K) hidden truth: Cause of each click, NO_CAUSE elsewhere
    busy_s: NDArray[np.float64]  # (B,) seconds until the user acts again: dwell and browsing
    leave: NDArray[np.bool_]  # (B,) the visit ends with this slate


class Abandonments(NamedTuple):
    """What B users did who got no slate."""

    busy_s: NDArray[np.float64]  # (B,) seconds until they ask again, 0 for those who leave
    leave: NDArray[np.bool_]  # (B,) the visit ends
