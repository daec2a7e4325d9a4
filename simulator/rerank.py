"""A slate out of ranked candidates: the best, or the best with some variety."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from simulator.world.config import Keys, Share

Ids = NDArray[np.int64]


class RerankKeys(Keys):
    """How much variety a slate must have."""

    method: Literal["none", "mmr", "window"] = Field(
        "none",
        description="none: by score; mmr: maximal marginal relevance over groups; window: few of a group within a run.",
    )
    field: str = Field("category", description="Item field whose values are the groups.")
    relevance: Share = Field(
        0.8, description="Weight of the score against the likeness to what is in the slate already (mmr)."
    )
    window: PositiveInt = Field(4, description="Length of the runs of consecutive positions (window).")
    most: PositiveInt = Field(2, description="Most items of a group within each run, if there are others (window).")


def rerank(items: Ids, scores: NDArray[np.float32], groups: Ids, size: int, keys: RerankKeys) -> Ids:
    """Columns of the candidates that make the slate, in order, shape (B, S); -1 as padding at the end.

    A position is filled at a time, for all requests at once. Ties go to the earlier column.

    - ``mmr`` (Carbonell & Goldstein, 1998): the candidate of the highest ``relevance`` x score, scaled to [0, 1] within
      the request, less (1 - ``relevance``) x its greatest likeness to an item of the slate; 1 in one group, else 0.
    - ``window``: the best candidate whose group has fewer than ``most`` items among the last ``window`` - 1 positions;
      if there is none, the best of all.

    Args:
        items: Candidates, -1 as padding anywhere, shape (B, C).
        scores: Their scores, not NaN, shape (B, C); what is beside padding is ignored.
        groups: Group of each candidate, at least 0, shape (B, C); only read if there is a method.
        size: S.
        keys: Which method.
    """
    usable = items >= 0
    gain = np.where(usable, scores.astype(np.float64), -np.inf)
    if keys.method == "none":
        order = np.argsort(-gain, axis=1, kind="stable")[:, :size]
        return _padded(np.where(np.take_along_axis(usable, order, axis=1), order, -1), size)
    if keys.method == "mmr":
        gain = np.where(usable, keys.relevance * _scaled(gain, usable), -np.inf)
    slate = np.full((len(items), size), -1)
    chosen = np.full((len(items), size), -1)  # groups of the slate
    row = np.arange(len(items))
    for position in range(min(size, items.shape[1])):
        if keys.method == "mmr":
            now = gain - (1.0 - keys.relevance) * _is_among(groups, chosen[:, :position])
        else:
            recent = chosen[:, max(0, position - keys.window + 1) : position]
            full = _count_among(groups, recent) >= keys.most
            open_to = np.where(full, -np.inf, gain)
            none_open = (open_to.max(axis=1, initial=-np.inf) == -np.inf)[:, None]
            now = np.where(none_open, gain, open_to)
        best = now.argmax(axis=1)
        found = now[row, best] > -np.inf
        slate[:, position] = np.where(found, best, -1)
        chosen[:, position] = np.where(found, groups[row, best], -1)
        gain[row, best] = -np.inf
    return slate


def _scaled(scores: NDArray[np.float64], usable: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Scores of each request scaled to [0, 1]; 1 if all are the same, and beside padding."""
    best = scores.max(axis=1, initial=-np.inf, keepdims=True)
    worst = np.where(usable, scores, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    spread = best > worst
    low, width = np.where(spread, worst, 0.0), np.where(spread, best, 1.0) - np.where(spread, worst, 0.0)
    return np.where(usable & spread, (np.where(usable, scores, 0.0) - low) / width, 1.0)


def _is_among(groups: Ids, chosen: Ids) -> NDArray[np.bool_]:
    return _count_among(groups, chosen) > 0


def _count_among(groups: Ids, chosen: Ids) -> NDArray[np.int64]:
    """How many of the chosen (B, s) are of the group of each candidate, shape (B, C)."""
    counts = np.zeros(groups.shape, np.int64)
    for column in range(chosen.shape[1]):
        counts += groups == chosen[:, column, None]
    return counts


def _padded(columns: Ids, size: int) -> Ids:
    return np.pad(columns, ((0, 0), (0, size - columns.shape[1])), constant_values=-1)
