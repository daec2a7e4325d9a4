"""The semantic- and session-level losses: an item and a positive of its against drawn negatives (Eq. 4 and 5)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from micrec.item_losses.item_loss import ContrastSources, ItemLoss, distinct_items
from micrec.item_losses.pseudo_clicks import draw_pairs, pseudo_click_loss
from micrec.losses import barlow_twins, grouped_scores
from micrec.models.pool import ItemPool
from micrec.models.two_tower import TwoTower
from micrec.sampling import Positives

OVERSAMPLE = 2  # candidates per wanted negative in a small catalogue, where popular items have met much of it
SMALL_CATALOGUE = 20_000  # items; in a larger one hardly a candidate is refused, and every look-up is a search


class PairDraw(NamedTuple):
    """Items of one semantic or session loss in one step; A anchors in groups that share K negatives."""

    anchors: Tensor  # (A,) item ids
    positives: Tensor  # (A, P) item ids, 0 where the mask is False
    positive_mask: Tensor  # (A, P)
    negatives: Tensor  # (G, K) item ids
    negative_mask: Tensor  # (A, K), False where the group's negative is the anchor or one of its positives

    def item_ids(self) -> list[Tensor]:
        """Flat item ids whose tower output is needed."""
        return [ids.flatten() for ids in (self.anchors, self.positives, self.negatives)]


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

    def draw(self, items: Tensor, pool: Tensor | None, generator: torch.Generator) -> Any:
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
        device, anchors = items.device, items
        if self.config.anchors == "uniform":
            wanted_anchors = (self.contrast.uniform_anchors,)
            anchors = torch.randint(self.sources.n_items, wanted_anchors, generator=generator, device=device)
            anchors = distinct_items(anchors, self.sources.n_items)
        anchors = anchors[positives.has(anchors)]
        drawn = positives.draw(anchors, self.config.num_positives, generator)  # (A, P), -1 = none
        if not self.needs_pool:
            return PositivePairs(anchors, drawn.clamp_min(0), drawn >= 0, by_tower=self.form == "barlow_twins")
        assert pool is not None
        groups = -(-len(anchors) // self.contrast.group_size)
        wanted = self.config.negatives
        size = (groups, wanted * (OVERSAMPLE if self.sources.n_items <= SMALL_CATALOGUE else 1))
        negatives = pool[torch.randint(len(pool), size, generator=generator, device=device)]
        per_anchor = negatives.repeat_interleave(self.contrast.group_size, dim=0)[: len(anchors)]  # (A, K)
        allowed = ~positives.contains(anchors[:, None], per_anchor)  # neither itself nor one of its positives
        allowed &= allowed.cumsum(dim=1, dtype=torch.int32) <= wanted  # each anchor keeps its first `wanted`
        return PairDraw(anchors, drawn.clamp_min(0), drawn >= 0, negatives, allowed)

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
        items, rows = torch.unique(drawn.positives, return_inverse=True)
        with torch.no_grad():
            keys = self.key_encoder.projector(self.key_encoder.embeddings(self.sources.items.take(items)))
            keys = self.compared(keys)[rows]  # (A, P, W)
        queries = self.compared(self.projector(pool.embeddings(drawn.anchors)))
        return self.against_queue(queries, drawn.anchors, keys, drawn.positives, drawn.positive_mask)

    def _correlated(self, drawn: PositivePairs, pool: ItemPool) -> Tensor:
        anchors = drawn.anchors[:, None].expand_as(drawn.positives)[drawn.positive_mask]
        views = (pool.embeddings(items) for items in (anchors, drawn.positives[drawn.positive_mask]))
        first, second = (self.projector(view) for view in views)
        return barlow_twins(first, second, redundancy=self.config.redundancy)


class SemanticLoss(PairLoss):
    """L_sem, Eq. 4: positives are items of like meaning."""


class SessionLoss(PairLoss):
    """L_sess, Eq. 5: positives are items met in one session."""
