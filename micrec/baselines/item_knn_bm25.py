"""Item-kNN over whole histories: items that the same users have clicked, weighted as BM25 weighs words.

Robertson and Zaragoza (2009), "The Probabilistic Relevance Framework: BM25 and Beyond": items are the documents, users
the words. With N items, x_ui clicks of user u on item i, n_u distinct items of the user, and l_i clicks of the item, l
in the mean,

    w_ui = x_ui (k1 + 1) / (x_ui + k1 (1 - b + b l_i / l)) * log(N / (1 + n_u)),

so that a user who clicks everything tells little, and the similarity of two items is the sum of w_ui w_uj over users
(also to the item itself, for repeats). Only the ``NEIGHBOURS`` most similar items of an item stay.
"""

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.baselines.neighbours import strongest
from micrec.baselines.profiles import query_items, user_items

K1, B = 1.2, 0.75
NEIGHBOURS = 100


def item_knn_bm25(inputs: BaselineInputs) -> BaselineScores:
    """BM25 item-kNN; every click of the history counts once per click."""
    task = inputs.task
    weights = bm25(user_items(inputs.train, len(task.candidates)))
    near = strongest(sp.csr_array(weights.T), weights, NEIGHBOURS)

    def block(start: int, stop: int) -> Tensor:
        return torch.from_numpy((query_items(task, start, stop) @ near).toarray())

    def neighbours(items: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(near[items].toarray())

    return BaselineScores(block, neighbours)


def bm25(clicks: sp.csr_array) -> sp.csr_array:
    """w of clicks x, both (U, N), float32."""
    lengths = clicks.sum(axis=0)
    long = (1.0 - B + B * lengths / lengths[lengths > 0].mean())[clicks.indices]
    rare = np.log(np.count_nonzero(lengths) / (1.0 + np.diff(clicks.indptr)))
    told = np.repeat(np.maximum(rare, 0.0), np.diff(clicks.indptr))
    values = clicks.data * (K1 + 1.0) / (clicks.data + K1 * long) * told
    return sp.csr_array((values.astype(np.float32), clicks.indices, clicks.indptr), shape=clicks.shape)
