"""What is judged and what can be hit: by hand on small logs, and against every list that there is."""

import itertools
from collections import Counter

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.config import Config, EvalConfig
from micrec.data.dataset import Clicks, Dataset, EntityTable
from micrec.data.schema import DatasetSchema
from micrec.data.split import Split
from micrec.evaluation import EvalTask, embedding_scores, evaluate, evaluation_task, reach
from micrec.experiment import run_baseline, run_model
from tests.micrec.serving import SMALL, small_dataset

Pair = tuple[int, int]


def make_task(train: list[Pair], test: list[Pair], n_items: int, **keys: object) -> EvalTask:
    users, items = np.array(train + test, dtype=np.int32).T
    n_users = int(users.max()) + 1
    dataset = Dataset(
        schema=DatasetSchema(name="tiny"),
        users=EntityTable(pl.Series(range(n_users)), {}, pl.DataFrame()),
        items=EntityTable(pl.Series(range(n_items)), {}, pl.DataFrame()),
        clicks=Clicks(users, items, np.arange(len(users), dtype=np.int64)),
    )
    split = Split(len(train), len(train), len(users))
    return evaluation_task(dataset, split, EvalConfig.model_validate(keys), "test")


# Items 0 .. 3 are known before the test, items 4 and 5 are not; user 2 is not either.
TRAIN = [(0, 0), (0, 1), (1, 2), (1, 3)]
TEST = [(0, 2), (0, 2), (0, 2), (0, 3), (0, 0), (0, 4), (1, 2), (1, 5), (2, 0), (2, 5)]


class TestByHand:
    def test_clicks_of_users_without_a_history_are_not_judged(self):
        found = reach(make_task(TRAIN, TEST, 6), [1])
        assert (found.lines, found.judged, found.skipped, found.skipped_users, found.judged_users) == (10, 8, 2, 1, 2)
        assert found.shares()["judged_share"] == 8 / 10

    def test_items_without_a_click_before_cannot_be_hit(self):
        """Of the 8 judged lines items 4 and 5 have one each; two lines are repeats."""
        found = reach(make_task(TRAIN, TEST, 6), [1])
        assert (found.unknown, found.removed, found.hittable, found.repeats) == (2, 0, 6, 2)
        assert found.shares()["hittable_share"] == 6 / 8
        assert found.shares()["repeat_share"] == 2 / 8

    def test_a_list_of_one_holds_the_item_with_most_lines(self):
        """User 0 has item 2 three times, 3 and 0 once; user 1 has item 2 once: 3 + 1, 4 + 1, 5 + 1 of 8 lines."""
        found = reach(make_task(TRAIN, TEST, 6), [1, 2, 3, 100])
        assert found.ceiling == {1: 4 / 8, 2: 5 / 8, 3: 6 / 8, 100: 6 / 8}

    def test_seen_items_that_are_filtered_cannot_be_hit(self):
        """User 0's repeat of item 0 and user 1's of item 2 go."""
        found = reach(make_task(TRAIN, TEST, 6, seen="filter"), [1, 2, 3])
        assert (found.unknown, found.removed, found.hittable) == (2, 2, 4)
        assert found.ceiling == {1: 3 / 8, 2: 4 / 8, 3: 4 / 8}

    def test_all_users_and_all_candidates_leave_nothing_out(self):
        found = reach(make_task(TRAIN, TEST, 6, users="all", candidates="all"), [1, 9])
        assert (found.skipped, found.unknown, found.hittable, found.candidates) == (0, 0, 10, 6)
        assert found.ceiling == {1: (3 + 1 + 1) / 10, 9: 1.0}

    def test_every_click_has_a_list_of_its_own_where_histories_roll(self):
        found = reach(make_task(TRAIN, TEST, 6, history="rolling"), [1, 5])
        assert found.ceiling == {1: 6 / 8, 5: 6 / 8}

    def test_random_lists_hit_as_often_as_their_share_of_the_candidates(self):
        """Four candidates; with the filter two are left to each user."""
        found = reach(make_task(TRAIN, TEST, 6), [1, 2, 4, 9])
        assert found.chance == pytest.approx({1: 6 / 8 / 4, 2: 6 / 8 / 2, 4: 6 / 8, 9: 6 / 8})
        found = reach(make_task(TRAIN, TEST, 6, seen="filter"), [1, 2])
        assert found.chance == pytest.approx({1: 4 / 8 / 2, 2: 4 / 8})

    def test_nothing_can_be_hit_where_all_is_new(self):
        found = reach(make_task([(0, 0)], [(0, 1), (0, 2)], 3), [1])
        assert (found.hittable, found.ceiling, found.chance) == (0, {1: 0.0}, {1: 0.0})

    def test_counts_and_shares_stand_in_the_results(self):
        stored = reach(make_task(TRAIN, TEST, 6, seen="filter"), [1]).as_dict()
        assert stored["lines"] == 10
        assert stored["removed"] == 2
        assert stored["hit_ceiling@1"] == 3 / 8


@st.composite
def logs(draw):
    n_users, n_items = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    pairs = st.tuples(st.integers(0, n_users - 1), st.integers(0, n_items - 1))
    train, test = draw(st.lists(pairs, min_size=1, max_size=12)), draw(st.lists(pairs, max_size=15))
    test.append((train[0][0], draw(st.integers(0, n_items - 1))))
    keys = {
        "history": draw(st.sampled_from(["frozen", "rolling"])),
        "users": draw(st.sampled_from(["known", "all"])),
        "candidates": draw(st.sampled_from(["train", "all"])),
        "seen": draw(st.sampled_from(["keep", "filter"])),
    }
    return train, test, n_items, keys


def lists_of(train: list[Pair], n_items: int, user: int, n: int, keys: dict) -> list[tuple[int, ...]]:
    """Every list of n items that this user may get, without regard to order."""
    allowed = set(range(n_items)) if keys["candidates"] == "all" else {item for _, item in train}
    if keys["seen"] == "filter":
        allowed -= {item for other, item in train if other == user}
    return list(itertools.combinations(sorted(allowed), min(n, len(allowed))))


@given(logs())
@settings(max_examples=150, deadline=None)
def test_ceiling_and_chance_are_the_best_and_the_mean_over_all_lists(world):
    train, test, n_items, keys = world
    judged = [pair for pair in test if keys["users"] == "all" or any(pair[0] == user for user, _ in train)]
    grouped: dict[object, Counter] = {}
    for place, (user, item) in enumerate(judged):
        grouped.setdefault((user, place if keys["history"] == "rolling" else None), Counter())[item] += 1

    found = reach(make_task(train, test, n_items, **keys), [1, 2, 4])

    for n in (1, 2, 4):
        best = mean = 0.0
        for (user, _), wanted in grouped.items():
            hits = [sum(wanted[item] for item in shown) for shown in lists_of(train, n_items, user, n, keys)]
            best, mean = best + max(hits), mean + np.mean(hits)
        assert found.ceiling[n] == pytest.approx(best / len(judged))
        assert found.chance[n] == pytest.approx(mean / len(judged))
    assert (found.lines, found.judged) == (len(test), len(judged))


@given(logs(), st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_no_model_without_ties_is_above_the_ceiling_and_one_that_knows_reaches_it(world, seed):
    train, test, n_items, keys = world
    task, config = make_task(train, test, n_items, **keys), EvalConfig.model_validate({**keys, "cutoffs": (1, 2, 4)})
    scores = np.random.default_rng(seed).permuted(np.tile(np.arange(n_items), (len(task), 1)), axis=1)
    found = evaluate(lambda start, stop: torch.from_numpy(scores[start:stop]).float(), task, config)
    knows = np.tile(-np.arange(n_items) / 100, (len(task), 1))
    np.add.at(knows, (task.target_queries, task.target_items), task.target_counts)
    best = evaluate(lambda start, stop: torch.from_numpy(knows[start:stop]).float(), task, config)
    for n in config.cutoffs:
        assert found.metrics[f"hit@{n}"] <= found.reach.ceiling[n] + 1e-12
        assert best.metrics[f"hit@{n}"] == pytest.approx(best.reach.ceiling[n])


@pytest.mark.parametrize("seen", ["keep", "filter"])
@pytest.mark.parametrize("history", ["frozen", "rolling"])
@pytest.mark.parametrize("mask_bytes", [0, 1 << 26])
def test_places_of_items_clicked_before_are_counted(seen, history, mask_bytes, monkeypatch):
    """Against loops over the lists of a full sort; items that are filtered are in no list."""
    monkeypatch.setattr("micrec.evaluation.coverage._MASK_BYTES", mask_bytes)
    rng = np.random.default_rng(5)
    train = [(int(user), int(item)) for user, item in zip(rng.integers(0, 8, 90), rng.integers(0, 40, 90), strict=True)]
    test = [(int(user), int(item)) for user, item in zip(rng.integers(0, 8, 40), rng.integers(0, 40, 40), strict=True)]
    task = make_task(train, test, 45, seen=seen, history=history)
    user_emb, item_emb = torch.from_numpy(rng.normal(size=(len(task), 4))), torch.from_numpy(rng.normal(size=(45, 4)))
    config = EvalConfig.model_validate({"cutoffs": (3, 20), "seen": seen, "history": history})
    metrics = evaluate(embedding_scores(user_emb, item_emb), task, config).metrics

    scores, known = (user_emb @ item_emb.T).tolist(), {item for _, item in train}
    for n in (3, 20):
        held = total = 0
        for query, user in enumerate(task.user_ids.tolist()):
            before = {item for who, item in train if who == user}
            hidden = before if seen == "filter" else set()
            shown = sorted(known - hidden, key=lambda item, row=scores[query]: -row[item])[:n]
            held, total = held + len(before.intersection(shown)), total + len(shown)
        assert metrics[f"seen_places@{n}"] == pytest.approx(held / total)
    assert (metrics["seen_places@3"] == 0) == (seen == "filter")


def test_every_result_holds_the_shares_and_all_models_have_the_same(tmp_path):
    """As a cell of a table stores them: of a trained model and of the baselines."""
    dataset = small_dataset(tmp_path / "data")
    config = Config.model_validate({**SMALL, "evaluation": {"cutoffs": [3, 20]}})
    results = [
        run_model(dataset, config),
        *(run_baseline(name, dataset, config) for name in ("popularity", "item_knn")),
    ]
    names = ["judged_share", "hittable_share", "repeat_share", "hit_ceiling@3", "hit_ceiling@20", "hit_chance@20"]
    (shares,) = {tuple(result.metrics[name] for name in names) for result in results}
    # by a walk through the log
    pairs = list(zip(dataset.clicks.user_ids.tolist(), dataset.clicks.item_ids.tolist(), strict=True))
    train, test = pairs[:150], pairs[150:]
    users, items = {user for user, _ in train}, {item for _, item in train}
    judged = [pair for pair in test if pair[0] in users]
    assert shares[0] == len(judged) / len(test)
    assert shares[1] == pytest.approx(sum(item in items for _, item in judged) / len(judged))
    assert shares[2] == pytest.approx(sum(pair in train for pair in judged) / len(judged))
    assert 0 < shares[3] < shares[4] <= shares[1]
    assert shares[5] == pytest.approx(shares[1] * 20 / len(items))
