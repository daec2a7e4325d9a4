"""What a baseline answers: a score of every item for every user, and of every item beside another."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from micrec.baselines import BASELINES
from micrec.data.dataset import Clicks
from micrec.evaluation.link_recall import NeighbourScores
from micrec.evaluation.scores import ScoreBlock


class BaselineScores(NamedTuple):
    """Scores of a baseline on one task.

    Attributes:
        users: Scores of all items for the task's queries, a block of queries at a time, float32, shape (B, N).
        neighbours: Scores of all items as neighbours of given ones, shape (B, N), for link recall; None: it has none.
    """

    users: ScoreBlock
    neighbours: NeighbourScores | None = None


def affordable(names: Iterable[str], train: Clicks) -> list[str]:
    """Those of the named baselines whose memory is bounded for this many items with clicks."""
    n_items = len(np.unique(train.item_ids))
    limits = {name: BASELINES[name].most_items for name in names}
    return [name for name, most in limits.items() if most is None or n_items <= most]
