"""Tiny platforms whose logs are worked out by hand."""

import numpy as np
import polars as pl

from tests.simulator.platform.fakes import START_S, ScriptedUsers, constant, run, table, tiny_keys


def test_three_requests_through_two_channels(tmp_path):
    """Channels take 10 and 30 ms side by side, ranking 20 ms after the slower one: a slate comes after 50 ms.

    Candidates are 0 ... 24, ranked by id; nothing comes twice in a visit. On the first day there is nothing to learn
    ranking from, so the first slates keep the order of merging.
    """
    users = ScriptedUsers([(7, 100.0), (3, 101.0)], n_requests=2, busy_s=10.0)
    run(tmp_path, users, tiny_keys(), days=2)
    requests = table(tmp_path, "requests", 1)
    assert requests["user_id"].to_list() == [7, 3, 7, 3]
    np.testing.assert_allclose(requests["asked_s"], 86_400 + np.array([100.0, 101.0, 110.05, 111.05]))
    np.testing.assert_allclose(requests["answered_s"] - requests["asked_s"], 0.05)
    assert requests["result"].to_list() == ["slate"] * 4
    assert requests["ranked"].all()
    slates = [items for _, _, _, items in sorted(users.seen)]
    assert slates == [
        [0, 1, 2],
        [24, 23, 22],
        [3, 4, 5],
        [21, 20, 19],
        [0, 1, 2],
        [24, 23, 22],
        [3, 4, 5],
        [21, 20, 19],
    ]


def test_columns_of_impressions_and_behaviours(tmp_path):
    run(tmp_path, ScriptedUsers([(7, 100.0)], n_requests=1), tiny_keys(), days=2)
    impressions = table(tmp_path, "impressions", 1)
    assert impressions.select("item_id", "position", "channel", "score", "clicked").rows() == [
        (24, 0, "b", 24.0, True),
        (23, 1, "b", 23.0, False),
        (22, 2, "b", 22.0, False),
    ]
    assert impressions["timestamp"].unique().to_list() == [START_S + 86_400 + 100]
    assert impressions["propensity"].to_list() == [1.0, 1.0, 1.0]
    behaviours = table(tmp_path, "behaviours", 1)
    assert behaviours.select("item_id", "dwell_s", "like", "follow").rows() == [(24, 2.0, True, False)]
    assert table(tmp_path, "ground_truth", 1)["cause"].to_list() == ["taste", None, None]
    serving = table(tmp_path, "serving", 1).select("stage", "wait_ms", "service_ms", "outcome", "offered")
    assert serving.rows() == [
        ("a", 0.0, 10.0, "answered", 10),
        ("b", 0.0, 30.0, "answered", 20),
        ("ranking", 0.0, 20.0, "answered", 25),
    ]


def test_one_server_makes_the_second_wait(tmp_path):
    keys = tiny_keys(pipeline={"channels": {"b": {"servers": 1}}})
    run(tmp_path, ScriptedUsers([(1, 100.0), (2, 100.01)], n_requests=1), keys, days=2)
    requests = table(tmp_path, "requests", 1)
    np.testing.assert_allclose(requests["answered_s"] - requests["asked_s"], [0.05, 0.07], atol=1e-9)
    waits = table(tmp_path, "serving", 1).filter(pl.col("stage") == "b")["wait_ms"]
    np.testing.assert_allclose(waits, [0.0, 20.0], atol=1e-3)


def test_a_channel_that_always_times_out_is_gone_without(tmp_path):
    """Its deadline of 15 ms passes, ranking takes 20: a slate after 35 ms, from the other channel alone."""
    keys = tiny_keys(pipeline={"channels": {"b": {"deadline_ms": 15.0}}})
    run(tmp_path, ScriptedUsers([(1, 100.0)], n_requests=1), keys, days=2)
    requests = table(tmp_path, "requests", 1)
    assert requests["fallback"].to_list() == ["partial"]
    np.testing.assert_allclose(requests["answered_s"] - requests["asked_s"], 0.035, atol=1e-9)
    assert table(tmp_path, "impressions", 1)["channel"].unique().to_list() == ["a"]
    assert table(tmp_path, "serving", 1)["outcome"].to_list() == ["answered", "late", "answered"]


def test_late_ranking_leaves_the_order_of_merging(tmp_path):
    run(
        tmp_path,
        ScriptedUsers([(1, 100.0)], n_requests=1),
        tiny_keys(pipeline={"ranking": {"deadline_ms": 5.0}}),
        days=2,
    )
    assert table(tmp_path, "requests", 1)["ranked"].to_list() == [False]
    assert table(tmp_path, "impressions", 1)["item_id"].to_list() == [0, 1, 2]


def test_an_outage_of_all_channels_brings_the_popular_list(tmp_path):
    """On the first day item 0 was clicked, in either slate, as slates may repeat: it makes up the fallback list."""
    down = [{"from_day": 1.0, "to_day": 2.0, "down": True}]
    keys = tiny_keys(pipeline={"channels": {"a": {"faults": down}, "b": {"faults": down}}, "repeats": True})
    run(tmp_path, ScriptedUsers([(1, 100.0)], n_requests=2), keys, days=3)
    requests = table(tmp_path, "requests", 1)
    assert requests["fallback"].to_list() == ["popular", "popular"]
    assert table(tmp_path, "impressions", 1).select("item_id", "channel").rows() == [(0, "fallback"), (0, "fallback")]
    assert table(tmp_path, "requests", 2)["fallback"].to_list() == ["none", "none"]


def test_the_popular_list_leaves_out_what_a_user_has_clicked_lately(tmp_path):
    """As every channel does. User 1 has clicked items 0 and 3, which make it up, before all is down; user 2 nothing."""
    down = [{"from_day": 0.001, "to_day": 2.0, "down": True}]
    keys = tiny_keys(pipeline={"channels": {"a": {"faults": down}, "b": {"faults": down}}})
    run(tmp_path, ScriptedUsers([(1, 10.0), (2, 200.0)], n_requests=2), keys, days=2)
    requests = table(tmp_path, "requests", 1).sort("user_id", "asked_s")
    assert requests.select("user_id", "result", "fallback").rows() == [
        (1, "empty", "partial"),
        (2, "slate", "popular"),
        (2, "empty", "partial"),  # both have been shown: nothing eligible is left
    ]
    shown = table(tmp_path, "impressions", 1).select("user_id", "item_id", "channel").rows()
    assert shown == [(2, 3, "fallback"), (2, 0, "fallback")]


def test_no_eligible_item_is_an_empty_slate(tmp_path):
    nothing = {"options": {"items": []}}
    keys = tiny_keys(pipeline={"channels": {"a": nothing, "b": nothing}})
    run(tmp_path, ScriptedUsers([(1, 100.0)]), keys)
    assert table(tmp_path, "requests").select("result", "candidates", "shown").rows() == [("empty", 0, 0)]
    assert table(tmp_path, "impressions").is_empty()


def test_who_waits_too_long_gives_up(tmp_path):
    users = ScriptedUsers([(1, 100.0)], patience_s=0.04)
    run(tmp_path, users, tiny_keys(pipeline={"ranking": constant(20)}), days=2)
    assert table(tmp_path, "requests", 1)["result"].to_list() == ["abandoned"]
    assert table(tmp_path, "impressions", 1).is_empty()


def test_a_visit_waits_for_the_end_of_the_users_former_one(tmp_path):
    """The first visit's two requests end at 100 + 2 * (0.05 + 10) s; the second would begin at 105 s."""
    run(tmp_path, ScriptedUsers([(1, 100.0), (1, 105.0)], n_requests=2), tiny_keys(), days=2)
    asked_s = table(tmp_path, "requests", 1)["asked_s"] - 86_400
    np.testing.assert_allclose(asked_s, [100.0, 110.05, 120.1, 130.15])


def test_a_slate_of_one_category_after_another(tmp_path):
    """Items 0, 4, 8 ... share a category: with one of each, 24 is followed by others as long as there are any."""
    items = {"options": {"items": [24, 20, 16, 12, 7, 3]}}
    keys = tiny_keys(
        pipeline={
            "channels": {"a": items, "b": items},
            "diversity": {"field": "category", "at_most": 1},
            "slate_size": 4,
        }
    )
    run(tmp_path, ScriptedUsers([(1, 100.0)], n_requests=1), keys, days=2)
    assert table(tmp_path, "impressions", 1)["item_id"].to_list() == [24, 7, 20, 16]
