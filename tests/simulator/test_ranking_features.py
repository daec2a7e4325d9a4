"""Features by plain loops, the folded score by the matrix, and the regression by another solver."""

import dataclasses
import math
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize

from simulator.channels.channel import ItemStats
from simulator.ranking import RankerConfig
from simulator.ranking.click_features import ClickFeatures
from simulator.ranking.counts import _shown, count
from simulator.ranking.logistic import fit_logistic
from tests.simulator.channels.logs import START_S, random_log, random_requests

KEYS = RankerConfig(neighbours=200, recency=0.7)


@pytest.fixture(scope="module")
def setting():
    log = random_log(2)
    requests = random_requests(log, 30)
    features = ClickFeatures(count(log, KEYS), KEYS)
    row, item = np.repeat(np.arange(30), 83), np.tile(np.arange(83), 30)  # 80 known items, 3 unknown
    matrix = features.matrix(requests, row, item)
    return (
        log,
        requests,
        features,
        dict(zip(features.names, matrix.T.reshape(len(features.names), 30, 83), strict=True)),
    )


def recency_of(recent, n=80):
    weights = {place: 0.7**place for place, item in enumerate(recent) if 0 <= item < n}
    return weights, max(sum(weights.values()), 1.0)


def test_item_features(setting):
    """All but the click rate, which has tests of its own."""
    log, _, _, found = setting
    clicks, likes, dwell = Counter(), Counter(), defaultdict(float)
    logs = list(log.clicks.select("item_id", "dwell_s", "like").iter_rows())
    mean = sum(math.log1p(d) for _, d, _ in logs) / len(logs)
    for item, seconds, like in logs:
        clicks[item] += 1
        likes[item] += like
        dwell[item] += math.log1p(seconds) - mean
    liked = (sum(likes.values()) + 1) / (sum(clicks.values()) + 20)
    published = log.items["published"].to_list()
    for item in range(80):
        expected = {
            "item likes": math.log((likes[item] + 30 * liked) / (clicks[item] + 30) / liked),
            "item dwell": dwell[item] / (clicks[item] + 10),
            "item age": math.log1p((START_S + log.now_s - published[item]) / 3600),
            "new": 0.0,
        }
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][:, item], value, rtol=1e-4, atol=1e-5)
    assert (found["new"][:, 80:] == 1.0).all()
    assert all((found[name][:, 80:] == 0.0).all() for name in ("item rate", *expected) if name != "new")


def test_the_click_rate_knows_organic_clicks_by_kind_and_what_impressions_led_to():
    """Clicks that followed impressions are no organic ones, and the user's own click does not count for their taste."""
    log = random_log(9, n_clicks=900)
    shown = log.impressions.with_columns(pl.lit(True).alias("clicked"))[:300]
    led_to = shown.select("user_id", "item_id", "timestamp").with_columns(
        pl.lit(5.0).alias("dwell_s"), pl.lit(False).alias("like"), pl.lit(False).alias("follow")
    )
    both = dataclasses.replace(log, clicks=pl.concat([log.clicks, led_to]).sort("timestamp"), impressions=shown)
    keys = RankerConfig(half_life_h=1e9)
    with_slates, shelf = count(both, keys), ItemStats(both)
    seen = _shown(both, shelf, with_slates, keys)
    value = log.items["subcategory"].to_list()
    theirs = defaultdict(list)
    for user, item in both.clicks.select("user_id", "item_id").iter_rows():
        theirs[user].append(value[item])
    for row, (user, item) in enumerate(shown.select("user_id", "item_id").iter_rows()):
        others = Counter(theirs[user])
        others[value[item]] -= 1
        assert seen.taste[row] == pytest.approx(others[value[item]] / (others.total() + 10))
    nothing_shown = dataclasses.replace(log, impressions=log.impressions[:0])
    organic = Counter(log.clicks["item_id"].to_list())
    by_kind = {v: [organic[item] for item in range(80) if value[item] == v] for v in set(value)}
    trait = np.array([math.log((organic[i] + 1) / (np.mean(by_kind[value[i]]) + 1)) for i in range(80)])
    rates = count(nothing_shown, keys)["item_features"][:80, 0]
    np.testing.assert_allclose(rates, 0.5 * (trait - trait.mean()), atol=1e-5)


def test_crosses_with_clicks_and_latest_clicks(setting):
    log, requests, _, found = setting
    for field in KEYS.fields:
        value = log.items[field].to_list()
        for row in range(30):
            theirs = log.clicks.filter(log.clicks["user_id"] == requests.user_ids[row])["item_id"].to_list()
            counts = Counter(value[item] for item in theirs)
            recent = requests.recent_items[row].tolist()
            weights, total = recency_of(recent)
            for item in range(80):
                v = value[item]
                own = counts[v] / (len(theirs) + 10)
                same = sum(w for place, w in weights.items() if value[recent[place]] == v) / total
                assert found[f"history {field}"][row, item] == pytest.approx(own, rel=1e-4, abs=1e-6)
                assert found[f"recent {field}"][row, item] == pytest.approx(same, rel=1e-4, abs=1e-6)


def test_user_fields_tags_and_repeats(setting):
    log, requests, _, found = setting
    gender = log.users["gender"].to_list()
    value, tags = log.items["subcategory"].to_list(), log.items["tags"].to_list()
    clicks = list(log.clicks.select("user_id", "item_id").iter_rows())
    everybody = Counter(value[item] for _, item in clicks)
    share = {v: (everybody[v] + 1) / (len(clicks) + len(set(value)) + 1) for v in set(value)}
    by_gender = {g: Counter(value[item] for user, item in clicks if gender[user] == g) for g in set(gender)}
    for row in range(30):
        user, recent = int(requests.user_ids[row]), requests.recent_items[row].tolist()
        weights, total = recency_of(recent)
        for item in range(80):
            if user < 60:
                counts = by_gender[gender[user]]
                lift = math.log((counts[value[item]] / share[value[item]] + 30) / (counts.total() + 30))
            else:
                lift = 0.0
            shared = sum(w * len(set(tags[recent[p]]) & set(tags[item])) for p, w in weights.items())
            assert found["crossed"][row, item] == pytest.approx(lift, rel=1e-4, abs=1e-5)
            assert found["tags"][row, item] == pytest.approx(shared / total / len(tags[item]), rel=1e-4, abs=1e-6)
            assert found["repeat"][row, item] == float(item in recent)


def test_sessions_sum_the_similarities_to_the_latest_clicks(setting):
    log, requests, _, found = setting
    sessions, start, held = [], {}, {}
    for user, item, at in log.clicks.select("user_id", "item_id", "timestamp").iter_rows():
        if user not in start or at - start[user] > 3_600:
            start[user], held[user] = at, set()
            sessions.append(held[user])
        held[user].add(item)
    total = Counter(item for one in sessions for item in one)
    common = Counter((a, b) for one in sessions for a in one for b in one if a != b)
    similar = {(a, b): n / math.sqrt(total[a] * total[b]) * n / (n + 5) for (a, b), n in common.items()}
    for row, recent in enumerate(requests.recent_items.tolist()):
        for item in range(80):
            close = sum(similar.get((clicked, item), 0.0) * 0.7**place for place, clicked in enumerate(recent))
            assert found["sessions"][row, item] == pytest.approx(math.sqrt(close), abs=1e-4)


def test_the_folded_score_is_that_of_the_matrix(setting):
    _, requests, features, found = setting
    weights = np.random.default_rng(0).normal(size=len(features.names))
    expected = sum(found[name].astype(np.float64) * w for name, w in zip(features.names, weights, strict=True))
    scores = features.fold(weights).score(requests, np.tile(np.arange(83), (30, 1)))
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_the_regression_is_at_the_minimum():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 4)).astype(np.float32)
    y = rng.random(400) < 1 / (1 + np.exp(-(x @ [1.0, -2.0, 0.0, 0.5] - 1)))
    prior, strength = np.array([0.5, 0.0, 0.2, 0.0]), np.array([1.0, 3.0, 0.1, 8.0])

    def loss(w):
        score = x.astype(np.float64) @ w
        ridge = 0.5 * (strength * (w - prior) ** 2).sum()
        return sum(math.log1p(math.exp(-s if hit else s)) for s, hit in zip(score, y, strict=True)) + ridge

    other = minimize(loss, prior, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 5_000})
    np.testing.assert_allclose(fit_logistic(x, y, prior, strength), other.x, atol=2e-4)


def test_clicks_that_can_be_told_apart_do_not_run_away():
    x = np.array([[1.0, -1.0], [1.0, -0.5], [1.0, 0.5], [1.0, 1.0]])
    weights = fit_logistic(x, np.array([False, False, True, True]), np.zeros(2), np.full(2, 1e-2))
    assert np.isfinite(weights).all()
    assert weights[1] > 3
