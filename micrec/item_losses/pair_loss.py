"""The semantic- and session-level losses: an item and a positive of its against drawn negatives (Eq. 4 and 5)."""

from typing import NamedTuple

import torch
from torch import Tensor

from micrec.item_losses.item_loss import ContrastSources, ItemLoss, distinct_items
from micrec.losses import grouped_scores
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


class PairLoss(ItemLoss):
    """Projected tower outputs of an item and its positives against negatives of the step's pool."""

    needs_pool = True

    @staticmethod
    def positives_of(name: str, sources: ContrastSources) -> Positives | None:
        """Where its positives come from: the source of its name, which a registered loss prepares itself."""
        known = {"semantic": sources.semantic, "session": sources.session}
        return known[name] if name in known else sources.further.get(name)

    @classmethod
    def has_source(cls, name: str, sources: ContrastSources) -> bool:
        return cls.positives_of(name, sources) is not None

    def draw(self, items: Tensor, pool: Tensor | None, generator: torch.Generator) -> PairDraw:
        positives = self.positives_of(self.name, self.sources)
        assert positives is not None
        assert pool is not None
        device, anchors = items.device, items
        if self.config.anchors == "uniform":
            wanted_anchors = (self.contrast.uniform_anchors,)
            anchors = torch.randint(self.sources.n_items, wanted_anchors, generator=generator, device=device)
            anchors = distinct_items(anchors, self.sources.n_items)
        anchors = anchors[positives.has(anchors)]
        drawn = positives.draw(anchors, self.config.num_positives, generator)  # (A, P), -1 = none
        groups = -(-len(anchors) // self.contrast.group_size)
        wanted = self.config.negatives
        size = (groups, wanted * (OVERSAMPLE if self.sources.n_items <= SMALL_CATALOGUE else 1))
        negatives = pool[torch.randint(len(pool), size, generator=generator, device=device)]
        per_anchor = negatives.repeat_interleave(self.contrast.group_size, dim=0)[: len(anchors)]  # (A, K)
        allowed = ~positives.contains(anchors[:, None], per_anchor)  # neither itself nor one of its positives
        allowed &= allowed.cumsum(dim=1, dtype=torch.int32) <= wanted  # each anchor keeps its first `wanted`
        return PairDraw(anchors, drawn.clamp_min(0), drawn >= 0, negatives, allowed)

    def forward(self, drawn: PairDraw, pool: ItemPool, model: TwoTower, generator: torch.Generator) -> Tensor:
        anchors = self.compared(self.projector(pool.embeddings(drawn.anchors)))  # (A, D)
        positives = self.compared(self.projector(pool.embeddings(drawn.positives)))  # (A, P, D)
        negatives = self.compared(self.projector(pool.embeddings(drawn.negatives)))  # (G, K, D)
        positive = torch.einsum("ad,apd->ap", anchors, positives)
        negative = grouped_scores(anchors, negatives, self.contrast.group_size)
        return self.info_nce(positive, negative, positive_mask=drawn.positive_mask, negative_mask=drawn.negative_mask)


class SemanticLoss(PairLoss):
    """L_sem, Eq. 4: positives are items of like meaning."""


class SessionLoss(PairLoss):
    """L_sess, Eq. 5: positives are items met in one session."""
