"""Many lists by one search: a pass over the index costs hardly more for sixty-four users than for one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from micrec.models.columns import Ragged
from micrec.retrieval.query import Query


class ListRequest(NamedTuple):
    """One list that is asked for: for a user of the dataset, or for an unseen one from fields and fresh clicks.

    Attributes:
        k: Length of the list, >= 1.
        user: Outside user id; None for an unseen user.
        fields: Fields of an unseen user, as ``Retriever.recommend_unseen`` takes them.
        history: Clicks of an unseen user, outside ids, oldest first.
        hide_seen: Leave out what the user has clicked.
    """

    k: int = 10
    user: object = None
    fields: Mapping[str, Any] = {}
    history: Sequence[object] = ()
    hide_seen: bool = False


def join_queries(queries: Sequence[Query]) -> Query:
    """The users of several queries of one bundle, in their order."""
    if len(queries) == 1:
        return queries[0]
    own = [query.own for query in queries if query.own is not None]
    joined = None
    if own:  # a model has a personal term for every user or for none
        sizes = torch.cat([ragged.offsets.diff() for ragged in own])
        offsets = torch.zeros(len(sizes) + 1, dtype=torch.int64)
        torch.cumsum(sizes, 0, out=offsets[1:])
        weights = torch.cat([ragged.weights for ragged in own if ragged.weights is not None])
        joined = Ragged(torch.cat([ragged.values for ragged in own]), offsets, weights)
    return Query(np.concatenate([query.embeddings for query in queries]), joined)
