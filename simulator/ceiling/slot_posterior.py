"""Exact posterior of which interests lie in which subcategory, where each subcategory's evidence stands for itself.

A user has K interests ("slots") of weights w, each drawn from the user's prior over subcategories. Given the set A of
slots that lie in a subcategory, the evidence of the clicks there is a number L_h(A). The posterior of an assignment of
all slots is then proportional to the product over subcategories of prior^|A| L_h(A), and sums over the assignments are
convolutions over subsets: 3^K products per subcategory instead of (subcategories)^K assignments.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def slot_posterior(log_evidence: Floats, prior: Floats, rest: Floats) -> Floats:
    """Chance that exactly the slots of each set lie in each subcategory.

    Args:
        log_evidence: log L_h(A) for H subcategories and all 2^K sets of slots, bit k for slot k, shape (B, H, 2^K);
            0 for the empty set.
        prior: Prior of each of these subcategories, shape (B, H).
        rest: Prior of all others together, whose evidence is 1, shape (B,).

    Returns:
        Chances, shape (B, H, 2^K); the sum over sets is 1.
    """
    n_sets = log_evidence.shape[2]
    size = _sizes(n_sets)
    with np.errstate(divide="ignore"):
        held = log_evidence + np.where(size > 0, np.log(prior)[:, :, None] * np.maximum(size, 1), 0.0)
        others = np.where(size > 0, np.log(rest)[:, None] * np.maximum(size, 1), 0.0)
    n_places = held.shape[1]
    before = [others]
    for place in range(n_places):
        before.append(_convolved(before[-1], held[:, place]))
    after = np.full((len(held), n_sets), -np.inf)
    after[:, 0] = 0.0
    result = np.empty_like(held)
    whole = n_sets - 1
    for place in range(n_places - 1, -1, -1):
        around = _convolved(before[place], after)
        result[:, place] = held[:, place] + around[:, whole - np.arange(n_sets)]
        after = _convolved(after, held[:, place])
    return np.exp(result - before[-1][:, whole, None, None])


def set_weights(weights: Floats) -> Floats:
    """Sum of the slots' weights for each set of them, shape (2^K,)."""
    sets = np.arange(1 << len(weights))
    bits = (sets[:, None] >> np.arange(len(weights))) & 1
    result: Floats = bits @ weights
    return result


@lru_cache(maxsize=8)
def _pairs(n_sets: int) -> tuple[tuple[int, int], ...]:
    """Every set and every subset of it."""
    return tuple((whole, part) for whole in range(n_sets) for part in range(whole + 1) if part & whole == part)


def _sizes(n_sets: int) -> Floats:
    return np.array([bin(one).count("1") for one in range(n_sets)], dtype=np.float64)


def _convolved(first: Floats, second: Floats) -> Floats:
    """Over all ways to part a set between the two, logarithms of shape (B, 2^K)."""
    result = np.full_like(first, -np.inf)
    for whole, part in _pairs(first.shape[1]):
        result[:, whole] = np.logaddexp(result[:, whole], first[:, whole - part] + second[:, part])
    return result
