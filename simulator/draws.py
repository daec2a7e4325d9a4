"""Random numbers keyed by what they are for: the same (seed, purpose, keys) gives the same number, in any order.

A draw is a hash, not a step of a stream, so that shards, workers, arms and counterfactual worlds share their noise and
adding a user or a day moves nobody else's draws. The hash is SplitMix64's finaliser (Steele, Lea & Flood, OOPSLA 2014;
constants of Stafford's variant 13), applied once per key.
"""

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

Bits = NDArray[np.uint64]
Floats = NDArray[np.float64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = (np.uint64(shift) for shift in (27, 30, 31, 32))
_LOW = np.uint64(0xFFFFFFFF)
_BLOCK = 1 << 14  # numbers mixed at a time: 128 kB and as much spare stay in the caches


class Draws:
    """The numbers of one purpose.

    Args:
        seed: Seed of the world.
        purpose: What the numbers are for; any text, another text gives independent numbers.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
        self._start = np.uint64(int.from_bytes(digest, "little"))

    def bits(self, *keys: ArrayLike) -> Bits:
        """64 random bits per key; keys are integers that broadcast together, such as user, day, position."""
        state: Bits = np.asarray(self._start)
        for key in keys:
            state = mixed(state, np.asarray(key))
        return state

    def uniform(self, *keys: ArrayLike) -> Floats:
        """Uniform in (0, 1), never 0 or 1: safe for logarithms and quantiles."""
        return to_uniform(self.bits(*keys))

    def two_uniforms(self, *keys: ArrayLike) -> tuple[Floats, Floats]:
        """Two independent uniforms in (0, 1) of 32 bits each from one hash."""
        return halves(self.bits(*keys))

    def normal(self, *keys: ArrayLike) -> Floats:
        """Standard normal."""
        from scipy.special import ndtri

        normal: Floats = ndtri(self.uniform(*keys))
        return normal


def mixed(state: Bits, key: NDArray) -> Bits:
    """The state after taking in ``key``, of any integer type; negative keys are fine."""
    words = key.astype(np.uint64, copy=False)
    # ufuncs wrap around in silence, scalars would warn
    h = np.asarray(np.add(np.multiply(words, _GOLDEN), state, order="C"))
    if h.size <= _BLOCK:
        return _finished(h, np.empty_like(h))
    flat, spare = h.reshape(-1), np.empty(_BLOCK, np.uint64)
    for start in range(0, len(flat), _BLOCK):
        block = flat[start : start + _BLOCK]
        _finished(block, spare[: len(block)])
    return h


def _finished(h: Bits, spare: Bits) -> Bits:
    """The finaliser in place; ``spare`` has the shape of ``h`` and is overwritten."""
    h ^= np.right_shift(h, _S30, out=spare)
    h *= _MIX_1
    h ^= np.right_shift(h, _S27, out=spare)
    h *= _MIX_2
    h ^= np.right_shift(h, _S31, out=spare)
    return h


def to_uniform(bits: Bits) -> Floats:
    """Uniform in (0, 1) from the upper 53 bits."""
    return _placed(bits >> np.uint64(11), 2.0**-53)


def halves(bits: Bits) -> tuple[Floats, Floats]:
    """Two uniforms in (0, 1) from the upper and lower 32 bits."""
    return _placed(bits >> _S32, 2.0**-32), _placed(bits & _LOW, 2.0**-32)


def _placed(cells: Bits, width: float) -> Floats:
    """The middle of each cell of that width."""
    uniform: Floats = cells.astype(np.float64)
    uniform += 0.5
    uniform *= width
    return uniform
