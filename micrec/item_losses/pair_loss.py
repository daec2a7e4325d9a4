"""The semantic- and session-level losses: an item and a positive of its against drawn negatives (Eq. 4 and 5)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from micrec.item_losses.item_loss import ContrastSources, ItemLoss, distinct_items
from micrec.losses import barlow_twins, catalogue_softmax, grouped_scores
from micrec.models.columns import FieldColumns, Ragged
from micrec.models.pool import ItemPool
from micrec.models.two_tower import TwoTower
from micrec.sampling import Positives

NEVER = -1e4  # added to the score of an item that is not to be found
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
    """Projected tower outputs of an item and its positives: against negatives of the step's pool, or by ``form``."""

    @property
    def needs_pool(self) -> bool:  # type: ignore[override]
        return self.form not in ("momentum", "barlow_twins")

    @staticmethod
    def positives_of(name: str, sources: ContrastSources) -> Positives | None:
        """Where its positives come from: the source of its name, which a registered loss prepares itself."""
        known = {"semantic": sources.semantic, "session": sources.session}
        return known[name] if name in known else sources.further.get(name)

    @classmethod
    def has_source(cls, name: str, sources: ContrastSources) -> bool:
        return cls.positives_of(name, sources) is not None

    def draw(self, items: Tensor, pool: Tensor | None, generator: torch.Generator) -> PairDraw | PositivePairs:
        positives = self.positives_of(self.name, self.sources)
        assert positives is not None
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


class PseudoClicks(NamedTuple):
    """Pseudo-clicks of one step: anchor ``anchors[rows[t]]`` is followed by item ``targets[t]``."""

    anchors: Tensor  # (A,) item ids
    rows: Tensor  # (T,) never falling
    targets: Tensor  # (T,) item ids
    catalogue: Tensor  # (C,) item ids, ascending

    def item_ids(self) -> list[Tensor]:
        """Flat item ids whose tower output is needed."""
        return [self.anchors, self.targets, self.catalogue]


class SemanticLoss(PairLoss):
    """L_sem, Eq. 4: positives are items of like meaning.

    With ``form`` pseudo_clicks a positive is what a user clicks next who has clicked the anchor and nothing else: the
    user tower reads the anchor, with unknown user fields, and the positive is to be found among all train items but
    the anchor, by the scores that rank for users too. So what a history says and what is retrieved come together, and
    not item outputs only. The biases of the items are used, and not moved. Anchors and positives have train clicks.
    """

    def make_projector(self, width: int) -> nn.Module:
        return nn.Identity() if self.config.form == "pseudo_clicks" else super().make_projector(width)

    def draw(self, items: Tensor, pool: Tensor | None, generator: torch.Generator) -> Any:
        if self.form != "pseudo_clicks":
            return super().draw(items, pool, generator)
        positives, catalogue = self.sources.semantic, self.sources.negatives
        assert positives is not None
        assert self.sources.clicked is not None
        if self.config.anchors == "uniform":
            wanted = (self.contrast.uniform_anchors,)
            chosen = catalogue[torch.randint(len(catalogue), wanted, generator=generator, device=catalogue.device)]
            items = distinct_items(chosen, self.sources.n_items)
        items = items[positives.has(items)]
        drawn = positives.draw(items, self.config.num_positives, generator)  # (A, P), -1 = none
        usable = (drawn >= 0) & self.sources.clicked[drawn.clamp_min(0)]
        rows = torch.arange(len(items), device=items.device)[:, None].expand_as(drawn)
        return PseudoClicks(items, rows[usable], drawn[usable], catalogue)

    def forward(self, drawn: Any, pool: ItemPool, model: TwoTower, generator: torch.Generator) -> Tensor:
        if self.form != "pseudo_clicks":
            return super().forward(drawn, pool, model, generator)
        if len(drawn.targets) == 0:
            return pool.tower_out.sum() * 0.0
        count = len(drawn.anchors)
        history = Ragged(pool.rows(drawn.anchors), torch.arange(count + 1, device=drawn.anchors.device))
        users = unknown_users(model, count, drawn.anchors.device)
        user_emb = model.user_tower(users, history, pool.all_fields).float()
        rows, anchors = drawn.rows, drawn.anchors
        if model.interests is not None:  # each pseudo-click meets an interest of its own
            user_emb, history, anchors = user_emb[rows], history.take(rows), anchors[rows]
            rows = torch.arange(len(rows), device=rows.device)
            user_emb = model.readout(user_emb, pool.embeddings(drawn.targets), history)
        itself = torch.arange(len(anchors), device=anchors.device), torch.searchsorted(drawn.catalogue, anchors)
        return catalogue_softmax(
            user_emb,
            pool.embeddings(drawn.catalogue),
            rows,
            torch.searchsorted(drawn.catalogue, drawn.targets),
            bias=None if pool.biases is None else pool.biases(drawn.catalogue).detach(),
            own=(*itself, user_emb.new_full((len(anchors),), NEVER)),
            temperature=self.sources.temperature,
        )


def unknown_users(model: TwoTower, count: int, device: torch.device) -> FieldColumns:
    """Users of whom nothing is known."""
    specs = model.user_fields.specs
    nothing = torch.zeros(count, dtype=torch.int64, device=device)
    no_values = Ragged(nothing[:0], torch.zeros(count + 1, dtype=torch.int64, device=device))
    return FieldColumns(
        n=count,
        single={spec.name: nothing for spec in specs if spec.size and not spec.multi_valued},
        multi={spec.name: no_values for spec in specs if spec.multi_valued},
        numbers={spec.name: nothing.float() for spec in specs if not spec.size},
    )


class SessionLoss(PairLoss):
    """L_sess, Eq. 5: positives are items met in one session."""
