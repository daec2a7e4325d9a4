"""EASE: a linear model of items from items, solved in closed form; histories fade and popularity drifts.

Steck (2019), "Embarrassingly Shallow Autoencoders for Sparse Data". X (U, N) holds log(1 + clicks); with
G = X'X + lambda I and P = G^-1 the weight of item i for item j is B_ij = -P_ij / P_jj. The diagonal, 0 in the paper,
gets a weight of its own, since people click again what they have clicked. A user's profile counts a click half after
``HALF_LIFE_DAYS``, and each item gets a bonus by its clicks of late, in proportion to the mass of the profile.

The settings were chosen on the validation clicks of Online Retail and are the same for every log.
"""

from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.baselines.recent_popularity import DAY_MS, recent_clicks
from micrec.data.dataset import Clicks
from micrec.evaluation.task import EvalTask, expand_ranges

LAMBDA = 500.0
SELF_WEIGHT = 0.3
HALF_LIFE_DAYS = 90.0
DRIFT = 2e-4  # of the profile's mass, times an item's recent clicks relative to the mean


def ease(inputs: BaselineInputs) -> BaselineScores:
    """EASE over the items with training clicks; every click of the history counts, whatever ``history_length`` says.

    The matrix that is inverted takes 8 n² bytes for n such items.
    """
    task, train = inputs.task, inputs.train
    counts = np.bincount(train.item_ids, minlength=len(task.candidates))
    known = np.flatnonzero(counts)
    place = np.full(len(counts), -1)
    place[known] = np.arange(len(known))
    weights = item_weights(user_item_counts(train, place), LAMBDA, SELF_WEIGHT)
    recent = recent_clicks(train, len(counts))[known]
    drift = (DRIFT * recent / recent.mean()).astype(np.float32)
    profiles = _profiles(task, train, place, len(known))

    def users(start: int, stop: int) -> Tensor:
        profile = profiles(start, stop)
        scores = profile @ weights + profile.sum(axis=1)[:, None] * drift
        return _spread(scores, known, len(counts))

    def neighbours(items: NDArray[np.int64]) -> Tensor:
        rows = np.where(place[items][:, None] >= 0, weights[place[items]], 0.0)
        return _spread(rows, known, len(counts))

    return BaselineScores(users, neighbours)


def user_item_counts(train: Clicks, place: NDArray[np.int64]) -> sp.csr_array:
    """log(1 + clicks) of users (U) on known items (n), float32."""
    shape = (int(train.user_ids.max(initial=-1)) + 1, int(place.max(initial=-1)) + 1)
    counted = sp.csr_array((np.ones(len(train), np.float32), (train.user_ids, place[train.item_ids])), shape=shape)
    counted.data = np.log1p(counted.data)
    return counted


def item_weights(counted: sp.csr_array, ridge: float, self_weight: float) -> NDArray[np.float32]:
    """B, shape (n, n): row i is what a click on item i adds to every item."""
    gram = np.asarray((counted.T @ counted).todense(), dtype=np.float64)
    gram[np.diag_indices_from(gram)] += ridge
    inverse = scipy.linalg.inv(gram, overwrite_a=True, check_finite=False)
    weights = (inverse / -np.diag(inverse)).astype(np.float32)
    weights[np.diag_indices_from(weights)] = self_weight
    return weights


def _profiles(
    task: EvalTask, train: Clicks, place: NDArray[np.int64], n_known: int
) -> Callable[[int, int], NDArray[np.float32]]:
    """Dense rows (B, n) of log(1 + faded clicks); clicks after the training period, in rolling histories, are fresh."""
    now = train.time_ms[-1]
    rows = task.histories.rows
    old = np.minimum(rows, len(train) - 1)
    age_days = np.where(rows < len(train), (now - train.time_ms[old]) / DAY_MS, 0.0)
    faded = 0.5 ** (age_days / HALF_LIFE_DAYS)
    at = place[task.histories.items]

    def block(start: int, stop: int) -> NDArray[np.float32]:
        queries, positions = expand_ranges(task.begin[start:stop], task.end[start:stop])
        seen = at[positions] >= 0
        profile = np.zeros((stop - start, n_known), np.float32)
        np.add.at(profile, (queries[seen], at[positions[seen]]), faded[positions[seen]].astype(np.float32))
        return np.log1p(profile)

    return block


def _spread(values: NDArray[np.float32], known: NDArray[np.int64], n_items: int) -> Tensor:
    """Columns of known items among all; items without clicks come last."""
    everything = np.full((len(values), n_items), -1e9, np.float32)
    everything[:, known] = values
    return torch.from_numpy(everything)
