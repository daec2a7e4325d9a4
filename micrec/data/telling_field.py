"""The item fields whose values tell most of what a user clicks next, by what they have clicked of them before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.sparse as sp
from numpy.typing import NDArray

from micrec.data.dataset import Clicks, Column, EntityTable
from micrec.data.schema import FieldType

BY_TITLES = "\0titles"  # no field has such a name
HELD_OUT = 0.2  # share of the clicks, the latest, that are told from the earlier ones
PRIOR_CLICKS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
LEAST_GAIN = 0.1  # nats a click; what tells less is not worth its numbers in the index
LEAST_FURTHER = 0.05  # nats a click that a further field must tell of the items beside the fields chosen before
MOST_USERS, MOST_SCORES, ROUNDS = 512, 1 << 22, 15  # users, users times items, and steps that this is measured with
STANDARD_ERRORS = 2.0  # by which the gain must lie above that
COUNTED = (FieldType.CATEGORICAL, FieldType.MULTI_CATEGORICAL)


def countable_fields(items: EntityTable, most_values: int) -> list[str]:
    """Categorical fields of two values or more and at most ``most_values``, in the table's order."""
    return [name for name, c in items.columns.items() if c.type in COUNTED and 2 < c.size <= most_values + 1]


def telling_fields(
    items: EntityTable,
    train: Clicks,
    fields: Sequence[str],
    most_values: int,
    titles: NDArray[np.float32] | None = None,
) -> tuple[str, ...]:
    """The field of the largest gain, see ``gain_of``, and those that tell more beside it, see ``FurtherGain``.

    None where no gain is clearly above ``LEAST_GAIN``. A further field must tell ``LEAST_FURTHER`` nats of an item.

    Args:
        items: The item table.
        train: The training clicks, in time order.
        fields: The fields to choose from.
        most_values: That the chosen ones may have together.
        titles: Title vectors that a model reads beside the fields, (N, D): what they tell, no further field need tell.
    """
    shares = {name: value_shares(items.columns[name]) for name in fields}
    found = {name: gain_of(own, train) for name, own in shares.items()}
    clear = [name for name, gain in found.items() if gain.mean > LEAST_GAIN + STANDARD_ERRORS * gain.error]
    if not clear:
        return ()
    chosen = [max(clear, key=lambda name: found[name].mean)]
    further: FurtherGain | None = None
    while True:
        room = most_values - sum(shares[name].shape[1] for name in chosen)
        fitting = [name for name in clear if name not in chosen and shares[name].shape[1] <= room]
        if not fitting:
            return tuple(chosen)
        further = further or FurtherGain.of(train, {name: (shares[name], found[name].prior) for name in clear}, titles)
        gains = {name: further(chosen, name) for name in fitting}
        best = max(fitting, key=lambda name: gains[name][0])
        mean, error = gains[best]
        if mean <= LEAST_FURTHER + STANDARD_ERRORS * error:
            return tuple(chosen)
        chosen.append(best)


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


class Gain(NamedTuple):
    """Of later clicks that are told by values: nats a click, its standard error over users, and the prior's clicks."""

    mean: float
    error: float
    prior: float


def gain_of(shares: sp.csr_array, train: Clicks) -> Gain:
    """How much better the values of the latest clicks are told by their users' earlier clicks than by everybody's.

    A user's shares of the values are estimated as (c_v + a s_v) / (c + a) from their counts c_v and everybody's shares
    s_v; a is that of ``PRIOR_CLICKS`` which tells most.

    Args:
        shares: What each item has of each value, (N, V).
        train: Clicks in time order.

    Returns:
        The gain; 0 where nothing can be told.
    """
    early = int(len(train) * (1.0 - HELD_OUT))
    n_users = int(train.user_ids.max(initial=0)) + 1
    counts = _by_user(train[:early], n_users, shares)
    later = _by_user(train[early:], n_users, shares)
    known = (counts.sum(axis=1) > 0) & (later.sum(axis=1) > 0)
    if not known.any():
        return Gain(0.0, 0.0, PRIOR_CLICKS[0])
    counts, later = counts[known], later[known].tocoo()
    everybody = counts.sum(axis=0) + 0.5
    everybody = everybody / everybody.sum()
    users, values = later.coords
    total = np.asarray(counts.sum(axis=1)).ravel()[users]
    seen = np.asarray(counts[users, values]).ravel() if len(users) else np.zeros(0)
    gains = (_mean_gain(users, later.data, seen, total, everybody[values], prior) for prior in PRIOR_CLICKS)
    return max(Gain(*gain, prior) for gain, prior in zip(gains, PRIOR_CLICKS, strict=True))


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


@dataclass(frozen=True)
class FurtherGain:
    """What one more field tells of the items of later clicks beside fields chosen before.

    An item's score is the log of its earlier clicks, w log(1 + c_v / (a s_v)) for each field, as in the field term, and
    the product of its title vector with those of the user's clicks; a is that of the field's own gain, and the weights
    are fitted by the mean log chance of the later clicks.

    Attributes:
        clicks: Later clicks of R users on the N items with earlier ones, (R, N).
        popularity: log of the earlier clicks, (N,).
        terms: log(1 + c_v / (a s_v)) of each field, and the product of the titles under ``BY_TITLES``, (R, N).
    """

    clicks: sp.csr_array
    popularity: NDArray[np.float32]
    terms: Mapping[str, NDArray[np.float32]]

    @classmethod
    def of(
        cls,
        train: Clicks,
        fields: Mapping[str, tuple[sp.csr_array, float]],
        titles: NDArray[np.float32] | None = None,
    ) -> "FurtherGain":
        """From clicks in time order, by name the shares (N, V) and prior's clicks of fields, and titles (N, D)."""
        early = int(len(train) * (1.0 - HELD_OUT))
        n_users, n_items = int(train.user_ids.max(initial=0)) + 1, next(iter(fields.values()))[0].shape[0]
        everything = sp.eye_array(n_items, format="csr")
        before, after = (_by_user(part, n_users, everything) for part in (train[:early], train[early:]))
        popularity = np.asarray(before.sum(axis=0)).ravel()
        known = np.flatnonzero(popularity > 0)
        before, after = before[:, known], after[:, known]
        users = np.flatnonzero((before.sum(axis=1) > 0) & (after.sum(axis=1) > 0))
        kept = min(len(users), MOST_USERS, max(1, MOST_SCORES // max(len(known), 1)))
        users = users[np.linspace(0, len(users) - 1, kept).astype(np.int64)] if kept else users
        terms = {}
        for name, (shares, prior) in fields.items():
            own = shares[known]
            everybody = popularity[known] @ own + 0.5
            counts = (before[users] @ own).toarray() / (prior * everybody / everybody.sum())
            terms[name] = (own @ np.log1p(counts).T).T.astype(np.float32)
        if titles is not None:
            profile = before[users].log1p()
            lengths = np.sqrt(np.asarray(profile.power(2).sum(axis=1)).ravel()).clip(1e-6)
            terms[BY_TITLES] = (((profile @ titles[known]) / lengths[:, None]) @ titles[known].T).astype(np.float32)
        return cls(after[users].tocsr(), np.log(popularity[known]).astype(np.float32), terms)

    def __call__(self, chosen: Sequence[str], name: str) -> tuple[float, float]:
        """Mean gain of a later click in nats, and its standard error over users."""
        if not self.clicks.nnz:
            return 0.0, 0.0
        beside = [*chosen, *({BY_TITLES} & self.terms.keys())]
        gains = self._log_chances([*beside, name]) - self._log_chances(beside)
        weights = np.asarray(self.clicks.sum(axis=1)).ravel()
        mean = gains.sum() / weights.sum()
        return float(mean), float(np.sqrt(((gains - mean * weights) ** 2).sum()) / weights.sum())

    def _log_chances(self, names: Sequence[str]) -> NDArray[np.float64]:
        """log chance of every user's later clicks under the best weights, (R,)."""
        terms = [self.terms[name] for name in names]
        clicks, per_user = self.clicks, np.asarray(self.clicks.sum(axis=1)).ravel()
        rows, columns = clicks.tocoo().coords
        seen = np.stack([term[rows, columns] for term in terms])  # (F, nnz)
        usual = self.popularity[columns]

        def of(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
            scores = self.popularity + sum(np.float32(w) * term for w, term in zip(weights, terms, strict=True))
            highest = scores.max(axis=1, keepdims=True)
            chances = np.exp(scores - highest)
            totals = chances.sum(axis=1, keepdims=True)
            logs = usual + weights @ seen - (highest + np.log(totals))[rows, 0]
            by_user = np.bincount(rows, clicks.data * logs, minlength=len(per_user)).astype(np.float64)
            return by_user, chances / totals

        def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            logs, chances = of(weights)
            expected = [float(per_user @ np.einsum("rn,rn->r", chances, term)) for term in terms]
            found = seen @ clicks.data
            return -logs.sum() / per_user.sum(), (np.array(expected) - found) / per_user.sum()

        start = np.full(len(terms), 1.0 / len(terms))
        ends = {"maxiter": ROUNDS}
        return of(scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=ends).x)[0]
