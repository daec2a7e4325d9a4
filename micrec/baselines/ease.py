"""EASE: a linear model of items from items, solved in closed form; histories fade and popularity drifts.

Steck (2019), "Embarrassingly Shallow Autoencoders for Sparse Data". X (U, N) holds log(1 + clicks); with
G = X'X + lambda I and P = G^-1 the weight of item i for item j is B_ij = -P_ij / P_jj. The diagonal, 0 in the paper,
gets a weight of its own, since people click again what they have clicked. A user's profile counts a click half after
a half-life, and each item gets a bonus by its clicks of late, in proportion to the mass of the profile.

The four settings are chosen on held-out clicks, one after the other (``held_out``); a log with too few clicks for that
gets those that the validation clicks of Online Retail chose.

The solution needs 8 n² bytes and n³ steps, so that ``MOST_SOLVED`` items, the most clicked, are solved for. Each of
the others is predicted by the ridge regression on these (a column P X'x_j, never written out), and predicts nothing
but itself: 1,500 of the 3,615 items of Online Retail, solved alone, cost .0004 of HIT@50. Beyond ``MOST_PAIRS`` pairs
of clicks that this needs, every k-th user counts.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.baselines.held_out import best, held_out
from micrec.baselines.profiles import in_time, query_items, user_items
from micrec.baselines.recent_popularity import recent_clicks
from micrec.data.item_gram import dense_gram, ridge_inverse
from micrec.evaluation.scores import ScoreBlock

MOST_SOLVED = 5_000
MOST_TUNED = 2_000  # items solved for while settings are chosen
MOST_PAIRS = 20_000_000


class EaseSettings(NamedTuple):
    """What is chosen.

    Attributes:
        ridge: lambda.
        self_weight: B_jj: what a click on an item adds to the item itself.
        half_life_days: Days after which a click of the profile counts half; inf: it counts for ever.
        drift: Bonus of an item with the mean number of recent clicks, by mass of the profile.
    """

    ridge: float = 500.0
    self_weight: float = 0.3
    half_life_days: float = 90.0
    drift: float = 2e-4


GRID: dict[str, tuple[float, ...]] = {  # in the order in which they are chosen
    "half_life_days": (90.0, 30.0, 365.0, float("inf")),
    "drift": (2e-4, 0.0, 5e-5, 1e-3),
    "self_weight": (0.3, 0.0, 0.1, 1.0),
    "ridge": (500.0, 30.0, 120.0, 2_000.0),
}


TOLD = {"ridge": "ridge", "self_weight": "self-weight", "half_life_days": "half-life days", "drift": "drift"}
"""Names of the settings where results show them."""


def ease(inputs: BaselineInputs) -> BaselineScores:
    """EASE over the items with training clicks; every click of the history counts, whatever ``history_length`` says."""
    settings = _chosen(inputs)
    weights = item_gram(_log_clicks(inputs), MOST_SOLVED).solve(settings.ridge, keep=False)
    return BaselineScores(
        _scores(weights, settings, inputs),
        lambda items: torch.from_numpy(weights.rows(items, settings.self_weight)),
        {told: getattr(settings, name) for name, told in TOLD.items()},
    )


def _chosen(inputs: BaselineInputs) -> EaseSettings:
    """One setting after the other, the others as they stand; those that are given, if all are."""
    if inputs.settings.keys() >= set(TOLD.values()):
        return EaseSettings(**{name: float(inputs.settings[told]) for name, told in TOLD.items()})
    settings, part = EaseSettings(), held_out(inputs)
    if part is None:
        return settings
    gram = item_gram(_log_clicks(part), MOST_TUNED)
    solved: dict[float, EaseWeights] = {}

    def scores(one: EaseSettings) -> ScoreBlock:
        if one.ridge not in solved:
            solved.clear()  # one solution at a time in memory
            solved[one.ridge] = gram.solve(one.ridge)
        return _scores(solved[one.ridge], one, part)

    for name, values in GRID.items():
        settings = best([settings._replace(**{name: value}) for value in values], scores, part)
    return settings


def _log_clicks(inputs: BaselineInputs) -> sp.csr_array:
    return user_items(inputs.train, len(inputs.task.candidates)).log1p()


class EaseWeights(NamedTuple):
    """The solution for one ridge, without the diagonal.

    Attributes:
        solved: Items whose weights among each other are solved for, shape (n,).
        others: The other items with clicks, shape (m,).
        among: B of the solved ones, diagonal 0, float32, shape (n, n).
        inverse: P of the solved ones, float32, shape (n, n); None where there are no others.
        cross: X'X between solved and other items, shape (n, m).
        n_items: N.
    """

    solved: NDArray[np.int64]
    others: NDArray[np.int64]
    among: NDArray[np.float32]
    inverse: NDArray[np.float32] | None
    cross: sp.csr_array
    n_items: int

    def apply(self, profile: sp.csr_array) -> NDArray[np.float32]:
        """Scores of all items for profiles (B, N); items without clicks come last."""
        read = profile[:, self.solved]
        scores = np.full(profile.shape, -1e9, np.float32)
        scores[:, self.solved] = read @ self.among
        if self.inverse is not None:
            scores[:, self.others] = (self.cross.T @ (read @ self.inverse).T).T
        return scores

    def rows(self, items: NDArray[np.int64], self_weight: float) -> NDArray[np.float32]:
        """What a click on each of ``items`` (B,) adds to every item, shape (B, N)."""
        ones = np.ones(len(items), np.float32)
        profile = sp.csr_array((ones, (np.arange(len(items)), items)), shape=(len(items), self.n_items))
        rows = self.apply(profile)
        known = np.isin(items, np.concatenate([self.solved, self.others]))
        rows[np.flatnonzero(known), items[known]] += self_weight
        return rows


class ItemGram(NamedTuple):
    """X'X, from which every ridge is solved: dense between the items that are solved for, sparse to the others."""

    solved: NDArray[np.int64]
    others: NDArray[np.int64]
    gram: NDArray[np.float64]  # (n, n)
    cross: sp.csr_array  # (n, m)
    n_items: int

    def solve(self, ridge: float, *, keep: bool = True) -> EaseWeights:
        """The weights; without ``keep`` the Gram matrix is overwritten, which saves 8 n² bytes."""
        inverse = ridge_inverse(self.gram.copy() if keep else self.gram, ridge)
        among = (inverse / -np.diag(inverse)).astype(np.float32)
        np.fill_diagonal(among, 0.0)
        kept = inverse.astype(np.float32) if len(self.others) else None
        return EaseWeights(self.solved, self.others, among, kept, self.cross, self.n_items)


def item_gram(clicks: sp.csr_array, most: int) -> ItemGram:
    """X'X of X (U, N), dense for the ``most`` most clicked items."""
    counts = np.bincount(clicks.indices, clicks.data, minlength=clicks.shape[1])
    known = np.flatnonzero(counts)
    solved = np.sort(known[np.argsort(-counts[known], kind="stable")[:most]])
    others = np.setdiff1d(known, solved)
    columns = sp.csc_array(clicks)
    first, second = sp.csr_array(columns[:, solved]), sp.csr_array(columns[:, others])
    return ItemGram(solved, others, dense_gram(first), _cross_gram(first, second), clicks.shape[1])


def _scores(weights: EaseWeights, settings: EaseSettings, inputs: BaselineInputs) -> ScoreBlock:
    task, train = inputs.task, inputs.train
    known = np.concatenate([weights.solved, weights.others])
    recent = recent_clicks(train, len(task.candidates))
    drift = (settings.drift * recent / recent[known].mean()).astype(np.float32)
    faded = in_time(train, task, settings.half_life_days)

    def block(start: int, stop: int) -> Tensor:
        profile = query_items(task, start, stop, weights=faded).log1p()
        scores = weights.apply(profile)
        own = profile.tocoo()
        scores[own.coords[0], own.coords[1]] += settings.self_weight * own.data
        scores += profile.sum(axis=1)[:, None] * drift
        return torch.from_numpy(scores)

    return block


def _cross_gram(solved: sp.csr_array, others: sp.csr_array) -> sp.csr_array:
    """X'X between two sets of items, from every k-th user where there are too many pairs, times k."""
    pairs = int((np.diff(solved.indptr).astype(np.int64) * np.diff(others.indptr)).sum())
    step = -(-pairs // MOST_PAIRS) or 1
    return sp.csr_array(step * (solved[::step].T @ others[::step]))
