"""Laws of the estimators, on data that hypothesis picks."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from abtest.stats import Moments, bounds, cuped, group_sequential, welch

LAW = settings(deadline=None, max_examples=40, derandomize=True)

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 60)
alphas = st.floats(1e-6, 0.5)


def draw(seed, n_c, n_t):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-3, 3)
    gap = rng.normal(0, 1.0)
    return [
        {
            "y": scale * (rng.gamma(1.5, 2, n) + rng.uniform(0, 4) + by),
            "x": rng.gamma(2, 1, n),
            "m": rng.poisson(3, n) + 1,
        }
        for n, by in ((n_c, 0.0), (n_t, gap))
    ]


def moments(*arms):
    return [Moments.of(arm) for arm in arms]


@LAW
@given(seeds, sizes, sizes, alphas)
def test_interval_and_p_agree(seed, n_c, n_t, alpha):
    for metric in ("y", ("y", "m")):
        got = welch(*moments(*draw(seed, n_c, n_t)), metric, alpha=alpha)
        low, high = got.difference_ci
        assert (low <= 0 <= high) == (got.p >= alpha)
        if got.lift_ci:
            assert (got.lift_ci[0] <= 0 <= got.lift_ci[1]) == (got.p >= alpha)
            assert got.lift_ci[0] <= got.lift <= got.lift_ci[1]
        else:
            assert got.reason
    adjusted = cuped(*moments(*draw(seed, n_c, n_t)), "y", ["x"], alpha=alpha).estimate
    if adjusted.lift_ci:
        assert (adjusted.lift_ci[0] <= 0 <= adjusted.lift_ci[1]) == (adjusted.p >= alpha)


@LAW
@given(seeds, sizes, sizes)
def test_bounds_of_the_lift_sit_on_the_test(seed, n_c, n_t):
    """A lift at the edge of its interval has p = alpha when planted into the control and tested."""
    c, t = draw(seed, n_c, n_t)
    got = welch(*moments(c, t), "y")
    assume(got.lift_ci)
    for lift in got.lift_ci:
        planted = welch(*moments({"y": c["y"] * (1 + lift)}, {"y": t["y"]}), "y")
        if planted.p is not None:
            assert planted.p == pytest.approx(0.05, rel=1e-6)


@LAW
@given(seeds, sizes, sizes, st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_shift_and_scale(seed, n_c, n_t, shift, scale):
    c, t = draw(seed, n_c, n_t)
    plain = welch(*moments(c, t), "y")
    size = max(np.abs(c["y"]).max(), np.abs(t["y"]).max())
    moved = welch(*moments({"y": c["y"] + shift * size}, {"y": t["y"] + shift * size}), "y")
    assert moved.t == pytest.approx(plain.t, rel=1e-6, abs=1e-6)
    assert moved.se == pytest.approx(plain.se, rel=1e-6)
    scaled = welch(*moments({"y": c["y"] * scale}, {"y": t["y"] * scale}), "y")
    assert scaled.p == pytest.approx(plain.p, rel=1e-9)
    assert scaled.lift == pytest.approx(plain.lift, rel=1e-9, abs=1e-12)
    assert (scaled.lift_ci is None) == (plain.lift_ci is None)
    if plain.lift_ci:
        assert scaled.lift_ci == pytest.approx(plain.lift_ci, rel=1e-6, abs=1e-9)


@LAW
@given(seeds, sizes, sizes)
def test_order_of_users_and_arms(seed, n_c, n_t):
    c, t = draw(seed, n_c, n_t)
    plain = welch(*moments(c, t), ("y", "m"))
    order = np.random.default_rng(seed).permutation(n_c)
    mixed = welch(*moments({name: v[order] for name, v in c.items()}, t), ("y", "m"))
    assert mixed.p == pytest.approx(plain.p, rel=1e-8)
    swapped = welch(*moments(t, c), ("y", "m"))
    assert (swapped.p, swapped.difference) == pytest.approx((plain.p, -plain.difference), rel=1e-9)
    assert swapped.difference_ci == pytest.approx((-plain.difference_ci[1], -plain.difference_ci[0]), rel=1e-9)


@LAW
@given(seeds, st.lists(st.integers(0, 30), min_size=2, max_size=5))
def test_order_of_merging(seed, parts):
    assume(sum(parts) >= 2)
    rng = np.random.default_rng(seed)
    values = rng.normal(rng.normal(0, 1e6), 1, (2, sum(parts)))
    edges = np.cumsum(parts)[:-1]
    pieces = [Moments.of({"a": a, "b": b}) for a, b in zip(*(np.split(v, edges) for v in values), strict=True)]
    whole = Moments.of({"a": values[0], "b": values[1]})
    for order in itertools.islice(itertools.permutations(pieces), 6):
        total = sum(order, start=Moments.empty(("a", "b")))
        assert total.n == whole.n
        assert total.mean == pytest.approx(whole.mean, rel=1e-12)
        assert total.comoment == pytest.approx(whole.comoment, rel=1e-6, abs=1e-6)


@LAW
@given(seeds, sizes, sizes, alphas, alphas)
def test_smaller_alpha_wider_interval(seed, n_c, n_t, one, other):
    tight, loose = sorted((one, other))
    assume(tight < loose * 0.999)
    data = moments(*draw(seed, n_c, n_t))
    wide, narrow = (welch(*data, "y", alpha=alpha) for alpha in (tight, loose))
    assert wide.difference_ci[0] < narrow.difference_ci[0] < narrow.difference_ci[1] < wide.difference_ci[1]
    if wide.lift_ci and narrow.lift_ci:
        slack = 1e-9 * (wide.lift_ci[1] - wide.lift_ci[0])
        assert wide.lift_ci[0] <= narrow.lift_ci[0] + slack
        assert narrow.lift_ci[1] <= wide.lift_ci[1] + slack


@LAW
@given(seeds, sizes, sizes)
def test_constant_covariate_and_unit_denominator_change_nothing(seed, n_c, n_t):
    c, t = draw(seed, n_c, n_t)
    data = moments(
        {**c, "one": np.ones(n_c), "flat": np.full(n_c, 0.1)}, {**t, "one": np.ones(n_t), "flat": np.full(n_t, 0.1)}
    )
    plain = welch(*data, "y")
    adjusted = cuped(*data, "y", ["flat"])
    assert adjusted.theta == (0.0,)
    for got in (adjusted.estimate, welch(*data, ("y", "one"))):
        assert (got.difference, got.se, got.df, got.p) == pytest.approx(
            (plain.difference, plain.se, plain.df, plain.p), rel=1e-9
        )
        assert got.lift_ci == (None if plain.lift_ci is None else pytest.approx(plain.lift_ci, rel=1e-7, abs=1e-9))


@LAW
@given(seeds, sizes, sizes, alphas)
def test_one_look_is_the_fixed_test(seed, n_c, n_t, alpha):
    data = moments(*draw(seed, n_c, n_t))
    assert bounds([1.0], alpha=alpha)[0].alpha == alpha
    look = group_sequential([tuple(data)], "y", planned_n=(n_c, n_t), alpha=alpha)[0]
    fixed = welch(*data, "y", alpha=alpha)
    assert look.estimate == fixed
    assert look.crossed == fixed.rejects
    assert look.stagewise_p == pytest.approx(fixed.p, rel=1e-9)
