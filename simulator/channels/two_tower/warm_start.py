"""Yesterday's parameters in today's model: rows move with the values they stand for, everything else as it is."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor

from micrec.models.columns import FieldSpec


def carry_over(
    fresh: Mapping[str, Tensor],
    old: Mapping[str, Tensor],
    labels: Mapping[str, Sequence[object]],
    old_labels: Mapping[str, Sequence[object]],
) -> dict[str, Tensor]:
    """Parameters of today's model with what yesterday's knew.

    Args:
        fresh: Today's initial parameters by name.
        old: Yesterday's trained ones.
        labels: By name of an embedding table, the outside value of row 1, 2 …; row 0 is the unknown value.
        old_labels: Yesterday's.

    Returns:
        For a table, yesterday's row of every value that was known then and today's initial row of the others; any
        other parameter from yesterday if its shape is the same, else from today.
    """
    carried = {}
    for name, tensor in fresh.items():
        before = old.get(name)
        if before is None or before.shape[1:] != tensor.shape[1:]:
            carried[name] = tensor
        elif name in labels and name in old_labels:
            row_of = {value: row for row, value in enumerate(old_labels[name], start=1)}
            rows = np.array([0, *(row_of.get(value, -1) for value in labels[name])])
            to = torch.from_numpy(np.flatnonzero(rows >= 0))
            carried[name] = tensor.clone()
            carried[name][to] = before[torch.from_numpy(rows[rows >= 0])]
        else:
            carried[name] = before if before.shape == tensor.shape else tensor
    return carried


def table_labels(
    side: str, specs: Sequence[FieldSpec], ids: pl.Series, labels: Mapping[str, Sequence[str]]
) -> dict[str, Sequence[object]]:
    """Outside values of the rows of one side's embedding tables, by the name of the parameter.

    Args:
        side: ``user`` or ``item``.
        specs: The side's fields.
        ids: Outside ids of its entities in dense order.
        labels: By field, the outside value of code 1, 2 ...
    """
    return {
        f"model.{side}_fields.tables.{spec.name}.weight": ids.to_list() if spec.own_id else labels[spec.name]
        for spec in specs
        if spec.size
    }
