"""Recent popularity: items by their training clicks, those of two weeks ago count half; the same list for everybody."""

import numpy as np
import torch
from numpy.typing import NDArray

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.data.dataset import Clicks

HALF_LIFE_DAYS = 14.0
DAY_MS = 86_400_000


def recent_popularity(inputs: BaselineInputs) -> BaselineScores:
    """The items clicked most of late, for users and beside items alike."""
    ranks = np.unique(recent_clicks(inputs.train, len(inputs.task.candidates)), return_inverse=True)[1]
    scores = torch.from_numpy(ranks.astype(np.float32))
    return BaselineScores(
        lambda start, stop: scores.expand(stop - start, -1), lambda items: scores.expand(len(items), -1)
    )


def recent_clicks(train: Clicks, n_items: int) -> NDArray[np.float64]:
    """Clicks per item, shape (N,), each counting half for every ``HALF_LIFE_DAYS`` before the last click of all."""
    return np.bincount(train.item_ids, faded(train), minlength=n_items).astype(np.float64)


def faded(train: Clicks) -> NDArray[np.float64]:
    """Weight of each click, shape (n,): half for every ``HALF_LIFE_DAYS`` before the last click of all."""
    if not len(train):
        return np.zeros(0)
    age_days = (train.time_ms[-1] - train.time_ms) / DAY_MS
    weights: NDArray[np.float64] = 0.5 ** (age_days / HALF_LIFE_DAYS)
    return weights
