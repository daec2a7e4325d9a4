"""The three item-contrastive losses as a plug-in on any two-tower model (paper 3.3-3.6)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micrec.config import ContrastConfig, SemanticConfig, SessionConfig
from micrec.losses import (
    correlated_masks,
    drop_tags,
    element_dropout,
    field_dropout,
    grouped_scores,
    info_nce,
    keep_fields,
    random_halves,
)
from micrec.models.columns import FieldColumns
from micrec.models.layers import ACTIVATIONS, initialise
from micrec.models.pool import ItemPool
from micrec.models.two_tower import TwoTower
from micrec.sampling import Positives

Streams = Mapping[str, torch.Generator]
STREAMS = ("feature", "semantic", "session", "pool")  # random streams that the losses draw from
OVERSAMPLE = 2  # candidates per wanted negative in a small catalogue, where popular items have met much of it
SMALL_CATALOGUE = 20_000  # items; in a larger one hardly a candidate is refused, and every look-up is a search


class PairDraw(NamedTuple):
    """Items of one semantic or session loss in one step; A anchors in groups that share K negatives."""

    anchors: Tensor  # (A,) item ids
    positives: Tensor  # (A, P) item ids, 0 where the mask is False
    positive_mask: Tensor  # (A, P)
    negatives: Tensor  # (G, K) item ids
    negative_mask: Tensor  # (A, K), False where the group's negative is the anchor or one of its positives


class ContrastDraw(NamedTuple):
    """All items that the three losses need in one step."""

    batch_items: Tensor  # (A,) anchors of the feature loss
    semantic: PairDraw | None
    session: PairDraw | None

    def item_ids(self) -> list[Tensor]:
        """Flat item ids whose tower output is needed."""
        pairs = [pair for pair in (self.semantic, self.session) if pair is not None]
        return [self.batch_items, *(ids.flatten() for p in pairs for ids in (p.anchors, p.positives, p.negatives))]


@dataclass(frozen=True)
class ContrastSources:
    """What the losses know of the items besides their towers; None switches a source off."""

    n_items: int
    items: FieldColumns
    negatives: Tensor  # (M,) items that may be drawn as negatives: those clicked in training
    semantic: Positives | None = None
    session: Positives | None = None
    field_information: Tensor | None = None  # (F, F) mutual information between item fields, for CFM masks


class ItemContrast(nn.Module):
    """Feature-, semantic- and session-level item losses, weighted as in Eq. 8.

    Usage, once per training step::

        draw = contrast.draw(target_items, streams)
        pool = ...  # an ItemPool that covers draw.item_ids()
        losses = contrast(draw, pool, model, streams)  # {"feature": …, "semantic": …, "session": …}, weighted
        loss = matching_loss + sum(losses.values())

    ``streams`` holds a random stream per loss, so that switching one loss off leaves the draws of the others alone.
    It adds one projector per loss and nothing to the model: serving is the base model's.
    """

    def __init__(
        self, config: ContrastConfig, model: TwoTower, sources: ContrastSources, *, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.config = config
        self.sources = sources
        dim = model.output_dim
        self.has_feature = config.feature.weight > 0
        self.has_semantic = config.semantic.weight > 0 and sources.semantic is not None
        self.has_session = config.session.weight > 0 and sources.session is not None
        if self.has_feature:
            width = model.item_fields.width if config.feature.apply_on == "input" else dim
            self.feature_projector = self._projector(width)
        if self.has_semantic:
            self.semantic_projector = self._projector(dim)
        if self.has_session:
            self.session_projector = self._projector(dim)
        initialise(self, generator)

    @property
    def active(self) -> bool:
        """Whether any of the losses is on."""
        return self.has_feature or self.has_semantic or self.has_session

    def _projector(self, width: int) -> nn.Module:
        if self.config.projector == "none":
            return nn.Identity()
        activation = "linear" if self.config.projector == "linear" else self.config.projector
        return nn.Sequential(nn.Linear(width, self.config.projector_dim), ACTIVATIONS[activation]())

    # -- drawing -------------------------------------------------------------------------------------------------

    def draw(self, targets: Tensor, streams: Streams, pool: Tensor | None = None) -> ContrastDraw:
        """Draw anchors, positives and negatives for clicked items ``targets``, shape (B,).

        All negatives of a step come from one small draw of uniform items, ``pool``, shape (M,): the matching loss's
        own shared negatives, or ``contrast.pool_size`` fresh ones.
        """
        distinct = distinct_items(targets, self.sources.n_items)
        if pool is None and (self.has_semantic or self.has_session):
            candidates, stream = self.sources.negatives, streams["pool"]
            size = (self.config.pool_size,)
            pool = candidates[torch.randint(len(candidates), size, generator=stream, device=candidates.device)]
        semantic = session = None
        if self.has_semantic:
            assert self.sources.semantic is not None
            assert pool is not None
            semantic = self._draw_pairs(
                distinct, self.sources.semantic, self.config.semantic, pool, streams["semantic"]
            )
        if self.has_session:
            assert self.sources.session is not None
            assert pool is not None
            session = self._draw_pairs(distinct, self.sources.session, self.config.session, pool, streams["session"])
        masked = self.config.feature.duplicates == "mask"
        return ContrastDraw(targets if masked else distinct, semantic, session)

    def _draw_pairs(
        self,
        batch_items: Tensor,
        positives: Positives,
        config: SemanticConfig | SessionConfig,
        pool: Tensor,
        generator: torch.Generator,
    ) -> PairDraw:
        device = batch_items.device
        anchors = batch_items
        if config.anchors == "uniform":
            wanted_anchors = (self.config.uniform_anchors,)
            anchors = torch.randint(self.sources.n_items, wanted_anchors, generator=generator, device=device)
            anchors = distinct_items(anchors, self.sources.n_items)
        anchors = anchors[positives.has(anchors)]
        drawn = positives.draw(anchors, config.num_positives, generator)  # (A, P), -1 = none
        groups = -(-len(anchors) // self.config.group_size)
        wanted = config.negatives
        size = (groups, wanted * (OVERSAMPLE if self.sources.n_items <= SMALL_CATALOGUE else 1))
        negatives = pool[torch.randint(len(pool), size, generator=generator, device=device)]
        per_anchor = negatives.repeat_interleave(self.config.group_size, dim=0)[: len(anchors)]  # (A, K)
        allowed = ~positives.contains(anchors[:, None], per_anchor)  # neither itself nor one of its positives
        allowed &= allowed.cumsum(dim=1, dtype=torch.int32) <= wanted  # each anchor keeps its first `wanted`
        return PairDraw(anchors, drawn.clamp_min(0), drawn >= 0, negatives, allowed)

    # -- losses --------------------------------------------------------------------------------------------------

    def forward(self, draw: ContrastDraw, pool: ItemPool, model: TwoTower, streams: Streams) -> dict[str, Tensor]:
        """The weighted losses of one step, each of shape (), by name."""
        losses = {}
        if self.has_feature:
            losses["feature"] = self.config.feature.weight * self._feature_loss(draw, pool, model, streams["feature"])
        if draw.semantic is not None:
            losses["semantic"] = self.config.semantic.weight * self._pair_loss(
                draw.semantic, pool, self.semantic_projector
            )
        if draw.session is not None:
            losses["session"] = self.config.session.weight * self._pair_loss(draw.session, pool, self.session_projector)
        return losses

    def _pair_loss(self, draw: PairDraw, pool: ItemPool, projector: nn.Module) -> Tensor:
        """Eq. 4 and Eq. 5: projected tower outputs of an item and its positives against negatives."""
        anchors = self._compared(projector(pool.embeddings(draw.anchors)))  # (A, D)
        positives = self._compared(projector(pool.embeddings(draw.positives)))  # (A, P, D)
        negatives = self._compared(projector(pool.embeddings(draw.negatives)))  # (G, K, D)
        positive = torch.einsum("ad,apd->ap", anchors, positives)
        negative = grouped_scores(anchors, negatives, self.config.group_size)
        return self._info_nce(positive, negative, positive_mask=draw.positive_mask, negative_mask=draw.negative_mask)

    def _feature_loss(self, draw: ContrastDraw, pool: ItemPool, model: TwoTower, generator: torch.Generator) -> Tensor:
        """Eq. 3: an item and its dropped self, against the dropped selves of other items of the batch."""
        items = draw.batch_items
        clean = pool.fields(items)  # (A, F, D)
        first, second = self._views(clean, items, model, generator)
        if first is clean and self.config.feature.apply_on == "tower":
            anchors = self._compared(self.feature_projector(pool.embeddings(items)))  # the pool has them already
        else:
            anchors = self._compared(self._project_fields(first, model))
        keys = self._compared(self._project_fields(second, model))
        positive = (anchors * keys).sum(dim=1, keepdim=True)  # (A, 1)
        negatives = self._other_rows(len(items), generator)  # (G, K) rows of the batch, or None for all
        if negatives is None:
            return self._info_nce(positive, anchors @ keys.T, negative_mask=items[:, None] != items[None, :])
        group = self.config.group_size
        others = items[negatives].repeat_interleave(group, dim=0)[: len(items)]  # (A, K)
        return self._info_nce(
            positive, grouped_scores(anchors, keys[negatives], group), negative_mask=others != items[:, None]
        )

    def _project_fields(self, fields: Tensor, model: TwoTower) -> Tensor:
        if self.config.feature.apply_on == "tower":
            return self.feature_projector(model.item_tower(fields))
        return self.feature_projector(fields.flatten(1))

    def _other_rows(self, n: int, generator: torch.Generator) -> Tensor | None:
        """For each group of anchors, rows of the batch drawn without replacement, shape (G, K)."""
        wanted = self.config.feature.negatives
        if wanted == "all" or wanted + 1 >= n:
            return None
        groups = -(-n // self.config.group_size)
        keys = torch.rand(groups, n, generator=generator, device=generator.device)  # the smallest are the draw
        return keys.topk(wanted, dim=1, largest=False, sorted=False).indices

    def _views(
        self, clean: Tensor, items: Tensor, model: TwoTower, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Anchor and key views: the clean item and a dropped one, or two dropped ones (N8)."""
        config = self.config.feature
        if config.mask == "cfm":
            assert self.sources.field_information is not None
            kept, complement = correlated_masks(self.sources.field_information, generator=generator)
            return clean * kept[:, None], clean * complement[:, None]
        if config.mask == "rfm":
            n_rows = len(clean) if config.mask_per == "item" else 1
            kept, complement = random_halves(n_rows, clean.shape[1], generator=generator)
            return keep_fields(clean, kept.to(clean.device)), keep_fields(clean, complement.to(clean.device))
        second = self._dropped(clean, items, model, generator)
        first = self._dropped(clean, items, model, generator) if config.views == "two" else clean
        return first, second

    def _dropped(self, clean: Tensor, items: Tensor, model: TwoTower, generator: torch.Generator) -> Tensor:
        config = self.config.feature
        if config.mask == "element":
            return element_dropout(clean, config.ratio, rescale=config.rescale, generator=generator)
        if config.mask == "field":
            return field_dropout(clean, config.ratio, per=config.mask_per, generator=generator)
        columns = self.sources.items.take(items)
        keep = {
            name: drop_tags(ragged.values, ragged.offsets, config.ratio, generator=generator)
            for name, ragged in columns.multi.items()
        }
        return model.embed_items(columns, keep=keep)

    def _compared(self, projected: Tensor) -> Tensor:
        return F.normalize(projected, dim=-1) if self.config.similarity == "cosine" else projected

    def _info_nce(
        self, positive: Tensor, negative: Tensor, *, negative_mask: Tensor, positive_mask: Tensor | None = None
    ) -> Tensor:
        return info_nce(
            positive,
            negative,
            positive_mask=positive_mask,
            negative_mask=negative_mask,
            temperature=self.config.temperature,
            denominator=self.config.denominator,
            reduction=self.config.reduction,
        )


def distinct_items(items: Tensor, n_items: int) -> Tensor:
    """Distinct ids in ascending order; marks and scans the catalogue, which beats a sort at batch sizes."""
    seen = torch.zeros(n_items, dtype=torch.bool, device=items.device)
    seen[items] = True
    return seen.nonzero().squeeze(1)
