"""Keyed draws: the same key gives the same number, whoever asks and in whatever company."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simulator.draws import Draws

KEYS = np.arange(200_000)


def reference_bits(start: int, *keys: int) -> int:
    """SplitMix64 over the keys in Python integers; shares no code with the vectorised one."""
    mask = (1 << 64) - 1
    state = start
    for key in keys:
        h = ((key & mask) * 0x9E3779B97F4A7C15 + state) & mask
        h ^= h >> 30
        h = h * 0xBF58476D1CE4E5B9 & mask
        h ^= h >> 27
        h = h * 0x94D049BB133111EB & mask
        state = h ^ (h >> 31)
    return state


@given(st.integers(-(2**62), 2**62), st.integers(0, 2**40))
def test_bits_are_splitmix64(first, second):
    draws = Draws(3, "test")
    expected = reference_bits(int(draws.bits()), first, second)
    assert int(draws.bits(np.array([first]), np.array([second]))[0]) == expected


def test_a_draw_does_not_depend_on_its_company():
    draws = Draws(0, "test")
    alone = [draws.uniform(key, 7) for key in (3, 99, 100_000)]
    np.testing.assert_array_equal(draws.uniform(KEYS, 7)[[3, 99, 100_000]], alone)
    table = draws.uniform(KEYS[:50, None], KEYS[None, :20])
    assert table[3, 7] == draws.uniform(3, 7)


@pytest.mark.parametrize(
    "values", [lambda d: d.uniform(KEYS), lambda d: d.two_uniforms(KEYS)[0], lambda d: d.two_uniforms(KEYS)[1]]
)
def test_uniforms_are_uniform(values):
    u = values(Draws(1, "test"))
    assert u.min() > 0.0
    assert u.max() < 1.0
    assert stats.kstest(u, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 5 / np.sqrt(len(u))


def test_other_seeds_purposes_keys_and_orders_are_independent():
    base = Draws(1, "test").uniform(KEYS, 2)
    for other in (
        Draws(2, "test").uniform(KEYS, 2),
        Draws(1, "other").uniform(KEYS, 2),
        Draws(1, "test").uniform(KEYS, 3),
        Draws(1, "test").uniform(2, KEYS),
    ):
        assert abs(np.corrcoef(base, other)[0, 1]) < 5 / np.sqrt(len(base))


def test_normals_are_normal():
    assert stats.kstest(Draws(1, "test").normal(KEYS), "norm").pvalue > 1e-4


def test_input_is_left_alone():
    keys = np.arange(5, dtype=np.uint64)
    Draws(0, "test").bits(keys)
    np.testing.assert_array_equal(keys, np.arange(5))
