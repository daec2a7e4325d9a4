"""The items of one training step, each embedded once however often it occurs."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from micrec.models.columns import FieldColumns, Ragged
from micrec.models.lookups import row_scores, take_rows
from micrec.models.padded import PaddedRows
from micrec.models.two_tower import TwoTower
from micrec.shapes import is_fixed, marked


class ItemIndex:
    """Finds the distinct items of a step: one mark per catalogue item, no sort."""

    def __init__(self, n_items: int, device: torch.device | str) -> None:
        self._marks = torch.zeros(n_items, dtype=torch.bool, device=device)
        self._slots = torch.zeros(n_items, dtype=torch.int64, device=device)

    def distinct(self, tower: Sequence[Tensor], history: Tensor) -> tuple[Tensor, int]:
        """Distinct item ids, first the n_tower ones that a tower output is needed for, then those only in histories.

        Both parts ascend, so embedding gradients come out as strictly increasing rows within each part.
        """
        for ids in tower:
            self._marks[ids] = True
        tower_ids = self._marks.nonzero().squeeze(1)
        if len(tower_ids) == len(self._marks):  # a small catalogue: everything is in
            item_ids = tower_ids
        else:
            self._marks[history] = True
            self._marks[tower_ids] = False
            item_ids = torch.cat([tower_ids, self._marks.nonzero().squeeze(1)])
        self._marks[item_ids] = False
        self._slots[item_ids] = torch.arange(len(item_ids), device=item_ids.device)
        return item_ids, len(tower_ids)

    def with_room(self, tower: Sequence[Tensor], history: Tensor) -> tuple[Tensor, int]:
        """``distinct``, each of the two parts as long as it could get; its first item fills up what it does not need.

        Once the tower part has room for the whole catalogue, it is the whole catalogue.
        """
        n_items = len(self._marks)
        room = min(n_items, sum(ids.numel() for ids in tower))
        if room == n_items:
            self._slots = torch.arange(n_items, device=self._marks.device)
            return self._slots, n_items
        asked, read = torch.zeros_like(self._marks), torch.zeros_like(self._marks)
        for ids in tower:
            asked.index_fill_(0, ids.reshape(-1), True)
        read = read.index_fill_(0, history.reshape(-1), True) & ~asked
        first, _ = marked(asked, room)
        second, _ = marked(read, min(n_items, history.numel()))
        self._slots = torch.where(asked, asked.cumsum(0) - 1, room + read.cumsum(0) - 1)
        return torch.cat([first, second]), room

    def rows(self, item_ids: Tensor) -> Tensor:
        """Rows of the latest result that hold these items, any shape."""
        return self._slots[item_ids]


class ItemPool:
    """Raw fields and tower outputs of a step's distinct items.

    Built once per step and read by the matching loss, the histories and the three contrastive losses alike: that is
    what keeps MicRec's epoch close to its base model's.
    """

    def __init__(
        self,
        model: TwoTower,
        items: FieldColumns,
        index: ItemIndex,
        tower: Sequence[Tensor],
        history: Ragged | PaddedRows,
    ) -> None:
        has_room = isinstance(history, PaddedRows)
        self._apart = (model, items) if model.embeds_apart and not has_room else None
        item_ids, n_tower = (index.with_room if has_room else index.distinct)(tower, history.values)
        self._index = index
        self.item_ids = item_ids
        columns = items.take_padded(item_ids) if has_room else items.take(item_ids)
        self.all_fields = model.embed_items(columns)  # (n, F, D)
        asked = self.all_fields if n_tower == len(item_ids) else self.all_fields[:n_tower]
        self.tower_out = model.item_tower(asked)  # (n_tower, D)
        self.history: Any = history._replace(values=index.rows(history.values))
        self._shared: tuple[Tensor, Tensor] | None = None
        self._biases = None if model.prior is None else model.prior.biases(model.id_codes(columns))  # (n,)

    @property
    def biases(self) -> Callable[[Tensor], Tensor] | None:
        """Biases of items by their ids; None if the model has none."""
        found = self._biases
        return None if found is None else lambda item_ids: found[self._index.rows(item_ids)]

    def rows(self, item_ids: Tensor) -> Tensor:
        """Rows of ``all_fields`` that hold these items, any shape."""
        return self._index.rows(item_ids)

    def fields(self, item_ids: Tensor) -> Tensor:
        """Raw field vectors, shape (*ids.shape, F, D)."""
        rows = self._index.rows(item_ids)
        return take_rows(self.all_fields.flatten(1), rows).unflatten(-1, self.all_fields.shape[1:])

    def fields_apart(self, item_ids: Tensor) -> Tensor:
        """``fields`` of a few items (A,), embedded anew where that may be.

        Their gradient is then one of a few rows, where that of ``fields`` passes through all items of the step.
        """
        if self._apart is None:
            return self.fields(item_ids)
        model, items = self._apart
        return model.embed_items(items.take(item_ids))

    def embeddings(self, item_ids: Tensor) -> Tensor:
        """Tower outputs, shape (*ids.shape, D)."""
        return take_rows(self.tower_out, self._index.rows(item_ids))

    def shared_embeddings(self, item_ids: Tensor) -> Tensor:
        """``embeddings`` of the catalogue, asked for by several losses: gathered once in each direction."""
        if self._shared is None or self._shared[0] is not item_ids:
            self._shared = item_ids, self.tower_out if self._is_tower(item_ids) else self.embeddings(item_ids)
        return self._shared[1]

    def _is_tower(self, item_ids: Tensor) -> bool:
        """Whether these are the items of ``tower_out`` in their order; a GPU is not asked, which would make it wait."""
        n_tower = len(self.tower_out)
        return not is_fixed(item_ids) and torch.equal(item_ids, self.item_ids[:n_tower])

    def scores(self, user_emb: Tensor, item_ids: Tensor) -> Tensor:
        """Dot products of each user (B, D) with their items (B, K), shape (B, K)."""
        return row_scores(user_emb, self.tower_out, self._index.rows(item_ids))
