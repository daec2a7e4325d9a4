"""Popularity: items by their training clicks, the same list for everybody."""

import numpy as np
import torch

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.evaluation.link_recall import NeighbourScores
from micrec.evaluation.scores import ScoreBlock
from micrec.evaluation.task import EvalTask


def popularity(inputs: BaselineInputs) -> BaselineScores:
    """The most clicked train items, for users and beside items alike."""
    return BaselineScores(popularity_scores(inputs.task), popularity_neighbours(inputs.task))


def popularity_scores(task: EvalTask) -> ScoreBlock:
    """Every user gets the most clicked train items.

    Scores are dense ranks of the click counts, not the counts: these would lose their order in float32 above 2**24.
    """
    ranks = np.unique(task.train_clicks, return_inverse=True)[1]
    scores = torch.from_numpy(ranks.astype(np.float32))
    return lambda start, stop: scores.expand(stop - start, -1)


def popularity_neighbours(task: EvalTask) -> NeighbourScores:
    """Every item's nearest neighbours are the most clicked train items."""
    scores = popularity_scores(task)
    return lambda items: scores(0, len(items))
