"""What the contrastive losses need of a dataset: semantic neighbours, session partners, field information."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from micrec.config import Config
from micrec.data.cooccurrence import count_cooccurrences
from micrec.data.dataset import Clicks, Dataset
from micrec.data.partner_pruner import CoOccurrence
from micrec.data.semantics import semantic_positives
from micrec.errors import MicrecError
from micrec.item_loss_kinds import ITEM_LOSSES
from micrec.item_losses.item_loss import ContrastSources
from micrec.losses import field_codes, field_mutual_information
from micrec.models.columns import choose_fields
from micrec.progress import Progress
from micrec.sampling import Positives, WeightedNeighbours
from micrec.train_data import TrainData


@dataclass(frozen=True)
class ItemSources:
    """What each loss needs, from the item table and the training clicks alone."""

    semantic: Positives | None
    session: Positives | None
    field_information: Tensor | None
    further: dict[str, Any]  # by the name of a registered loss
    temperature: float = 1.0  # of the matching loss

    def on(self, device: torch.device, data: TrainData) -> ContrastSources:
        """The same on the training device, beside the encoded items."""
        return ContrastSources(
            n_items=data.n_items,
            items=data.fields.items,
            negatives=data.catalogue,
            semantic=None if self.semantic is None else self.semantic.to(device),
            session=None if self.session is None else self.session.to(device),
            field_information=None if self.field_information is None else self.field_information.to(device),
            further={name: found.to(device) for name, found in self.further.items()},
            temperature=self.temperature,
            clicked=data.click_counts > 0,
        )


def contrast_sources(dataset: Dataset, train: Clicks, config: Config, progress: Progress | None = None) -> ItemSources:
    """Build what the losses with a positive weight need; the others cost nothing."""
    contrast = config.contrast
    semantic = session = information = None
    if contrast.semantic.weight > 0:
        semantic = semantic_positives(dataset.items, dataset.schema.roles, contrast.semantic, progress=progress)
    if contrast.session.weight > 0:
        role = dataset.schema.roles.category
        category = dataset.items.columns[role].codes if role else None
        counts = count_cooccurrences(train, len(dataset.items), config.sessions, category=category, progress=progress)
        session = session_positives(counts)
    if contrast.feature.weight > 0 and contrast.feature.mask in ("rfm", "cfm"):
        names = _masked_fields(dataset, config)
        information = _field_information(dataset, train, names, config) if contrast.feature.mask == "cfm" else None
    prepare = {name: ITEM_LOSSES[name].prepare for name in contrast.on}
    further = {name: make(dataset, train, config) for name, make in prepare.items() if make is not None}
    return ItemSources(semantic, session, information, further, config.softmax.temperature)


def session_positives(counts: CoOccurrence) -> Positives:
    """Partners drawn by weight; every item ever met in a session is excluded from the negatives."""
    return WeightedNeighbours.from_csr(counts.offsets, counts.partners, counts.weights, keys=counts.keys)


def _masked_fields(dataset: Dataset, config: Config) -> tuple[str, ...]:
    """Item fields that RFM and CFM split between two views, beside the item id.

    Raises:
        MicrecError: If there are no two fields to split.
    """
    names = tuple(choose_fields(dataset.items, config.model.item_fields, key="model.item_fields"))
    if len(names) + config.model.item_id < 2:
        raise MicrecError(
            f"contrast.feature.mask: {config.contrast.feature.mask} splits the item fields between two views, and the "
            f"model reads only {', '.join(names) or 'the item id'}: add a field (model.item_fields, model.item_id), or "
            "use mask element."
        )
    return names


def _field_information(dataset: Dataset, train: Clicks, names: tuple[str, ...], config: Config) -> Tensor:
    """Mutual information between item fields, items weighted by their training clicks (N24)."""
    n_items = len(dataset.items)
    codes = field_codes([dataset.items.columns[name] for name in names])
    if config.model.item_id:
        codes = np.concatenate([np.arange(1, n_items + 1)[:, None], codes], axis=1)
    weights = np.bincount(train.item_ids, minlength=n_items).astype(np.float64)
    return torch.from_numpy(field_mutual_information(codes, weights))
