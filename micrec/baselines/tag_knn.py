"""Tag-kNN: items that share rare tags with those of the user's history (``content_knn``).

Of several multi-valued fields the one with most hits on held-out clicks is taken (``held_out``).
"""

import numpy as np
import scipy.sparse as sp

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.baselines.content_knn import content_knn, tf_idf
from micrec.baselines.held_out import best, held_out
from micrec.data.dataset import Dataset


def tag_knn(inputs: BaselineInputs) -> BaselineScores:
    """Tag-kNN over one multi-valued field."""
    fields = tag_fields(inputs.dataset)
    part = held_out(inputs) if len(fields) > 1 else None
    field = fields[0]
    if part is not None:
        field = best(fields, lambda one: content_knn(part, _vectors(part, one)).users, part, errors=0.0)
    return content_knn(inputs, _vectors(inputs, field))._replace(settings={"field": field})


def no_tags(dataset: Dataset) -> str | None:
    """What a dataset without multi-valued item fields lacks."""
    return None if tag_fields(dataset) else "it has no multi-valued item field"


def tag_fields(dataset: Dataset) -> list[str]:
    """Multi-valued item fields that hold anything."""
    columns = dataset.items.columns
    return [name for name, column in columns.items() if column.values is not None and len(column.values)]


def item_tags(dataset: Dataset, field: str) -> sp.csr_array:
    """Which item has which tag of a field, shape (N, tags)."""
    column = dataset.items.columns[field]
    assert column.values is not None
    assert column.offsets is not None
    return sp.csr_array(
        (np.ones(len(column.values)), column.values - 1, column.offsets), shape=(len(dataset.items), column.size - 1)
    )


def _vectors(inputs: BaselineInputs, field: str) -> sp.csr_array:
    return tf_idf(item_tags(inputs.dataset, field))
