"""The two towers of a model as modules whose inputs are plain tensors of any batch and length, for export."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micrec.models.columns import TITLES, FieldColumns, FieldSpec, Ragged
from micrec.models.padded import PaddedRows
from micrec.models.two_tower import TwoTower
from micrec.towers import TOWERS

HISTORY, WEIGHTS, PRIOR, TITLE = "history", "history_weights", "prior", "title_vector"
EMBEDDING, OWN_ITEMS, OWN_TERMS = "embedding", "own_items", "own_terms"


class TowerInput(NamedTuple):
    """One input of an exported tower.

    Attributes:
        name: In the file.
        axes: Names of its dimensions that may have any size.
        example: What the tower is traced with.
        about: What it holds, in a sentence.
    """

    name: str
    axes: tuple[str, ...]
    example: Tensor
    about: str


class ExportedUserTower(nn.Module):
    """User fields and histories to user vectors, with the field vectors of all items inside.

    Args:
        model: The towers.
        item_fields: Raw field vectors of the N items, shape (N, F, D).
    """

    item_fields: Tensor

    def __init__(self, model: TwoTower, item_fields: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("item_fields", item_fields)

    @property
    def inputs(self) -> list[TowerInput]:
        """What ``forward`` takes, in its order."""
        rows = torch.tensor([[0, 1 % len(self.item_fields), -1], [-1, -1, 0]])
        about = "rows of items.parquet, oldest first, -1 where there is none"
        found = [TowerInput(HISTORY, ("batch", "clicks"), rows, about)]
        if self.model.config.half_life_days is not None:
            half_life = self.model.config.half_life_days
            about = f"what each click counts: 0.5 ** (days since it / {half_life:g})"
            found.append(TowerInput(WEIGHTS, ("batch", "clicks"), torch.ones(2, 3), about))
        return [*found, *_field_inputs(self.model.user_fields.specs, "user", "batch")]

    @property
    def outputs(self) -> list[str]:
        """Names of what ``forward`` gives."""
        return [EMBEDDING] if self.model.personal is None else [EMBEDDING, OWN_ITEMS, OWN_TERMS]

    def forward(self, history: Tensor, *given: Tensor) -> Any:
        """See ``inputs`` and ``outputs``."""
        ids = self._latest(history, -1)  # (B, T)
        rest, weights = list(given), None
        if self.model.config.half_life_days is not None:
            weights = self._latest(rest.pop(0), 0.0)
        batch = history.shape[0]
        users = _columns(self.model.user_fields.specs, rest, batch)
        looked_up = ids.clamp_min(0)
        table = self.item_fields[looked_up.reshape(-1)]  # (B T, F, D): no more than these items are computed on
        places = torch.arange(looked_up.numel(), device=ids.device).view(looked_up.shape)
        clicks = PaddedRows(places, ids >= 0, ids, weights)
        embedding = self.model.user_tower(users, cast(Ragged, clicks), table)
        if self.model.prior is not None:
            embedding = torch.cat([embedding, torch.ones_like(embedding[..., :1])], dim=-1)
        if self.model.personal is None:
            return embedding
        own = clicks.counted()
        terms = self.model.personal(own.shares)
        return embedding, torch.where(own.mask, ids, -1), torch.where(own.mask, terms, torch.zeros_like(terms))

    def _latest(self, rows: Tensor, nothing: float) -> Tensor:
        """The latest clicks that the model reads; where their places count, always as many as it has."""
        length = self.model.config.history_length
        rows = F.pad(rows, (length if self._by_place else 1, 0), value=nothing)  # never without a column
        return rows[:, -length:]

    @property
    def _by_place(self) -> bool:
        by_click = TOWERS[self.model.config.name].by_click
        return by_click or getattr(self.model.options, "behaviour_tokens", None) == "sequence"


class ExportedItemTower(nn.Module):
    """Item fields to the vectors that an index holds.

    Args:
        model: The towers.
        titles: Numbers of a title's vector that the model reads; 0: none.
    """

    def __init__(self, model: TwoTower, titles: int) -> None:
        super().__init__()
        self.model, self.titles = model, titles

    @property
    def inputs(self) -> list[TowerInput]:
        """What ``forward`` takes, in its order."""
        found = _field_inputs(self.model.item_fields.specs, "item", "items")
        if self.titles:
            about = "the vector of the item's title, zeros where it has none"
            found.append(TowerInput(TITLE, ("items",), torch.ones(2, self.titles), about))
        if self.model.prior is not None:
            about = "what the item's score has beside the product, in items.parquet; 0 for an item without clicks"
            found.append(TowerInput(PRIOR, ("items",), torch.zeros(2), about))
        return found

    @property
    def outputs(self) -> list[str]:
        """Names of what ``forward`` gives."""
        return [EMBEDDING]

    def forward(self, *given: Tensor) -> Tensor:
        """See ``inputs``."""
        rest = list(given)
        prior = rest.pop() if self.model.prior is not None else None
        titles = {TITLES: rest.pop()} if self.titles else {}
        columns = _columns(self.model.item_fields.specs, rest, given[0].shape[0], titles)
        embedding = self.model.item_tower(self.model.embed_items(columns))
        return embedding if prior is None else torch.cat([embedding, prior.unsqueeze(1)], dim=1)


def _field_inputs(specs: Sequence[FieldSpec], entity: str, axis: str) -> list[TowerInput]:
    found = []
    for spec in specs:
        name = f"{entity}_{spec.name}" if not spec.name.startswith(f"{entity}_") else spec.name
        if spec.multi_valued:
            about = "codes of the values, see fields.json, -1 where there is none"
            found.append(TowerInput(name, (axis, f"{name}_values"), torch.tensor([[0, 0, -1], [0, -1, -1]]), about))
        elif spec.size:
            found.append(TowerInput(name, (axis,), torch.tensor([0, 0]), "code of the value, see fields.json"))
        else:
            found.append(TowerInput(name, (axis,), torch.zeros(2), "standardised, see fields.json; 0 where missing"))
    return found


def _columns(
    specs: Sequence[FieldSpec], given: Sequence[Tensor], n: int, vectors: dict[str, Tensor] | None = None
) -> FieldColumns:
    columns = FieldColumns(n=n, single={}, multi={}, numbers={}, vectors=vectors or {})
    for spec, values in zip(specs, given, strict=True):
        if spec.multi_valued:
            columns.multi[spec.name] = cast(Ragged, PaddedRows(values.clamp_min(0), values >= 0, values))
        elif spec.size:
            columns.single[spec.name] = values
        else:
            columns.numbers[spec.name] = values
    return columns
