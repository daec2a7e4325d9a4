"""Carriers of a signal: items as vectors by their titles, tags, fields, content, or the clicks of others."""

from typing import Literal, NamedTuple

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from micrec.baselines.content_knn import tf_idf
from micrec.baselines.field_counts import code_fields
from micrec.baselines.profiles import user_items
from micrec.baselines.tag_knn import item_tags, tag_fields
from micrec.baselines.title_knn import no_titles, title_words
from micrec.data.dataset import Clicks, Dataset
from micrec.data.schema import FieldType

Loss = Literal["semantic", "feature", "session", "none"]
REFINES = 0.8  # of the items beyond the commonest coarser value, those that the finer value places
MIN_ITEMS = 8  # mean per value of the finest level, so that there is something to compare with


class Carrier(NamedTuple):
    """One way in which items may be near each other.

    Attributes:
        name: As tables show it, such as ``titles`` or ``provider``.
        loss: Which loss would use it.
        vectors: Rows of length 1, or 0 where an item has none, shape (N, K).
        coarser: Name of the field within which it must tell items apart; None: popularity alone.
    """

    name: str
    loss: Loss
    vectors: sp.csr_array
    coarser: str | None

    @property
    def coverage(self) -> float:
        """Share of the items that have it."""
        return float((np.diff(self.vectors.indptr) > 0).mean())


def carriers(dataset: Dataset, train: Clicks) -> list[Carrier]:
    """Every carrier of a dataset: titles, tags, content, fields, and the clicks of others as what they stand beside."""
    levels = taxonomy(dataset)
    finest = levels[-1] if levels else None
    found = []
    if no_titles(dataset) is None:
        found.append(Carrier("titles", "semantic", tf_idf(title_words(dataset)), finest))
    found += [
        Carrier(name, "semantic", unit_rows(content_vectors(dataset, name)), finest)
        for name, kind in dataset.schema.items.items()
        if kind is FieldType.VECTOR
    ]
    found += [Carrier(name, "semantic", tf_idf(item_tags(dataset, name)), finest) for name in tag_fields(dataset)]
    for name in code_fields(dataset):
        above = levels[: levels.index(name)] if name in levels else levels
        found.append(Carrier(name, "feature", one_hot(dataset, name), above[-1] if above else None))
    return [*found, Carrier("clicks of others", "none", co_clicks(train, len(dataset.items)), finest)]


def taxonomy(dataset: Dataset) -> list[str]:
    """Categorical fields nested with the category of the roles, from the coarsest to the finest that is no id."""
    fields, role = code_fields(dataset), dataset.schema.roles.category
    if role not in fields:
        return []
    others = [name for name in fields if refines(dataset, name, role) or refines(dataset, role, name)]
    levels: list[str] = []
    for name in sorted([role, *others], key=lambda name: dataset.items.columns[name].size):
        if not levels or refines(dataset, name, levels[-1]):
            levels.append(name)
    return [name for name in levels if len(dataset.items) >= MIN_ITEMS * (dataset.items.columns[name].size - 1)]


def refines(dataset: Dataset, fine: str, coarse: str) -> bool:
    """Whether the values of a field lie within those of another, but for a few items."""
    first, second = (np.asarray(dataset.items.columns[name].codes, dtype=np.int64) for name in (fine, coarse))
    sizes = [dataset.items.columns[name].size for name in (fine, coarse)]
    known = (first > 0) & (second > 0)
    if sizes[0] <= sizes[1] or not known.any():
        return False
    pairs, counts = np.unique(first[known] * sizes[1] + second[known], return_counts=True)
    most = np.zeros(sizes[0])
    np.maximum.at(most, pairs // sizes[1], counts)
    commonest = np.bincount(second[known]).max()
    return bool(most.sum() - commonest >= REFINES * (known.sum() - commonest) > 0)


def one_hot(dataset: Dataset, field: str) -> sp.csr_array:
    """Items by the value of a field; none where it is missing."""
    column = dataset.items.columns[field]
    codes = np.asarray(column.codes, dtype=np.int64)
    owners = np.flatnonzero(codes)
    return sp.csr_array((np.ones(len(owners)), (owners, codes[owners] - 1)), shape=(len(codes), column.size - 1))


def content_vectors(dataset: Dataset, field: str) -> NDArray[np.float64]:
    """A vector field less its mean, shape (N, K); zeros where it is missing."""
    lists = dataset.items.frame[field].cast(pl.List(pl.Float64))
    present = lists.is_not_null().to_numpy()
    rows = np.array(lists.drop_nulls().to_list())
    vectors = np.zeros((len(lists), rows.shape[1]))
    vectors[present] = rows - rows.mean(axis=0)
    return vectors


def unit_rows(vectors: NDArray[np.float64]) -> sp.csr_array:
    """Rows of length 1; those of 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return sp.csr_array(np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0))


def co_clicks(train: Clicks, n_items: int) -> sp.csr_array:
    """Items by the users who clicked them, each user once; the cosine is that of item-kNN over histories."""
    held = sp.csr_array(user_items(train, n_items).T).astype(np.float64)
    lengths = np.diff(held.indptr)
    values = np.repeat(1.0 / np.sqrt(np.maximum(lengths, 1)), lengths)
    return sp.csr_array((values, held.indices, held.indptr), shape=held.shape)
