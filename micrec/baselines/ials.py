"""iALS: factors of users and items by alternating least squares over all pairs, clicked ones with more weight.

Hu, Koren and Volinsky (2008), "Collaborative Filtering for Implicit Feedback Datasets", as the package ``implicit``
solves it (``pip install "micrec[baselines]"``). The weight of a pair is alpha times its clicks. alpha and the ridge are
chosen on held-out clicks (``held_out``). A user's factors are solved anew from the history at hand.
Items are neighbours by the cosine of their factors.
"""

import importlib.util
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.baselines.held_out import best, held_out
from micrec.baselines.profiles import query_items, user_items
from micrec.data.dataset import Dataset
from micrec.evaluation.link_recall import cosine_scores
from micrec.evaluation.scores import ScoreBlock

FACTORS = 64
ITERATIONS, TRIAL_ITERATIONS = 15, 5
_BLOCK_USERS = 4_096


class AlsSettings(NamedTuple):
    """Weight of a click and the ridge."""

    alpha: float
    ridge: float


GRID = (AlsSettings(1.0, 10.0), AlsSettings(1.0, 1.0), AlsSettings(5.0, 10.0), AlsSettings(5.0, 100.0))


def ials(inputs: BaselineInputs) -> BaselineScores:
    """iALS over the training clicks; every click of the history counts."""
    part = held_out(inputs)
    chosen = GRID[0]
    if part is not None:
        chosen = best(GRID, lambda one: _products(*_factors(part, one, TRIAL_ITERATIONS)), part)
    users, items = _factors(inputs, chosen, ITERATIONS)
    return BaselineScores(_products(users, items), cosine_scores(items), {"factors": FACTORS, **chosen._asdict()})


def not_installed(dataset: Dataset) -> str | None:
    """That the package is not there."""
    if importlib.util.find_spec("implicit") is not None:
        return None
    return 'the package implicit is not installed: pip install "micrec[baselines]"'


def _factors(inputs: BaselineInputs, settings: AlsSettings, iterations: int) -> tuple[Tensor, Tensor]:
    """Factors of the histories (Q, D) and of the items (N, D); items without clicks have factors of zero."""
    with threadpool_limits(limits=1, user_api="blas"):  # implicit's own threads and those of BLAS would compete
        model = _fitted(inputs, settings, iterations)
        task = inputs.task
        blocks = []
        for start in range(0, len(task), _BLOCK_USERS):
            rows = sp.csr_matrix(query_items(task, start, min(start + _BLOCK_USERS, len(task))))
            blocks.append(model.recalculate_user(np.arange(rows.shape[0]), rows))
    return torch.from_numpy(np.concatenate(blocks)), torch.from_numpy(np.asarray(model.item_factors))


def _products(users: Tensor, items: Tensor) -> ScoreBlock:
    return lambda start, stop: users[start:stop] @ items.T


def _fitted(inputs: BaselineInputs, settings: AlsSettings, iterations: int) -> Any:
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=FACTORS,
        alpha=settings.alpha,
        regularization=settings.ridge,
        iterations=iterations,
        num_threads=torch.get_num_threads(),
        random_state=inputs.config.train.seed,
    )
    model.fit(sp.csr_matrix(user_items(inputs.train, len(inputs.task.candidates))), show_progress=False)
    return model
