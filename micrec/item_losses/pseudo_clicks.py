"""Item losses as pseudo-clicks: somebody who has clicked one thing and nothing else clicks a related item next.

The user tower reads the one click, with unknown user fields, and the related item is to be found among all train items,
by the scores and the temperature that rank for users too. So what a history says and what is retrieved come together,
and not item outputs only. The biases of the items are used, and not moved.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from micrec.item_losses.item_loss import ContrastSources
from micrec.item_losses.item_set import ItemSet
from micrec.losses import catalogue_softmax
from micrec.models.columns import FieldColumns, Ragged
from micrec.models.padded import PaddedRows
from micrec.models.pool import ItemPool
from micrec.models.two_tower import TwoTower
from micrec.sampling import Positives
from micrec.shapes import is_fixed

NEVER = -1e4  # added to the score of an item that is not to be found


class PseudoClicks(NamedTuple):
    """Pseudo-clicks of one step: anchor ``anchors[rows[t]]`` is followed by item ``targets[t]``."""

    anchors: Tensor  # (A,) item ids
    rows: Tensor  # (T,) never falling
    targets: Tensor  # (T,) item ids
    catalogue: Tensor  # (C,) item ids, ascending
    counts: Tensor | None = None  # (T,) which of them there are; None: all

    def item_ids(self) -> list[Tensor]:
        """Flat item ids whose tower output is needed."""
        return [self.anchors, self.targets, self.catalogue]


def draw_pairs(
    chosen: ItemSet,
    positives: Positives,
    sources: ContrastSources,
    *,
    num_positives: int,
    uniform_anchors: int | None,
    generator: torch.Generator,
) -> PseudoClicks:
    """Pseudo-clicks from items to positives of theirs; both have train clicks.

    Args:
        chosen: Anchors.
        positives: What may follow each.
        sources: What is known of the items.
        num_positives: Drawn for each anchor.
        uniform_anchors: Instead of ``chosen`` so many, drawn from the train items; None: ``chosen``.
        generator: The loss's own.
    """
    catalogue = sources.negatives
    assert sources.clicked is not None
    if uniform_anchors is not None:
        chosen = ItemSet.distinct(_uniform(catalogue, uniform_anchors, generator), sources.n_items)
    anchors, real = chosen.only(positives.has(chosen.items))
    drawn = positives.draw(anchors, num_positives, generator)  # (A, P), -1 = none
    usable = (drawn >= 0) & sources.clicked[drawn.clamp_min(0)]
    rows = torch.arange(len(anchors), device=anchors.device)[:, None].expand_as(drawn)
    if real is None:
        return PseudoClicks(anchors, rows[usable], drawn[usable], catalogue)
    usable &= real[:, None]
    targets = torch.where(usable, drawn, catalogue[0])
    return PseudoClicks(anchors, rows.flatten(), targets.flatten(), catalogue, usable.flatten())


def _uniform(catalogue: Tensor, count: int, generator: torch.Generator) -> Tensor:
    places = torch.randint(len(catalogue), (count,), generator=generator, device=generator.device)
    return catalogue[places.to(catalogue.device)]


def pseudo_click_loss(
    drawn: PseudoClicks,
    pool: ItemPool,
    model: TwoTower,
    *,
    temperature: float,
    read: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of the items that follow, in nats, shape ().

    Args:
        drawn: The pseudo-clicks.
        pool: Holds ``drawn.item_ids()``.
        model: The towers.
        temperature: Of the matching loss.
        read: What the user tower reads of the anchors in place of their own fields, shape (A, F, D), where the anchor
            itself is to be found; None: their own fields, and the anchor is not to be found.
    """
    if len(drawn.targets) == 0:
        return pool.tower_out.sum() * 0.0
    anchors, rows, device = drawn.anchors, drawn.rows, drawn.anchors.device
    count = len(anchors)
    places = torch.arange(count, device=device)
    history: Any = Ragged(places, torch.arange(count + 1, device=device))
    if is_fixed(anchors):
        history = PaddedRows(places[:, None], torch.ones_like(places[:, None], dtype=torch.bool), places[:, None])
    fields = pool.fields_apart(anchors) if read is None else read
    user_emb = model.user_tower(unknown_users(model, count, device), history, fields).float()
    if model.interests is not None:  # each pseudo-click meets an interest of its own
        user_emb, history, anchors = user_emb[rows], history.take(rows), anchors[rows]
        rows = torch.arange(len(rows), device=device)
        user_emb = model.readout(user_emb, pool.embeddings(drawn.targets), history)
    own = None
    if read is None:
        itself = torch.arange(len(anchors), device=device), torch.searchsorted(drawn.catalogue, anchors)
        own = (*itself, user_emb.new_full((len(anchors),), NEVER))
    return catalogue_softmax(
        user_emb,
        pool.shared_embeddings(drawn.catalogue),
        rows,
        torch.searchsorted(drawn.catalogue, drawn.targets),
        bias=None if pool.biases is None else pool.biases(drawn.catalogue).detach(),
        own=own,
        counts=drawn.counts,
        temperature=temperature,
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
