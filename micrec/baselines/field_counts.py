"""Counts of a field: what a user clicked more of than others did, and within it what is popular.

With s_v clicks of the user on items of value v of a categorical field, and the share q_v of all clicks on such items,
the user's interest in v is max(s_v - s q_v, 0)^1.5. A share of .8 of the score goes by interest times the item's share
of the clicks within its value, the rest by the item's share of all clicks. Of several fields the one with most hits on
the validation slice is taken; without a slice, the category of the roles, else the first.
"""

import numpy as np
import torch
from torch import Tensor

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.baselines.held_out import best, held_out
from micrec.baselines.profiles import query_items
from micrec.data.dataset import Dataset
from micrec.evaluation.scores import ScoreBlock

POWER, PERSONAL = 1.5, 0.8


def field_counts(inputs: BaselineInputs) -> BaselineScores:
    """Counts of the best categorical field."""
    fields = code_fields(inputs.dataset)
    role = inputs.dataset.schema.roles.category
    fields.sort(key=lambda name: name != role)  # stable: the category first
    part = held_out(inputs) if len(fields) > 1 else None
    field = fields[0] if part is None else best(fields, lambda one: counted(part, one), part, errors=0.0)
    return BaselineScores(counted(inputs, field), settings={"field": field})


def no_fields(dataset: Dataset) -> str | None:
    """What a dataset without categorical item fields lacks."""
    return None if code_fields(dataset) else "it has no categorical item field"


def code_fields(dataset: Dataset) -> list[str]:
    """Categorical item fields with at least two values."""
    return [name for name, column in dataset.items.columns.items() if column.codes is not None and column.size > 2]


def counted(inputs: BaselineInputs, field: str) -> ScoreBlock:
    """Scores by one field; an item without a value is ranked by its popularity alone."""
    task = inputs.task
    column = inputs.dataset.items.columns[field]
    codes = np.asarray(column.codes, dtype=np.int64)
    clicks = task.train_clicks.astype(np.float64)
    total = np.bincount(codes, clicks, minlength=column.size)
    share = total / max(total.sum(), 1.0)
    within = np.divide(clicks, total[codes], out=np.zeros(len(codes)), where=(total[codes] > 0) & (codes > 0))
    popular = (1.0 - PERSONAL) * clicks / max(clicks.sum(), 1.0)

    def block(start: int, stop: int) -> Tensor:
        history = query_items(task, start, stop).tocoo()
        keys = history.coords[0].astype(np.int64) * column.size + codes[history.coords[1]]
        seen = np.bincount(keys, history.data, minlength=(stop - start) * column.size).reshape(stop - start, -1)
        more = np.maximum(seen - seen.sum(axis=1, keepdims=True) * share, 0.0) ** POWER
        more /= np.maximum(more.sum(axis=1, keepdims=True), 1e-9)
        return torch.from_numpy((PERSONAL * more[:, codes] * within + popular).astype(np.float32))

    return block
