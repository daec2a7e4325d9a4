"""The sampler against frequencies worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.world.simple_sampler import GroupSampler

members = st.lists(st.tuples(st.integers(0, 3), st.floats(0.1, 5.0), st.integers(-5, 5)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(members, st.integers(-1, 4), st.integers(-7, 7), st.integers(-7, 7))
def test_sampler_draws_by_weight_within_group_and_interval(
    table: list[tuple[int, float, int]], group: int, since: int, before: int
) -> None:
    groups, weights, times = (np.array(column) for column in zip(*table, strict=True))
    uniforms = (np.arange(2000) + 0.5) / 2000  # an even grid: frequencies are the weights up to one cell
    drawn = GroupSampler(groups, weights, times).draw(np.full(2000, group), uniforms, since=since, before=before)
    legal = [row for row, (g, _, t) in enumerate(table) if g == group and since <= t < before]
    if not legal:
        assert (drawn == -1).all()
        return
    total = sum(table[row][1] for row in legal)
    for row in range(len(table)):
        expected = table[row][1] / total if row in legal else 0.0
        assert np.mean(drawn == row) == pytest.approx(expected, abs=1.01 / 2000)
