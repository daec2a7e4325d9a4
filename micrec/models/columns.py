"""Encoded fields of users or items as device tensors; a batch is a row slice of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.data.dataset import Column, EntityTable
from micrec.data.schema import EMBEDDABLE, FieldType
from micrec.errors import MicrecError
from micrec.losses.augment import keep_values
from micrec.models.padded import PaddedRows

TITLES, WORDS = "titles", "title words"  # names of the title vectors and words among the items' columns


class Ragged(NamedTuple):
    """Rows of unequal length (CSR): row i is ``values[offsets[i] : offsets[i + 1]]``."""

    values: Tensor  # (nnz,)
    offsets: Tensor  # (n + 1,) int64
    weights: Tensor | None = None  # (nnz,) what each value counts; None: all alike

    def take(self, rows: Tensor) -> "Ragged":
        """The given rows, shape (k,), as a new Ragged of k rows; repeats allowed."""
        return self.ranges(self.offsets[rows], self.offsets[rows + 1])

    def ranges(self, starts: Tensor, stops: Tensor) -> "Ragged":
        """The values from ``starts[i]`` to before ``stops[i]`` for every i, with their weights."""
        where, offsets = range_places(starts, stops)
        return Ragged(self.values[where], offsets, None if self.weights is None else self.weights[where])

    def latest(self, length: int) -> "Ragged":
        """The last ``length`` values of every row."""
        stops = self.offsets[1:]
        return self.ranges(torch.maximum(self.offsets[:-1], stops - length), stops)

    def keep(self, mask: Tensor) -> "Ragged":
        """The values where ``mask``, bool, shape (nnz,), is True, in their rows."""
        values, offsets = keep_values(self.values, self.offsets, mask)
        return Ragged(values, offsets, None if self.weights is None else self.weights[mask])

    @property
    def lengths(self) -> Tensor:
        """Values of each row, shape (n,), int64."""
        return self.offsets.diff()

    def row_sums(self, numbers: Tensor) -> Tensor:
        """Sum of the numbers (nnz,) of each row, shape (n,)."""
        return numbers.new_zeros(len(self.offsets) - 1).index_add_(0, self.rows, numbers)

    def of_rows(self, numbers: Tensor) -> Tensor:
        """The number of its row beside each value: (n,) to (nnz,)."""
        return numbers[self.rows]

    @property
    def rows(self) -> Tensor:
        """The row of each value, shape (nnz,), int64."""
        lengths = self.offsets.diff()
        owners = torch.arange(len(lengths), device=lengths.device)
        return torch.repeat_interleave(owners, lengths, output_size=len(self.values))


def range_places(starts: Tensor, stops: Tensor, total: int | None = None) -> tuple[Tensor, Tensor]:
    """The places ``starts[i] .. stops[i] - 1`` of all i in a row, int64, and the offsets of each i among them.

    A GPU waits unless ``total``, the number of all places, is given.
    """
    lengths = stops - starts
    offsets = torch.zeros(len(starts) + 1, dtype=torch.int64, device=starts.device)
    torch.cumsum(lengths, 0, out=offsets[1:])
    shift = torch.repeat_interleave(starts - offsets[:-1], lengths, output_size=total)  # (nnz,)
    return shift + torch.arange(len(shift), device=starts.device), offsets


def gather_ranges(values: Tensor, starts: Tensor, stops: Tensor, total: int | None = None) -> Ragged:
    """``values[starts[i] : stops[i]]`` for every i, as a Ragged of len(starts) rows; ``total`` of ``range_places``."""
    where, offsets = range_places(starts, stops, total)
    return Ragged(values[where], offsets)


@dataclass(frozen=True)
class FieldSpec:
    """What a tower must know of one field: its embedding table's size, or the scale of its numbers."""

    name: str
    type: FieldType
    size: int = 0  # rows of the table, row 0 = unknown
    mean: float = 0.0  # of the numbers, over the table
    std: float = 1.0
    own_id: bool = False  # the entity's own id, not a column of its table
    embedded: bool = True  # whether it has an embedding table, or is read for the field term alone
    counted: bool = False  # whether a field term counts its values

    @property
    def multi_valued(self) -> bool:
        return self.type is FieldType.MULTI_CATEGORICAL

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data, without what says that it is embedded and not counted, as most fields are."""
        known = asdict(self)
        usual = {"embedded": True, "counted": False}
        return {key: value for key, value in known.items() if key not in usual or value != usual[key]}

    def standardise(self, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values of a numeric field as a tower reads them, shape (n,); a missing one (NaN) is the mean, 0."""
        return np.nan_to_num((numbers - self.mean) / self.std, nan=0.0).astype(np.float32)


@dataclass(frozen=True)
class FieldColumns:
    """n rows of encoded fields on one device.

    ``single[name]``: codes (n,); ``multi[name]``: codes as Ragged of n rows; both int32 where a whole table is kept;
    ``numbers[name]``: standardised float32 (n,), 0 where missing; ``vectors[name]``: float32 (n, D), not embedded.
    """

    n: int
    single: dict[str, Tensor]
    multi: dict[str, Ragged]
    numbers: dict[str, Tensor]
    vectors: dict[str, Tensor] = field(default_factory=dict)

    def take(self, rows: Tensor) -> Self:
        """The given rows, shape (k,), int64, with codes widened to int64."""
        multi = {name: ragged.take(rows) for name, ragged in self.multi.items()}
        return type(self)(
            n=len(rows),
            single={name: codes[rows].long() for name, codes in self.single.items()},
            multi={name: Ragged(ragged.values.long(), ragged.offsets) for name, ragged in multi.items()},
            numbers={name: numbers[rows] for name, numbers in self.numbers.items()},
            vectors={name: vectors[rows] for name, vectors in self.vectors.items()},
        )

    def take_padded(self, rows: Tensor) -> Self:
        """``take`` with lists as wide as the longest of the whole table; without the words of titles."""
        taken = replace(self, multi={}).take(rows)
        for name, ragged in self.multi.items():
            if name != WORDS:
                taken.multi[name] = _padded(ragged, rows, self._widths[name])  # type: ignore[assignment]
        return taken

    @cached_property
    def _widths(self) -> dict[str, int]:
        """Most values of a row, by field, at least 1."""
        longest = {name: ragged.lengths.max() for name, ragged in self.multi.items() if len(ragged.lengths)}
        return {name: max(1, int(longest.get(name, 1))) for name in self.multi}

    def to(self, device: torch.device | str) -> Self:
        return type(self)(
            n=self.n,
            single={name: codes.to(device) for name, codes in self.single.items()},
            multi={
                name: Ragged(ragged.values.to(device), ragged.offsets.to(device)) for name, ragged in self.multi.items()
            },
            numbers={name: numbers.to(device) for name, numbers in self.numbers.items()},
            vectors={name: vectors.to(device) for name, vectors in self.vectors.items()},
        )

    def concat(self, other: Self) -> Self:
        """These rows followed by the other's; vectors that the other lacks are zero."""
        return type(self)(
            n=self.n + other.n,
            single={name: torch.cat([codes, other.single[name]]) for name, codes in self.single.items()},
            multi={
                name: Ragged(
                    torch.cat([ragged.values, other.multi[name].values]),
                    torch.cat([ragged.offsets, ragged.offsets[-1] + other.multi[name].offsets[1:]]),
                )
                for name, ragged in self.multi.items()
            },
            numbers={name: torch.cat([numbers, other.numbers[name]]) for name, numbers in self.numbers.items()},
            vectors={
                name: torch.cat([vectors, other.vectors.get(name, vectors.new_zeros(other.n, vectors.shape[1]))])
                for name, vectors in self.vectors.items()
            },
        )

    def tensors(self) -> dict[str, Tensor]:
        """All columns as flat named tensors; ``from_tensors`` puts them together again."""
        named = {f"single.{name}": codes for name, codes in self.single.items()}
        named |= {f"values.{name}": ragged.values for name, ragged in self.multi.items()}
        named |= {f"offsets.{name}": ragged.offsets for name, ragged in self.multi.items()}
        named |= {f"vectors.{name}": vectors for name, vectors in self.vectors.items()}
        return named | {f"numbers.{name}": numbers for name, numbers in self.numbers.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], *, n: int) -> Self:
        """What ``tensors`` took apart."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

        offsets = part("offsets.")
        multi = {name: Ragged(values, offsets[name]) for name, values in part("values.").items()}
        return cls(n=n, single=part("single."), multi=multi, numbers=part("numbers."), vectors=part("vectors."))


def _padded(ragged: Ragged, rows: Tensor, width: int) -> PaddedRows:
    """Rows of a Ragged, shape (k,), at the left end of ``width`` places each; 0 behind them."""
    starts, stops = ragged.offsets[rows, None], ragged.offsets[rows + 1, None]
    places = starts + torch.arange(width, device=rows.device)
    mask = places < stops
    if not len(ragged.values):
        codes = torch.zeros_like(places)
    else:
        codes = ragged.values[places.clamp_max(len(ragged.values) - 1)].long() * mask
    return PaddedRows(codes, mask, codes)


def choose_fields(table: EntityTable, wanted: Sequence[str] | None, *, key: str) -> list[str]:
    """Names of the fields to embed, in the table's order; None = all that can be embedded.

    Raises:
        MicrecError: If a wanted field is not in the dataset; ``key`` is the config key named in the message.
    """
    available = [name for name, column in table.columns.items() if column.type in EMBEDDABLE]
    if wanted is None:
        return available
    unknown = [name for name in wanted if name not in available]
    if unknown:
        raise MicrecError(
            f"{key}: no field {', '.join(unknown)} in the dataset; choose from {', '.join(available) or 'none'}."
        )
    return [name for name in available if name in wanted]


def field_specs(
    table: EntityTable, names: Sequence[str], *, id_name: str | None = None, counted: Sequence[str] = ()
) -> list[FieldSpec]:
    """Specs of the fields ``names``; ``id_name`` puts the entity's own id first, with one row per entity.

    The fields ``counted`` are marked as such, and come last where they are not among ``names``.
    """
    specs = [FieldSpec(id_name, FieldType.ID, size=len(table) + 1, own_id=True)] if id_name else []
    for name in (*names, *(name for name in counted if name not in names)):
        column = table.columns[name]
        if column.type is FieldType.NUMERIC:
            mean, std = _moments(column)
            specs.append(FieldSpec(name, column.type, mean=mean, std=std))
        else:
            specs.append(
                FieldSpec(name, column.type, size=column.size, embedded=name in names, counted=name in counted)
            )
    return specs


def load_columns(table: EntityTable, specs: Sequence[FieldSpec], *, known: np.ndarray | None = None) -> FieldColumns:
    """All rows of a table as tensors on the CPU.

    Args:
        table: Users or items.
        specs: Which fields, the entity's own id among them if wanted.
        known: Entities with an id row of their own, shape (n,), bool; the others read row 0 (unknown). None = all.
    """
    single: dict[str, Tensor] = {}
    multi: dict[str, Ragged] = {}
    numbers: dict[str, Tensor] = {}
    for spec in specs:
        if spec.own_id:
            codes = np.arange(1, len(table) + 1, dtype=np.int32)
            single[spec.name] = torch.from_numpy(codes if known is None else np.where(known, codes, 0).astype(np.int32))
            continue
        column = table.columns[spec.name]
        if column.numbers is not None:
            numbers[spec.name] = torch.from_numpy(spec.standardise(column.numbers))
        elif column.codes is not None:
            single[spec.name] = torch.from_numpy(np.ascontiguousarray(column.codes))
        else:
            assert column.values is not None
            assert column.offsets is not None
            multi[spec.name] = Ragged(torch.from_numpy(column.values), torch.from_numpy(column.offsets))
    return FieldColumns(n=len(table), single=single, multi=multi, numbers=numbers)


def _moments(column: Column) -> tuple[float, float]:
    assert column.numbers is not None
    finite = column.numbers[np.isfinite(column.numbers)].astype(np.float64)
    if len(finite) == 0:
        return 0.0, 1.0
    return float(finite.mean()), float(finite.std()) or 1.0
