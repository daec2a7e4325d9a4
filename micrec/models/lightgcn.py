"""LightGCN: vectors that spread over the graph of users and the items they clicked (He et al. 2020).

Layer 0 of an item or a user is the sum of its field vectors. Only the vectors of ids spread; layer k + 1 is

    e_u = sum over items i of u of e_i / sqrt(d_u d_i),    e_i = sum over users u of i of e_u / sqrt(d_u d_i)

with degrees d, and what is compared is the mean of layers 0 to K. Items are spread over the whole graph of the training
clicks in every step. A user's own layers are computed from the history that the model is given, by the same formula:

    u = 1 / (K + 1) (e_u^0 + sum over items j of the history of (e_j^0 + ... + e_j^(K - 1)) / sqrt(d_u d_j))

so that training does not show them the click that is to be found, and users who come later are what they clicked.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from micrec.models.columns import FieldColumns, Ragged
from micrec.models.counted import count_items
from micrec.models.fields import FieldEmbeddings
from micrec.models.graph import ClickGraph, spread_items
from micrec.models.lookups import sum_values, take_rows
from micrec.models.start import StartValues
from micrec.models.two_tower import TwoTower
from micrec.tower_configs import LightGcnConfig


class LightGcn(TwoTower):
    """Behind the field vectors of an item stand two more: what the graph adds to it when it is found, and when it is
    read in a history. They are computed anew in every training step, and kept for use after the training.

    Users have a vector e_u^0 of their own with ``model.user_id``, as in the paper; without, and where a user is not
    known, it is zero.
    """

    options: LightGcnConfig
    items_read_users = True
    counts_clicks = True
    found: Tensor  # (N + 1, D) by code of the id: sum of layers 1 .. K
    read: Tensor  # (N + 1, D) sum of layers 1 .. K - 1
    degrees: Tensor  # (N + 1,) users of the item, at least 1

    def build_item_tower(self) -> None:
        size, dim = sum(spec.size for spec in self.item_fields.specs if spec.own_id), self.config.embedding_dim
        self.register_buffer("found", torch.zeros(size, dim))
        self.register_buffer("read", torch.zeros(size, dim))
        self.register_buffer("degrees", torch.ones(size))
        self.graph: ClickGraph | None = None

    def build_user_tower(self) -> None:
        """Nothing but the field embeddings."""

    def start_from(self, values: StartValues) -> None:
        super().start_from(values)
        self.graph = ClickGraph.of(values.users, values.items, values.n_users, len(values.item_clicks))

    def train(self, mode: bool = True) -> "LightGcn":
        """Leaving the training keeps what the graph makes of the vectors as they are now.

        Degrees are always those of the graph, also where the parameters are those of a training on another day.
        """
        if self.graph is not None:
            self.degrees[1:] = self.graph.item_degrees.clamp_min(1).to(self.degrees)
        if self.training and not mode and self.graph is not None:
            super().train(False)
            with torch.no_grad():
                found, read = self._spread_all()
                self.found.copy_(found)
                self.read.copy_(read)
        return super().train(mode)

    def embed_fields(self, items: FieldColumns, *, keep: dict[str, Tensor] | None = None) -> Tensor:
        """Field vectors, what the graph adds to the item, and what a history reads of it, shape (n, F + 2, D)."""
        items = self._without_dropped_ids(items)
        codes = self.id_codes(items)
        assert codes is not None
        fields = self.item_fields(items, keep=keep)
        if self.training and self.graph is not None:
            found, read = (take_rows(layers, codes) for layers in self._spread_all())
        else:
            found, read = self.found[codes], self.read[codes]
        read = (fields.sum(dim=1) + read) * self.degrees[codes].rsqrt()[:, None]
        return torch.cat([fields, found[:, None], read[:, None]], dim=1)

    @property
    def embeds_apart(self) -> bool:
        return False  # one item's vector is that of the whole graph

    @property
    def rows_per_item(self) -> int:
        return len(self.item_fields.specs) + 2

    def encode_user(self, user_fields: Tensor, history: Ragged, item_fields: Tensor) -> Tensor:
        counted = count_items(history, len(item_fields))
        assert counted.weights is not None
        shares = counted.weights.clamp_max(1.0)  # an edge is there once, and may have faded
        if self.training and self.config.history_dropout and self.noise is not None:
            kept = self.draw_noise(shares.shape, shares.device) >= self.config.history_dropout
            shares = shares * kept
        shares = shares * counted.of_rows(counted.row_sums(shares).clamp_min(1e-6).rsqrt())
        spread = sum_values(item_fields[:, -1], counted, shares)
        return (user_fields.sum(dim=1) + spread) / (self.options.layers + 1)

    def encode_item(self, item_fields: Tensor) -> Tensor:
        return item_fields[:, :-1].sum(dim=1) / (self.options.layers + 1)

    def _spread_all(self) -> tuple[Tensor, Tensor]:
        """``found`` and ``read`` of the ids' vectors as they are now."""
        assert self.graph is not None
        items, users = _id_vectors(self.item_fields), _id_vectors(self.user_fields)
        assert items is not None
        found, read = spread_items(items, users, self.graph, self.options.layers)
        nothing = found.new_zeros(1, found.shape[1])
        return torch.cat([nothing, found]), torch.cat([nothing, read])

    def _without_dropped_ids(self, items: FieldColumns) -> FieldColumns:
        """With the ids that ``id_dropout`` hides as unknown ones, to the graph too."""
        ratio = self.config.id_dropout
        if not (self.training and ratio and self.noise is not None):
            return items
        name = next(spec.name for spec in self.item_fields.specs if spec.own_id)
        codes = items.single[name]
        kept = torch.rand(codes.shape, generator=self.noise, device=self.noise.device) >= ratio
        return replace(items, single={**items.single, name: codes * kept.to(codes.device)})


def _id_vectors(fields: FieldEmbeddings) -> Tensor | None:
    """Vectors of all own ids but the unknown one, (N, D); None where ids are not embedded."""
    tables: dict[str, Any] = dict(fields.tables.items())
    for spec in fields.specs:
        if spec.own_id:
            vectors: Tensor = tables[spec.name](torch.arange(1, spec.size, device=tables[spec.name].weight.device))
            return vectors
    return None
