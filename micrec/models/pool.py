"""The items of one training step, each embedded once however often it occurs."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from micrec.models.columns import FieldColumns, Ragged
from micrec.models.lookups import row_scores, take_rows
from micrec.models.two_tower import TwoTower


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

    def rows(self, item_ids: Tensor) -> Tensor:
        """Rows of the latest ``distinct`` result that hold these items, any shape."""
        return self._slots[item_ids]


class ItemPool:
    """Raw fields and tower outputs of a step's distinct items.

    Built once per step and read by the matching loss, the histories and the three contrastive losses alike: that is
    what keeps MicRec's epoch close to its base model's.
    """

    def __init__(
        self, model: TwoTower, items: FieldColumns, index: ItemIndex, tower: Sequence[Tensor], history: Ragged
    ) -> None:
        item_ids, n_tower = index.distinct(tower, history.values)
        self._index = index
        self.item_ids = item_ids
        columns = items.take(item_ids)
        self.all_fields = model.embed_items(columns)  # (n, F, D)
        self.tower_out = model.item_tower(self.all_fields[:n_tower])  # (n_tower, D)
        self.history = history._replace(values=index.rows(history.values))
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

    def embeddings(self, item_ids: Tensor) -> Tensor:
        """Tower outputs, shape (*ids.shape, D)."""
        return take_rows(self.tower_out, self._index.rows(item_ids))

    def scores(self, user_emb: Tensor, item_ids: Tensor) -> Tensor:
        """Dot products of each user (B, D) with their items (B, K), shape (B, K)."""
        return row_scores(user_emb, self.tower_out, self._index.rows(item_ids))
