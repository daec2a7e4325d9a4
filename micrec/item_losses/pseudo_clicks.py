"""Item losses as pseudo-clicks: somebody who has clicked one thing and nothing else clicks a related item next.

The user tower reads the one click, with unknown user fields, and the related item is to be found among all train items,
by the scores and the temperature that rank for users too. So what a history says and what is retrieved come together,
and not item outputs only. The biases of the items are used, and not moved. The losses of a step are computed together:
one pass through the user tower, one softmax over the catalogue, one gradient of the catalogue's size.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from micrec.item_losses.item_loss import ContrastSources, View
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
    drawn: PseudoClicks, pool: ItemPool, model: TwoTower, *, temperature: float, view: View | None = None
) -> Tensor:
    """Mean cross-entropy of the items that follow, in nats, shape (); arguments as of ``pseudo_click_losses``."""
    if len(drawn.targets) == 0:
        return pool.tower_out.sum() * 0.0
    return pseudo_click_losses([drawn], pool, model, temperature=temperature, views=[view])


def pseudo_click_losses(
    drawn: Sequence[PseudoClicks],
    pool: ItemPool,
    model: TwoTower,
    *,
    temperature: float,
    views: Sequence[View | None],
    weights: Sequence[float] | None = None,
) -> Tensor:
    """The losses of several draws, by one pass through the user tower and one softmax over the catalogue.

    Args:
        drawn: The pseudo-clicks of each loss, at least one each, over one catalogue.
        pool: Holds their ``item_ids()``.
        model: The towers.
        temperature: Of the matching loss.
        views: What the user tower reads of each loss's anchors, where these are to be found themselves; None: their own
            fields, and the anchors are not to be found.
        weights: Of the losses, > 0; None: of the only one there is, which is not weighted.

    Returns:
        The weighted losses in nats, shape (L,); without ``weights`` of shape ().
    """
    clicks, sizes = _in_a_row(drawn), [len(one.anchors) for one in drawn]
    anchors, rows, device = clicks.anchors, clicks.rows, clicks.anchors.device
    count = len(anchors)
    places = torch.arange(count, device=device)
    history: Any = Ragged(places, torch.arange(count + 1, device=device))
    if is_fixed(anchors):
        history = PaddedRows(places[:, None], torch.ones_like(places[:, None], dtype=torch.bool), places[:, None])
    fields = pool.fields_apart(anchors)
    if any(views):
        parts = zip(fields.split(sizes), drawn, views, strict=True)
        fields = torch.cat([part if view is None else view(part, one.anchors) for part, one, view in parts])
    user_emb = model.user_tower(unknown_users(model, count, device), history, fields).float()
    if model.interests is not None:  # each pseudo-click meets an interest of its own
        user_emb, history, anchors = user_emb[rows], history.take(rows), anchors[rows]
        rows, sizes = torch.arange(len(rows), device=device), [len(one.targets) for one in drawn]
        user_emb = model.readout(user_emb, pool.embeddings(clicks.targets), history)
    return catalogue_softmax(
        user_emb,
        pool.shared_embeddings(clicks.catalogue),
        rows,
        torch.searchsorted(clicks.catalogue, clicks.targets),
        bias=None if pool.biases is None else pool.biases(clicks.catalogue).detach(),
        own=_hidden(anchors, sizes, views, clicks.catalogue),
        counts=clicks.counts,
        groups=None if weights is None else (_numbered(sizes, device), weights),
        temperature=temperature,
    )


def _in_a_row(drawn: Sequence[PseudoClicks]) -> PseudoClicks:
    """The pseudo-clicks of all losses, none of which has ``counts`` if they are several."""
    if len(drawn) == 1:
        return drawn[0]
    starts = accumulate((len(one.anchors) for one in drawn), initial=0)
    return PseudoClicks(
        torch.cat([one.anchors for one in drawn]),
        torch.cat([one.rows + start for one, start in zip(drawn, starts, strict=False)]),
        torch.cat([one.targets for one in drawn]),
        drawn[0].catalogue,
    )


def _numbered(sizes: Sequence[int], device: torch.device) -> Tensor:
    """The group of each row, where so many rows of each group follow one another."""
    return torch.cat([torch.full((size,), group, device=device) for group, size in enumerate(sizes)])


def _hidden(
    anchors: Tensor, sizes: Sequence[int], views: Sequence[View | None], catalogue: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Rows and columns of the items that are not to be found, and what keeps them from it; None: there are none."""
    starts = accumulate(sizes, initial=0)
    blocks = [range(at, at + size) for at, size, view in zip(starts, sizes, views, strict=False) if view is None]
    if not blocks:
        return None
    rows = torch.cat([torch.arange(block.start, block.stop, device=anchors.device) for block in blocks])
    return rows, torch.searchsorted(catalogue, anchors[rows]), torch.full((len(rows),), NEVER, device=anchors.device)


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
