"""What a taste click picks, against the closed form as loops; what a session adds; staples and favourites."""

import math

import numpy as np
import polars as pl
import pytest
from scipy.stats import chi2, chi2_contingency

from micrec.errors import MicrecError
from simulator.world.clicks import Cause, ClickDraws
from simulator.world.users import UserDraws
from simulator.world.visits import Visits
from tests.simulator.worlds import log, small_config, small_history, small_world

ONLY_TASTE = ("choice.taste=1", "choice.popular=0", "choice.fresh=0", "choice.similar=0", "choice.repeat=0",
              "links.strength=0", "links.density=0", "choice.novelty_sd=0")  # fmt: skip
DEPTHS = ("items.topics=3", "taste.depth.category=0.1", "taste.depth.subcategory=0.25", "taste.depth.topic=0.35",
          "taste.depth.item=0.3", "taste.favourites=3")  # fmt: skip
USER, START_S, SESSIONS = 11, 9.3 * 86_400, 120_000


def sessions_of(user: int, start_s: float, count: int, *overrides: str) -> list[np.ndarray]:
    """Items of many sessions that one user starts at one moment: the first clicks, the second ones and so on."""
    world, users = small_world(*overrides), np.array([user])
    draws = UserDraws(world.config)
    habits, clicking = draws.habits(users), ClickDraws(world.config, world.catalogue, world.shelf, draws)
    visits = Visits(np.zeros(count, np.int64), np.full(count, start_s), np.arange(count))
    sessions = clicking.sessions(users, visits, habits, world.config.days)
    clicks = clicking.draw(users, sessions, habits)
    place = np.arange(len(clicks.item)) - (np.cumsum(sessions.length) - sessions.length)[clicks.session]
    return [clicks.item[place == position] for position in range(int(place.max()) + 1)]


def appeal_at(world, time_s: float) -> list[float]:
    """Appeal of each item at the start of the bucket of hours that holds a time; 0 before it is out."""
    bucket_s, catalogue = world.shelf.bucket_s, world.catalogue
    now = time_s // bucket_s * bucket_s
    half_life_s = world.config.items.half_life_h * 3_600
    return [
        0.0 if published > now
        else appeal * (1.0 if evergreen else 0.5 ** ((now - published) / half_life_s))
        for appeal, published, evergreen in zip(
            catalogue.appeal.tolist(), catalogue.published_s.tolist(), catalogue.evergreen.tolist(), strict=True
        )
    ]  # fmt: skip


def closed_form(world, user: int, time_s: float, favourites: list[list[int]]) -> np.ndarray:
    """P(item | user, time) of a taste click as the module's docstring has it; shares nothing with the sampler."""
    config, catalogue, draws = world.config, world.catalogue, UserDraws(world.config)
    users, depth = np.array([user]), world.config.taste.depth
    topics = draws.topics(users, draws.interests(users, draws.epochs(config.days)))[0]
    weights = [math.exp(-config.taste.focus * k) for k in range(config.taste.interests)]
    appeal = appeal_at(world, time_s)
    subcategories, all_topics = catalogue.subcategory.tolist(), catalogue.topic.tolist()
    found = np.zeros(len(catalogue))
    for slot, weight in enumerate(weights):
        epoch = int(draws.epoch_at(users, np.array([slot]), np.array([time_s]))[0])
        topic = int(topics[epoch, slot])
        subcategory = topic // config.items.topics
        category = subcategory // config.items.subcategories
        for share, members in (
            (depth.category, [i for i, s in enumerate(subcategories) if s // config.items.subcategories == category]),
            (depth.subcategory, [i for i, s in enumerate(subcategories) if s == subcategory]),
            (depth.topic, [i for i, t in enumerate(all_topics) if t == topic]),
        ):
            total = sum(appeal[i] for i in members)
            for i in members:
                found[i] += weight / sum(weights) * share * appeal[i] / total
        for item in favourites[slot]:
            found[item] += weight / sum(weights) * depth.item / len(favourites[slot])
    return found


def assert_drawn_from(items: np.ndarray, chance: np.ndarray) -> None:
    """Pearson's chi-square, the rare items taken together."""
    counts, expected = np.bincount(items, minlength=len(chance)), chance * len(items)
    assert counts[chance == 0].sum() == 0
    rare = expected < 10
    observed = np.append(counts[~rare], counts[rare].sum())
    wanted = np.append(expected[~rare], expected[rare].sum())
    statistic = ((observed - wanted) ** 2 / np.maximum(wanted, 1e-9)).sum()
    assert chi2.sf(statistic, len(wanted) - 1) > 1e-4


def favourites_of(user: int, *overrides: str) -> list[list[int]]:
    truth = small_history(*overrides).ground_truth_users.filter(pl.col("user_id") == user)
    return truth["interest_items"].to_list()[0]


@pytest.mark.parametrize("signal", [0.0, 0.7])
def test_first_clicks_follow_the_closed_form_whatever_sessions_tell(signal):
    """Drift of the interests is switched off here, as the truth holds the first favourites only."""
    overrides = (*ONLY_TASTE, *DEPTHS, "taste.drift_days=0", "items.evergreen_share=0.5", f"signals.sessions={signal}")
    items = sessions_of(USER, START_S, SESSIONS, *overrides)[0]
    assert_drawn_from(items, closed_form(small_world(*overrides), USER, START_S, favourites_of(USER, *overrides)))


@pytest.mark.parametrize("days", [0.5, 4.5, 12.5])
def test_clicks_follow_interests_as_they_drift(days):
    overrides = (*ONLY_TASTE, "items.topics=3", "taste.depth.topic=0.6", "taste.depth.subcategory=0.4",
                 "taste.drift_days=3")  # fmt: skip
    items = sessions_of(USER, days * 86_400, SESSIONS, *overrides)[0]
    assert_drawn_from(items, closed_form(small_world(*overrides), USER, days * 86_400, [[]] * 4))


def test_the_test_sees_a_wrong_depth():
    """The closed form of another depth is refused."""
    overrides = (*ONLY_TASTE, *DEPTHS, "taste.drift_days=0")
    other = ("taste.depth.topic=0.3", "taste.depth.subcategory=0.3")
    items = sessions_of(USER, START_S, SESSIONS, *overrides, *other)[0]
    wanted = closed_form(small_world(*overrides), USER, START_S, favourites_of(USER, *overrides))
    with pytest.raises(AssertionError):
        assert_drawn_from(items, wanted)


FLAT = (*ONLY_TASTE, "items.topics=4", "items.count=6000", "items.popularity_exponent=0", "items.clickbait_share=0",
        "items.evergreen_share=1", "taste.drift_days=0", "taste.depth.subcategory=0.6", "taste.depth.topic=0.4",
        "sessions.clicks=3", "sessions.patience_sd=0")  # fmt: skip


def pairs_of_topics(user: int, subcategory: int, *overrides: str) -> np.ndarray:
    """First and second clicks' topics, shape (4, 4), of sessions whose first two clicks are of one subcategory."""
    world = small_world(*overrides)
    draws = UserDraws(world.config)
    count = 60_000
    visits = Visits(np.zeros(count, np.int64), np.full(count, 86_400.0), np.arange(count))
    clicking = ClickDraws(world.config, world.catalogue, world.shelf, draws)
    sessions = clicking.sessions(np.array([user]), visits, draws.habits(np.array([user])), world.config.days)
    clicks = clicking.draw(np.array([user]), sessions, draws.habits(np.array([user])))
    first = np.flatnonzero(np.diff(clicks.session, prepend=-1) > 0)
    first = first[sessions.length[clicks.session[first]] > 1]
    pair = np.stack([world.catalogue.topic[clicks.item[first]], world.catalogue.topic[clicks.item[first + 1]]])
    inside = (pair // 4 == subcategory).all(axis=0)
    table = np.zeros((4, 4))
    np.add.at(table, tuple(pair[:, inside] % 4), 1)
    return table


def users_of_distinct_interests(count: int, *overrides: str) -> list[tuple[int, int]]:
    """Users whose interests are all of other subcategories, and their first one."""
    truth = small_history(*overrides).ground_truth_users
    kept = truth.filter(pl.col("interests").list.n_unique() == pl.col("interests").list.len()).head(count)
    return list(zip(kept["user_id"].to_list(), kept["interests"].list.first().to_list(), strict=True))


def test_a_session_tells_nothing_beyond_the_users_taste_at_0():
    """Within an interest's subcategory, the topics of two clicks that follow each other are independent."""
    p_values = [
        chi2_contingency(pairs_of_topics(user, subcategory, *FLAT)).pvalue
        for user, subcategory in users_of_distinct_interests(8, *FLAT)
    ]
    assert min(p_values) > 1e-4
    assert np.median(p_values) > 0.05


def test_a_session_stays_in_one_topic_at_1():
    overrides = (*FLAT, "signals.sessions=1")
    for user, subcategory in users_of_distinct_interests(3, *overrides):
        table = pairs_of_topics(user, subcategory, *overrides)
        assert np.trace(table) == table.sum() > 1_000
        assert (np.diag(table) > 0).all()  # also of topics that are not the user's own


def test_in_between_the_excess_of_one_topic_is_the_chance_that_both_clicks_stay():
    """Two clicks agree surely if both stay (signal squared), else as often as two of different sessions."""
    signal, overrides = 0.6, (*FLAT, "sessions.focus=0", "taste.interests=1")
    for user in range(3):
        subcategory = int(UserDraws(small_config(*overrides)).interests(np.array([user]), 1)[0, 0, 0])
        apart = pairs_of_topics(user, subcategory, *overrides)
        chance = float(((apart.sum(axis=0) / apart.sum()) ** 2).sum())
        table = pairs_of_topics(user, subcategory, *overrides, f"signals.sessions={signal}")
        assert np.trace(table) / table.sum() == pytest.approx(signal**2 + (1 - signal**2) * chance, abs=0.015)


def test_favourites_are_few_own_items_of_the_users_topics():
    overrides = (*ONLY_TASTE, "items.topics=3", "taste.drift_days=0", "taste.depth.subcategory=0", "taste.depth.item=1",
                 "taste.favourites=2")  # fmt: skip
    world, truth = small_world(*overrides), small_history(*overrides).ground_truth_users
    topic = world.catalogue.topic
    for topics, lists in truth.select("interest_topics", "interest_items").iter_rows():
        assert all(len(items) == 2 for items in lists)
        assert all(topic[item] == of for of, items in zip(topics, lists, strict=True) for item in items)
    own = truth.select("user_id", item_id=pl.col("interest_items").list.eval(pl.element().explode()))
    clicked = log(*overrides).filter(pl.col("cause") == Cause.TASTE).select("user_id", "item_id")
    assert len(clicked.join(own.explode("item_id").unique(), on=["user_id", "item_id"])) == len(clicked)


def test_staples_are_as_deep_as_taste():
    overrides = ("items.topics=3", "choice.repeat=0.5", "choice.taste=0.1", "taste.drift_days=0",
                 "taste.depth.subcategory=0", "taste.depth.topic=1")  # fmt: skip
    repeats = log(*overrides).filter(pl.col("cause") == Cause.REPEAT)
    topics = small_history(*overrides).ground_truth_users.select("user_id", "interest_topics")
    topic = small_world(*overrides).catalogue.topic[repeats["item_id"].to_numpy()]
    own = repeats.with_columns(topic=pl.Series(topic)).join(topics, on="user_id", how="left")
    assert len(repeats) > 5_000
    assert own.select(pl.col("interest_topics").list.contains(pl.col("topic")).mean()).item() > 0.99


def test_a_topic_without_items_gives_those_of_its_subcategory():
    """With a thousand topics of a subcategory nearly all are empty."""
    overrides = (*ONLY_TASTE, "items.topics=1000", "taste.drift_days=0", "taste.depth.subcategory=0",
                 "taste.depth.topic=1", "items.new_share=0")  # fmt: skip
    clicks = log(*overrides).select("user_id", "subcategory")
    truth = small_history(*overrides).ground_truth_users.select("user_id", "interests")
    inside = clicks.join(truth, on="user_id", how="left").select(
        pl.col("interests").list.contains(pl.col("subcategory"))
    )
    assert inside.to_series().all()


def test_topics_of_items_and_users_are_even_and_independent_of_groups():
    world = small_world("items.topics=4", "items.count=8000", "users.count=4000")
    catalogue = world.catalogue
    assert (catalogue.topic // 4 == catalogue.subcategory).all()
    table = np.zeros((3, 4))
    np.add.at(table, (catalogue.group % 3, catalogue.topic % 4), 1)
    assert chi2_contingency(table).pvalue > 1e-3
    draws, users = UserDraws(world.config), np.arange(4_000)
    interests = draws.interests(users, 1)
    counts = np.bincount((draws.topics(users, interests) % 4).ravel(), minlength=4)
    assert chi2.sf(((counts - 4_000) ** 2 / 4_000).sum(), 3) > 1e-3
    assert (draws.topics(users, interests) // 4 == interests).all()


def test_shares_of_depth_must_sum_to_1():
    with pytest.raises(
        MicrecError, match=r"taste\.depth: category, subcategory, topic and item must sum to 1, got 1\.5"
    ):
        small_config("taste.depth.topic=0.5")
