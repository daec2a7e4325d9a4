"""The appeal of the items as their clicks in a log tell it, to somebody who knows all else about them.

Known is how appeal is drawn: u^-exponent with u uniform, times a factor for clickbait and one for items that are rarely
shown (:mod:`simulator.world.items`). That is the prior; which items have such a factor is not known, which have seasons
is. The clicks of item i are taken as Poisson(a_i e_i) with e_i of :mod:`simulator.ceiling.item_exposure`, and the
estimate is the posterior mean of a_i. As e depends on all appeals, both are found in turn, from the prior mean on. An
item without a click and without exposure, such as one that is not out yet, keeps the prior mean.

Not used: what dwell, likes and follows tell of quality, which goes along with appeal (``items.quality_appeal``).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.ceiling.click_evidence import PastClicks
from simulator.ceiling.item_exposure import ItemExposure
from simulator.world.catalogue import Catalogue
from simulator.world.items import CLICKBAIT_APPEAL, RARE_APPEAL
from simulator.world.seasons import Seasons, season_appeal
from simulator.world.world_config import WorldConfig

Floats = NDArray[np.float64]
_SCALES = (1.5, 1.5, 1.3, 1.3, 1.2, 1.2, 1.1, 1.1, 1.05, 1.05, 1.0, 1.0)  # one for each round, at most
_SETTLED = 1e-3  # largest relative change of an appeal in the last round
_QUANTILES, _LEAST_QUANTILE = 384, 1e-6
_ROWS = 4_096  # items whose posterior is computed together


class AppealPosterior(NamedTuple):
    """Posterior means of appeals, and the log chance of the clicks that they follow from, (N,) each."""

    mean: Floats
    log_chance: Floats


class AppealPrior(NamedTuple):
    """Appeals that an item without seasons may have, ascending, and the chance of each, (K,) each."""

    appeal: Floats
    chance: Floats

    @classmethod
    def of(cls, config: WorldConfig) -> "AppealPrior":
        """How the keys of a world draw appeal; u in steps of a few percent down to a millionth."""
        keys = config.items
        edges = np.append(0.0, np.geomspace(_LEAST_QUANTILE, 1.0, _QUANTILES))
        pull = (0.5 * (edges[1:] + edges[:-1])) ** -float(keys.popularity_exponent)
        factors = np.outer([1.0, CLICKBAIT_APPEAL], [1.0, RARE_APPEAL]).ravel()
        chances = np.outer(_either(keys.clickbait_share), _either(keys.rare_share)).ravel()
        appeal, chance = np.outer(factors, pull).ravel(), np.outer(chances, np.diff(edges)).ravel()
        order = np.argsort(appeal)[chance[np.argsort(appeal)] > 0.0]
        return cls(appeal[order], chance[order])

    def posterior(self, clicks: NDArray[np.int64], exposure: Floats) -> "AppealPosterior":
        """Expected appeal of items with these clicks (N,), Poisson about appeal x exposure (N,).

        The log chance lacks a term that is the same for any exposure.
        """
        mean, log_chance = np.empty(len(clicks)), np.empty(len(clicks))
        log_appeal, log_prior = np.log(self.appeal), np.log(self.chance)
        for first in range(0, len(clicks), _ROWS):
            rows = slice(first, first + _ROWS)
            n, e = clicks[rows, None], exposure[rows, None]
            log = n * log_appeal + log_prior - e * self.appeal
            most = log.max(axis=1)
            weight = np.exp(log - most[:, None])
            total = weight.sum(axis=1)
            mean[rows] = weight @ self.appeal / total
            log_chance[rows] = most + np.log(total) + clicks[rows] * np.log(np.maximum(exposure[rows], 1e-300))
        return AppealPosterior(mean, log_chance)


def learned_appeal(config: WorldConfig, catalogue: Catalogue, bucket_s: float, history: PastClicks) -> Floats:
    """Appeal of each item as estimated from a log, shape (N,); that of ``catalogue`` is not looked at.

    Args:
        config: The world.
        catalogue: Its items.
        bucket_s: Length of the click generator's buckets of time.
        history: The log's clicks in order of user and time; may be empty.
    """
    prior = AppealPrior.of(config)
    known = _season_factor(config, len(catalogue))
    clicks = np.bincount(history.item, minlength=len(catalogue))
    appeal = np.full(len(catalogue), float(prior.appeal @ prior.chance)) * known
    if not len(history.item):
        return appeal
    exposure = ItemExposure(config, catalogue, bucket_s, history)
    for step in _SCALES:
        before = appeal
        appeal = known * _best_scale(prior, clicks, known * exposure.of(before), catalogue.subcategory, step)
        if np.abs(appeal / before - 1.0).max() < _SETTLED:
            break
    return appeal


def _best_scale(
    prior: AppealPrior, clicks: NDArray[np.int64], exposure: Floats, segment: NDArray[np.int32], step: float
) -> Floats:
    """Posterior means, where the exposures of each segment (N,) may all be larger or smaller by a factor ``step``.

    Shares know no unit: they are the same if all appeals of a segment are doubled. Only the prior tells the unit, and
    taking the more likely of a few finds it in fewer rounds.
    """
    found = [prior.posterior(clicks, exposure * factor) for factor in (1.0, step, 1.0 / step)]
    log_chance = np.stack([np.bincount(segment, one.log_chance) for one in found])
    return np.stack([one.mean for one in found])[log_chance.argmax(axis=0)[segment], np.arange(len(clicks))]


def _either(share: float) -> Floats:
    return np.array([1.0 - share, share])


def _season_factor(config: WorldConfig, n_items: int) -> Floats:
    seasons = Seasons(config)
    if not seasons.any:
        return np.ones(n_items)
    return np.where(seasons.seasonal(np.arange(n_items)), season_appeal(config.items.seasons), 1.0)
