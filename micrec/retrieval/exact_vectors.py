"""The vectors of a bundle's items as the towers give them, whatever its index keeps of them."""

import numpy as np
from numpy.typing import NDArray

from micrec.retrieval.build import item_vectors, popularity_of
from micrec.retrieval.bundle import Bundle
from micrec.retrieval.index import index_kind


def exact_vectors(bundle: Bundle, chosen: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Vectors of the index's rows, shape (M, D); of an index that keeps codes alone (ivfpq) the towers give them anew.

    Args:
        bundle: The bundle.
        chosen: Which rows, shape (rows,); None: all.
    """
    candidates = bundle.candidates if chosen is None else bundle.candidates[chosen]
    if index_kind(bundle.index) == "ivfpq":
        return item_vectors(bundle.model, bundle.items, candidates, popularity_of(bundle))
    return bundle.vectors if chosen is None else bundle.vectors[chosen]
