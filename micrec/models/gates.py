"""Vectors of values that few clicks tell of count less: n / (n + gate), n being the training clicks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from micrec.models.columns import FieldColumns, FieldSpec, Ragged
from micrec.models.padded import PaddedRows


class Gates(nn.Module):
    """What the vectors of every value of F fields count, by code.

    Of a value with n training clicks, on the items or by the users that have it, that is ``scale`` n / (n + gate), and
    0 of the unknown one; with a gate of 0 it is ``scale`` for all. Numbers count ``scale``. An id has the scale 1.

    Args:
        specs: The fields.
        id_gate: Gate of the own id, in clicks.
        value_gate: Gate of all other fields, in clicks.
        scale: Of all other fields.
    """

    def __init__(self, specs: Sequence[FieldSpec], *, id_gate: float, value_gate: float, scale: float) -> None:
        super().__init__()
        self.specs = list(specs)
        self.limits = [id_gate if spec.own_id else value_gate for spec in self.specs]
        self.scales = [1.0 if spec.own_id else scale for spec in self.specs]
        for place, spec in enumerate(self.specs):
            self.register_buffer(_name(place), torch.full((max(1, spec.size),), self.scales[place]))

    @property
    def all_count_in_full(self) -> bool:
        """Whether there is nothing to multiply with."""
        return not any(self.limits) and set(self.scales) <= {1.0}

    def by_code(self, place: int) -> Tensor:
        """What each value of the field at ``place`` counts, shape (size,); of numbers, shape (1,)."""
        counts: Tensor = getattr(self, _name(place))
        return counts

    @torch.no_grad()
    def start(self, rows: FieldColumns, row_clicks: Tensor) -> None:
        """Gates from the training clicks of all N items or users, shape (N,)."""
        for place, (spec, limit) in enumerate(zip(self.specs, self.limits, strict=True)):
            counts = self.by_code(place)
            if spec.size and limit:
                clicks = _clicks_by_code(rows, spec, row_clicks.to(counts))
                counts.copy_(self.scales[place] * clicks / (clicks + limit))
                counts[0] = 0.0

    def forward(self, columns: FieldColumns, keep: dict[str, Tensor] | None = None) -> Tensor:
        """What the field vectors of n rows count, shape (n, F); of several values the mean of those that stay.

        Args:
            columns: The rows' encoded fields.
            keep: As of :meth:`micrec.models.fields.FieldEmbeddings.forward`.
        """
        parts = []
        for place, spec in enumerate(self.specs):
            counts = self.by_code(place)
            if spec.multi_valued:
                parts.append(_mean(counts, columns.multi[spec.name], None if keep is None else keep[spec.name]))
            elif spec.size:
                parts.append(counts[columns.single[spec.name].long()])
            else:
                parts.append(counts.expand(columns.n))
        return torch.stack(parts, dim=1)


def _name(place: int) -> str:
    return f"field_{place}"


def _clicks_by_code(rows: FieldColumns, spec: FieldSpec, row_clicks: Tensor) -> Tensor:
    """Clicks on or by the rows that have each value, shape (size,)."""
    clicks = row_clicks.new_zeros(spec.size)
    if not spec.multi_valued:
        return clicks.index_add_(0, rows.single[spec.name].long(), row_clicks)
    values = rows.multi[spec.name]
    return clicks.index_add_(0, values.values.long(), row_clicks[values.rows])


def _mean(counts: Tensor, values: Ragged | PaddedRows, keep: Tensor | None) -> Tensor:
    """Mean of ``counts`` over the values of each row, of those that ``keep`` says, shape (n,); 0 without any."""
    if isinstance(values, PaddedRows):
        padded = values if keep is None else values._replace(mask=values.mask & keep)
        return padded.mean(counts[:, None]).squeeze(1)
    shown = values if keep is None else values.keep(keep)
    return shown.row_sums(counts[shown.values.long()]) / shown.lengths.clamp_min(1)
