"""Tiny slates whose click probabilities are worked out by hand or by enumeration."""

import numpy as np
import pytest
from scipy import stats

from simulator.draws import Draws, halves, mixed
from simulator.population.examination import Noise, make_examination
from simulator.population.population_config import ExaminationConfig

N = 200_000
UTILITY = np.array([0.4, -1.0, 1.2], np.float32)


def drawn(utility, real=None, n=N, **keys):
    """Examined and clicked, shape (K, n), of one slate shown n times."""
    start = Draws(1, "examination").bits(np.arange(n))
    items = np.arange(len(utility))[:, None] + 100
    noise = Noise(*halves(mixed(start, items)), start)
    wide = np.repeat(np.asarray(utility, np.float32)[:, None], n, axis=1)
    filled = np.ones(wide.shape, bool) if real is None else np.repeat(np.asarray(real)[:, None], n, axis=1)
    return make_examination(ExaminationConfig(**keys))(wide, filled, noise)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-float(x)))


def patterns(clicked):
    """How often each set of clicked places occurs."""
    codes = (np.asarray(clicked) * (1 << np.arange(len(clicked)))[:, None]).sum(axis=0)
    return np.bincount(codes, minlength=1 << len(clicked))


def assert_patterns(clicked, chances):
    """Chi-square of the observed sets of clicks against their chances."""
    assert sum(chances) == pytest.approx(1.0, abs=1e-9)
    observed, expected = patterns(clicked), np.array(chances) * clicked.shape[1]
    possible = expected > 0
    assert (observed[~possible] == 0).all()
    assert stats.chisquare(observed[possible], expected[possible]).pvalue > 1e-3


def binomial(count, n, rate):
    return stats.binomtest(int(count), int(n), rate).pvalue > 1e-4


def test_position_based_clicks_are_products():
    examined, clicked = drawn(UTILITY, kind="position", decay=0.8)
    chance = [(k + 1) ** -0.8 * sigmoid(u) for k, u in enumerate(UTILITY)]
    for k in range(3):
        assert binomial(examined[k].sum(), N, (k + 1) ** -0.8)
    assert_patterns(
        clicked,
        [
            np.prod([p if code >> k & 1 else 1 - p for k, p in enumerate(chance)])
            for code in range(8)  # independent places
        ],
    )


def cascade_chances(utility, after_click, after_skip):
    """Chance of every set of clicks, by walking the tree of what the user may do."""
    chances = [0.0] * (1 << len(utility))

    def walk(place, code, chance):
        if place == len(utility):
            chances[code] += chance
            return
        p = sigmoid(utility[place])
        for clicks, here, on in ((1, p, after_click), (0, 1 - p, after_skip)):
            now = code | clicks << place
            chances[now] += chance * here * (1 - on)
            walk(place + 1, now, chance * here * on)

    walk(0, 0, 1.0)
    return chances


@pytest.mark.parametrize(("after_click", "after_skip"), [(0.0, 1.0), (0.6, 0.9), (1.0, 0.5), (1.0, 1.0)])
def test_cascade_walks_down(after_click, after_skip):
    examined, clicked = drawn(UTILITY, kind="cascade", after_click=after_click, after_skip=after_skip)
    assert_patterns(clicked, cascade_chances(UTILITY, after_click, after_skip))
    assert examined[0].all()
    assert (examined[1:] <= examined[:-1]).all()
    if after_click == 0.0:
        assert clicked.sum(axis=0).max() == 1


def choice_chances(utility, decay, again):
    """Chance of every set of clicks, by choosing round after round with multinomial chances."""
    weights = [np.exp(float(u)) * (k + 1) ** -decay for k, u in enumerate(utility)]
    chances = [0.0] * (1 << len(utility))

    def choose(code, chance):
        left = [k for k in range(len(weights)) if not code >> k & 1]
        total = 1.0 + sum(weights[k] for k in left)
        chances[code] += chance / total  # none of them
        for k in left:
            now, here = code | 1 << k, chance * weights[k] / total
            if len(left) == 1:
                chances[now] += here
            else:
                chances[now] += here * (1 - again)
                choose(now, here * again)

    choose(0, 1.0)
    return chances


@pytest.mark.parametrize(("decay", "again"), [(0.0, 0.0), (0.0, 0.7), (0.9, 0.5), (0.5, 0.95)])
def test_choice_is_multinomial_round_after_round(decay, again):
    examined, clicked = drawn(UTILITY, kind="choice", decay=decay, again=again)
    assert_patterns(clicked, choice_chances(UTILITY, decay, again))
    assert examined.all()
    if again == 0.0:
        assert clicked.sum(axis=0).max() == 1


@pytest.mark.parametrize("kind", ["position", "cascade", "choice"])
@pytest.mark.parametrize("rate", [0.02, 0.5, 0.97])
def test_the_probability_is_applied_once(kind, rate):
    """An item alone on the first place is clicked with exactly the chance of its log odds."""
    _, clicked = drawn([np.log(rate / (1 - rate))], kind=kind)
    assert binomial(clicked.sum(), N, rate)


@pytest.mark.parametrize("kind", ["position", "cascade", "choice"])
def test_padding_is_neither_seen_nor_clicked_nor_in_the_way(kind):
    padded = drawn([9.0, 0.4, 9.0, -1.0], real=[False, True, False, True], kind=kind, decay=0.0)
    assert not padded[0][[0, 2]].any()
    assert not padded[1][[0, 2]].any()
    chances = {
        "position": [
            np.prod([p if code >> k & 1 else 1 - p for k, p in enumerate(map(sigmoid, (0.4, -1.0)))])
            for code in range(4)
        ],
        "cascade": cascade_chances([0.4, -1.0], 0.7, 0.92),
        "choice": choice_chances([0.4, -1.0], 0.0, 0.75),
    }
    assert_patterns(padded[1][[1, 3]], chances[kind])


@pytest.mark.parametrize("kind", ["position", "cascade", "choice"])
def test_extreme_utilities_stay_numbers(kind):
    _, clicked = drawn([-500.0, 500.0], n=2_000, kind=kind, decay=0.0, after_skip=1.0)
    assert not clicked[0].any()
    assert clicked[1].all()


@pytest.mark.parametrize("kind", ["position", "cascade", "choice"])
def test_the_answer_does_not_depend_on_the_company(kind):
    """Slates in one batch, in another order, one by one: the same."""
    n = 64
    start = Draws(2, "company").bits(np.arange(n))
    items = np.arange(10)[:, None] + 100 * np.arange(n)
    noise = Noise(*halves(mixed(start, items)), start)
    utility = (3 * Draws(2, "utility").normal(items)).astype(np.float32)
    real = Draws(2, "real").uniform(items) < 0.8
    model = make_examination(ExaminationConfig(kind=kind))
    whole = model(utility, real, noise)
    order = np.random.default_rng(0).permutation(n)
    for columns in np.array_split(order, 9):
        got = model(np.ascontiguousarray(utility[:, columns]), real[:, columns], noise.of(columns))
        assert (got[0] == whole[0][:, columns]).all()
        assert (got[1] == whole[1][:, columns]).all()
