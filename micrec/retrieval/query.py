"""What a user asks the index: their embedding, and the terms of their own items, which the index cannot know.

An index holds what is the same for all users. The personal term of a model is added to a user's own items after the
search, and the list stays exact: of other items only the k best can be in it, and an own item whose term is negative
can at most make room for one more.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from micrec.data.recency import faded
from micrec.inference import encode_users, own_items
from micrec.models.columns import FieldColumns, Ragged
from micrec.retrieval.bundle import Bundle
from micrec.retrieval.index import merge_lists, search, vectors_at


class Query(NamedTuple):
    """B users as they ask the index."""

    embeddings: NDArray[np.float32]  # (B, D) or (B, K, D); with a 1 behind where items have a prior
    own: Ragged | None  # dense ids of each user's own items, with the personal term as weights; None: no such term


def query_of_known(bundle: Bundle, rows: NDArray[np.int64]) -> Query:
    """The query of dense user ids, shape (B,), from the bundle's own fields and clicks."""
    at = torch.from_numpy(rows)
    clicks = bundle.clicks.take(at)
    half_life = bundle.model.config.half_life_days
    if half_life is not None and bundle.click_ms is not None:
        click_ms = Ragged(bundle.click_ms, bundle.clicks.offsets).take(at).values
        clicks = clicks._replace(weights=faded(bundle.now_ms - click_ms, half_life))
    return query_of(bundle, bundle.users.take(at), clicks)


@torch.no_grad()
def query_of(bundle: Bundle, users: FieldColumns, clicks: Ragged) -> Query:
    """The query of B users from their encoded fields and clicks, oldest first; clicks without weights are fresh ones.

    Only the items of the histories are embedded, each once.
    """
    model = bundle.model
    clicks = clicks._replace(values=clicks.values.long()).latest(model.config.history_length)
    items, rows = torch.unique(clicks.values, return_inverse=True)
    if len(items) == 0:
        items = items.new_zeros(1)  # the towers want a row to look at, even if nobody has clicked it
    fields = model.embed_items(bundle.items.take(items))
    embeddings = encode_users(model, users, clicks._replace(values=rows), fields)
    if model.prior is not None:
        embeddings = torch.cat([embeddings, torch.ones_like(embeddings[..., :1])], dim=-1)
    return Query(embeddings.numpy(), own_items(model, clicks, bundle.items.n))


def answer(bundle: Bundle, query: Query, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k best items of each user, by the index and by what they have clicked.

    Returns:
        Scores (B, k) and rows of the index (B, k), best first; -inf and -1 where k exceeds the items there are.
    """
    if query.own is None or len(query.own.values) == 0:
        return search(bundle.index, query.embeddings, k)
    users, items = query.own.rows.numpy(), query.own.values.numpy()
    terms = query.own.weights.numpy()  # type: ignore[union-attr]
    rows = bundle.index_rows[items]
    users, rows, terms = users[rows >= 0], rows[rows >= 0], terms[rows >= 0]
    losing = np.bincount(users, terms < 0, minlength=len(query.embeddings))
    scores, found = search(bundle.index, query.embeddings, k + int(losing.max(initial=0)))
    is_own = np.isin(found + np.arange(len(found))[:, None] * bundle.index.ntotal, users * bundle.index.ntotal + rows)
    found = np.where(is_own, -1, found)
    own_scores, own_rows = _padded(users, rows, _products(bundle, query.embeddings, users, rows) + terms, len(found))
    return merge_lists(np.hstack([scores, own_scores]), np.hstack([found, own_rows]), k)


def _products(
    bundle: Bundle, embeddings: NDArray[np.float32], users: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Inner product of user ``users[i]`` and vector ``rows[i]``, shape (m,); of several interests, the highest."""
    chosen, vectors = embeddings[users], vectors_at(bundle.index, rows, embeddings.shape[-1])
    if vectors is None:
        vectors = bundle.vectors[rows]
    if chosen.ndim == 2:
        return np.einsum("md,md->m", chosen, vectors)
    return np.asarray(np.einsum("mkd,md->mk", chosen, vectors).max(axis=1))


def _padded(
    users: NDArray[np.int64], rows: NDArray[np.int64], scores: NDArray[np.float32], n: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and rows by user, padded to the longest, with -inf and -1."""
    counts = np.bincount(users, minlength=n)
    place = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (n, int(counts.max(initial=0)))
    padded_scores, padded_rows = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64)
    padded_scores[users, place], padded_rows[users, place] = scores, rows
    return padded_scores, padded_rows
