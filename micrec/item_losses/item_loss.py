"""What all item losses have in common: a projector, a random stream of their own, items drawn first, scored later."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micrec.config import ContrastConfig
from micrec.item_losses.item_set import ItemSet
from micrec.item_losses.key_queue import NOBODY, KeyEncoder, KeyQueue
from micrec.losses import info_nce, key_log_sum
from micrec.losses.info_nce import softmax_loss
from micrec.models.columns import FieldColumns
from micrec.models.layers import ACTIVATIONS
from micrec.models.pool import ItemPool
from micrec.models.two_tower import TwoTower
from micrec.sampling import Positives
from micrec.shapes import is_fixed

View: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""What is read of items in place of their own fields: from these, (A, F, D), and their ids (A,) to the same shape."""


@dataclass(frozen=True)
class ContrastSources:
    """What the losses know of the items besides their towers; None switches a source off."""

    n_items: int
    items: FieldColumns
    negatives: Tensor  # (M,) items that may be drawn as negatives: those clicked in training
    semantic: Positives | None = None
    session: Positives | None = None
    field_information: Tensor | None = None  # (F, F) mutual information between item fields, for CFM masks
    further: dict[str, Any] = field(default_factory=dict)  # what registered losses prepared, by their names
    temperature: float = 1.0  # of the matching loss
    clicked: Tensor | None = None  # which items are among ``negatives``, bool, (n_items,)


class Drawn(Protocol):
    """The items of one loss in one step."""

    def item_ids(self) -> Iterable[Tensor]:
        """Flat item ids whose tower output is needed."""


class ItemLoss(nn.Module):
    """Base of the item losses; one loss of one model.

    A subclass says which items a step needs (``draw``), and what the loss of these is (``forward``). All its randomness
    comes from the generator it is given, which is its own.

    Args:
        name: Its name in ``ITEM_LOSSES``.
        contrast: What all losses share; its own keys are ``contrast.losses[name]``.
        model: The model whose items are compared.
        sources: What is known of the items.
    """

    needs_pool = False  # whether ``draw`` takes the step's shared negatives
    joins_pseudo_clicks = False  # whether ``forward`` of pseudo-clicks is what those of several losses give together
    key_encoder: KeyEncoder | None
    queue: KeyQueue | None

    def __init__(self, name: str, contrast: ContrastConfig, model: TwoTower, sources: ContrastSources) -> None:
        super().__init__()
        self.name, self.contrast, self.sources = name, contrast, sources
        self.config: Any = contrast.losses[name]
        self.projector = self.make_projector(self.projected_width(model))
        self.key_encoder = self.queue = None

    def __init_subclass__(cls, **keys: Any) -> None:
        """A subclass with a ``forward`` of its own is asked for it, unless it says that nothing else is in it."""
        super().__init_subclass__(**keys)
        if "forward" in vars(cls):
            cls.joins_pseudo_clicks = vars(cls).get("joins_pseudo_clicks", False)

    @property
    def form(self) -> str:
        """How pairs are made alike; a registered loss that has no such key compares with negatives."""
        return getattr(self.config, "form", "contrast")

    def start(self, model: TwoTower) -> None:
        """Called once, when the projector has its start weights: makes what the form needs beside it."""
        if self.form == "momentum":
            width = self.projected_width(model) if self.contrast.projector == "none" else self.contrast.projector_dim
            self.key_encoder = KeyEncoder(model, self.projector, self.config.momentum)
            self.queue = KeyQueue(self.config.queue_size, width)

    @classmethod
    def has_source(cls, name: str, sources: ContrastSources) -> bool:
        """Whether the data have what the loss needs; it is off otherwise."""
        return True

    def projected_width(self, model: TwoTower) -> int:
        """Width of what the projector reads."""
        return model.output_dim

    def make_projector(self, width: int) -> nn.Module:
        """One layer, as ``contrast.projector`` says (N11)."""
        if self.contrast.projector == "none":
            return nn.Identity()
        return nn.Sequential(nn.Linear(width, self.contrast.projector_dim), ACTIVATIONS[self.contrast.projector]())

    @abstractmethod
    def draw(self, items: ItemSet, pool: Tensor | None, generator: torch.Generator) -> Drawn:
        """Items of one step.

        Args:
            items: Distinct clicked items of the batch, ascending; with ``contrast.feature.duplicates`` mask the feature
                loss gets them as they were clicked. A loss that asks for ``items.exact()`` makes a GPU wait once in a
                step; one that works with either layout of ``micrec.shapes`` does not.
            pool: Items that negatives are drawn from, shape (M,); None where no loss needs them.
            generator: The loss's own.
        """

    def part(self, drawn: Any, rank: int, size: int) -> tuple[Any, float]:
        """What process ``rank`` of ``size`` computes of what was drawn, and a factor: all add up to the loss.

        By default every process computes all of it.
        """
        return drawn, 1.0 / size

    @abstractmethod
    def forward(self, drawn: Any, pool: ItemPool, model: TwoTower, generator: torch.Generator) -> Tensor:
        """The loss of what was drawn, not weighted, shape ()."""

    def view(self, model: TwoTower, generator: torch.Generator) -> View | None:
        """What its pseudo-clicks read of their anchors, which are then to be found themselves; None: their fields."""
        return None

    def compared(self, projected: Tensor) -> Tensor:
        """Vectors as ``contrast.similarity`` compares them by their dot products."""
        return F.normalize(projected, dim=-1) if self.contrast.similarity == "cosine" else projected

    def against_queue(self, queries: Tensor, items: Tensor, keys: Tensor, positives: Tensor, mask: Tensor) -> Tensor:
        """InfoNCE of queries and their keys against the queue, which then takes in the keys.

        Args:
            queries: As they are compared, shape (A, W).
            items: Their items, shape (A,).
            keys: Keys of the positives, likewise, shape (A, P, W).
            positives: Items of the keys, shape (A, P).
            mask: Which positives there are, shape (A, P).
        """
        assert self.queue is not None
        hidden = self.queue.unusable(items)
        for column in torch.where(mask, positives, NOBODY).unbind(1):
            hidden |= self.queue.items == column[:, None]
        queries = queries / self.contrast.temperature
        loss = softmax_loss(
            torch.einsum("aw,apw->ap", queries, keys),
            key_log_sum(queries, self.queue.keys, hidden)[:, None],
            positive_mask=mask,
            negative_mask=~hidden.all(dim=1, keepdim=True),
            denominator=self.contrast.denominator,
            reduction=self.contrast.reduction,
        )
        if is_fixed(mask):
            self.queue.push_masked(keys.flatten(0, 1), positives.flatten(), mask.flatten())
        else:
            self.queue.push(keys[mask], positives[mask])
        return loss

    def info_nce(
        self, positive: Tensor, negative: Tensor, *, negative_mask: Tensor, positive_mask: Tensor | None = None
    ) -> Tensor:
        """InfoNCE (Eq. 3-5) with the shared temperature, denominator and reduction."""
        return info_nce(
            positive,
            negative,
            positive_mask=positive_mask,
            negative_mask=negative_mask,
            temperature=self.contrast.temperature,
            denominator=self.contrast.denominator,
            reduction=self.contrast.reduction,
        )
