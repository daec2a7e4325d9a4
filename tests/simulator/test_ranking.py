"""The ranking model on impressions whose click chances are known."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest
from scipy.stats import mannwhitneyu

from micrec.errors import MicrecError
from simulator.ports import Nominations, Requests
from simulator.ranking import CtrTrainer, RankerConfig, requests_at
from tests.simulator.channels.logs import DAY_S, START_S, random_log, random_requests

KEYS = RankerConfig(days=3)


def until(log, day):
    """The log as it stood at the start of a day."""
    before = pl.col("timestamp") < START_S + day * DAY_S
    return dataclasses.replace(
        log,
        items=log.items.filter(pl.col("published") < START_S + day * DAY_S),
        clicks=log.clicks.filter(before),
        impressions=log.impressions.filter(before),
        now_s=float(day * DAY_S),
    )


def trained(folder, log, *, keys=KEYS, previous=None):
    trainer = CtrTrainer(keys)
    trainer.train(log, previous=previous, folder=folder, seed=0)
    return trainer.load(folder)


def weights_in(folder):
    return json.loads((folder / "manifest.json").read_text())["facts"]["weights"]


def auc(score, clicked):
    return mannwhitneyu(score[clicked], score[~clicked]).statistic / (clicked.sum() * (~clicked).sum())


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """A model of five days, and the impressions of the sixth with the chances that they had."""
    log = random_log(3, n_slates=8_000, n_clicks=3_000)
    model = trained(tmp_path_factory.mktemp("ranker") / "v1", until(log, 5))
    shown = log.impressions.filter(pl.col("timestamp") >= START_S + 5 * DAY_S)
    requests = requests_at(log, shown["user_id"].to_numpy(), shown["timestamp"].to_numpy())
    chance = model.predict(
        requests,
        shown["item_id"].to_numpy()[:, None],
        shown["position"].to_numpy()[:, None],
        Nominations(("0",), np.zeros((len(shown), 1), np.int8), np.full((len(shown), 1), -1, np.int16)),
    )
    return log, model, shown, chance[:, 0]


def test_predicted_and_observed_clicks_agree_by_decile(held_out):
    _, _, shown, chance = held_out
    clicked = shown["clicked"].to_numpy()
    assert chance.mean() == pytest.approx(clicked.mean(), rel=0.1)
    for part in np.array_split(np.argsort(chance), 10):
        expected = chance[part].mean()
        noise = np.sqrt(expected * (1 - expected) / len(part))
        assert abs(clicked[part].mean() - expected) < 4 * noise + 0.1 * expected


def test_it_ranks_better_than_popularity(held_out):
    log, _, shown, chance = held_out
    clicked = shown["clicked"].to_numpy()
    counts = until(log, 5).impressions.group_by("item_id").agg(pl.col("clicked").mean())
    rate = dict(counts.iter_rows())
    popular = np.array([rate.get(item, 0.0) for item in shown["item_id"].to_list()])
    assert auc(chance, clicked) > auc(popular, clicked) + 0.03
    assert auc(chance, clicked) > 0.75


def test_the_effect_of_the_position_is_learnt_and_left_out_of_the_score(tmp_path):
    """Log odds fall by 0.4 a position in these logs."""
    log = random_log(4, n_slates=8_000)
    model = trained(tmp_path / "v1", log, keys=RankerConfig(days=6))
    weights = weights_in(tmp_path / "v1")
    for place in range(1, 5):
        assert weights[f"position {place}"] == pytest.approx(-0.4 * place, abs=0.25)
    requests, items = random_requests(log, 9), np.tile(np.arange(12), (9, 1))
    first = model.predict(requests, items, np.zeros((9, 12), np.int64))
    np.testing.assert_array_equal(model.score(requests, items), first)
    third = model.predict(requests, items, np.full((9, 12), 2))
    shift = np.log(third / (1 - third)) - np.log(first / (1 - first))
    np.testing.assert_allclose(shift, weights["position 2"], rtol=1e-3)


def test_scores_keep_the_promises_of_a_ranker(held_out):
    """New users, new items and padding; the same in any batch."""
    log, model, _, _ = held_out
    requests = random_requests(log, 150)
    items = np.random.default_rng(0).integers(-1, 90, (150, 30))
    scores = model.score(requests, items)
    assert scores.dtype == np.float32
    assert (scores[items < 0] == -np.inf).all()
    inside = scores[items >= 0]
    assert ((inside > 0) & (inside < 1)).all()
    for start, stop in ((0, 1), (1, 20), (20, 150)):
        part = model.score(Requests(*(column[start:stop] for column in requests)), items[start:stop])
        np.testing.assert_array_equal(part, scores[start:stop])
    assert model.score(Requests(*(column[:0] for column in requests)), items[:0]).shape == (0, 30)


def test_a_cold_item_gets_what_cold_items_got(tmp_path):
    """Items published within the day are unknown to the model of its morning: they are scored as their like were."""
    log = random_log(5, n_slates=8_000)
    model = trained(tmp_path / "v1", until(log, 5), keys=RankerConfig(days=4))
    requests = random_requests(log, 40)
    cold = model.score(requests, np.full((40, 1), 79 + 5))  # not in the table
    assert (np.abs(cold - cold.mean()) < 0.5).all()
    assert 0.01 < cold.mean() < 0.6


def test_features_of_a_day_know_nothing_of_its_clicks():
    log = random_log(6, n_slates=2_000)
    day = pl.col("timestamp") >= START_S + 5 * DAY_S
    flipped = log.impressions.with_columns(pl.when(day).then(~pl.col("clicked")).otherwise("clicked").alias("clicked"))
    trainer = CtrTrainer(RankerConfig(days=1))
    x, y = trainer._samples(log)
    x_flipped, y_flipped = trainer._samples(dataclasses.replace(log, impressions=flipped))
    np.testing.assert_array_equal(x, x_flipped)
    np.testing.assert_array_equal(y, ~y_flipped)
    assert len(y) == log.impressions.filter(day).height


def test_the_prior_is_served_until_there_are_impressions(tmp_path):
    log = random_log()
    none = dataclasses.replace(log, impressions=log.impressions[:0])
    model = trained(tmp_path / "v1", none)
    requests = random_requests(log, 1)
    requests.recent_items[:] = -1
    scores = model.score(requests, np.arange(80)[None, :])[0]
    clicks = np.bincount(log.clicks["item_id"].to_numpy(), minlength=80)
    assert scores[clicks.argmax()] > scores[clicks.argmin()]
    empty = dataclasses.replace(none, clicks=log.clicks[:0])
    assert np.isfinite(trained(tmp_path / "v2", empty).score(requests, np.arange(80)[None, :])).all()


def test_a_later_version_holds_to_the_one_before(tmp_path):
    """With little new to learn from, weights move less from the version before than from the prior."""
    log = random_log(7, n_slates=6_000)
    trained(tmp_path / "v1", until(log, 5))
    few = dataclasses.replace(until(log, 6), impressions=log.impressions.tail(600))
    trained(tmp_path / "cold", few)
    trained(tmp_path / "warm", few, previous=tmp_path / "v1")
    first, cold, warm = (weights_in(tmp_path / name) for name in ("v1", "cold", "warm"))
    gap = {name: sum((w[key] - first[key]) ** 2 for key in first) for name, w in (("cold", cold), ("warm", warm))}
    assert gap["warm"] < 0.5 * gap["cold"]
    assert warm != first


def test_same_log_same_bytes_and_damage_is_told(tmp_path):
    for name in ("a", "b"):
        trained(tmp_path / name, random_log(1))
    for file in ("arrays.npz", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    (tmp_path / "a" / "arrays.npz").write_bytes(b"")
    with pytest.raises(MicrecError, match="cut short"):
        CtrTrainer().load(tmp_path / "a")
    with pytest.raises(MicrecError, match="cannot be read"):
        CtrTrainer().load(tmp_path / "nowhere")


def test_requests_hold_the_clicks_made_before_them():
    log = random_log(8)
    rng = np.random.default_rng(0)
    users, seconds = rng.integers(0, 65, 200), START_S + rng.integers(0, 6 * DAY_S, 200)
    seconds[:50] = log.clicks["timestamp"].to_numpy()[::30][:50]  # at the very second of a click
    users[:50] = log.clicks["user_id"].to_numpy()[::30][:50]
    requests = requests_at(log, users, seconds)
    rows = list(log.clicks.select("user_id", "item_id", "timestamp").iter_rows())
    for user, second, recent in zip(users.tolist(), seconds.tolist(), requests.recent_items.tolist(), strict=True):
        before = [item for who, item, at in rows if who == user and at < second][::-1][:20]
        assert recent == before + [-1] * (20 - len(before))
    np.testing.assert_array_equal(requests.now_s, seconds - START_S)
