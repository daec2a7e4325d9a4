"""How readily items are clicked: clicks over what was to be expected, held to a prior that the log itself gives.

What a platform has shown was chosen: an item stood on top, before users who like its kind, because a ranking model had
thought it good. Its raw click rate says little (an item of modest appeal shown to its few friends has the same), and
its clicks say how often it was shown. So each impression is set against the chance that an average item would have had
there and before that user (clicks over expected clicks; Zhang and Jones, WWW 2007), and the ratio is drawn towards what
items like it get: hits ~ Poisson(expected * rate), rate ~ Gamma of mean exp(traits @ weights) and shape ``strength``,
by maximum likelihood over all items (DuMouchel, 1999). Shapes: n items, m impressions, T traits.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import digamma, expit, gammaln

from simulator.ranking.logistic import fit_logistic

Floats = NDArray[np.float64]

_WIDEST = 5.0  # of the log of a prior rate
_HOLD = 4.0  # precision with which the weights of traits are held to where they start
_STRENGTH = 10.0  # clicks that a prior is worth before the log says otherwise, and
_STRENGTH_HOLD = 1.0  # the precision of its logarithm


class LoggedImpressions(NamedTuple):
    """Impressions (m,), oldest first."""

    item: NDArray[np.int64]  # row of the item
    position: NDArray[np.int64]  # from 0
    taste: Floats  # how much the user likes its kind
    clicked: NDArray[np.bool_]
    weight: Floats  # what the impression still counts, 0 … 1


class Prior(NamedTuple):
    """Gamma prior over an item's click rate relative to that of the average item, before it is shown."""

    weights: Floats  # (1 + T,) of the log of its mean, the first without a trait
    strength: float  # its shape: clicks that it is worth

    def mean(self, traits: Floats) -> Floats:
        """Mean rate of items with traits (n, T)."""
        rate: Floats = np.exp(np.clip(self.weights[0] + traits @ self.weights[1:], -_WIDEST, _WIDEST))
        return rate


def log_rates(shown: LoggedImpressions, traits: Floats, start: Floats, *, positions: int, most_rows: int) -> Floats:
    """Log of the posterior mean rate of every item, shape (n,).

    Args:
        shown: The impressions.
        traits: What is known of items (n, T) besides.
        start: Weights of the traits before anything has been shown, shape (T,).
        positions: Positions with a chance of their own; those behind share one.
        most_rows: Most impressions, the latest, from which the chances are learnt.
    """
    expected = expected_clicks(shown, traits, positions=positions, most_rows=most_rows) * shown.weight
    n = len(traits)
    hits = np.bincount(shown.item, shown.clicked * shown.weight, minlength=n).astype(np.float64)
    tries = np.bincount(shown.item, expected, minlength=n).astype(np.float64)
    prior = fit_prior(hits, tries, traits, start)
    mean = prior.mean(traits)
    rates: Floats = np.log(mean * (hits + prior.strength) / (mean * tries + prior.strength))
    return rates


def expected_clicks(shown: LoggedImpressions, traits: Floats, *, positions: int, most_rows: int) -> Floats:
    """Chance (m,) of an average item at the place and before the user of each impression.

    By a logistic regression on the position, the user's taste, and the traits of the item, which are then set to their
    means: else the positions would be credited with the good items that stand there.
    """
    if not len(shown.item):
        return np.zeros(0)
    at = np.minimum(shown.position, positions)
    places = (at[:, None] == np.arange(1, positions + 1)).astype(np.float32)
    about = traits[shown.item].astype(np.float32)
    x = np.concatenate([places, shown.taste[:, None], about, np.ones((len(at), 1))], axis=1, dtype=np.float32)
    weights = fit_logistic(x[-most_rows:], shown.clicked[-most_rows:], np.zeros(x.shape[1]), np.ones(x.shape[1]))
    x[:, positions + 1 : -1] = about.mean(axis=0)
    chance: Floats = expit(x @ weights)
    return chance


def fit_prior(hits: Floats, tries: Floats, traits: Floats, start: Floats) -> Prior:
    """The prior under which the hits (n,) of items with expected clicks ``tries`` (n,) are likeliest.

    Args:
        hits: Clicks, or weights of clicks.
        tries: Clicks that average items would have got.
        traits: Traits of the items, shape (n, T).
        start: Weights of the traits that the fit starts from and is held to, shape (T,).
    """
    some = tries > 0.0
    h, e = hits[some], tries[some]
    x = np.concatenate([np.ones((len(h), 1)), traits[some]], axis=1)
    first = np.concatenate([[0.0], start, [np.log(_STRENGTH)]])
    hold = np.concatenate([[_HOLD / 4.0], np.full(len(start), _HOLD), [_STRENGTH_HOLD]])

    def loss(point: Floats) -> tuple[float, Floats]:
        """Negative log likelihood (negative binomial) with the hold, and its gradient."""
        strength = np.exp(point[-1])
        mean = e * np.exp(np.clip(x @ point[:-1], -_WIDEST, _WIDEST))
        both = strength + mean
        fit = gammaln(h + strength) - gammaln(strength) + strength * np.log(strength / both) + h * np.log(mean / both)
        slope = x.T @ (strength * (h - mean) / both)
        bend = digamma(h + strength) - digamma(strength) + np.log(strength / both) + 1.0 - (h + strength) / both
        away = point - first
        gradient = np.append(slope, strength * bend.sum()) - hold * away
        return float(0.5 * (hold * away**2).sum() - fit.sum()), -gradient

    best = minimize(
        loss, first, jac=True, method="L-BFGS-B", bounds=[(None, None)] * (len(first) - 1) + [(-3.0, 7.0)]
    ).x
    return Prior(best[:-1], float(np.exp(best[-1])))
