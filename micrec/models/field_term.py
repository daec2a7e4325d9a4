"""What a user clicks more of than others, by the values of item fields, as numbers beside the towers' outputs.

    term(u, i) = w log(1 + c_uv / (a s_v)),   v = the value of item i, for each of the fields

c_uv counts the user's clicks on items of value v (they fade if ``model.half_life_days`` says so), s_v is the value's
share of the training clicks. With w = 1 this is, up to what is the same for all values, the log of how much likelier
the user's next click is to have value v than anybody's, for a user whose preferences have a Dirichlet prior of a s_v:
a, in clicks, is how much of a history it takes to believe it. w and a are learned.

The term is a dot product: the item's side holds 1 in the place of its value, and the user's side the terms of all
values. An item with several values holds equal shares that sum to 1, and a click on it counts as much for each.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micrec.models.columns import FieldColumns, FieldSpec, Ragged
from micrec.models.padded import PaddedRows

PRIOR_CLICKS_START = 10.0  # a
SMOOTHING = 0.5  # clicks that each value has in addition, so that its share is above zero


class FieldTerm(nn.Module):
    """The term of a field of V known values.

    Attributes:
        weight: w, shape ().
        log_prior_clicks: log a, shape ().
        shares: s, shape (V,), constant.
    """

    shares: Tensor

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.ones(()))
        self.log_prior_clicks = nn.Parameter(torch.tensor(math.log(PRIOR_CLICKS_START)))
        self.register_buffer("shares", torch.full((self.width,), 1.0 / self.width))

    @property
    def width(self) -> int:
        """V: numbers of the term in the vectors of users and items."""
        return max(1, self.spec.size - 1)

    @torch.no_grad()
    def start(self, items: FieldColumns, item_clicks: Tensor, temperature: float) -> None:
        """Shares from the training clicks of all items, shape (N,); the weight for scores over ``temperature``."""
        rows = torch.arange(items.n, device=self.shares.device)
        clicks = torch.full((self.width,), SMOOTHING, device=self.shares.device)
        for part in rows.split(1 << 16):
            codes = self.codes(items.take(part), self._most_values(items))
            clicks += item_clicks[part].to(clicks) @ self.of_items(codes)
        self.shares.copy_(clicks / clicks.sum())
        self.weight.fill_(temperature)

    def _most_values(self, items: FieldColumns) -> int:
        if not self.spec.multi_valued:
            return 1
        lengths = items.multi[self.spec.name].offsets.diff()
        return max(1, int(lengths.max())) if len(lengths) else 1

    def codes(self, items: FieldColumns, room: int) -> Tensor:
        """Codes of the values of n items as numbers, 0 = none, float32, shape (n, room); more than ``room`` are cut."""
        if not self.spec.multi_valued:
            codes = items.single[self.spec.name].float()
            return torch.cat([codes[:, None], codes.new_zeros(len(codes), room - 1)], dim=1)
        values = items.multi[self.spec.name]
        if isinstance(values, PaddedRows):
            found = values.values[:, :room].float()
            return F.pad(found, (0, room - found.shape[1]))
        place = torch.arange(len(values.values), device=values.values.device) - values.offsets[values.rows]
        kept = place < room
        codes = torch.zeros(items.n, room, device=values.values.device)
        return codes.index_put((values.rows[kept], place[kept]), values.values[kept].float())

    def of_items(self, codes: Tensor) -> Tensor:
        """What ``codes`` (n, room) hold of each value, shape (n, V)."""
        found = codes.new_zeros(len(codes), self.width + 1)
        if not self.spec.multi_valued:
            return found.scatter_(1, codes[:, :1].long(), 1.0)[:, 1:]
        found.scatter_add_(1, codes.long(), (codes > 0).float())
        return found[:, 1:] / found[:, 1:].sum(dim=1, keepdim=True).clamp_min(1.0)

    def forward(self, history: Ragged | PaddedRows, codes: Tensor) -> Tensor:
        """Terms of every value for B users, shape (B, V).

        Args:
            history: Rows of ``codes`` that each user clicked; a click without a weight counts 1.
            codes: Of the items that occur, shape (n, room).
        """
        n_rows, width = len(history.lengths), self.width + 1
        counts = codes.new_zeros(n_rows * width)
        if isinstance(history, PaddedRows):
            places, weights = codes[history.values.flatten()].long(), history.shares.flatten()
            owners = torch.arange(n_rows, device=codes.device).repeat_interleave(history.mask.shape[1])
        else:
            places, owners = codes[history.values].long(), history.rows  # (nnz, room)
            weights = codes.new_ones(len(places)) if history.weights is None else history.weights.to(counts)
        if self.spec.multi_valued:
            shares = (places > 0).float()
            shares = weights[:, None] * shares / shares.sum(dim=1, keepdim=True).clamp_min(1.0)
        else:
            places, shares = places[:, :1], weights[:, None]
        counts.index_add_(0, (owners[:, None] * width + places).flatten(), shares.flatten())
        counts = counts.view(n_rows, width)[:, 1:]
        return self.weight * torch.log1p(counts / (self.log_prior_clicks.exp() * self.shares))


class FieldTerms(nn.Module):
    """The terms of one or more fields, one after the other; V and codes are those of all together.

    Args:
        specs: The fields.
    """

    def __init__(self, specs: Sequence[FieldSpec]) -> None:
        super().__init__()
        self.terms = nn.ModuleList(FieldTerm(spec) for spec in specs)

    @property
    def width(self) -> int:
        """V: numbers of the terms in the vectors of users and items."""
        return sum(term.width for term in self._all())

    @property
    def numbers(self) -> list[nn.Parameter]:
        """w and log a of every field, shape () each."""
        return [number for term in self._all() for number in (term.weight, term.log_prior_clicks)]

    def start(self, items: FieldColumns, item_clicks: Tensor, temperature: float) -> None:
        """See :meth:`FieldTerm.start`."""
        for term in self._all():
            term.start(items, item_clicks, temperature)

    def codes(self, items: FieldColumns, room: int) -> Tensor:
        """Codes of the values of n items as numbers, float32, shape (n, room); each field has an equal part of it."""
        parts = [term.codes(items, room // len(self.terms)) for term in self._all()]
        together = torch.cat(parts, dim=1)
        return F.pad(together, (0, room - together.shape[1]))

    def of_items(self, codes: Tensor) -> Tensor:
        """What ``codes`` (n, room) hold of each value, shape (n, V)."""
        return torch.cat([term.of_items(own) for term, own in self._with(codes)], dim=1)

    def forward(self, history: Ragged | PaddedRows, codes: Tensor) -> Tensor:
        """Terms of every value for B users, shape (B, V); see :meth:`FieldTerm.forward`."""
        return torch.cat([term(history, own) for term, own in self._with(codes)], dim=1)

    def _all(self) -> list[FieldTerm]:
        return list(self.terms)  # type: ignore[arg-type]

    def _with(self, codes: Tensor) -> list[tuple[FieldTerm, Tensor]]:
        """Every term with its part of the codes (n, room)."""
        room = codes.shape[1] // len(self.terms)
        return [(term, codes[:, place * room : (place + 1) * room]) for place, term in enumerate(self._all())]

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Models were stored with one term, under its names alone."""
        for name in ("weight", "log_prior_clicks", "shares"):
            if prefix + name in state_dict:
                state_dict[f"{prefix}terms.0.{name}"] = state_dict.pop(prefix + name)
        super()._load_from_state_dict(state_dict, prefix, *rest)
