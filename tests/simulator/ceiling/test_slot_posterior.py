"""The posterior of interests against every assignment of them, one by one."""

import itertools

import numpy as np
import pytest

from simulator.ceiling.slot_posterior import set_weights, slot_posterior


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_the_posterior_is_that_of_all_assignments(slots):
    """Five subcategories, the last two of them without evidence and lumped together by the function."""
    rng = np.random.default_rng(slots)
    users, places = 3, 3
    evidence = rng.normal(0.0, 2.0, (users, places, 1 << slots))
    evidence[:, :, 0] = 0.0
    prior = rng.dirichlet(np.ones(places + 2), users)
    found = slot_posterior(evidence, prior[:, :places], prior[:, places:].sum(axis=1))
    wanted = np.zeros_like(found)
    for user in range(users):
        for assignment in itertools.product(range(places + 2), repeat=slots):
            sets = [sum(1 << k for k, place in enumerate(assignment) if place == one) for one in range(places)]
            chance = np.prod([prior[user, place] for place in assignment])
            chance *= np.exp(sum(evidence[user, place, held] for place, held in enumerate(sets)))
            for place, held in enumerate(sets):
                wanted[user, place, held] += chance
        wanted[user] /= wanted[user, 0].sum()
    assert found == pytest.approx(wanted, abs=1e-12)
    assert found.sum(axis=2) == pytest.approx(np.ones((users, places)))


def test_without_evidence_the_posterior_is_the_prior():
    prior = np.array([[0.2, 0.3]])
    found = slot_posterior(np.zeros((1, 2, 4)), prior, np.array([0.5]))
    assert found[0, 0] == pytest.approx([0.8**2, 0.16, 0.16, 0.04])


def test_overwhelming_evidence_stays_finite():
    evidence = np.zeros((1, 2, 4))
    evidence[0, 0, 1:] = [3_000.0, 2_000.0, 3_100.0]
    found = slot_posterior(evidence, np.array([[1e-6, 0.5]]), np.array([0.5]))
    assert found[0, 0] == pytest.approx([0.0, 0.0, 0.0, 1.0], abs=1e-9)


def test_weights_of_sets_are_sums():
    assert set_weights(np.array([0.5, 0.3, 0.2])) == pytest.approx([0, 0.5, 0.3, 0.8, 0.2, 0.7, 0.5, 1.0])
