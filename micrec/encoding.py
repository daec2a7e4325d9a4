"""Raw field values of users and items that are in no table yet, encoded as the model knows them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from micrec.data.dataset import Dataset
from micrec.data.schema import FieldType
from micrec.errors import MicrecError
from micrec.models.columns import FieldColumns, FieldSpec, Ragged
from micrec.train_data import Fields


@dataclass(frozen=True)
class FieldEncoder:
    """Vocabularies of all embedded fields; values outside them read row 0 (unknown)."""

    user_specs: list[FieldSpec]
    item_specs: list[FieldSpec]
    user_labels: dict[str, tuple[str, ...]]
    item_labels: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, dataset: Dataset, fields: Fields) -> "FieldEncoder":
        return cls(
            user_specs=fields.user_specs,
            item_specs=fields.item_specs,
            user_labels={s.name: dataset.users.columns[s.name].labels for s in fields.user_specs if not s.own_id},
            item_labels={s.name: dataset.items.columns[s.name].labels for s in fields.item_specs if not s.own_id},
        )

    def users(self, rows: Sequence[Mapping[str, Any]]) -> FieldColumns:
        """Encode user rows, field name -> value; a field that is not given is missing."""
        return _encode(self.user_specs, self.user_labels, rows, what="user")

    def items(self, rows: Sequence[Mapping[str, Any]]) -> FieldColumns:
        """Encode item rows; a multi-valued field takes a list, or text with | between the values."""
        return _encode(self.item_specs, self.item_labels, rows, what="item")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "FieldEncoder":
        from micrec.model_folder import read_specs

        return cls(
            user_specs=read_specs(data["user_specs"]),
            item_specs=read_specs(data["item_specs"]),
            user_labels={name: tuple(labels) for name, labels in data["user_labels"].items()},
            item_labels={name: tuple(labels) for name, labels in data["item_labels"].items()},
        )


def _encode(
    specs: Sequence[FieldSpec], labels: Mapping[str, tuple[str, ...]], rows: Sequence[Mapping[str, Any]], *, what: str
) -> FieldColumns:
    known = {spec.name for spec in specs if not spec.own_id}
    unknown = sorted({name for row in rows for name in row} - known)
    if unknown:
        raise MicrecError(
            f"{what} field {', '.join(unknown)}: not a field of the model; it has {', '.join(sorted(known)) or 'none'}."
        )
    columns = FieldColumns(n=len(rows), single={}, multi={}, numbers={})
    for spec in specs:
        codes = {label: code for code, label in enumerate(labels.get(spec.name, ()), start=1)}
        if spec.own_id:
            columns.single[spec.name] = torch.zeros(len(rows), dtype=torch.int32)
        elif spec.type is FieldType.NUMERIC:
            numbers = np.array([_number(row.get(spec.name), spec, what) for row in rows], dtype=np.float64)
            columns.numbers[spec.name] = torch.from_numpy(
                np.nan_to_num((numbers - spec.mean) / spec.std, nan=0.0).astype(np.float32)
            )
        elif spec.multi_valued:
            found = [[codes[v] for v in _values(row.get(spec.name)) if v in codes] for row in rows]
            offsets = np.concatenate([[0], np.cumsum([len(f) for f in found])]).astype(np.int64)
            flat = np.array([code for f in found for code in f], dtype=np.int32)
            columns.multi[spec.name] = Ragged(torch.from_numpy(flat), torch.from_numpy(offsets))
        else:
            values = [codes.get(str(row[spec.name]), 0) if row.get(spec.name) is not None else 0 for row in rows]
            columns.single[spec.name] = torch.tensor(values, dtype=torch.int32)
    return columns


def _values(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(v) for v in (value.split("|") if isinstance(value, str) else value)]


def _number(value: Any, spec: FieldSpec, what: str) -> float:
    if value is None:
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise MicrecError(
            f"{what} field {spec.name}: {value!r} is not a number: give a number or leave it out."
        ) from None
