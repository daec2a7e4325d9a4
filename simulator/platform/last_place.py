"""What policies would put on the last place of a slate, logged beside what was shown there.

A log with exploration tells what another policy would earn, as long as it holds how likely each choice was. So for
every slate the platform logs what each policy would have chosen, with the exact chance that the serving policy gives to
that choice, see ``choice.explore``. A policy that may not be chosen at all has chance 0.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.platform.platform_config import RANKED

CHOICE = np.dtype(
    [
        ("item_id", np.int64),  # -1: no choice, as the slate is not full
        ("propensity", np.float32),  # chance of this choice under the serving policy, given the candidates
        ("channel", np.int8),  # number in the plan
        ("channel_place", np.int16),
        ("score", np.float32),
    ]
)


def explored_among(n: NDArray[np.int64], k: int, among: int | None) -> NDArray[np.int64]:
    """From how many candidates behind the slate exploration draws, shape (B,).

    Args:
        n: Candidates of each request, shape (B,).
        k: Places of the slate.
        among: Most of them; None: all.
    """
    rest = np.maximum(n - k, 0)
    return rest if among is None else np.minimum(rest, among)


def policy_columns(
    policies: Sequence[str], channels: Sequence[str], ranking: NDArray[np.int64], channel: NDArray[np.int8], k: int
) -> NDArray[np.int64]:
    """Place in the ranking of what each policy would put on the last place, shape (B, P), at least k - 1.

    Args:
        policies: ``ranking``, or a channel, whose best-ranked candidate takes the place; ranking's where it has none.
        channels: Names of the plan's channels.
        ranking: Columns of the candidates, best first, shape (B, L), L >= k.
        channel: Number of the channel that brought each candidate, shape (B, C).
        k: Places of the slate.
    """
    brought = np.take_along_axis(channel, ranking[:, k - 1 :], axis=1)  # (B, L - k + 1)
    found = np.full((len(ranking), len(policies)), k - 1)
    for column, name in enumerate(policies):
        if name != RANKED:
            theirs = brought == channels.index(name)
            found[:, column] = k - 1 + theirs.argmax(axis=1)  # the first; 0 where there is none
    return found


def propensities(places: NDArray[np.int64], k: int, rate: float, among: NDArray[np.int64]) -> NDArray[np.float32]:
    """Chance that the serving policy puts the candidate ranked at ``places`` (B, P) on the last place.

    Args:
        places: Place in the ranking, at least k - 1.
        k: Places of the slate.
        rate: Rate of exploration.
        among: From how many candidates behind the slate it draws, shape (B,).
    """
    rate_of_row = np.where(among > 0, rate, 0.0)[:, None]
    each = rate_of_row / np.maximum(among, 1)[:, None]
    return np.where(places == k - 1, 1.0 - rate_of_row, np.where(places < k + among[:, None], each, 0.0)).astype(
        np.float32
    )
