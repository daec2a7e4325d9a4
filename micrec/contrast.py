"""The item-contrastive losses as a plug-in on any two-tower model (paper 3.3-3.6)."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from micrec.config import ContrastConfig
from micrec.item_loss_kinds import ITEM_LOSSES
from micrec.item_losses.item_loss import ContrastSources, Drawn, ItemLoss
from micrec.item_losses.item_set import ItemSet
from micrec.item_losses.pseudo_clicks import PseudoClicks, pseudo_click_losses
from micrec.models.layers import initialise
from micrec.models.pool import ItemPool
from micrec.models.two_tower import TwoTower
from micrec.shapes import is_fixed

Streams = Mapping[str, torch.Generator]
STREAMS = ("feature", "semantic", "session", "pool")  # of the paper's losses, and of what all losses share
PAPER_LOSSES = STREAMS[:3]


class ContrastDraw(NamedTuple):
    """All items that the losses need in one step."""

    batch_items: Tensor  # (A,) clicked items, distinct unless contrast.feature.duplicates is mask
    losses: dict[str, Drawn]  # of each loss, by its name
    factors: dict[str, float] | None = None  # by which losses are multiplied, where this is a part of the draw
    distinct: Tensor | None = None  # clicked items that losses share, where shapes are fixed

    def item_ids(self) -> list[Tensor]:
        """Flat item ids whose tower output is needed."""
        return [self.batch_items, *(ids for drawn in self.losses.values() for ids in drawn.item_ids())]

    def further_ids(self) -> list[Tensor]:
        """The same without the tensors that hold clicked items only, for a step that asks for all clicked items anyway.

        Room for items that are asked for twice would be lost.
        """
        clicked = {ids.data_ptr() for ids in (self.batch_items, self.distinct) if ids is not None}
        return [ids for ids in self.item_ids() if ids.data_ptr() not in clicked]


class ItemContrast(nn.Module):
    """The item losses that are on, weighted as in Eq. 8.

    Usage, once per training step::

        draw = contrast.draw(target_items, streams)
        pool = ...  # an ItemPool that covers draw.item_ids()
        losses = contrast(draw, pool, model, streams)  # {"feature": …, "semantic": …, "session": …}, weighted
        loss = matching_loss + sum(losses.values())

    ``streams`` holds a random stream per loss, by its name, so that switching one loss off, or adding one, leaves the
    draws of the others alone. It adds one projector per loss and nothing to the model: serving is the base model's.

    Args:
        config: The losses, and what they share.
        model: The model whose items are compared.
        sources: What is known of the items.
        generator: Start values of the projectors of the paper's losses, one after another.
        named: The generator of the start values of a loss beside the paper's, by the loss's name.
    """

    def __init__(
        self,
        config: ContrastConfig,
        model: TwoTower,
        sources: ContrastSources,
        *,
        generator: torch.Generator,
        named: Callable[[str], torch.Generator] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.sources = sources
        self.losses = nn.ModuleDict()
        for name in config.on:
            kind: type[ItemLoss] = ITEM_LOSSES[name].load()
            if kind.has_source(name, sources):
                self.losses[name] = kind(name, config, model, sources)
                own = generator if name in PAPER_LOSSES or named is None else named(name)
                initialise(self.losses[name], own)
                self.losses[name].start(model)  # type: ignore[operator]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the losses that are on and have what they need."""
        return tuple(self.losses)

    @property
    def active(self) -> bool:
        """Whether any of the losses is on."""
        return len(self.losses) > 0

    def draw(self, targets: Tensor, streams: Streams, pool: Tensor | None = None) -> ContrastDraw:
        """Draw anchors, positives and negatives for clicked items ``targets``, shape (B,).

        All negatives of a step come from one small draw of uniform items, ``pool``, shape (M,): the matching loss's
        own shared negatives, or ``contrast.pool_size`` fresh ones.
        """
        distinct, clicked = ItemSet.distinct(targets, self.sources.n_items), ItemSet.of_all(targets)
        if self.config.most_anchors is not None:
            distinct = distinct.some(self.config.most_anchors, streams["pool"])
            clicked = clicked.some(self.config.most_anchors, streams["pool"])
        pool = self._negatives(streams["pool"]) if pool is None else pool
        batch = clicked if self.config.feature.duplicates == "mask" else distinct
        drawn = {
            name: loss.draw(batch if name == "feature" else distinct, pool, streams[name])
            for name, loss in self._all().items()
        }
        return ContrastDraw(batch.items, drawn, distinct=None if distinct.real is None else distinct.items)

    def _negatives(self, stream: torch.Generator) -> Tensor | None:
        """The step's own draw for all losses; None where none needs it."""
        if not any(loss.needs_pool for loss in self._all().values()):
            return None
        candidates, size = self.sources.negatives, (self.config.pool_size,)
        places = torch.randint(len(candidates), size, generator=stream, device=stream.device)
        return candidates[places.to(candidates.device)]

    def forward(self, draw: ContrastDraw, pool: ItemPool, model: TwoTower, streams: Streams) -> dict[str, Tensor]:
        """The weighted losses of one step, each of shape (), by name."""
        weights = {name: keys.weight for name, keys in self.config.losses.items()}
        if draw.factors is not None:
            weights = {name: weights[name] * factor for name, factor in draw.factors.items()}
        together = self._together(draw, pool, model, streams, weights)
        return {
            name: together[name]
            if name in together
            else weights[name] * loss(draw.losses[name], pool, model, streams[name])
            for name, loss in self._all().items()
        }

    def _together(
        self, draw: ContrastDraw, pool: ItemPool, model: TwoTower, streams: Streams, weights: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """The weighted losses whose pseudo-clicks are found by one softmax, by name.

        Each has its own where shapes are fixed, since no look may be taken at which sum of them a gradient is asked
        for, and where what the tower says of a row depends on the other rows.
        """
        names = [
            name
            for name, loss in self._all().items()
            if loss.joins_pseudo_clicks and self._may_join(draw.losses[name]) and not model.normalises_items
        ]
        if not names:
            return {}
        found = pseudo_click_losses(
            [draw.losses[name] for name in names],  # type: ignore[misc]
            pool,
            model,
            temperature=self.sources.temperature,
            views=[self.losses[name].view(model, streams[name]) for name in names],  # type: ignore[operator]
            weights=[weights[name] for name in names],
        )
        return dict(zip(names, found.unbind(), strict=True))

    def _may_join(self, drawn: Drawn) -> bool:
        return (
            isinstance(drawn, PseudoClicks)
            and len(drawn.targets) > 0
            and drawn.catalogue is self.sources.negatives
            and not is_fixed(drawn.targets)
        )

    def part(self, draw: ContrastDraw, rank: int, size: int) -> ContrastDraw:
        """What process ``rank`` of ``size`` computes of a draw; the losses of all add up to those of the draw."""
        parts = {name: loss.part(draw.losses[name], rank, size) for name, loss in self._all().items()}
        nothing = draw.batch_items[:0]  # a loss that needs them names them itself
        return ContrastDraw(
            nothing, {name: part for name, (part, _) in parts.items()}, {name: by for name, (_, by) in parts.items()}
        )

    def _all(self) -> dict[str, Any]:
        return dict(self.losses.items())
