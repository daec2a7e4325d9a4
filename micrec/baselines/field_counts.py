"""Counts of a field: what a user clicked more of than others did, and within it what is popular.

With s_v clicks of the user on items of value v of a categorical field, and the share q_v of all clicks on such items,
the user's interest in v is max(s_v - s q_v, 0)^1.5. A share of .8 of the score goes by interest times the item's share
of the clicks within its value, the rest by the item's share of all clicks. Of several fields the one with most hits on
held-out clicks is taken (``held_out``), the category of the roles if there are none. The neighbours of an item are
what a user is offered who has clicked it alone: items of its value first, each group by clicks.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.baselines.held_out import best, held_out
from micrec.baselines.profiles import query_items
from micrec.data.dataset import Dataset
from micrec.evaluation.link_recall import NeighbourScores
from micrec.evaluation.scores import ScoreBlock

POWER, PERSONAL = 1.5, 0.8


def field_counts(inputs: BaselineInputs) -> BaselineScores:
    """Counts of the best categorical field."""
    fields = code_fields(inputs.dataset)
    role = inputs.dataset.schema.roles.category
    fields.sort(key=lambda name: name != role)  # stable: the category first
    part = held_out(inputs) if len(fields) > 1 else None
    field = fields[0] if part is None else best(fields, lambda one: counted(part, one), part, errors=0.0)
    return BaselineScores(counted(inputs, field), same_value(inputs, field), {"field": field})


def no_fields(dataset: Dataset) -> str | None:
    """What a dataset without categorical item fields lacks."""
    return None if code_fields(dataset) else "it has no categorical item field"


def code_fields(dataset: Dataset) -> list[str]:
    """Categorical item fields with at least two values."""
    return [name for name, column in dataset.items.columns.items() if column.codes is not None and column.size > 2]


class _ValueClicks(NamedTuple):
    """Clicks before the task by the values of a field.

    Attributes:
        codes: Value of each item, 0 for none, shape (N,).
        of_value: Share of all clicks on each value, shape (V,).
        within: Share of its value's clicks on each item, 0 without a value, shape (N,).
        popular: Share of all clicks on each item, times 1 - ``PERSONAL``, shape (N,).
    """

    codes: NDArray[np.int64]
    of_value: NDArray[np.float64]
    within: NDArray[np.float64]
    popular: NDArray[np.float64]


def _shares(inputs: BaselineInputs, field: str) -> _ValueClicks:
    column, clicks = inputs.dataset.items.columns[field], inputs.task.train_clicks.astype(np.float64)
    codes = np.asarray(column.codes, dtype=np.int64)
    total = np.bincount(codes, clicks, minlength=column.size)
    within = np.divide(clicks, total[codes], out=np.zeros(len(codes)), where=(total[codes] > 0) & (codes > 0))
    popular = (1.0 - PERSONAL) * clicks / max(clicks.sum(), 1.0)
    return _ValueClicks(codes, total / max(total.sum(), 1.0), within, popular)


def counted(inputs: BaselineInputs, field: str) -> ScoreBlock:
    """Scores by one field; an item without a value is ranked by its popularity alone."""
    task, (codes, share, within, popular) = inputs.task, _shares(inputs, field)

    def block(start: int, stop: int) -> Tensor:
        history = query_items(task, start, stop).tocoo()
        keys = history.coords[0].astype(np.int64) * len(share) + codes[history.coords[1]]
        seen = np.bincount(keys, history.data, minlength=(stop - start) * len(share)).reshape(stop - start, -1)
        more = np.maximum(seen - seen.sum(axis=1, keepdims=True) * share, 0.0) ** POWER
        more /= np.maximum(more.sum(axis=1, keepdims=True), 1e-9)
        return torch.from_numpy((PERSONAL * more[:, codes] * within + popular).astype(np.float32))

    return block


def same_value(inputs: BaselineInputs, field: str) -> NeighbourScores:
    """Scores of all items beside given ones: those of the same value by clicks, then the others by clicks."""
    codes, _, within, popular = _shares(inputs, field)

    def neighbours(items: NDArray[np.int64]) -> Tensor:
        alike = (codes[items][:, None] == codes) & (codes > 0)
        return torch.from_numpy((alike * (1.0 + within) + popular).astype(np.float32))

    return neighbours
