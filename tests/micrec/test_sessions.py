"""Sessions and co-occurrence against logs worked by hand and against loops."""

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.config import SessionsConfig
from micrec.data.cooccurrence import count_cooccurrences
from micrec.data.dataset import Clicks
from micrec.data.partner_pruner import CoOccurrence
from micrec.data.sessions import assign_sessions
from micrec.errors import MicrecError

MINUTE_MS = 60_000


def make_clicks(rows):
    """A click log from (user, item, minute), put in time order."""
    rows = sorted(rows, key=lambda row: row[2])
    users, items, minutes = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Clicks(users.astype(np.int32), items.astype(np.int32), minutes * MINUTE_MS)


def reference_sessions(clicks, config):
    """One click at a time, user by user."""
    sessions = np.full(len(clicks), -1)
    number = -1
    for user in np.unique(clicks.user_ids):
        start = last = None
        for row in np.flatnonzero(clicks.user_ids == user):
            now = clicks.time_ms[row]
            since = start if config.mode == "window" else last
            if since is None or now - since > config.max_s * 1000:
                number, start = number + 1, now
            last = now
            sessions[row] = number
    return sessions


def reference_pairs(clicks, config, *, capped=True):
    """Counts per unordered pair of items, by loops over sessions and pairs of clicks; and pairs of clicks in all."""
    sessions = reference_sessions(clicks, config)
    counts, click_pairs = Counter(), 0
    for session in np.unique(sessions):
        log = [(int(clicks.item_ids[row]), int(clicks.time_ms[row])) for row in np.flatnonzero(sessions == session)]
        kept = list(dict.fromkeys(item for item, _ in reversed(log)))[: config.max_length if capped else None]
        log = [(item, time) for item, time in log if item in kept]
        found = Counter()
        for q, (item, time) in enumerate(log):
            for other, earlier in log[:q]:
                if time - earlier <= config.max_s * 1000:
                    click_pairs += 1
                    if other != item:
                        found[min(item, other), max(item, other)] += 1
        counts.update(found if config.count == "occurrence" else found.keys())
    return counts, click_pairs


def as_dict(found: CoOccurrence):
    """Unordered pairs with counts, from the CSR lists; fails if they are not symmetric."""
    owners = np.repeat(np.arange(found.n_items), np.diff(found.offsets))
    counts = {(int(i), int(j)): int(c) for i, j, c in zip(owners, found.partners, found.counts, strict=True)}
    assert all(counts[j, i] == c for (i, j), c in counts.items())
    return {(i, j): c for (i, j), c in counts.items() if i < j}


click_logs = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 400)), max_size=40).map(
    make_clicks
)
switches = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["window", "gap"]),
        "count": st.sampled_from(["session", "occurrence"]),
        "max_length": st.sampled_from([1, 2, 3, 100]),
    }
)


def test_window_ends_an_hour_after_its_start():
    """40 is within the hour of 0, 61 is not; 121 is exactly an hour after 61 and still within."""
    clicks = make_clicks([(0, 0, minute) for minute in (0, 40, 61, 100, 121, 122)])
    sessions = assign_sessions(clicks.user_ids, clicks.time_ms, SessionsConfig(mode="window"))
    assert sessions.tolist() == [0, 0, 1, 1, 1, 2]


def test_gap_ends_after_an_hour_of_inactivity():
    clicks = make_clicks([(0, 0, minute) for minute in (0, 40, 100, 161, 221)])
    sessions = assign_sessions(clicks.user_ids, clicks.time_ms, SessionsConfig(mode="gap"))
    assert sessions.tolist() == [0, 0, 0, 1, 1]


def test_sessions_are_numbered_by_user_then_time_in_the_order_of_the_log():
    clicks = make_clicks([(1, 0, 0), (0, 0, 1), (1, 0, 2), (1, 0, 200), (0, 0, 201)])
    assert assign_sessions(clicks.user_ids, clicks.time_ms, SessionsConfig()).tolist() == [2, 0, 2, 3, 1]


@settings(deadline=None)
@given(click_logs, st.sampled_from(["window", "gap"]))
def test_sessions_match_a_loop(clicks, mode):
    config = SessionsConfig(mode=mode)
    sessions = assign_sessions(clicks.user_ids, clicks.time_ms, config)
    assert sessions.tolist() == reference_sessions(clicks, config).tolist()


def test_a_chain_of_thousands_of_windows_without_a_pause():
    """The worst case of the window search: no click is an hour after the one before."""
    minutes = np.cumsum(np.random.default_rng(0).integers(10, 60, size=5000))
    clicks = make_clicks([(0, 0, minute) for minute in minutes])
    config = SessionsConfig()
    sessions = assign_sessions(clicks.user_ids, clicks.time_ms, config)
    assert sessions[-1] > 2000
    assert np.array_equal(sessions, reference_sessions(clicks, config))


@pytest.mark.parametrize("mode", ["window", "gap"])
def test_an_enormous_limit_makes_one_session_per_user(mode):
    clicks = make_clicks([(0, 0, 0), (1, 0, 5), (0, 0, 10**9)])
    sessions = assign_sessions(clicks.user_ids, clicks.time_ms, SessionsConfig(mode=mode, max_s=10**18))
    assert sessions.tolist() == [0, 1, 0]


def test_falling_time_is_refused():
    with pytest.raises(ValueError, match="time_ms falls within a user"):
        assign_sessions(np.zeros(2, np.int32), np.array([5, 4]), SessionsConfig())


@pytest.mark.parametrize(("count", "expected"), [("session", [1, 1, 1]), ("occurrence", [2, 2, 1])])
def test_counts_of_one_session(count, expected):
    """Item 0 is clicked twice, 1 and 2 once: 0 meets each of them in one session, in two pairs of clicks."""
    clicks = make_clicks([(0, 0, 0), (0, 1, 1), (0, 0, 2), (0, 2, 3)])
    found = count_cooccurrences(clicks, 3, SessionsConfig(count=count))
    assert as_dict(found) == dict(zip([(0, 1), (0, 2), (1, 2)], expected, strict=True))
    assert found.n_pairs == sum(expected)
    assert found.n_sessions == 1


def test_gap_pairs_must_be_within_the_limit():
    """One session of 100 minutes: 0 and 2 never meet within the hour."""
    clicks = make_clicks([(0, 0, 0), (0, 1, 50), (0, 2, 100)])
    assert as_dict(count_cooccurrences(clicks, 3, SessionsConfig(mode="gap"))) == {(0, 1): 1, (1, 2): 1}


@settings(max_examples=150, deadline=None)
@given(click_logs, switches, st.sampled_from([1, 3, 1000]))
def test_counts_match_loops(clicks, switch, chunk_pairs):
    config = SessionsConfig(**switch)
    found = count_cooccurrences(clicks, 6, config, chunk_pairs=chunk_pairs)
    expected, click_pairs = reference_pairs(clicks, config)
    assert as_dict(found) == expected
    assert found.n_pairs == expected.total()
    assert found.keys.tolist() == sorted(i * 6 + j for i, j in expected)
    uncut, uncut_click_pairs = reference_pairs(clicks, config, capped=False)
    if config.mode == "window":
        cut = 1 - expected.total() / uncut.total() if uncut else 0.0
    else:
        cut = 1 - click_pairs / uncut_click_pairs if uncut_click_pairs else 0.0
    assert found.cut_mass == pytest.approx(cut)
    assert found.dropped_mass == 0.0


@pytest.mark.parametrize("mode", ["window", "gap"])
@pytest.mark.parametrize("count", ["session", "occurrence"])
def test_the_chunk_size_changes_nothing(mode, count):
    rng = np.random.default_rng(3)
    rows = np.stack([rng.integers(0, 8, 1500), rng.integers(0, 60, 1500), rng.integers(0, 3000, 1500)], axis=1)
    clicks, config = make_clicks(rows.tolist()), SessionsConfig(mode=mode, count=count, top_partners=5, max_length=10)
    whole = count_cooccurrences(clicks, 60, config)
    for chunk_pairs in (1, 17, 400):
        part = count_cooccurrences(clicks, 60, config, chunk_pairs=chunk_pairs)
        for field in fields(CoOccurrence):
            assert np.array_equal(getattr(part, field.name), getattr(whole, field.name)), field.name


def test_the_latest_items_of_a_long_session_are_kept():
    """Item 0 is clicked first and last, so 1 is the oldest of the three and goes."""
    clicks = make_clicks([(0, 0, 0), (0, 1, 1), (0, 2, 2), (0, 0, 3)])
    found = count_cooccurrences(clicks, 3, SessionsConfig(max_length=2))
    assert as_dict(found) == {(0, 2): 1}
    assert found.cut_mass == pytest.approx(2 / 3)


CATEGORY = np.array([1, 1, 2, 0, 0], dtype=np.int32)


def test_pairs_of_one_known_category_weigh_more():
    """Items 0 and 1 share a category; 3 and 4 share only that theirs is unknown."""
    clicks = make_clicks([(0, item, 0) for item in range(5)])
    found = count_cooccurrences(clicks, 5, SessionsConfig(category_boost=2.5), category=CATEGORY)
    assert found.partners[:4].tolist() == [1, 2, 3, 4]
    assert found.weights[:4].tolist() == [2.5, 1, 1, 1]
    assert found.weights[found.offsets[3] :].tolist() == [1] * 8
    assert found.counts.tolist() == [1] * 20


def test_an_infinite_boost_keeps_one_category_but_excludes_all_pairs_as_negatives():
    clicks = make_clicks([(0, item, 0) for item in range(5)])
    found = count_cooccurrences(clicks, 5, SessionsConfig(category_boost=float("inf")), category=CATEGORY)
    assert found.offsets.tolist() == [0, 1, 2, 2, 2, 2]
    assert found.partners.tolist() == [1, 0]
    assert found.weights.tolist() == [1, 1]
    assert len(found.keys) == 10
    assert found.dropped_mass == 0.0


def test_an_infinite_boost_needs_a_category():
    config = SessionsConfig(category_boost=float("inf"))
    with pytest.raises(MicrecError, match=r"sessions.category_boost: .inf .* roles.category"):
        count_cooccurrences(make_clicks([(0, 0, 0)]), 1, config)


@settings(max_examples=60, deadline=None)
@given(click_logs, st.integers(1, 4), st.sampled_from([0.5, 1.0, 3.0]))
def test_the_heaviest_partners_are_kept_the_lower_id_first(clicks, top_partners, boost):
    category = np.array([1, 1, 1, 2, 2, 0], dtype=np.int32)
    config = SessionsConfig(top_partners=top_partners, category_boost=boost)
    found = count_cooccurrences(clicks, 6, config, category=category)
    counts, _ = reference_pairs(clicks, config)
    kept_mass = mass = 0.0
    for item in range(6):
        partners = {b if a == item else a: count for (a, b), count in counts.items() if item in (a, b)}
        weights = {j: c * (boost if category[j] == category[item] != 0 else 1.0) for j, c in partners.items()}
        best = sorted(weights, key=lambda j: (-weights[j], j))[:top_partners]
        own = slice(found.offsets[item], found.offsets[item + 1])
        assert found.partners[own].tolist() == sorted(best)
        assert found.weights[own].tolist() == [weights[j] for j in sorted(best)]
        assert found.counts[own].tolist() == [partners[j] for j in sorted(best)]
        mass, kept_mass = mass + sum(weights.values()), kept_mass + sum(weights[j] for j in best)
    assert found.dropped_mass == pytest.approx(1 - kept_mass / mass if mass else 0.0)
    assert len(found.keys) == len(counts)


@pytest.mark.parametrize("mode", ["window", "gap"])
def test_no_clicks_no_pairs(mode):
    found = count_cooccurrences(make_clicks([]), 3, SessionsConfig(mode=mode))
    assert found.offsets.tolist() == [0, 0, 0, 0]
    assert (found.n_sessions, found.n_pairs, found.cut_mass, found.dropped_mass) == (0, 0, 0.0, 0.0)
