"""How a slate is looked at and clicked: by places, from the top, or as a choice.

Slates lie place by place, shape (K, B), so that arithmetic runs along the B users. Each model turns utilities and two
uniforms per item into what is examined and what is clicked; the same numbers always give the same answer.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from simulator.draws import halves, mixed
from simulator.population.population_config import ExaminationConfig

_SLATE = np.asarray(-3)
_MOST_LOG_ODDS = np.float32(60.0)


class Noise(NamedTuple):
    """The chance in slates: uniforms in (0, 1) keyed by item, and a key per slate."""

    click: NDArray[np.float64]  # (K, B)
    look: NDArray[np.float64]  # (K, B)
    slate: NDArray[np.uint64]  # (B,)

    def of(self, columns: NDArray[np.int64]) -> "Noise":
        """That of some of the slates."""
        return Noise(self.click[:, columns], self.look[:, columns], self.slate[columns])


class Examination(Protocol):
    """A model of looking and clicking."""

    def __call__(
        self, utility: NDArray[np.float32], real: NDArray[np.bool_], noise: Noise
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """What is examined and what is clicked, each of shape (K, B), from utilities and whether a place is filled."""


class PositionBased:
    """Place k is looked at with chance k^-decay, whatever stands there; what is looked at is clicked with chance
    sigmoid(utility): the clicks of a slate are independent."""

    def __init__(self, keys: ExaminationConfig) -> None:
        self._decay = keys.decay

    def __call__(
        self, utility: NDArray[np.float32], real: NDArray[np.bool_], noise: Noise
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        examined = noise.look < _place_weights(len(utility), self._decay)
        examined &= real
        return examined, examined & _attracts(utility, noise.click)


class Cascade:
    """From the top: each item looked at is clicked with chance sigmoid(utility), then the user goes on with chance
    ``after_click`` or ``after_skip``; nothing is seen beyond. Empty places are passed over."""

    def __init__(self, keys: ExaminationConfig) -> None:
        self._after_click, self._after_skip = keys.after_click, keys.after_skip

    def __call__(
        self, utility: NDArray[np.float32], real: NDArray[np.bool_], noise: Noise
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        attracts = _attracts(utility, noise.click)
        goes_on = noise.look < np.where(attracts, self._after_click, self._after_skip)
        goes_on |= ~real
        examined = real.copy()
        examined[1:] &= np.logical_and.accumulate(goes_on, axis=0)[:-1]
        return examined, examined & attracts


class Choice:
    """The user chooses among the items left and doing nothing, with chances in proportion to k^-decay exp(utility) and
    1; after a click, once more with chance ``again``. Everything is looked at.

    Drawn as a race: an item arrives after an exponential time of that rate, and the first to arrive is chosen.
    """

    def __init__(self, keys: ExaminationConfig) -> None:
        self._decay, self._again = keys.decay, keys.again

    def __call__(
        self, utility: NDArray[np.float32], real: NDArray[np.bool_], noise: Noise
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        places, slates = utility.shape
        arrival = np.log(noise.click)
        arrival *= -np.exp(np.minimum(-utility, _MOST_LOG_ODDS))
        arrival /= _place_weights(places, self._decay)
        arrival[~real] = np.inf
        nothing, rounds = halves(mixed(noise.slate, _SLATE))
        more = np.log(rounds) / np.log(self._again) if self._again > 0.0 else np.zeros(slates)
        allowed = np.minimum(more, places - 1.0).astype(np.int64)  # choices after the first, geometric
        last = np.sort(arrival, axis=0)[allowed, np.arange(slates)]
        clicked = (arrival < -np.log(nothing)) & (arrival <= last)
        return real.copy(), clicked


def make_examination(keys: ExaminationConfig) -> Examination:
    """The model that the keys name."""
    kinds: dict[str, type[PositionBased] | type[Cascade] | type[Choice]] = {
        "position": PositionBased,
        "cascade": Cascade,
        "choice": Choice,
    }
    return kinds[keys.kind](keys)


def _place_weights(places: int, decay: float) -> NDArray[np.float64]:
    return np.power(np.arange(1.0, places + 1.0), -decay)[:, None]


def _attracts(utility: NDArray[np.float32], uniform: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Uniform below sigmoid(utility)."""
    odds_against = np.exp(np.minimum(-utility, _MOST_LOG_ODDS))
    odds_against += 1.0
    attracts: NDArray[np.bool_] = uniform * odds_against < 1.0
    return attracts
