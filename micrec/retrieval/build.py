"""From a fitted model and its dataset to a serving bundle."""

from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from micrec.checkpoint import tensor_bytes
from micrec.data.dataset import Dataset
from micrec.data.histories import group_by_user
from micrec.field_encoder import FieldEncoder
from micrec.fitting import Fitted
from micrec.inference import BLOCK
from micrec.model_folder import model_manifest, model_tensors, restore_model
from micrec.models.columns import FieldColumns, Ragged
from micrec.models.two_tower import TwoTower
from micrec.retrieval.bundle import Bundle
from micrec.retrieval.index import IndexKind, build_index

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
    vectors = item_vectors(model, items, candidates)
    clicks = group_by_user(dataset.clicks, len(dataset.users))
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
        manifest=manifest | {"title_field": title},
    )
    return bundle, vectors


def bundle_bytes(fitted: Fitted, dataset: Dataset, catalogue: Catalogue) -> int:
    """Bytes that a bundle takes at the least: parameters, vectors and clicks."""
    vectors = len(_candidates(dataset, fitted.trained_clicks, catalogue)) * fitted.model.output_dim
    return tensor_bytes(fitted.model.parameters()) + 4 * (vectors + len(dataset.clicks))


@torch.no_grad()
def item_vectors(model: TwoTower, items: FieldColumns, rows: NDArray[np.int32]) -> NDArray[np.float32]:
    """Outputs of the item tower for some rows of ``items``, shape (M, D), a block at a time."""
    blocks = torch.from_numpy(rows).long().split(BLOCK)
    return torch.cat([model.item_tower(model.embed_items(items.take(block))) for block in blocks]).float().numpy()


def _candidates(dataset: Dataset, trained_clicks: int, catalogue: Catalogue) -> NDArray[np.int32]:
    """Dense ids of the items to index, ascending, shape (M,)."""
    if catalogue == "all":
        return np.arange(len(dataset.items), dtype=np.int32)
    return np.unique(dataset.clicks.item_ids[:trained_clicks])
