"""Transitions: what is clicked right after the user's last item within a session, a Markov chain of first order.

Rendle, Freudenthaler and Schmidt-Thieme (2010), "Factorizing Personalized Markov Chains", without their factors: item j
scores by the number of times it was clicked right after the last item of the history; equals by their popularity.
"""

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.baselines.profiles import query_items
from micrec.config import SessionsConfig
from micrec.data.dataset import Clicks
from micrec.data.sessions import assign_sessions


def transitions(inputs: BaselineInputs) -> BaselineScores:
    """The chain from the last click of each history."""
    task = inputs.task
    after = next_clicks(inputs.train, len(task.candidates), inputs.config.sessions)
    ties = (task.train_clicks / (1.0 + task.train_clicks.max())).astype(np.float32)  # below a single transition

    def block(start: int, stop: int) -> Tensor:
        return torch.from_numpy((query_items(task, start, stop, latest=1) @ after).toarray() + ties)

    def neighbours(items: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(after[items].toarray())

    return BaselineScores(block, neighbours)


def next_clicks(train: Clicks, n_items: int, sessions: SessionsConfig) -> sp.csr_array:
    """How often item j (column) was clicked right after item i (row) in a session, float32, shape (N, N)."""
    numbers = assign_sessions(train.user_ids, train.time_ms, sessions)
    order = np.lexsort((np.arange(len(train)), numbers))
    first, second = order[:-1], order[1:]
    joined = numbers[first] == numbers[second]
    pairs = (train.item_ids[first[joined]], train.item_ids[second[joined]])
    return sp.csr_array((np.ones(int(joined.sum()), np.float32), pairs), shape=(n_items, n_items))
