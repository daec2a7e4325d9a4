"""What title-kNN and tag-kNN share: items alike in words or tags to all that a user has clicked, popular ones first.

The score of item j is sqrt(clicks of j) times the sum of cos²(x_i, x_j) over the clicks i of the history, where x are
TF-IDF vectors. The square lets few items that share rare words count more than many that share common ones.
"""

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.baselines.neighbours import strongest
from micrec.baselines.profiles import query_items

MOST_VALUES = 60_000_000  # similarities held, 8 bytes each; beyond, the strongest of each item


def content_knn(inputs: BaselineInputs, vectors: sp.csr_array) -> BaselineScores:
    """Scores by vectors of items of length 1 or 0, shape (N, K)."""
    task = inputs.task
    near = squared_cosines(vectors)
    root = np.sqrt(task.train_clicks).astype(np.float32)
    ties = (1e-9 * task.train_clicks).astype(np.float32)

    def block(start: int, stop: int) -> Tensor:
        scores = (query_items(task, start, stop) @ near).toarray()
        return torch.from_numpy(scores * root + ties)

    def neighbours(items: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(near[items].toarray())

    return BaselineScores(block, neighbours)


def squared_cosines(vectors: sp.csr_array) -> sp.csr_array:
    """cos² of all pairs of items, float32, shape (N, N), to as many neighbours as ``MOST_VALUES`` allows."""
    most = max(1, MOST_VALUES // max(vectors.shape[0], 1))
    return strongest(vectors, sp.csr_array(vectors.T), most, shape=np.square)


def tf_idf(counts: sp.csr_array) -> sp.csr_array:
    """(1 + log count) times log((1 + N) / (1 + items with the word)) + 1, rows of length 1 or 0; shape (N, K)."""
    items = np.bincount(counts.indices, minlength=counts.shape[1])
    rare = np.log((1 + counts.shape[0]) / (1 + items)) + 1.0
    values = (1.0 + np.log(counts.data)) * rare[counts.indices]
    owners = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    lengths = np.sqrt(np.bincount(owners, values**2, minlength=counts.shape[0]))
    values /= lengths[owners]
    return sp.csr_array((values.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)
