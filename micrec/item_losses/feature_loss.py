"""The feature-level loss: an item and its dropped self, against the dropped selves of other items (Eq. 2 and 3)."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micrec.item_losses.item_loss import ItemLoss, View
from micrec.item_losses.item_set import ItemSet
from micrec.item_losses.pseudo_clicks import PseudoClicks, pseudo_click_loss
from micrec.losses import (
    barlow_twins,
    correlated_masks,
    drop_tags,
    element_dropout,
    field_dropout,
    grouped_scores,
    keep_fields,
    random_halves,
)
from micrec.models.columns import FieldColumns
from micrec.models.padded import PaddedRows
from micrec.models.pool import ItemPool
from micrec.models.two_tower import TwoTower
from micrec.shapes import is_fixed


class FeatureDraw(NamedTuple):
    """Anchors of the feature loss in one step."""

    items: Tensor  # (A,) item ids
    real: Tensor | None = None  # (A,) which of them count; None: all

    def item_ids(self) -> list[Tensor]:
        """Flat item ids whose tower output is needed."""
        return [self.items]


class FeatureLoss(ItemLoss):
    """L_fea, over the fields of the items or over their towers' outputs.

    With ``form`` pseudo_clicks a history holds a dropped view of the item alone, and the item itself is to be found: so
    the fields of what was clicked lead to items of such fields, and the id's part is theirs to make up for.
    """

    joins_pseudo_clicks = True

    def make_projector(self, width: int) -> nn.Module:
        return nn.Identity() if self.form == "pseudo_clicks" else super().make_projector(width)

    def projected_width(self, model: TwoTower) -> int:
        return model.rows_per_item * model.field_dim if self.config.apply_on == "input" else model.output_dim

    def draw(self, items: ItemSet, pool: Tensor | None, generator: torch.Generator) -> FeatureDraw | PseudoClicks:
        ids, real = items
        if self.form != "pseudo_clicks":
            return FeatureDraw(ids, real)
        return PseudoClicks(ids, torch.arange(len(ids), device=ids.device), ids, self.sources.negatives, real)

    def forward(self, drawn: Any, pool: ItemPool, model: TwoTower, generator: torch.Generator) -> Tensor:
        """Eq. 3: an item and its dropped self, against the dropped selves of other items of the batch."""
        if self.form == "pseudo_clicks":
            view = self.view(model, generator)
            return pseudo_click_loss(drawn, pool, model, temperature=self.sources.temperature, view=view)
        items = drawn.items
        clean, behind = model.parted(pool.fields(items))  # (A, F, D); no view changes what is behind
        if self.form == "momentum":
            return self._against_queue(drawn, clean, behind, model, generator)
        first, second = self._views(clean, items, model, generator)
        if first is clean and self.config.apply_on == "tower":
            anchors = self.projector(pool.embeddings(items))  # the pool has them already
        else:
            anchors = self.projector(self._read(first, behind, model))
        keys = self.projector(self._read(second, behind, model))
        if self.form == "barlow_twins":
            return barlow_twins(anchors, keys, redundancy=self.config.redundancy, real=drawn.real)
        return self._among_batch(drawn, self.compared(anchors), self.compared(keys), generator)

    def view(self, model: TwoTower, generator: torch.Generator) -> View:
        def dropped(fields: Tensor, items: Tensor) -> Tensor:
            clean, behind = model.parted(fields)
            return torch.cat([self._views(clean, items, model, generator)[1], behind], dim=1)

        return dropped

    def _among_batch(self, drawn: FeatureDraw, anchors: Tensor, keys: Tensor, generator: torch.Generator) -> Tensor:
        items, real = drawn.items, drawn.real
        positive = (anchors * keys).sum(dim=1, keepdim=True)  # (A, 1)
        negatives = self._other_rows(len(items), real, generator)  # (G, K) rows of the batch, or None for all
        group = self.contrast.group_size
        if negatives is None:
            negative, others = anchors @ keys.T, items[None, :]
        else:
            negative = grouped_scores(anchors, keys[negatives], group)
            others = items[negatives].repeat_interleave(group, dim=0)[: len(items)]  # (A, K)
        mask = others != items[:, None]
        if real is None:
            return self.info_nce(positive, negative, negative_mask=mask)
        counts = real[None, :] if negatives is None else real[negatives].repeat_interleave(group, dim=0)[: len(items)]
        return self.info_nce(positive, negative, negative_mask=mask & counts, positive_mask=real[:, None])

    def _against_queue(
        self, drawn: FeatureDraw, clean: Tensor, behind: Tensor, model: TwoTower, generator: torch.Generator
    ) -> Tensor:
        """The one view by the model, the other by the copy that follows it; both by the same drawn masks."""
        assert self.key_encoder is not None
        items = drawn.items
        self.key_encoder.follow(model, self.projector)
        state = generator.get_state()
        first, _ = self._views(clean, items, model, generator)
        generator.set_state(state)
        queries = self.compared(self.projector(self._read(first, behind, model)))
        with torch.no_grad():
            copied = self.key_encoder.model
            _, second = self._views(copied.embed_fields(self._columns(items)), items, copied, generator)
            keys = self.compared(self.key_encoder.projector(self._read(second, behind, copied).float()))
        there = torch.ones_like(items, dtype=torch.bool) if drawn.real is None else drawn.real
        return self.against_queue(queries, items, keys[:, None], items[:, None], there[:, None])

    def _read(self, fields: Tensor, behind: Tensor, model: TwoTower) -> Tensor:
        """What the projector reads of fields (A, F, D)."""
        if self.config.apply_on == "tower":
            return model.item_tower(torch.cat([fields, behind], dim=1) if behind.shape[1] else fields)
        return fields.flatten(1)

    def _other_rows(self, n: int, real: Tensor | None, generator: torch.Generator) -> Tensor | None:
        """For each group of anchors, rows of the batch drawn without replacement, shape (G, K), those that count first.

        Of fewer that count, others fill up the draw.
        """
        wanted = self.config.negatives
        if wanted == "all" or wanted + 1 >= n:
            return None
        groups = -(-n // self.contrast.group_size)
        keys = torch.rand(groups, n, generator=generator, device=generator.device)  # the smallest are the draw
        keys = keys if real is None else keys.to(real.device).masked_fill(~real, torch.inf)
        return keys.topk(wanted, dim=1, largest=False, sorted=False).indices

    def _views(
        self, clean: Tensor, items: Tensor, model: TwoTower, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Anchor and key views: the clean item and a dropped one, or two dropped ones (N8)."""
        config = self.config
        if config.mask == "cfm":
            assert self.sources.field_information is not None
            masks = correlated_masks(self.sources.field_information, generator=generator)
            behind = clean.shape[1] - len(masks[0])
            kept, complement = (F.pad(mask.to(clean.device), (0, behind), value=True) for mask in masks)
            return clean * kept[:, None], clean * complement[:, None]
        if config.mask == "rfm":
            n_rows = len(clean) if config.mask_per == "item" else 1
            kept, complement = random_halves(n_rows, clean.shape[1], generator=generator)
            return keep_fields(clean, kept.to(clean.device)), keep_fields(clean, complement.to(clean.device))
        second = self._dropped(clean, items, model, generator)
        first = self._dropped(clean, items, model, generator) if config.views == "two" else clean
        return first, second

    def _dropped(self, clean: Tensor, items: Tensor, model: TwoTower, generator: torch.Generator) -> Tensor:
        config = self.config
        if config.mask == "element":
            return element_dropout(clean, config.ratio, rescale=config.rescale, generator=generator)
        if config.mask == "field":
            return field_dropout(clean, config.ratio, per=config.mask_per, generator=generator)
        columns = self._columns(items)
        keep = {
            name: values.without_some(config.ratio, generator)
            if isinstance(values, PaddedRows)
            else drop_tags(values.values, values.offsets, config.ratio, generator=generator)
            for name, values in columns.multi.items()
        }
        return model.embed_fields(columns, keep=keep)

    def _columns(self, items: Tensor) -> FieldColumns:
        """The items' raw fields."""
        known = self.sources.items
        return known.take_padded(items) if is_fixed(items) else known.take(items)
