"""Shared field embeddings: the raw vectors f^u and f^d that every tower reads (paper 3.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from micrec.models.columns import FieldColumns, FieldSpec, Ragged
from micrec.models.padded import PaddedRows
from micrec.models.table import EmbeddingTable


class FieldEmbeddings(nn.Module):
    """One D-dimensional embedding per field; multi-valued fields are the mean over their values.

    A numeric field x is embedded as x * w + b with learned w, b of width D.
    """

    def __init__(
        self,
        specs: Sequence[FieldSpec],
        dim: int,
        *,
        init_scale: float,
        sparse: bool,
        id_dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.specs = list(specs)
        self.dim = dim
        self.id_dropout = id_dropout
        self.nothing: Tensor
        self.register_buffer("nothing", torch.empty(1, 0, dim), persistent=False)  # for an entity without fields
        self.tables = nn.ModuleDict()
        self.numeric = nn.ParameterDict()
        for spec in self.specs:
            if spec.size:
                table = EmbeddingTable(spec.size, dim, sparse=sparse, init_scale=init_scale, generator=generator)
                with torch.no_grad():
                    table.weight[0].zero_()  # unknown: says nothing until it is trained
                self.tables[spec.name] = table
            else:
                weight = torch.empty(2, dim).uniform_(-init_scale, init_scale, generator=generator)
                self.numeric[spec.name] = nn.Parameter(weight)

    @property
    def width(self) -> int:
        """Numbers in the concatenation of all fields, F * D."""
        return len(self.specs) * self.dim

    def forward(
        self,
        columns: FieldColumns,
        *,
        keep: dict[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Embed n rows, shape (n, F, D).

        Args:
            columns: The rows' encoded fields.
            keep: For multi-valued fields, which values stay, shape (nnz,), bool (category-level dropout, paper 3.3).
            generator: Source of the id dropout; without it no id is dropped.
        """
        parts = self.parts(columns, keep=keep, generator=generator)
        return torch.stack(parts, dim=1) if parts else self.nothing.expand(columns.n, 0, self.dim)

    def parts(
        self,
        columns: FieldColumns,
        *,
        keep: dict[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """The embedding of each field, shape (n, D) each; arguments as of ``forward``."""
        parts = []
        for spec in self.specs:
            if spec.multi_valued:
                ragged = columns.multi[spec.name]
                kept = None if keep is None else keep[spec.name]
                parts.append(_mean_of_values(self.tables[spec.name], ragged, kept))  # type: ignore[arg-type]
            elif spec.size:
                parts.append(self.tables[spec.name](self._drop_ids(spec, columns.single[spec.name], generator)))
            else:
                slope, intercept = self.numeric[spec.name]
                parts.append(columns.numbers[spec.name].unsqueeze(1) * slope + intercept)
        return parts

    def _drop_ids(self, spec: FieldSpec, codes: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None or self.id_dropout == 0.0 or not spec.own_id:
            return codes
        keep = torch.rand(codes.shape, generator=generator, device=generator.device) >= self.id_dropout
        return codes * keep.to(codes.device)


def _mean_of_values(table: EmbeddingTable, values: Ragged | PaddedRows, keep: Tensor | None) -> Tensor:
    """Mean embedding of the values of each row, of those that ``keep`` says, shape (n, D)."""
    if not isinstance(values, PaddedRows):
        values = values if keep is None else values.keep(keep)
        return table.bag(values.values, values.offsets)
    if torch.jit.is_tracing():
        return values.mean(table.weight)
    shares = values.shares if keep is None else values.shares * keep
    n, width = shares.shape
    offsets = torch.arange(0, n * width + 1, width, device=shares.device)
    return table.bag(values.values.flatten(), offsets, weights=shares.flatten())
