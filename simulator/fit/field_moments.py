"""Keys of user and item fields: how many values, how unevenly used."""

import re

import numpy as np
from numpy.typing import NDArray

from micrec.data.dataset import Column, Dataset
from micrec.data.schema import FieldType
from simulator.fit.findings import Findings
from simulator.world.world_config import WorldConfig

_OWN = {"user_id", "item_id", "category", "subcategory", "tags", "provider", "title", "published", "content"}
_MOST_VALUES, _MOST_EXPONENT = 100_000, 3.0


def fit_fields(dataset: Dataset, base: WorldConfig, findings: Findings) -> None:
    """Set the fields of users and items and the number of providers.

    What a user's field says of taste is not told from a table: all fields together keep the effect of the base's.
    """
    users = [column for column in dataset.users.columns.values() if _usable(column)]
    if users:
        total = float(np.sqrt(sum(field.effect**2 for field in base.users.fields.values())))
        effect = round(min(total / np.sqrt(len(users)), _MOST_EXPONENT), 4)
        fields = {
            _field_name(column.name): {
                "values": column.size - 1,
                "exponent": round(zipf_exponent(_counts(column)), 3),
                "effect": effect,
            }
            for column in users
        }
        findings.set("users.fields", fields, "categorical fields of the user table; effects together as the base's")
    else:
        findings.keep("no categorical field in the user table", "users.fields")
    taken = {dataset.schema.roles.category, dataset.schema.roles.taxonomy}
    items = [column for column in dataset.items.columns.values() if _usable(column) and column.name not in taken]
    category = dataset.items.columns.get(dataset.schema.roles.category or "")
    fields = {
        _field_name(column.name): {"values": column.size - 1, "tied": round(tied(column, category), 3)}
        for column in items
    }
    findings.set(
        "items.fields",
        fields,
        "categorical fields of the item table beside its category; tied: how many items of a category beyond the first "
        "share its commonest value",
    )
    providers = next((c for c in dataset.items.columns.values() if c.type is FieldType.ID), None)
    if providers is None:
        findings.keep("no field of type id in the item table", "items.providers")
    else:
        findings.set("items.providers", max(1, providers.size - 1), f"values of the item field {providers.name}")


def tied(column: Column, category: Column | None) -> float:
    """Share of the items, beyond the first of each category, whose value is the commonest of their category.

    That of the items that share the commonest of all values where there is no category.
    """
    codes = np.asarray(column.codes, dtype=np.int64)
    group = np.zeros(len(codes), np.int64) if category is None else np.asarray(category.codes, dtype=np.int64)
    cells, counts = np.unique(group * column.size + codes, return_counts=True)
    sizes = np.bincount(group)
    commonest = np.zeros(len(sizes), np.int64)
    np.maximum.at(commonest, cells // column.size, counts)
    return float(np.maximum(commonest - 1, 0).sum() / max(np.maximum(sizes - 1, 0).sum(), 1))


def zipf_exponent(counts: NDArray[np.int64]) -> float:
    """Exponent of the Zipf law over as many values whose entropy is that of ``counts``, 0 … 3."""
    from scipy.optimize import brentq

    shares = counts[counts > 0] / counts.sum()
    target = float(-(shares * np.log(shares)).sum())
    log_ranks = np.log(np.arange(1, len(counts) + 1))

    def surplus(exponent: float) -> float:
        weights = np.exp(-exponent * log_ranks)
        weights /= weights.sum()
        return float(-(weights * np.log(np.maximum(weights, 1e-300))).sum()) - target

    if surplus(0.0) <= 1e-9:
        return 0.0
    return _MOST_EXPONENT if surplus(_MOST_EXPONENT) > 0 else float(brentq(surplus, 0.0, _MOST_EXPONENT, xtol=1e-4))


def _usable(column: Column) -> bool:
    return column.type is FieldType.CATEGORICAL and 2 <= column.size - 1 <= _MOST_VALUES


def _counts(column: Column) -> NDArray[np.int64]:
    assert column.codes is not None
    return np.bincount(column.codes, minlength=column.size)[1:]


def _field_name(name: str) -> str:
    plain = re.sub(r"[^a-z0-9_]", "_", name.lower())
    return plain if re.match(r"[a-z]", plain) and plain not in _OWN else f"field_{plain}"
