"""Every channel: its promises, its folder, and its lists against plain loops over the log."""

import math
from collections import defaultdict

import numpy as np
import polars as pl
import pytest

from micrec.errors import MicrecError
from micrec.settings import check
from simulator.channels import CHANNELS, channel_trainer
from tests.simulator.channels.logs import START_S, check_lists, random_log, random_requests

KINDS = [kind for kind in CHANNELS if kind != "two_tower"]  # which tests/abtest/online tries


def matcher(kind, log, folder, **keys):
    trainer = channel_trainer(kind, keys)
    trainer.train(log, previous=None, folder=folder, seed=0)
    return trainer.load(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 7, 200])
def test_lists_keep_the_promises_of_candidates(kind, k, tmp_path):
    log = random_log()
    hidden_items = log.items.filter(pl.col("item_id") % 3 != 1)
    log = log.__class__(log.users, hidden_items, log.clicks, log.impressions, log.now_s, log.start_s)
    requests = random_requests(log, 33)
    lists = matcher(kind, log, tmp_path / "v1").retrieve(requests, k)
    check_lists(lists, set(hidden_items["item_id"].to_list()), k)
    for items, recent in zip(lists.items, requests.recent_items, strict=True):
        assert not set(items[items >= 0].tolist()) & set(recent.tolist())
    assert (lists.items >= 0).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_does_not_depend_on_its_batch(kind, tmp_path):
    log = random_log()
    model, requests = matcher(kind, log, tmp_path / "v1"), random_requests(log, 40)
    whole = model.retrieve(requests, 20)
    for start, stop in ((0, 1), (1, 18), (18, 40)):
        part = model.retrieve(type(requests)(*(column[start:stop] for column in requests)), 20)
        np.testing.assert_array_equal(part.items, whole.items[start:stop])
        np.testing.assert_array_equal(part.scores, whole.scores[start:stop])


@pytest.mark.parametrize("kind", KINDS)
def test_same_log_same_bytes_and_an_old_version_is_replaced(kind, tmp_path):
    trainer = channel_trainer(kind, {})
    for name, seed in (("a", 0), ("b", 0), ("b", 1)):
        trainer.train(random_log(seed), previous=None, folder=tmp_path / name, seed=3)
    trainer.train(random_log(0), previous=tmp_path / "a", folder=tmp_path / "b", seed=3)
    for file in ("arrays.npz", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_told(kind, tmp_path):
    log, trainer = random_log(), channel_trainer(kind, {})
    trainer.train(log, previous=None, folder=tmp_path / "v1", seed=0)
    arrays = tmp_path / "v1" / "arrays.npz"
    whole = bytearray(arrays.read_bytes())
    arrays.write_bytes(whole[:-9])
    with pytest.raises(MicrecError, match="cut short"):
        trainer.load(tmp_path / "v1")
    whole[len(whole) // 2] ^= 1
    arrays.write_bytes(whole)
    with pytest.raises(MicrecError, match="SHA-256"):
        trainer.load(tmp_path / "v1")
    arrays.unlink()
    with pytest.raises(MicrecError, match="cannot be read"):
        trainer.load(tmp_path / "v1")
    (tmp_path / "v1" / "manifest.json").write_text("{}")
    with pytest.raises(MicrecError, match="keys are missing"):
        trainer.load(tmp_path / "v1")


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_log_gives_lists_all_the_same(kind, tmp_path):
    log = random_log()
    empty = log.__class__(log.users, log.items, log.clicks[:0], log.impressions[:0], log.now_s, log.start_s)
    check_lists(matcher(kind, empty, tmp_path / "v1").retrieve(random_requests(log, 5), 4), set(range(80)), 4)


def test_a_folder_of_another_channel_is_refused(tmp_path):
    matcher("popular", random_log(), tmp_path / "v1")
    with pytest.raises(MicrecError, match="holds a popular channel, not a fresh channel"):
        channel_trainer("fresh", {}).load(tmp_path / "v1")
    with pytest.raises(MicrecError, match="holds something else"):
        matcher("fresh", random_log(), tmp_path / "v1")


def test_unknown_channels_and_keys_are_told():
    with pytest.raises(MicrecError, match="no channel 'populr': did you mean popular"):
        channel_trainer("populr", {})
    with pytest.raises(MicrecError, match="half_life_h"):
        channel_trainer("popular", {"half_life": 3})


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_described(kind):
    keys = CHANNELS[kind].config
    assert all(field.description for field in keys.model_fields.values())
    assert check(keys, {})[1] == []


# -- against plain loops -------------------------------------------------------------------------------------------


def ranked(scores, k):
    return [item for item, _ in sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))][:k]


def test_popular_counts_what_is_clicked_late_more(tmp_path):
    log = random_log()
    scores: dict[int, float] = defaultdict(float)
    for item, at in log.clicks.select("item_id", "timestamp").iter_rows():
        scores[item] += 0.5 ** ((START_S + log.now_s - at) / 3600 / 10.0)
    model = matcher("popular", log, tmp_path / "v1", half_life_h=10.0, hide_recent=False)
    lists = model.retrieve(random_requests(log, 3), 30)
    assert lists.items.tolist() == [ranked(scores, 30)] * 3
    assert lists.scores[0, 0] == pytest.approx(max(scores.values()), rel=1e-6)


def test_fresh_ranks_by_click_rate_and_age(tmp_path):
    log = random_log()
    shown, clicked = defaultdict(float), defaultdict(float)
    for item, click in log.impressions.select("item_id", "clicked").iter_rows():
        shown[item] += 1
        clicked[item] += click
    average = (sum(clicked.values()) + 1) / (sum(shown.values()) + 20)
    scores = {}
    for item, published in log.items.select("item_id", "published").iter_rows():
        age_h = (START_S + log.now_s - published) / 3600
        if age_h <= 60:
            rate = (clicked[item] + 10 * average) / (shown[item] + 10)
            scores[item] = math.log(rate) - math.log(2) * age_h / 24
    model = matcher("fresh", log, tmp_path / "v1", max_age_h=60.0, prior_impressions=10.0, explore=0.0)
    requests = random_requests(log, 1)
    requests.recent_items[:] = -1
    assert model.retrieve(requests, 200).items[0, : len(scores)].tolist() == ranked(scores, 200)


def test_fresh_explores_by_the_requests_keys(tmp_path):
    """Same key, same list; other keys, other lists; the better item comes first more often: Gumbel noise of scale s
    puts item i above j with probability 1 / (1 + exp((s_j - s_i) / scale))."""
    log = random_log()
    model = matcher("fresh", log, tmp_path / "v1", explore=0.7, hide_recent=False)
    still = matcher("fresh", log, tmp_path / "v2", explore=0.0, hide_recent=False)
    requests = random_requests(log, 4_000)
    lists = model.retrieve(requests, 200)
    np.testing.assert_array_equal(lists.items, model.retrieve(requests, 200).items)
    base = still.retrieve(requests[:1] and type(requests)(*(c[:1] for c in requests)), 200)
    first, second = base.items[0, :2]
    place = np.argsort(lists.items, axis=1, kind="stable")
    columns = np.sort(lists.items, axis=1)[0]
    at = {item: place[:, np.flatnonzero(columns == item)[0]] for item in (first, second)}
    gap = float(base.scores[0, 0] - base.scores[0, 1]) / 0.7
    expected = 1 / (1 + math.exp(-gap))
    assert (at[first] < at[second]).mean() == pytest.approx(expected, abs=5 * math.sqrt(0.25 / 4_000))


def test_item_cf_is_the_shrunk_cosine_of_sessions(tmp_path):
    log = random_log(n_clicks=800)
    shrink, recency = 2.0, 0.8
    sessions: list[set[int]] = []
    open_since: dict[int, int] = {}
    current: dict[int, set[int]] = {}
    for user, item, at in log.clicks.select("user_id", "item_id", "timestamp").iter_rows():
        if user not in open_since or at - open_since[user] > 3_600:
            open_since[user], current[user] = at, set()
            sessions.append(current[user])
        current[user].add(item)
    total, common = defaultdict(int), defaultdict(int)
    for held in sessions:
        for a in held:
            total[a] += 1
            for b in held - {a}:
                common[a, b] += 1
    similar = {(a, b): n / math.sqrt(total[a] * total[b]) * n / (n + shrink) for (a, b), n in common.items()}
    nearest = {a: sorted((-s, b) for (x, b), s in similar.items() if x == a)[:6] for a in total}
    model = matcher("item_cf", log, tmp_path / "v1", neighbours=6, shrink=shrink, recency=recency)
    requests = random_requests(log, 25)
    lists = model.retrieve(requests, 40)
    for row, recent in enumerate(requests.recent_items.tolist()):
        scores: dict[int, float] = defaultdict(float)
        for place, clicked in enumerate(recent):
            for negative, item in nearest.get(clicked, []):
                scores[item] -= negative * recency**place
        scores = {item: score for item, score in scores.items() if item not in recent}
        found = lists.items[row][lists.items[row] >= 0].tolist()
        assert len(found) == min(40, len(scores))
        np.testing.assert_allclose(lists.scores[row, : len(found)], [scores[item] for item in found], atol=2e-5)
        np.testing.assert_allclose([scores[i] for i in found], sorted(scores.values(), reverse=True)[:40], atol=2e-5)


def test_tag_sums_the_strongest_tags_over_their_postings(tmp_path):
    log = random_log()
    fields = {}
    for item, tags, sub in log.items.select("item_id", "tags", "subcategory").iter_rows():
        fields[item] = {f"tags\x1f{t}" for t in tags} | {f"subcategory\x1f{sub}"}
    labels = sorted(set().union(*fields.values()))
    clicks: dict[int, float] = defaultdict(float)
    for item, at in log.clicks.select("item_id", "timestamp").iter_rows():
        clicks[item] += 0.5 ** ((START_S + log.now_s - at) / 3600 / 48.0)
    postings, idf = {}, {}
    for tag in labels:
        holders = [item for item in fields if tag in fields[item]]
        postings[tag] = ranked({item: clicks[item] for item in holders}, 5)
        idf[tag] = math.log(len(fields) / len(holders))
    model = matcher("tag", log, tmp_path / "v1", tags=3, postings=5, order=0.4, recency=0.8)
    requests = random_requests(log, 25)
    lists = model.retrieve(requests, 30)
    for row, recent in enumerate(requests.recent_items.tolist()):
        weight: dict[str, float] = defaultdict(float)
        for place, clicked in enumerate(recent):
            for tag in fields.get(clicked, ()):
                weight[tag] += idf[tag] * 0.8**place
        best = ranked(weight, 3)
        scores: dict[int, float] = defaultdict(float)
        for tag in best:
            for place, item in enumerate(postings[tag]):
                scores[item] += weight[tag] / weight[best[0]] * (1 - 0.4 * place / 5)
        scores = {item: score for item, score in scores.items() if item not in recent}
        found = lists.items[row][lists.items[row] >= 0].tolist()
        assert sorted(found) == sorted(scores)
        np.testing.assert_allclose(lists.scores[row, : len(found)], [scores[item] for item in found], atol=1e-4)


@pytest.mark.parametrize("likes", [False, True])
def test_follow_shows_the_latest_followed_providers_items(likes, tmp_path):
    log = random_log()
    provider = dict(log.items.select("item_id", "provider").iter_rows())
    published = dict(log.items.select("item_id", "published").iter_rows())
    followed: dict[int, list[str]] = defaultdict(list)
    for user, item, like, follow in log.clicks.select("user_id", "item_id", "like", "follow").iter_rows():
        if follow or (likes and like):
            if provider[item] in followed[user]:
                followed[user].remove(provider[item])
            followed[user].append(provider[item])
    model = matcher("follow", log, tmp_path / "v1", providers=2, likes=likes, hide_recent=False, items=4)
    requests = random_requests(log, 40)
    lists = model.retrieve(requests, 20)
    for row, user in enumerate(requests.user_ids.tolist()):
        expected = []
        for name in followed[user][-2:]:
            theirs = [item for item in provider if provider[item] == name]
            expected += sorted(theirs, key=lambda item: (-published[item], item))[:4]
        found = lists.items[row][lists.items[row] >= 0].tolist()
        assert sorted(found) == sorted(expected)
        assert [published[item] for item in found] == sorted((published[item] for item in found), reverse=True)
    assert (lists.items >= 0).any()


def test_a_missing_column_is_told(tmp_path):
    with pytest.raises(MicrecError, match="no column studio: name one of item_id"):
        matcher("follow", random_log(), tmp_path / "v1", provider="studio")
