"""What follows a click: dwell, like, follow.

Each is cut from a standard normal (a Gaussian copula), so that its rate is the configured one whatever it depends on:
log dwell and the leaning to like are weighted sums of the user's habit, the item's quality *as clicks meet it*, and
noise; a follow comes from the upper tail of a normal whose correlation with the leaning to like gives the configured
share of follows among likes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.draws import mixed, to_uniform
from simulator.world.world_config import BehaviourConfig

MOST_DWELL_S = 3_600.0
_DWELL, _LIKE, _FOLLOW = (np.asarray(word) for word in (16, 17, 18))


class Behaviours(NamedTuple):
    """What follows clicks (n,)."""

    dwell_s: NDArray[np.float64]
    like: NDArray[np.bool_]
    follow: NDArray[np.bool_]


class BehaviourModel:
    """Draws behaviours by the configured rates.

    Args:
        keys: The rates and weights.
    """

    def __init__(self, keys: BehaviourConfig) -> None:
        from scipy.special import ndtri

        self._keys = keys
        self._dwell_noise = np.sqrt(max(0.0, 1.0 - keys.dwell_user**2 - keys.dwell_quality**2))
        quality = keys.like_quality + keys.like_dwell * keys.dwell_quality
        spent = keys.like_user**2 + quality**2 + keys.like_dwell**2 * (1.0 - keys.dwell_quality**2)
        self._like_noise = np.sqrt(max(0.0, 1.0 - spent))
        self._liked_above = float(ndtri(1.0 - keys.like_rate))
        self._followed_above = float(ndtri(1.0 - keys.follow_rate))
        self._correlation = follow_correlation(keys.like_rate, keys.follow_rate, keys.follow_given_like)

    def draw(
        self,
        bits: NDArray[np.uint64],
        dwell_habit: NDArray[np.float64],
        like_habit: NDArray[np.float64],
        quality: NDArray[np.float64],
    ) -> Behaviours:
        """Behaviours of clicks (n,).

        Args:
            bits: Key of each click.
            dwell_habit: The user's habit of lingering, standard normal.
            like_habit: The user's habit of liking, standard normal.
            quality: Quality of the item, standard normal over clicks.
        """
        from scipy.special import ndtri

        keys = self._keys
        own = self._dwell_noise * ndtri(to_uniform(mixed(bits, _DWELL)))
        depth = keys.dwell_user * dwell_habit + keys.dwell_quality * quality + own
        liking = keys.like_user * like_habit + keys.like_quality * quality + keys.like_dwell * depth
        liking += self._like_noise * ndtri(to_uniform(mixed(bits, _LIKE)))
        rest = np.sqrt(1.0 - self._correlation**2)
        following = self._correlation * liking + rest * ndtri(to_uniform(mixed(bits, _FOLLOW)))
        return Behaviours(
            dwell_s=np.minimum(np.exp(keys.dwell_log_mean + keys.dwell_log_sd * depth), MOST_DWELL_S),
            like=liking > self._liked_above,
            follow=following > self._followed_above,
        )


def follow_correlation(like_rate: float, follow_rate: float, follow_given_like: float) -> float:
    """Correlation of two standard normals whose upper tails are a like and a follow.

    Raises:
        ValueError: If no correlation gives ``follow_given_like``.
    """
    from scipy.optimize import brentq

    joint = like_rate * follow_given_like
    low, high = -0.999, 0.999
    if joint >= min(like_rate, follow_rate):
        raise ValueError(
            f"follow_given_like {follow_given_like:g} makes more follows of likes ({joint:g} per click) than there are "
            f"follows ({follow_rate:g}): lower it or raise follow_rate"
        )
    return float(np.clip(brentq(lambda rho: both_tails(like_rate, follow_rate, rho) - joint, low, high), low, high))


def both_tails(first_rate: float, second_rate: float, correlation: float) -> float:
    """Chance that two standard normals of that correlation both lie in upper tails of the given chances."""
    from scipy.integrate import quad
    from scipy.special import ndtr, ndtri

    first, second = ndtri(1.0 - first_rate), ndtri(1.0 - second_rate)
    spread = np.sqrt(1.0 - correlation**2)

    def density(x: float) -> float:
        return float(np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi) * ndtr((correlation * x - second) / spread))

    return float(quad(density, first, first + 12.0, epsabs=1e-14, limit=200)[0])
