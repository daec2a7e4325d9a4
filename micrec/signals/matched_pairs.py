"""Later clicks of a user beside items of the same popularity and the same coarser level that the user never clicked.

If nearness to the user's earlier clicks is higher for the clicked item than for the other, in more than half of the
pairs, the signal tells something beyond popularity and the coarser level. Where it tells nothing, clicked and other
item are exchangeable, and the share (an AUC, ties as a half) is .5 in expectation.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import t as student

from micrec.baselines.profiles import user_items
from micrec.data.dataset import Clicks
from micrec.signals.carriers import Carrier

MOST_USERS, MOST_CLICKS, OTHERS = 2_000, 20, 4
TRIES, WINDOW = 16, 10  # draws of others, and how far they are looked for in the order of clicks
MOST_HISTORY = 200
BINS = {"<5": (0, 5), "5-19": (5, 20), "20-99": (20, 100), ">=100": (100, 2**62)}  # earlier clicks of an item


class Share(NamedTuple):
    """How often the clicked item is nearer than the other.

    Attributes:
        auc: The share, ties as a half; nan without pairs.
        lower: Lower end of its 95 % interval over users and items; nan with fewer than two of either.
        upper: Upper end.
        clicks: Later clicks compared.
        users: Users behind them.
    """

    auc: float
    lower: float
    upper: float
    clicks: int
    users: int

    @property
    def tells(self) -> bool:
        """Whether the interval lies above chance."""
        return self.lower > 0.5


class MatchedPairs(NamedTuple):
    """Later clicks with their others.

    Attributes:
        users: User of each later click, shape (n,).
        items: The item clicked, shape (n,).
        others: Items beside it, shape (n, OTHERS), -1 where there are fewer.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    others: NDArray[np.int64]


def later_clicks(train: Clicks, test: Clicks, n_items: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Users and items of distinct later clicks on what the user had not clicked before, of a sample.

    ``MOST_USERS`` users with earlier clicks, ``MOST_CLICKS`` later clicks of each, drawn evenly.
    """
    keys = np.unique(test.user_ids.astype(np.int64) * n_items + test.item_ids)
    before = np.unique(train.user_ids.astype(np.int64) * n_items + train.item_ids)
    keys = rng.permutation(np.setdiff1d(keys, before, assume_unique=True))
    users = keys // n_items
    known = np.intersect1d(users, train.user_ids)
    keys = keys[np.isin(users, known if len(known) <= MOST_USERS else rng.choice(known, MOST_USERS, replace=False))]
    order = np.argsort(keys // n_items, kind="stable")
    users = (keys // n_items)[order]
    place = np.arange(len(users)) - np.searchsorted(users, users)
    keys = keys[order][place < MOST_CLICKS]
    return keys // n_items, keys % n_items


def match(
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    groups: NDArray[np.int64],
    counts: NDArray[np.int64],
    clicked: NDArray[np.int64],
    rng: np.random.Generator,
) -> MatchedPairs:
    """For each later click, items of the same group and about its number of train clicks.

    Args:
        users: Shape (n,).
        items: Shape (n,).
        groups: Coarser level of each item, 0 = unknown, which is left out; shape (N,).
        counts: Train clicks of each item, shape (N,).
        clicked: All pairs ``user * N + item`` that were ever clicked, sorted.
        rng: Draws among equals.
    """
    n_items = len(groups)
    known = groups[items] > 0
    users, items = users[known], items[known]
    order = np.lexsort((rng.random(n_items), counts, groups))
    place = np.empty(n_items, np.int64)
    place[order] = np.arange(n_items)
    steps = rng.integers(1, WINDOW + 1, (len(items), TRIES)) * rng.choice([-1, 1], (len(items), TRIES))
    at = place[items][:, None] + steps
    other = order[np.clip(at, 0, n_items - 1)]
    apart = np.abs(np.log2(1.0 + counts[other]) - np.log2(1.0 + counts[items])[:, None])
    fits = (at >= 0) & (at < n_items) & (groups[other] == groups[items][:, None]) & (apart <= 1.0)
    keys = users[:, None] * n_items + other
    found = np.searchsorted(clicked, keys)
    fits &= clicked[np.minimum(found, len(clicked) - 1)] != keys
    first = np.argsort(~fits, axis=1, kind="stable")[:, :OTHERS]
    chosen = np.where(np.take_along_axis(fits, first, 1), np.take_along_axis(other, first, 1), -1)
    kept = chosen[:, 0] >= 0
    return MatchedPairs(users[kept], items[kept], chosen[kept])


def nearer(pairs: MatchedPairs, carrier: Carrier, train: Clicks) -> NDArray[np.float64]:
    """For each later click the share of its others that are farther from the user's earlier clicks, ties as a half.

    Nearness is the sum of cosines to the latest ``MOST_HISTORY`` earlier clicks. Clicks on items without the carrier
    are nan, as are those whose others all lack it.
    """
    users, row = np.unique(pairs.users, return_inverse=True)
    history = sp.csr_array(user_items(_latest(train, users), carrier.vectors.shape[0]))[users]
    profile = sp.csr_array(history @ carrier.vectors)
    has = np.diff(carrier.vectors.indptr) > 0
    mine = _dots(profile, row, carrier.vectors, pairs.items)
    wins = np.zeros(len(row))
    judged = np.zeros(len(row))
    for column in pairs.others.T:
        there = (column >= 0) & has[np.maximum(column, 0)]
        theirs = _dots(profile, row, carrier.vectors, np.maximum(column, 0))
        close = np.isclose(mine, theirs, rtol=1e-9, atol=1e-12)
        wins += there * np.where(close, 0.5, mine > theirs)
        judged += there
    judged[~has[pairs.items]] = 0
    return np.divide(wins, judged, out=np.full(len(row), np.nan), where=judged > 0)


def share(values: NDArray[np.float64], users: NDArray[np.int64], items: NDArray[np.int64]) -> Share:
    """Mean of values of clicks; nan is left out.

    Its interval is clustered by users and by items (Cameron, Gelbach and Miller 2011): a user's clicks share a history,
    and the clicks on one item share its titles and tags, which were drawn once for all users.
    """
    kept = ~np.isnan(values)
    values, users, items = values[kept], users[kept], items[kept]
    n = len(values)
    if not n:
        return Share(np.nan, np.nan, np.nan, 0, 0)
    mean = values.mean()
    of_users, of_items = (_cluster_sums(values - mean, keys) for keys in (users, items))
    least = min(len(of_users), len(of_items))
    if least < 2:
        return Share(float(mean), np.nan, np.nan, n, len(of_users))
    parts = [len(sums) / (len(sums) - 1) * (sums**2).sum() for sums in (of_users, of_items)]
    variance = max(sum(parts) - ((values - mean) ** 2).sum(), *parts)
    half = student.ppf(0.975, least - 1) * np.sqrt(variance) / n
    return Share(float(mean), float(mean - half), float(mean + half), n, len(of_users))


def _cluster_sums(values: NDArray[np.float64], keys: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.bincount(np.unique(keys, return_inverse=True)[1], values).astype(np.float64)


def _latest(train: Clicks, users: NDArray[np.int64]) -> Clicks:
    """The latest clicks of some users."""
    mine = np.flatnonzero(np.isin(train.user_ids, users))
    order = mine[np.argsort(train.user_ids[mine], kind="stable")]
    sorted_users = train.user_ids[order]
    after = np.searchsorted(sorted_users, sorted_users, side="right") - np.arange(len(order))
    return train[np.sort(order[after <= MOST_HISTORY])]


def _dots(left: sp.csr_array, rows: NDArray, right: sp.csr_array, items: NDArray) -> NDArray[np.float64]:
    """Dot products of rows of two matrices, a block at a time."""
    found = np.empty(len(rows))
    for first in range(0, len(rows), 4_096):
        part = slice(first, first + 4_096)
        found[part] = left[rows[part]].multiply(right[items[part]]).sum(axis=1)
    return found
