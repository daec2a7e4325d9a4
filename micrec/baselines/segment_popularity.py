"""Segment popularity: what is clicked most of late among users of the same value of a categorical user field.

With C_vi clicks on item i by users of value v, C_v of them in all and P_i the share of everybody's clicks on i, all
clicks fading as in ``recent_popularity``, a user of value v gets

    score(v, i) = log((C_vi + k P_i) / (C_v + k)):

a value of few clicks is ranked as everybody is, one of many clicks by its own. Two fields add their log ratios to
log P_i, as naive Bayes does. A user without a value gets the items by P_i, and so does every item as its neighbours.

The field is the one with most hits on held-out clicks (``held_out``). A second one joins where it is ``JOINS`` standard
errors ahead there, and k leaves its default where another is ahead by one. Only clicked pairs of value and item are
stored, so a field may have any number of values.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.baselines.held_out import best, held_out
from micrec.baselines.recent_popularity import faded, recent_popularity
from micrec.data.dataset import Dataset
from micrec.data.schema import FieldType
from micrec.evaluation.scores import ScoreBlock

PRIORS = (1_000.0, 30.0, 100.0, 300.0, 3_000.0)  # k, the default first
JOINS = 2.0  # more than one: the best of many fields that tell nothing is often that far ahead
FAINTEST = 1e-200  # weight of a click: those of 25 years ago and older count alike
NO_SHARE = 1e-250  # of an item without clicks, below that of any other


class SegmentSettings(NamedTuple):
    """What is chosen.

    Attributes:
        fields: One or two categorical user fields.
        prior: k: clicks of everybody that a value's own are added to.
    """

    fields: tuple[str, ...]
    prior: float = PRIORS[0]


def segment_popularity(inputs: BaselineInputs) -> BaselineScores:
    """Popularity of late within the user's segment."""
    settings = _chosen(inputs)
    told: dict[str, float | str] = {"field": " + ".join(settings.fields), "prior": settings.prior}
    return BaselineScores(segment_scores(inputs, settings), recent_popularity(inputs).neighbours, told)


def no_user_fields(dataset: Dataset) -> str | None:
    """What a dataset without categorical user fields lacks."""
    return None if segment_fields(dataset) else "it has no categorical user field"


def segment_fields(dataset: Dataset) -> list[str]:
    """Categorical user fields with at least two values; an id is none, as its segments are single users."""
    columns = dataset.users.columns.items()
    return [name for name, column in columns if column.type is FieldType.CATEGORICAL and column.size > 2]


def _chosen(inputs: BaselineInputs) -> SegmentSettings:
    """The best field, then perhaps another beside it, then k."""
    fields = segment_fields(inputs.dataset)
    settings, part = SegmentSettings((fields[0],)), held_out(inputs)
    if part is None:
        return settings

    def ahead(others: Sequence[SegmentSettings], errors: float = 1.0) -> SegmentSettings:
        return best([settings, *others], lambda one: segment_scores(part, one), part, errors=errors)

    settings = ahead([SegmentSettings((name,)) for name in fields[1:]], errors=0.0)
    beside = [name for name in fields if name not in settings.fields]
    settings = ahead([SegmentSettings((*settings.fields, name)) for name in beside], JOINS)
    return ahead([settings._replace(prior=prior) for prior in PRIORS[1:]])


class _Ratios(NamedTuple):
    """Log ratios of one field: log((C_vi + k P_i) / ((C_v + k) P_i)) = log(1 + C_vi / (k P_i)) - log(1 + C_v / k).

    Attributes:
        codes: Value of each user, 0 for none, shape (U,).
        more: The first logarithm, 0 where nobody of the value has clicked, shape (V, N), float32.
        less: The second one, shape (V, 1), float32.
    """

    codes: NDArray[np.int64]
    more: sp.csr_array
    less: NDArray[np.float32]

    def of(self, values: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows of values (B,), shape (B, N); 0 for value 0."""
        return self.more[values].toarray() - self.less[values]


def segment_scores(inputs: BaselineInputs, settings: SegmentSettings) -> ScoreBlock:
    """Scores by one field or several; an item without clicks comes last."""
    task, train = inputs.task, inputs.train
    weights = np.maximum(faded(train), FAINTEST)
    popular = np.bincount(train.item_ids, weights, minlength=len(task.candidates))
    share = popular / max(popular.sum(), FAINTEST)
    everybody = np.log(np.maximum(share, NO_SHARE)).astype(np.float32)
    ratios = [_ratios(inputs, name, weights, settings.prior * share, settings.prior) for name in settings.fields]
    codes = np.stack([one.codes for one in ratios], axis=1)  # (U, F)

    def block(start: int, stop: int) -> Tensor:
        segments, rows = np.unique(codes[task.user_ids[start:stop]], axis=0, return_inverse=True)
        scores = np.tile(everybody, (len(segments), 1))
        for one, values in zip(ratios, segments.T, strict=True):
            scores += one.of(values)
        return torch.from_numpy(scores)[torch.from_numpy(rows.ravel())]

    return block


def _ratios(
    inputs: BaselineInputs, field: str, weights: NDArray[np.float64], prior: NDArray[np.float64], k: float
) -> _Ratios:
    """Log ratios of a field from the weights of the clicks (n,) and k P_i (N,)."""
    column, train = inputs.dataset.users.columns[field], inputs.train
    codes = np.asarray(column.codes, dtype=np.int64)
    values = codes[train.user_ids]
    known = values > 0
    where = (values[known], train.item_ids[known])
    more = sp.csr_array((weights[known], where), shape=(column.size, len(prior)))  # repeats are added up
    more.data = np.log1p(more.data / prior[more.indices]).astype(np.float32)
    less = np.log1p(np.bincount(where[0], weights[known], minlength=column.size) / k)
    return _Ratios(codes, more, less.astype(np.float32)[:, None])
