"""FISM: a user is the sum of what the items of their history say of the next one (Kabbur, Ning and Karypis 2013).

Each item has two vectors, p for being found and q for being read, as in NSVD and AsySVD before:

    u = s (sum of x_j^2)^-alpha  sum of x_j q_j,   x_j = log(1 + c_j),   d_i = p_i

over the distinct items j of the history, clicked c_j times. With alpha .5 the profile x has unit length. Other item
fields have two vectors as well, which are added; user fields one each. Unlike the paper's, the sum holds the item
itself: what repeats is left to the personal term, see ``micrec.models.score_terms``.

With ``title_dim`` an item has fixed numbers t of its title beside both, so that items with few clicks have a place
among their like, and with ``id_gate`` its id counts the less the fewer clicks n it has:

    p_i = [ g_i P_i ; c t_i ],   q_j = [ g_j Q_j ; t_j ],   g_i = n_i / (n_i + gate)

``value_gate`` does the same for the values v of all other fields, by the clicks on items or of users that have them,
and ``field_scale`` makes each of these fields count less than the id: g_i P_i + sum of s g_v P_v in place of g_i P_i.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from micrec.models.columns import TITLES, FieldColumns, FieldSpec, Ragged
from micrec.models.counted import count_items
from micrec.models.ease_start import ease_factors
from micrec.models.gates import Gates
from micrec.models.lookups import sum_values
from micrec.models.start import StartValues
from micrec.models.table import EmbeddingTable
from micrec.models.two_tower import TwoTower
from micrec.tower_configs import FismConfig


class Fism(TwoTower):
    """Two vectors per item in one embedding of twice the width: p first, then q."""

    options: FismConfig
    counts_clicks = True
    sums_fields = True

    @property
    def field_dim(self) -> int:
        return 2 * self.config.embedding_dim

    @property
    def rows_per_item(self) -> int:
        return self._field_rows + -(-self.options.title_dim // self.field_dim)

    @property
    def _field_rows(self) -> int:
        n_fields = len(self.item_fields.specs)
        return min(1, n_fields) if self.sums_fields else n_fields

    @property
    def encoding_dim(self) -> int:
        return self.config.embedding_dim + self.options.title_dim

    def build_item_tower(self) -> None:
        """Nothing but the field embeddings, and what goes with titles and rare items."""
        options = self.options
        self.title_factor = nn.Parameter(torch.tensor(options.title_scale)) if options.title_dim else None
        self.gates = self._gates(self.item_fields.specs, options.id_gate)

    def build_user_tower(self) -> None:
        self.scale = nn.Parameter(torch.ones(()))
        self.user_gates = self._gates(self.user_fields.specs, self.options.value_gate)

    def _gates(self, specs: Sequence[FieldSpec], id_gate: float) -> Gates | None:
        options = self.options
        gates = Gates(specs, id_gate=id_gate, value_gate=options.value_gate, scale=options.field_scale)
        return None if gates.all_count_in_full else gates

    def start_from(self, values: StartValues) -> None:
        super().start_from(values)
        if self.gates is not None:
            assert values.item_columns is not None
            self.gates.start(values.item_columns, values.item_clicks)
        if self.user_gates is not None:
            assert values.user_columns is not None
            self.user_gates.start(values.user_columns, torch.bincount(values.users, minlength=values.n_users))

    def start_vectors(self, values: StartValues) -> None:
        table = self._id_table()
        if self.options.start == "ease" and table is not None:
            p, q, known = ease_factors(values, self.config.embedding_dim, ridge=self.options.ease_lambda)
            rows = known.nonzero().squeeze(1)
            factors = self.options.ease_scale * torch.cat([p, q], dim=1)[rows]
            table.put((rows + 1).to(table.weight.device), factors)

    def score_numbers(self) -> list[nn.Parameter]:
        found = super().score_numbers()
        return found if self.title_factor is None else [*found, self.title_factor]

    def scaled_block(self) -> tuple[nn.Parameter, slice] | None:
        dim = self.config.embedding_dim
        return None if self.title_factor is None else (self.title_factor, slice(dim, dim + self.options.title_dim))

    def _id_table(self) -> EmbeddingTable | None:
        """Vectors of the items' own ids, if they are embedded."""
        names = [spec.name for spec in self.item_fields.specs if spec.own_id]
        tables: dict[str, Any] = dict(self.item_fields.tables.items())
        return tables[names[0]] if names else None

    def embed_fields(self, items: FieldColumns, *, keep: dict[str, Tensor] | None = None) -> Tensor:
        """Field vectors or their sum, (n, F or 1, 2 D), then the numbers of the title in as many rows as they fill."""
        parts = self.item_fields.parts(items, keep=keep, generator=self.noise if self.training else None)
        if self.gates is not None:
            shares = self.gates(items, keep).unsqueeze(2).unbind(1)
            parts = [part * share for part, share in zip(parts, shares, strict=True)]
        if self.sums_fields:
            parts = [reduce(torch.add, parts)] if parts else []
        fields = torch.stack(parts, dim=1) if parts else self.item_fields(items)
        dim = self.options.title_dim
        if not dim:
            return fields
        titles = items.vectors.get(TITLES)
        titles = fields.new_zeros(fields.shape[0], dim) if titles is None else titles
        padded = F.pad(titles, (0, -dim % self.field_dim))
        return torch.cat([fields, padded.view(fields.shape[0], -1, self.field_dim)], dim=1)

    def embed_users(self, users: FieldColumns) -> Tensor:
        fields = super().embed_users(users)
        return fields if self.user_gates is None else fields * self.user_gates(users).unsqueeze(2)

    def _half(self, item_fields: Tensor, which: int) -> Tensor:
        """p (0) or q (1) of the fields together, shape (n, D)."""
        n_rows, dim = self._field_rows, self.config.embedding_dim
        columns = slice(which * dim, (which + 1) * dim)
        if item_fields.requires_grad and torch.is_grad_enabled():
            half: Tensor = _SumOfFields.apply(item_fields, n_rows, columns)
            return half
        return item_fields[:, :n_rows, columns].sum(dim=1)

    def _titles(self, item_fields: Tensor) -> Tensor | None:
        """Numbers of the titles, shape (n, T), which take no gradient; None without."""
        n_rows, dim = self._field_rows, self.options.title_dim
        return item_fields.detach()[:, n_rows:].flatten(1)[:, :dim] if dim else None

    def encode_user(self, user_fields: Tensor, history: Ragged, item_fields: Tensor) -> Tensor:
        counted = count_items(history, len(item_fields))
        assert counted.weights is not None
        x = torch.log1p(counted.weights)
        x = x * counted.of_rows(counted.row_sums(x * x).clamp_min(1e-6).pow(-self.options.alpha))
        if self.training and self.config.history_dropout and self.noise is not None:
            kept = 1.0 - self.config.history_dropout
            x = x * (self.draw_noise(x.shape, x.device) < kept) / kept
        q, titles = self._half(item_fields, 1), self._titles(item_fields)
        total = sum_values(q, counted, x)
        if titles is not None:
            total = torch.cat([total, sum_values(titles, counted, x)], dim=1)
        total = self.scale * total
        fields = user_fields[..., : self.config.embedding_dim].sum(dim=1)
        return total + F.pad(fields, (0, self.options.title_dim))

    def encode_item(self, item_fields: Tensor) -> Tensor:
        p, titles = self._half(item_fields, 0), self._titles(item_fields)
        return p if self.title_factor is None or titles is None else torch.cat([p, self.title_factor * titles], dim=1)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Models were stored with the gates of the id alone."""
        of_ids = state_dict.pop(f"{prefix}gates", None)
        if of_ids is not None and self.gates is not None:
            for name, counts in self.gates.state_dict().items():
                state_dict[f"{prefix}gates.{name}"] = counts
            own = [spec.own_id for spec in self.item_fields.specs].index(True)
            state_dict[f"{prefix}gates.field_{own}"] = of_ids
        super()._load_from_state_dict(state_dict, prefix, *rest)


class _SumOfFields(torch.autograd.Function):
    """``item_fields[:, :n_fields, columns].sum(dim=1)``, whose gradient is written once."""

    @staticmethod
    def forward(ctx: Any, item_fields: Tensor, n_fields: int, columns: slice) -> Tensor:
        ctx.shape, ctx.part = item_fields.shape, (slice(None), slice(n_fields), columns)
        return item_fields[ctx.part].sum(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        found = grad.new_zeros(ctx.shape)
        found[ctx.part] = grad[:, None]
        return found, None, None
