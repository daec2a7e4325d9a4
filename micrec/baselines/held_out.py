"""The slice on which a baseline chooses its settings: the last of the clicks it may see, never those that are judged.

A split without validation clicks fixes the epochs of models beforehand. Nothing of a baseline is fixed so: the right
ridge of EASE differs tenfold between logs, and the wrong field to count has half of the hits. So it holds out clicks of
its own then.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.data.split import Split
from micrec.errors import MicrecError
from micrec.evaluation import evaluation_task, rank_targets
from micrec.evaluation.scores import ScoreBlock

OWN_SLICE = 0.1  # share of the clicks where ``split.valid_fraction`` is 0
MOST_USERS = 1_000  # of the slice, evenly spaced; more would settle little and cost time

Setting = TypeVar("Setting")


def held_out(inputs: BaselineInputs) -> BaselineInputs | None:
    """The last ``split.valid_fraction`` of a baseline's clicks, ``OWN_SLICE`` where it is 0, as a task of its own.

    Returns:
        None where there are too few clicks, or no user of the slice has earlier ones.
    """
    clicks, config = inputs.train, inputs.config
    n_train = int(len(clicks) * (1.0 - (config.split.valid_fraction or OWN_SLICE)) + 1e-9)
    if not 0 < n_train < len(clicks):
        return None
    users = np.unique(clicks.user_ids[n_train:])
    known = users[np.isin(users, clicks.user_ids[:n_train])]
    if len(known) > MOST_USERS:
        known = known[np.linspace(0, len(known) - 1, MOST_USERS).astype(np.int64)]
    kept = np.isin(clicks.user_ids, known)
    kept[:n_train] = True
    dataset = dataclasses.replace(inputs.dataset, clicks=clicks[kept])
    n = int(kept.sum())
    try:
        task = evaluation_task(dataset, Split(n_train, n, n), config.evaluation, "valid")
    except MicrecError:  # no click of a known user
        return None
    return BaselineInputs.of(task, dataset, config)


def best(
    settings: Sequence[Setting], scores: Callable[[Setting], ScoreBlock], inputs: BaselineInputs, *, errors: float = 1.0
) -> Setting:
    """The setting of most hits on the slice, over all cutoffs that are shorter than the catalogue.

    Args:
        settings: The default first: it stays unless the best of the others is ahead by ``errors`` standard errors
            (over users, paired).
        scores: Scores by setting.
        inputs: The slice.
        errors: 0 takes whatever is ahead.
    """
    task = inputs.task
    cutoffs = np.array([n for n in inputs.config.evaluation.cutoffs if n < task.candidates.sum()])
    hits = []
    for setting in settings:
        ranks = rank_targets(scores(setting), task)
        rank = np.where(task.hittable, 1 + ranks.greater + 0.5 * ranks.equal, np.inf)
        found = (rank[:, None] <= cutoffs).sum(axis=1) * task.target_counts
        hits.append(np.bincount(task.user_ids[task.target_queries], found))
    ahead = [float((one - hits[0]).sum()) for one in hits]
    chosen = int(np.argmax(ahead))
    spread = float(np.sqrt(((hits[chosen] - hits[0]) ** 2).sum()))
    return settings[chosen] if ahead[chosen] > errors * spread else settings[0]
