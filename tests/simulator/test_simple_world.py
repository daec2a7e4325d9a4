"""The simple world: its laws, its planted truth, and what can be learnt of it."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
import scipy.sparse

from simulator.world.simple import SimpleTables, SimpleWorld, draw_simple_world
from tests.simulator.simple_worlds import (
    DAY_S,
    HOUR_S,
    START_S,
    clicks_with_truth,
    default_world,
    links_followed,
    partner_groups,
    small_world,
    steps,
)

# Laws of the log


@pytest.mark.parametrize("keys", [{}, {"clicks_per_session": 20.0, "dwell_log_mean": 6.0, "dwell_log_sd": 0.5}])
def test_paper_sessions_are_the_planted_ones(keys: dict[str, float]) -> None:
    """The paper's one-hour window, as a loop over clicks, finds one session per two-hour slot; long ones are cut."""
    clicks = clicks_with_truth(small_world(**keys))
    found, opened, last_user = 0, 0, -1
    for user, timestamp in clicks.select("user_id", "timestamp").iter_rows():
        if user != last_user or timestamp - opened > HOUR_S:
            found, opened, last_user = found + 1, timestamp, user
    assert found == clicks.select("user_id", "slot").n_unique()
    assert clicks["dwell_s"].to_numpy().min() >= 0
    per_session = clicks.group_by("user_id", "slot").agg(
        first=pl.col("timestamp").min(), end=(pl.col("timestamp") + pl.col("dwell_s")).max()
    )
    longest_s = (per_session["end"] - per_session["first"]).to_numpy().max()
    assert longest_s <= HOUR_S + 0.1
    if keys:  # a session of 20 clicks would take over two hours
        assert longest_s > HOUR_S - 2
        assert len(clicks) / found < 10


def test_times_rise_within_a_session() -> None:
    ordered = small_world().clicks.sort("user_id", "timestamp")
    assert ordered.select("user_id", "timestamp").is_duplicated().sum() == 0


def test_a_user_clicks_an_item_once() -> None:
    clicks = small_world(sessions_per_user=60.0).clicks
    assert clicks.select("user_id", "item_id").is_duplicated().sum() == 0


def test_every_click_is_on_a_published_item() -> None:
    clicks = clicks_with_truth(small_world(new_items=0.9))
    assert clicks.filter(pl.col("published") > pl.col("timestamp")).is_empty()


def test_a_user_who_has_seen_the_catalogue_stops_clicking() -> None:
    """Three items, many sessions: nobody can click more than three times."""
    world = draw_simple_world(
        SimpleWorld(users=20, items=3, categories=2, subcategories=1, tags=2, sessions_per_user=200.0, new_items=0.0)
    )
    assert world.clicks.group_by("user_id").len()["len"].to_list() == [3] * 20


def test_default_world_has_the_promised_size_and_calibrated_rates() -> None:
    """Dwell, like and follow as in KuaiRand: mu 3.30, sd 1.07, .032 and .0026 per click."""
    clicks = default_world().clicks
    n = len(clicks)
    assert 100_000 < n < 150_000
    log_dwell = clicks["dwell_s"].log().to_numpy()
    assert log_dwell.mean() == pytest.approx(3.30, abs=0.05)
    assert log_dwell.std() == pytest.approx(1.07, abs=0.03)
    assert clicks["like"].mean() == pytest.approx(0.032, abs=4 * np.sqrt(0.032 / n))
    assert clicks["follow"].mean() == pytest.approx(0.0026, abs=4 * np.sqrt(0.0026 / n))
    liked_if_followed = clicks.filter("follow")["like"].mean()
    assert liked_if_followed == pytest.approx(0.45, abs=4 * np.sqrt(0.25 / (0.0026 * n)))


def test_nights_are_quiet() -> None:
    """Sessions by slot: the peak is from 20 to 22 h, the low from 4 to 6 h, 13 times lower (Globo)."""
    sessions = clicks_with_truth(default_world()).unique(["user_id", "slot"])
    counts = np.bincount(sessions["slot"].to_numpy() % 12, minlength=12)
    assert counts.argmin() == 2
    assert counts.argmax() == 10
    assert 1 / 13 < counts.min() / counts.max() < 1.6 / 13  # slots of busy users hold several arrivals at the peak


def test_likes_keep_their_rate_and_rise_with_dwell() -> None:
    """Weakly, as in KuaiRand: .022 to .083 over the whole range of watch ratios."""
    clicks = draw_simple_world(SimpleWorld(users=1500, like_rate=0.2)).clicks
    assert clicks["like"].mean() == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / len(clicks)))
    by_dwell = clicks.sort("dwell_s")["like"].to_numpy()
    third = len(clicks) // 3
    assert 1.5 < by_dwell[-third:].mean() / by_dwell[:third].mean() < 4


def test_items_appear_every_day() -> None:
    items = small_world(new_items=0.5).items
    day = (items["published"].to_numpy() - START_S) // DAY_S
    assert np.mean(day < 0) == 0.5
    assert (np.bincount(day[day >= 0], minlength=7) > 15).all()  # 200 items in 7 days


# Planted links


def test_links_join_whole_groups_of_different_categories() -> None:
    world = default_world()
    members = world.oracle["items"].group_by("link_group").agg(pl.col("item_id"))
    groups = dict(members.iter_rows())
    expected = sorted(
        (source, target)
        for source_group, target_group in partner_groups(world).iter_rows()
        for source in groups[source_group]
        for target in groups[target_group]
    )
    links = world.oracle["links"]
    assert links.select("source_item_id", "target_item_id").rows() == expected
    category = world.items["category"].to_numpy()
    source, target = links["source_item_id"].to_numpy(), links["target_item_id"].to_numpy()
    assert (category[source] != category[target]).all()
    assert max(len(items) for items in groups.values()) == 10
    assert len(partner_groups(world)) == round(0.5 * len(groups))


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.8])
def test_links_are_followed_as_often_as_their_strength(strength: float) -> None:
    """Many items and few clicks per user, so that hardly anyone runs out of partners; chance is about 0.1 %."""
    world = draw_simple_world(
        SimpleWorld(
            users=1500, items=6000, group_size=40, popularity_exponent=0.0, activity_sd=0.3, link_strength=strength
        )
    )
    followed = links_followed(world, steps(world))
    assert followed.mean() == pytest.approx(strength, abs=0.005 + 4 * np.sqrt(0.25 / len(followed)))


def test_links_act_within_a_session_only() -> None:
    """At strength 1 the first click of a session owes nothing to the last click of the session before."""
    world = draw_simple_world(SimpleWorld(users=1500, items=6000, group_size=40, link_strength=1.0))
    before = (pl.col("link_group", "user_id", "slot")).shift().name.prefix("previous_")
    openers = (
        clicks_with_truth(world)
        .with_columns(before)
        .filter(pl.col("user_id") == pl.col("previous_user_id"), pl.col("slot") != pl.col("previous_slot"))
    )
    assert links_followed(world, openers).mean() < 0.15  # a user's tastes lead to the same links


def test_strength_moves_the_choices_alone() -> None:
    """Worlds of different strength share users, items, titles, sessions and the links themselves."""
    off, on = small_world(link_strength=0.0), small_world(link_strength=0.8)
    assert off.users.equals(on.users)
    assert off.items.equals(on.items)
    assert all(off.oracle[name].equals(on.oracle[name]) for name in ("links", "items", "users"))
    first = [world.clicks.group_by("user_id").agg(pl.col("timestamp").min()).sort("user_id") for world in (off, on)]
    assert first[0].equals(first[1])
    assert not off.clicks["item_id"].equals(on.clicks["item_id"])


def tag_matrix(world: SimpleTables) -> np.ndarray:
    """Unit rows (N, T)."""
    return unit_rows(world.items.select("item_id", token="tags").explode("token", empty_as_null=True))


def word_matrix(world: SimpleTables) -> np.ndarray:
    """Unit TF-IDF rows (N, words)."""
    words = world.items.select("item_id", token=pl.col("title").str.split(" "))
    return unit_rows(words.explode("token", empty_as_null=True))


def unit_rows(tokens: pl.DataFrame) -> np.ndarray:
    _, code = np.unique(tokens["token"].to_numpy(), return_inverse=True)
    matrix = np.zeros((tokens["item_id"].n_unique(), code.max() + 1))  # every item has a token
    np.add.at(matrix, (tokens["item_id"].to_numpy(), code), 1.0)
    matrix *= np.log(len(matrix) / (matrix > 0).sum(axis=0))
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("features", [tag_matrix, word_matrix])
def test_linked_items_look_no_more_alike_than_chance(features: Callable[[SimpleTables], np.ndarray], seed: int) -> None:
    """Among 400 random rewirings to groups of other categories, the planted one is not extreme."""
    world = draw_simple_world(SimpleWorld(seed=seed, users=1))
    vectors, group = features(world), world.oracle["items"]["link_group"].to_numpy()
    n_groups = group.max() + 1
    centroids = np.stack([vectors[group == g].mean(axis=0) for g in range(n_groups)])
    similarity = centroids @ centroids.T  # mean similarity of the items of two groups
    category = np.array([world.items["category"][int(np.argmax(group == g))] for g in range(n_groups)])
    source, target = partner_groups(world).to_numpy().T
    rng = np.random.default_rng(seed)
    rewired = []
    for _ in range(400):
        other = np.array([rng.choice(np.flatnonzero(category != category[s])) for s in source])
        rewired.append(similarity[source, other].mean())
    rank = np.mean(np.array(rewired) < similarity[source, target].mean())
    assert 0.005 < rank < 0.995


def test_titles_tell_the_tag() -> None:
    """Items of one tag have more title words in common than items of different categories."""
    world = default_world()
    similarity = word_matrix(world) @ word_matrix(world).T
    np.fill_diagonal(similarity, np.nan)
    tag, category = world.oracle["items"]["taste_tag"].to_numpy(), world.items["category"].to_numpy()
    same_tag = np.nanmean(similarity[tag[:, None] == tag])
    same_category = np.nanmean(similarity[(category[:, None] == category) & (tag[:, None] != tag)])
    apart = np.nanmean(similarity[category[:, None] != category])
    assert same_tag > 2 * same_category > 2 * apart


# Signal: what a model can and cannot learn


def link_precision(world: SimpleTables, scores: np.ndarray) -> float:
    """Share of true partners among the ten best of every source item."""
    links = world.oracle["links"]
    truth = np.zeros(scores.shape, bool)
    truth[links["source_item_id"].to_numpy(), links["target_item_id"].to_numpy()] = True
    sources = np.flatnonzero(truth.any(axis=1))
    best = np.argsort(-scores[sources], axis=1, kind="stable")[:, :10]
    return float(truth[sources[:, None], best].mean())


def session_cosine(world: SimpleTables) -> np.ndarray:
    """Item-item cosine of session co-occurrence, (N, N)."""
    clicks, n = clicks_with_truth(world), len(world.items)
    session = clicks.select("user_id", "slot").to_numpy() @ [10_000, 1]
    _, session = np.unique(session, return_inverse=True)
    seen = scipy.sparse.csr_array((np.ones(len(session), np.float32), (session, clicks["item_id"].to_numpy())))
    together = np.zeros((n, n), np.float32)
    counts = (seen.T @ seen).toarray()
    together[: len(counts), : len(counts)] = counts
    clicked = np.sqrt(np.maximum(np.diag(together), 1.0))
    np.fill_diagonal(together, 0.0)
    return together / clicked / clicked[:, None]


def test_sessions_reveal_the_links_and_nothing_else_does() -> None:
    world = default_world()
    n = len(world.items)
    chance = link_precision(world, np.random.default_rng(0).random((n, n)))
    tags = tag_matrix(world) @ tag_matrix(world).T
    popularity = np.tile(np.bincount(world.clicks["item_id"], minlength=n), (n, 1))
    assert link_precision(world, session_cosine(world)) > 25 * chance
    assert link_precision(world, tags) < 2 * chance
    assert link_precision(world, popularity) < 4 * chance  # a few popular groups are targets


def test_sessions_reveal_no_links_at_strength_zero() -> None:
    world = draw_simple_world(SimpleWorld(link_strength=0.0))
    assert link_precision(world, session_cosine(world)) < 0.012  # chance is 0.006


def test_taste_beats_popularity_by_far() -> None:
    """HIT@50 on the last fifth of the log: the hidden taste reaches far more than the popularity ranking."""
    world, n = default_world(), len(default_world().items)
    cut = len(world.clicks) * 4 // 5
    test = world.clicks[cut:]
    user, item = test["user_id"].to_numpy(), test["item_id"].to_numpy()
    popularity = np.bincount(world.clicks[:cut]["item_id"], minlength=n)
    truth = world.oracle["items"].select("item_id", "taste_tag", "appeal")
    share = pl.col("appeal") / pl.col("appeal").sum().over("taste_tag")
    interests = world.oracle["users"].explode("interests", "interest_share", empty_as_null=True)
    pairs = interests.join(truth.with_columns(share), left_on="interests", right_on="taste_tag")
    taste = np.zeros((len(world.users), n))
    score = (pairs["interest_share"] * pairs["appeal"]).to_numpy()
    np.add.at(taste, (pairs["user_id"].to_numpy(), pairs["item_id"].to_numpy()), score)

    def hit_at_50(scores: np.ndarray) -> float:
        best = np.argsort(-scores, axis=1)[:, :50]
        return float((best[user] == item[:, None]).any(axis=1).mean())

    hit_popularity = hit_at_50(np.tile(popularity, (len(world.users), 1)))
    assert 0.05 < hit_popularity < 0.25
    assert hit_at_50(taste) > 1.75 * hit_popularity
