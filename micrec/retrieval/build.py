"""From a fitted model and its dataset to a serving bundle."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.checkpoint import tensor_bytes
from micrec.data.dataset import Dataset
from micrec.data.histories import group_by_user
from micrec.data.recency import days_of
from micrec.field_encoder import FieldEncoder
from micrec.fitting import Fitted
from micrec.inference import BLOCK, item_priors
from micrec.model_folder import model_manifest, model_tensors, restore_model
from micrec.model_popularity import known_popularity
from micrec.models.columns import FieldColumns, Ragged
from micrec.models.two_tower import TwoTower
from micrec.retrieval.bundle import Bundle
from micrec.retrieval.index import IndexKind, build_index
from micrec.train_data import title_words

Catalogue = Literal["train", "all"]
CATALOGUES: tuple[Catalogue, ...] = ("train", "all")


def build_bundle(
    fitted: Fitted, dataset: Dataset, *, kind: IndexKind, catalogue: Catalogue
) -> tuple[Bundle, NDArray[np.float32]]:
    """The bundle, and the vectors that its index was built from, shape (M, D); see ``Retriever.build``."""
    manifest = model_manifest(fitted, dataset)
    model = restore_model(fitted.config, manifest, model_tensors(fitted.model))
    items = fitted.fields.items.to("cpu")
    candidates = _candidates(dataset, fitted.trained_clicks, catalogue)
    clicks = group_by_user(dataset.clicks, len(dataset.users))
    click_ms = torch.from_numpy(dataset.clicks.time_ms[clicks.rows]) if fitted.config.model.reads_time else None
    popularity = popularity_now(model, clicks.items, click_ms, items)
    vectors = item_vectors(model, items, candidates, popularity)
    title = dataset.schema.roles.title
    bundle = Bundle(
        model=model,
        users=fitted.fields.users.to("cpu"),
        items=items,
        user_ids=dataset.users.ids,
        item_ids=dataset.items.ids,
        titles=None if title is None else dataset.items.frame[title].cast(pl.String),
        clicks=Ragged(torch.from_numpy(clicks.items), torch.from_numpy(clicks.offsets)),
        candidates=candidates,
        index=build_index(vectors, kind),
        user_encoder=FieldEncoder.of("user", fitted.fields.user_specs, dataset.users),
        item_encoder=FieldEncoder.of("item", fitted.fields.item_specs, dataset.items),
        manifest=manifest | {"title_field": title} | _clock(click_ms, len(dataset.items)),
        click_ms=click_ms,
        words=title_words(dataset, fitted.config),
    )
    return bundle, vectors


def bundle_bytes(fitted: Fitted, dataset: Dataset, catalogue: Catalogue) -> int:
    """Bytes that a bundle takes at the least: parameters, vectors and clicks."""
    vectors = len(_candidates(dataset, fitted.trained_clicks, catalogue)) * fitted.model.score_dim
    times = 2 * len(dataset.clicks) if fitted.config.model.reads_time else 0
    return tensor_bytes(fitted.model.parameters()) + 4 * (vectors + len(dataset.clicks) + times)


@torch.no_grad()
def item_vectors(
    model: TwoTower, items: FieldColumns, rows: NDArray[np.int32], popularity: "Popularity | None" = None
) -> NDArray[np.float32]:
    """What the index holds for some rows of ``items``, shape (M, D), a block at a time.

    These are the outputs of the item tower; with a prior they have it as one number more, as of now.
    """
    blocks = torch.from_numpy(rows).long().split(BLOCK)
    return torch.cat([_block_vectors(model, items.take(block), block, popularity) for block in blocks]).numpy()


def _block_vectors(model: TwoTower, items: FieldColumns, rows: Tensor, popularity: "Popularity | None") -> Tensor:
    vectors = model.item_tower(model.embed_items(items)).float()
    prior = item_priors(model, items, None if popularity is None else popularity(rows))
    return vectors if prior is None else torch.cat([vectors, prior], dim=1)


Popularity = Callable[[Tensor], Tensor]
"""Popularity of items (M,), as of now, shape (M, 1)."""


def popularity_now(
    model: TwoTower,
    clicked: NDArray[np.int32],
    click_ms: Tensor | None,
    items: FieldColumns,
    counted: int | None = None,
) -> Popularity | None:
    """Popularity by all clicks that are known, as of the morning after the latest; None where the model reads none.

    Args:
        model: The model.
        clicked: Items of the clicks, in any order.
        click_ms: Their moments.
        items: Encoded fields of all items.
        counted: Items among which an item's share is counted; None: all.
    """
    if model.prior is None or click_ms is None:
        return None
    days = days_of(click_ms.numpy())
    found = known_popularity(model.config, model.prior.forecast, clicked, days, items, counted=counted)
    morning = torch.tensor([int(days.max(initial=0)) + 1])
    return None if found is None else lambda rows: found.grid(morning, rows).T


def popularity_of(bundle: Bundle) -> Popularity | None:
    """The popularity that the bundle's own clicks give."""
    n_items = bundle.manifest.get("counted_items", bundle.items.n)
    return popularity_now(bundle.model, bundle.clicks.values.numpy(), bundle.click_ms, bundle.items, n_items)


def _clock(click_ms: Tensor | None, n_items: int) -> dict[str, int]:
    """What a manifest says of time, of a model that reads it."""
    return {} if click_ms is None else {"now_ms": int(click_ms.max()), "counted_items": n_items}


def _candidates(dataset: Dataset, trained_clicks: int, catalogue: Catalogue) -> NDArray[np.int32]:
    """Dense ids of the items to index, ascending, shape (M,)."""
    if catalogue == "all":
        return np.arange(len(dataset.items), dtype=np.int32)
    return np.unique(dataset.clicks.item_ids[:trained_clicks])
