"""The item field whose values tell most of what a user clicks next, by what they have clicked of it before."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from micrec.data.dataset import Clicks, Column, EntityTable
from micrec.data.schema import FieldType

HELD_OUT = 0.2  # share of the clicks, the latest, that are told from the earlier ones
PRIOR_CLICKS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
LEAST_GAIN = 0.1  # nats a click; what tells less is not worth its numbers in the index
STANDARD_ERRORS = 2.0  # by which the gain must lie above that
COUNTED = (FieldType.CATEGORICAL, FieldType.MULTI_CATEGORICAL)


def countable_fields(items: EntityTable, most_values: int) -> list[str]:
    """Categorical fields of two values or more and at most ``most_values``, in the table's order."""
    return [name for name, c in items.columns.items() if c.type in COUNTED and 2 < c.size <= most_values + 1]


def telling_field(items: EntityTable, train: Clicks, fields: Sequence[str]) -> str | None:
    """The field of the largest gain, see ``gain_of``; None if no gain is clearly above ``LEAST_GAIN``.

    Args:
        items: The item table.
        train: The training clicks, in time order.
        fields: The fields to choose from.
    """
    found = {name: gain_of(value_shares(items.columns[name]), train) for name in fields}
    clear = {name: gain for name, (gain, error) in found.items() if gain > LEAST_GAIN + STANDARD_ERRORS * error}
    return max(clear, key=lambda name: clear[name]) if clear else None


def value_shares(column: Column) -> sp.csr_array:
    """Share of each value in each item, (N, V); an item without a value has none."""
    if column.codes is not None:
        rows, codes = np.flatnonzero(column.codes > 0), column.codes[column.codes > 0]
        shares = np.ones(len(rows))
        n = len(column.codes)
    else:
        assert column.offsets is not None
        assert column.values is not None
        lengths = np.diff(column.offsets)
        n, codes = len(lengths), column.values
        rows = np.repeat(np.arange(n), lengths)
        shares = 1.0 / lengths[rows]
    return sp.csr_array((shares, (rows, codes.astype(np.int64) - 1)), shape=(n, column.size - 1))


def gain_of(shares: sp.csr_array, train: Clicks) -> tuple[float, float]:
    """How much better the values of the latest clicks are told by their users' earlier clicks than by everybody's.

    A user's shares of the values are estimated as (c_v + a s_v) / (c + a) from their counts c_v and everybody's shares
    s_v; a is that of ``PRIOR_CLICKS`` which tells most.

    Args:
        shares: What each item has of each value, (N, V).
        train: Clicks in time order.

    Returns:
        Mean gain of a later click in nats, and its standard error over users; (0, 0) where nothing can be told.
    """
    early = int(len(train) * (1.0 - HELD_OUT))
    n_users = int(train.user_ids.max(initial=0)) + 1
    counts = _by_user(train[:early], n_users, shares)
    later = _by_user(train[early:], n_users, shares)
    known = (counts.sum(axis=1) > 0) & (later.sum(axis=1) > 0)
    if not known.any():
        return 0.0, 0.0
    counts, later = counts[known], later[known].tocoo()
    everybody = counts.sum(axis=0) + 0.5
    everybody = everybody / everybody.sum()
    users, values = later.coords
    total = np.asarray(counts.sum(axis=1)).ravel()[users]
    seen = np.asarray(counts[users, values]).ravel() if len(users) else np.zeros(0)
    return max(_mean_gain(users, later.data, seen, total, everybody[values], prior) for prior in PRIOR_CLICKS)


def _mean_gain(
    users: NDArray[np.integer],
    clicks: NDArray[np.float64],
    seen: NDArray[np.float64],
    total: NDArray[np.float64],
    share: NDArray[np.float64],
    prior: float,
) -> tuple[float, float]:
    """Mean gain and its standard error under one prior; the arguments are those of each user and value, (n,)."""
    gains = clicks * np.log((seen / share + prior) / (total + prior))
    by_user, weights = np.bincount(users, gains), np.bincount(users, clicks)
    mean = by_user.sum() / weights.sum()
    residuals = by_user - mean * weights
    return float(mean), float(np.sqrt((residuals**2).sum()) / weights.sum())


def _by_user(clicks: Clicks, n_users: int, shares: sp.csr_array) -> sp.csr_array:
    """Clicks of every user on every value, (U, V)."""
    pairs = (clicks.user_ids.astype(np.int64), clicks.item_ids.astype(np.int64))
    counts = sp.csr_array((np.ones(len(clicks)), pairs), shape=(n_users, shares.shape[0]))
    return (counts @ shares).tocsr()
