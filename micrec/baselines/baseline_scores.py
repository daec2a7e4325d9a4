"""What a baseline answers: a score of every item for every user, and of every item beside another."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from micrec.baselines import BASELINES
from micrec.config import EvalConfig
from micrec.data.dataset import Dataset
from micrec.evaluation.link_recall import NeighbourScores
from micrec.evaluation.scores import ScoreBlock


class BaselineScores(NamedTuple):
    """Scores of a baseline on one task.

    Attributes:
        users: Scores of all items for the task's queries, a block of queries at a time, float32, shape (B, N).
        neighbours: Scores of all items as neighbours of given ones, shape (B, N), for link recall; None: it has none.
        settings: What was chosen on held-out clicks, by name; empty where nothing is chosen.
    """

    users: ScoreBlock
    neighbours: NeighbourScores | None = None
    settings: Mapping[str, float | str] = MappingProxyType({})


NO_CEILING = (
    "with evaluation.history rolling each click has a list of its own, which may use the clicks just before it: the "
    "best such list is not known"
)


def affordable(names: Iterable[str], dataset: Dataset, evaluation: EvalConfig | None = None) -> list[str]:
    """Those of the named baselines that can be asked on a dataset, in that order."""
    names = list(names)
    out = left_out(names, dataset, evaluation)
    return [name for name in names if name not in out]


def left_out(names: Iterable[str], dataset: Dataset, evaluation: EvalConfig | None = None) -> dict[str, str]:
    """Why each of the others cannot: what the dataset lacks, too many items with clicks for its memory, rolling lists.

    Args:
        names: Of baselines.
        dataset: What they are asked on.
        evaluation: How they are judged; None: any way that the dataset allows.
    """
    n_items = len(np.unique(dataset.clicks.item_ids))
    reasons: dict[str, str] = {}
    for name in names:
        most = BASELINES[name].most_items
        reason = BASELINES[name].lacks(dataset)
        if reason is None and most is not None and n_items > most:
            reason = f"{n_items:,} items with clicks are more than its {most:,}"
        if reason is None and BASELINES[name].is_ceiling and evaluation is not None and evaluation.history == "rolling":
            reason = NO_CEILING
        if reason is not None:
            reasons[name] = reason
    return reasons
