"""What matching thought of a candidate, as features of ranking: which channel brought it, and at which place.

Sources and scores of candidate generation are features of the ranking model of YouTube (Covington, Adams & Sargin,
RecSys 2016, section 4.1): without them ranking would have to find out anew, from counts of its own, what the matching
model had found, and what it cannot find out would be lost between the two.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from simulator.ports import Nominations, ObservedLog

FALLBACK = "fallback"  # not a channel
_FROM, _PLACE = "brought by ", "place in "
_PLACES = 1_000  # further down the feature stays as it is


def channels_of(log: ObservedLog, before: Mapping[str, float]) -> tuple[str, ...]:
    """Names, in order, of the channels that the log or the weights of a former version know."""
    shown = {str(name) for name in log.impressions["channel"].unique().drop_nulls()} - {FALLBACK}
    return tuple(sorted(shown | {name.removeprefix(_FROM) for name in before if name.startswith(_FROM)}))


def nomination_names(channels: Sequence[str]) -> tuple[str, ...]:
    """Names of the features, two for each channel."""
    return tuple(f"{kind}{channel}" for channel in channels for kind in (_FROM, _PLACE))


def nomination_columns(shown: pl.DataFrame, channels: Sequence[str]) -> NDArray[np.float32]:
    """Features of impressions, shape (m, 2 S): whether each channel brought the item, and how highly it ranked it."""
    brought, place = shown["channel"].cast(pl.String).to_numpy(), np.full(len(shown), -1)
    if "channel_place" in shown.columns:
        place = shown["channel_place"].fill_null(-1).to_numpy().astype(np.int64)
    height = _height(place)
    columns = np.zeros((len(shown), 2 * len(channels)), np.float32)
    for number, channel in enumerate(channels):
        mine = brought == channel
        columns[:, 2 * number] = mine
        columns[:, 2 * number + 1] = mine * height
    return columns


class NominationTable:
    """The same features, weighted, as one look-up per candidate.

    Args:
        weights: Of all features of the model by name.
        channels: Channels that the model knows; others add nothing.
    """

    def __init__(self, weights: Mapping[str, float], channels: Sequence[str]) -> None:
        height = _height(np.append(np.arange(_PLACES), -1))
        rows = [weights[f"{_FROM}{name}"] + weights[f"{_PLACE}{name}"] * height for name in channels]
        self._rows = {name: row for row, name in enumerate(channels)}
        self._table = np.array([*rows, np.zeros(_PLACES + 1)], np.float32)  # the last row: no channel that is known

    def score(self, nominations: Nominations) -> NDArray[np.float32]:
        """What nominations add to the log odds, shape (B, C)."""
        unknown = len(self._table) - 1
        row_of = np.array([*(self._rows.get(name, unknown) for name in nominations.names), unknown])
        channel = np.where(nominations.channel < 0, len(nominations.names), nominations.channel)
        return self._table[row_of[channel], np.minimum(nominations.place, _PLACES - 1)]


def _height(place: NDArray[np.int64]) -> NDArray[np.float32]:
    """1 at the top of a list, falling with the logarithm of the place; 0 where there is none."""
    bounded = np.clip(place, 0, _PLACES - 1)
    return np.where(place < 0, 0.0, 1.0 / np.log2(2.0 + bounded)).astype(np.float32)
