"""The small parts of the funnel, against loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.errors import MicrecError
from micrec.settings import validate
from simulator.draws import Draws
from simulator.platform.arms import arm_pipelines, assign
from simulator.platform.platform_config import PlatformConfig
from simulator.platform.recent import RecentItems
from simulator.platform.shown_items import VisitImpressions
from simulator.platform.slates import PADDING, explore, spread_out, without
from simulator.ports import HISTORY, Candidates
from tests.simulator.platform.fakes import tiny_keys


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99)), max_size=120))
@settings(max_examples=50, deadline=None)
def test_latest_clicks_are_those_of_a_list_per_user(clicks):
    users, items = (np.array([click[part] for click in clicks], np.int64) for part in (0, 1))
    filled, clicked = RecentItems(4), RecentItems(4)
    filled.fill(users, items)
    for user, item in clicks:
        clicked.take(np.array([user]), np.array([[item + 1, item]]), np.array([[False, True]]))
    for user in range(4):
        latest = [item for who, item in clicks if who == user][::-1][:HISTORY]
        expected = latest + [-1] * (HISTORY - len(latest))
        assert filled.of(np.array([user])).tolist() == [expected] == clicked.of(np.array([user])).tolist()


def test_clicks_of_one_slate_are_taken_from_the_top():
    recent = RecentItems(2)
    recent.take(np.array([1]), np.array([[5, 6, 7]]), np.array([[True, False, True]]))
    assert recent.of(np.array([1]))[0, :3].tolist() == [7, 5, -1]


@given(st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 30_000), min_size=1, max_size=4)), max_size=40))
@settings(max_examples=50, deadline=None)
def test_what_a_visit_has_seen_is_a_set_per_visit(steps):
    shown, seen = VisitImpressions(), {}
    for visit, items in steps:
        asked = np.array([[*items, items[0] + 8_192, -1]])  # the same flag, another item
        slot = shown.slots(np.array([visit]))
        expected = [item >= 0 and item in seen.get(visit, set()) for item in asked[0].tolist()]
        assert shown.mask(slot, asked)[0].tolist() == expected
        if items[0] % 5 == 0:
            shown.end(np.array([visit]))
            seen.pop(visit, None)
        else:
            shown.add(slot, np.array([items]))
            seen.setdefault(visit, set()).update(items)


def test_lists_close_up_over_what_is_taken_out():
    lists = Candidates(
        np.array([[3, 1, 2, -1], [4, 5, -1, -1]]), np.array([[3, 2, 1, -np.inf], [9, 8, -np.inf, -np.inf]], np.float32)
    )
    left = without(lists, np.array([[False, True, False, False], [False] * 4]))
    assert left.items.tolist() == [[3, 2, -1, -1], [4, 5, -1, -1]]
    assert left.scores.tolist() == [[3, 1, -np.inf, -np.inf], [9, 8, -np.inf, -np.inf]]


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=12), st.integers(1, 3), st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_spreading_puts_the_excess_of_each_value_last(values, at_most, padding):
    row = values + [PADDING] * padding
    kept, excess = [], []
    for place, value in enumerate(values):
        taken = sum(values[other] == value for other in kept)
        (excess if value >= 0 and taken >= at_most else kept).append(place)
    order = spread_out(np.array([row], np.int32), at_most)[0].tolist()
    assert order == kept + excess + list(range(len(values), len(row)))


def test_exploration_happens_as_often_as_its_propensity_says():
    n, k, pool, rate = 20_000, 3, 8, 0.4
    ranking = np.repeat(np.arange(10)[None], n, axis=0)  # the last two columns are padding
    chance = np.ones((n, k), np.float32)
    explore(ranking, chance, rate, k, np.full(n, pool), Draws(0, "x").bits(np.arange(n)))
    assert (ranking[:, :2] == [0, 1]).all()
    assert (np.sort(ranking, axis=1) == np.arange(10)).all()
    last = ranking[:, 2]
    for column in range(2, pool):
        share = (last == column).mean()
        expected = 1 - rate if column == 2 else rate / (pool - k)
        assert share == pytest.approx(expected, abs=4 * np.sqrt(expected / n))
        np.testing.assert_allclose(chance[last == column, 2], expected, rtol=1e-6)
    assert (last < pool).all()


def test_assignment_follows_the_weights_and_a_salt_makes_another():
    keys = tiny_keys(arms={"a": {"weight": 1}, "b": {"weight": 3}})
    users = np.arange(40_000)
    arm = assign(users, keys)
    assert arm.mean() == pytest.approx(0.75, abs=0.01)
    assert (assign(users[::-1], keys) == arm[::-1]).all()
    other = assign(users, keys.model_copy(update={"salt": "again"}))
    assert (other == arm).mean() == pytest.approx(0.75**2 + 0.25**2, abs=0.01)


def test_an_arm_replaces_keys_at_any_depth_and_may_drop_a_channel():
    keys = tiny_keys(
        arms={"control": {}, "t": {"pipeline": {"channels": {"a": None, "b": {"servers": 2}}, "slate_size": 5}}}
    )
    pipelines = arm_pipelines(keys)
    assert pipelines["control"] == keys.pipeline
    changed = pipelines["t"]
    assert list(changed.channels) == ["b"]
    assert (changed.slate_size, changed.channels["b"].servers, changed.channels["b"].latency.mean_ms) == (5, 2, 30)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"slate_sise": 3}, r"arms.t.pipeline.slate_sise: unknown key, did you mean slate_size\?"),
        ({"slate_size": 0}, r"arms.t.pipeline.slate_size: must be >= 1, got 0"),
        ({"channels": {"a": {"kk": 1}}}, r"arms.t.pipeline.channels.a.kk: unknown key"),
        ({"channels": {"a": None, "b": None}}, r"arms.t.pipeline.channels: none is left"),
    ],
)
def test_a_wrong_key_of_an_arm_is_named(arm, message):
    with pytest.raises(MicrecError, match=message):
        arm_pipelines(tiny_keys(arms={"t": {"pipeline": arm}}))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"pipelines": {}}, r"pipelines: unknown key, did you mean pipeline\?"),
        ({"pipeline": {"channels": {"ranking": {"kind": "list"}}}}, "and not one of ranking, fallback"),
        ({"arms": {}}, "must name at least one arm"),
        (
            {"pipeline": {"ranking": {"faults": [{"from_day": 1, "to_day": 2}]}}},
            "does nothing: set down, slow, error_rate or frozen",
        ),
        (
            {"pipeline": {"ranking": {"faults": [{"from_day": 2, "to_day": 2, "down": True}]}}},
            "to_day must be > from_day 2",
        ),
    ],
)
def test_a_wrong_key_of_the_platform_is_named(keys, message):
    with pytest.raises(MicrecError, match=message):
        validate(PlatformConfig, keys, where="test")
