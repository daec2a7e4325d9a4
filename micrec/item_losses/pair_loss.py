"""The semantic- and session-level losses: an item and a positive of its against drawn negatives (Eq. 4 and 5)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from micrec.item_losses.item_loss import ContrastSources, ItemLoss
from micrec.item_losses.item_set import ItemSet
from micrec.item_losses.key_queue import KeyEncoder
from micrec.item_losses.pseudo_clicks import draw_pairs, pseudo_click_loss
from micrec.losses import barlow_twins, grouped_scores
from micrec.models.pool import ItemPool
from micrec.models.two_tower import TwoTower
from micrec.sampling import Positives
from micrec.shapes import is_fixed

OVERSAMPLE = 2  # candidates per wanted negative in a small catalogue, where popular items have met much of it
SMALL_CATALOGUE = 20_000  # items; in a larger one hardly a candidate is refused, and every look-up is a search


class PairDraw(NamedTuple):
    """Items of one semantic or session loss in one step; A anchors in groups that share K negatives."""

    anchors: Tensor  # (A,) item ids
    positives: Tensor  # (A, P) item ids, 0 where the mask is False
    positive_mask: Tensor  # (A, P)
    negatives: Tensor  # (G, K) item ids
    negative_mask: Tensor  # (A, K), False where the group's negative is the anchor or one of its positives
    pool: Tensor | None = None  # (M,) what the negatives were drawn from, where all of it is to be encoded

    def item_ids(self) -> list[Tensor]:
        """Flat item ids whose tower output is needed."""
        negatives = self.negatives if self.pool is None else self.pool
        return [ids.flatten() for ids in (self.anchors, self.positives, negatives)]

    def groups(self, start: int, stop: int, group_size: int) -> "PairDraw":
        """Some consecutive groups with their anchors."""
        anchors = slice(start * group_size, stop * group_size)
        return self._replace(
            anchors=self.anchors[anchors],
            positives=self.positives[anchors],
            positive_mask=self.positive_mask[anchors],
            negatives=self.negatives[start:stop],
            negative_mask=self.negative_mask[anchors],
        )

    def counted(self, denominator: str) -> int:
        """Anchors that a mean over anchors counts."""
        counts = self.positive_mask.any(dim=1)
        return int((counts if denominator == "with_positive" else counts & self.negative_mask.any(dim=1)).sum())


class PositivePairs(NamedTuple):
    """The same where no negatives are drawn."""

    anchors: Tensor  # (A,) item ids
    positives: Tensor  # (A, P) item ids, 0 where the mask is False
    positive_mask: Tensor  # (A, P)
    by_tower: bool  # whether the tower is asked for the positives, or a copy of it

    def item_ids(self) -> list[Tensor]:
        """Flat item ids whose tower output is needed."""
        return [self.anchors, self.positives.flatten()] if self.by_tower else [self.anchors]


class PairLoss(ItemLoss):
    """Projected tower outputs of an item and its positives: against negatives of the step's pool, or by ``form``.

    With ``form`` pseudo_clicks an item is followed by a positive of its in place of being like it.
    """

    joins_pseudo_clicks = True

    @property
    def needs_pool(self) -> bool:  # type: ignore[override]
        return self.form == "contrast"

    def make_projector(self, width: int) -> nn.Module:
        return nn.Identity() if self.form == "pseudo_clicks" else super().make_projector(width)

    @staticmethod
    def positives_of(name: str, sources: ContrastSources) -> Positives | None:
        """Where its positives come from: the source of its name, which a registered loss prepares itself."""
        known = {"semantic": sources.semantic, "session": sources.session}
        return known[name] if name in known else sources.further.get(name)

    @classmethod
    def has_source(cls, name: str, sources: ContrastSources) -> bool:
        return cls.positives_of(name, sources) is not None

    def draw(self, items: ItemSet, pool: Tensor | None, generator: torch.Generator) -> Any:
        positives = self.positives_of(self.name, self.sources)
        assert positives is not None
        if self.form == "pseudo_clicks":
            return draw_pairs(
                items,
                positives,
                self.sources,
                num_positives=self.config.num_positives,
                uniform_anchors=self.contrast.uniform_anchors if self.config.anchors == "uniform" else None,
                generator=generator,
            )
        if self.config.anchors == "uniform":
            items = ItemSet.distinct(self._uniform_anchors(items.items.device, generator), self.sources.n_items)
        return self._draw_of(items.only(positives.has(items.items)), positives, pool, generator)

    def _uniform_anchors(self, device: torch.device, generator: torch.Generator) -> Tensor:
        size = (self.contrast.uniform_anchors,)
        return torch.randint(self.sources.n_items, size, generator=generator, device=generator.device).to(device)

    def _draw_of(
        self, chosen: ItemSet, positives: Positives, pool: Tensor | None, generator: torch.Generator
    ) -> PairDraw | PositivePairs:
        """Positives of the anchors, and negatives where they are needed."""
        anchors, real = chosen
        drawn = positives.draw(anchors, self.config.num_positives, generator)  # (A, P), -1 = none
        known = drawn >= 0 if real is None else (drawn >= 0) & real[:, None]
        if not self.needs_pool:
            return PositivePairs(anchors, drawn.clamp_min(0), known, by_tower=self.form == "barlow_twins")
        assert pool is not None
        groups = -(-len(anchors) // self.contrast.group_size)
        wanted = self.config.negatives
        size = (groups, wanted * (OVERSAMPLE if self.sources.n_items <= SMALL_CATALOGUE else 1))
        negatives = pool[torch.randint(len(pool), size, generator=generator, device=generator.device).to(pool.device)]
        per_anchor = negatives.repeat_interleave(self.contrast.group_size, dim=0)[: len(anchors)]  # (A, K)
        allowed = ~positives.contains(anchors[:, None], per_anchor)  # neither itself nor one of its positives
        allowed &= allowed.cumsum(dim=1, dtype=torch.int32) <= wanted  # each anchor keeps its first `wanted`
        return PairDraw(anchors, drawn.clamp_min(0), known, negatives, allowed, None if real is None else pool)

    def part(self, drawn: Any, rank: int, size: int) -> tuple[Any, float]:
        """Whole groups of anchors; the other forms compare every anchor with all."""
        if not isinstance(drawn, PairDraw):
            return super().part(drawn, rank, size)
        n_groups, contrast = len(drawn.negatives), self.contrast
        own = drawn.groups(n_groups * rank // size, n_groups * (rank + 1) // size, contrast.group_size)
        if contrast.reduction == "sum":
            return own, 1.0
        return own, own.counted(contrast.denominator) / max(1, drawn.counted(contrast.denominator))

    def forward(self, drawn: Any, pool: ItemPool, model: TwoTower, generator: torch.Generator) -> Tensor:
        if self.form == "pseudo_clicks":
            return pseudo_click_loss(drawn, pool, model, temperature=self.sources.temperature)
        if self.form == "momentum":
            return self._against_queue(drawn, pool, model)
        if self.form == "barlow_twins":
            return self._correlated(drawn, pool)
        anchors = self.compared(self.projector(pool.embeddings(drawn.anchors)))  # (A, D)
        positives = self.compared(self.projector(pool.embeddings(drawn.positives)))  # (A, P, D)
        negatives = self.compared(self.projector(pool.embeddings(drawn.negatives)))  # (G, K, D)
        positive = torch.einsum("ad,apd->ap", anchors, positives)
        negative = grouped_scores(anchors, negatives, self.contrast.group_size)
        return self.info_nce(positive, negative, positive_mask=drawn.positive_mask, negative_mask=drawn.negative_mask)

    def _against_queue(self, drawn: PositivePairs, pool: ItemPool, model: TwoTower) -> Tensor:
        """Anchors by the tower, positives by its copy."""
        assert self.key_encoder is not None
        self.key_encoder.follow(model, self.projector)
        with torch.no_grad():
            keys = self._keys(self.key_encoder, drawn.positives)
        queries = self.compared(self.projector(pool.embeddings(drawn.anchors)))
        return self.against_queue(queries, drawn.anchors, keys, drawn.positives, drawn.positive_mask)

    def _keys(self, encoder: KeyEncoder, positives: Tensor) -> Tensor:
        """Keys of items (A, P), as they are compared, shape (A, P, W)."""
        known = self.sources.items
        if is_fixed(positives):
            embeddings = encoder.embeddings(known.take_padded(positives.flatten()))
            return self.compared(encoder.projector(embeddings)).unflatten(0, positives.shape)
        items, rows = torch.unique(positives, return_inverse=True)
        return self.compared(encoder.projector(encoder.embeddings(known.take(items))))[rows]

    def _correlated(self, drawn: PositivePairs, pool: ItemPool) -> Tensor:
        anchors, mask = drawn.anchors[:, None].expand_as(drawn.positives), drawn.positive_mask
        if is_fixed(mask):
            pairs, real = (anchors.flatten(), drawn.positives.flatten()), mask.flatten()
        else:
            pairs, real = (anchors[mask], drawn.positives[mask]), None
        first, second = (self.projector(pool.embeddings(items)) for items in pairs)
        return barlow_twins(first, second, redundancy=self.config.redundancy, real=real)


class SemanticLoss(PairLoss):
    """L_sem, Eq. 4: positives are items of like meaning."""


class SessionLoss(PairLoss):
    """L_sess, Eq. 5: positives are items met in one session."""
