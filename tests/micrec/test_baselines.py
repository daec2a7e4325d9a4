"""The baselines: popularity and item-kNN, against hand-worked cases and loops."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.baselines import BASELINES, BaselineModel
from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import affordable, left_out
from micrec.baselines.item_knn import ItemKNN
from micrec.baselines.popularity import popularity_scores
from micrec.config import Config, EvalConfig
from micrec.data.dataset import Clicks, Dataset, EntityTable
from micrec.data.schema import DatasetSchema
from micrec.data.split import Split
from micrec.evaluation import EvalTask, evaluate, evaluation_task


def clicks_of(users: list[int], items: list[int]) -> Clicks:
    time_ms = np.arange(len(items), dtype=np.int64)
    return Clicks(np.array(users, dtype=np.int32), np.array(items, dtype=np.int32), time_ms)


def make_task(train: list[tuple[int, int]], test: list[tuple[int, int]], n_items: int, config: EvalConfig) -> EvalTask:
    users, items = zip(*(train + test), strict=True)
    dataset = Dataset(
        schema=DatasetSchema(name="tiny"),
        users=EntityTable(pl.Series(range(max(users) + 1)), {}, pl.DataFrame()),
        items=EntityTable(pl.Series(range(n_items)), {}, pl.DataFrame()),
        clicks=clicks_of(list(users), list(items)),
    )
    return evaluation_task(dataset, Split(len(train), len(train), len(users)), config, "test")


def inputs_of(task: EvalTask, clicks: Clicks, **split: float) -> BaselineInputs:
    """What a baseline is given on a task whose train clicks are these."""
    table = EntityTable(pl.Series(range(len(task.candidates))), {}, pl.DataFrame())
    users = EntityTable(pl.Series(range(int(clicks.user_ids.max()) + 1)), {}, pl.DataFrame())
    dataset = Dataset(DatasetSchema(name="tiny"), users, table, clicks)
    return BaselineInputs(task, dataset, Config.model_validate({"split": split}))


TRAIN = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 1)]


def test_popularity_ranks_by_train_clicks():
    """Item 1 has three clicks, 0 and 2 one each: ranks 1, 2.5 and 2.5."""
    config = EvalConfig(cutoffs=(1, 2, 3))
    task = make_task(TRAIN, [(0, 1), (1, 2), (2, 2), (2, 3)], 4, config)

    result = evaluate(popularity_scores(task), task, config)

    assert [result.metrics[f"hit@{n}"] for n in (1, 2, 3)] == [1 / 4, 1 / 4, 3 / 4]
    assert result.metrics["hit@2_optimistic"] == 3 / 4
    assert [result.metrics[f"coverage@{n}"] for n in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_popularity_tells_counts_apart_that_float32_cannot():
    task = make_task(TRAIN, [(0, 1)], 3, EvalConfig())
    task = replace(task, train_clicks=np.array([2**24, 2**24 + 1, 2**24]))
    scores = popularity_scores(task)(0, 1)[0].tolist()
    assert scores[1] > scores[0] == scores[2]


def test_similarity_is_the_cosine_of_basket_incidence():
    """Baskets {0, 1}, {0, 1, 2}, {2}: repeats within one count once; 0 and 1 always go together."""
    knn = ItemKNN.fit(clicks_of([0] * 7, [0, 1, 1, 0, 1, 2, 2]), np.array([7, 7, 7, 3, 3, 3, 9]), 4)

    half = 1 / 2  # together once, in two baskets each
    expected = [[0, 1, half, 0], [1, 0, half, 0], [half, half, 0, 0], [0, 0, 0, 0]]
    assert knn.similarity.toarray() == pytest.approx(np.array(expected))
    alike = ItemKNN.fit(
        clicks_of([0] * 7, [0, 1, 1, 0, 1, 2, 2]), np.array([7, 7, 7, 3, 3, 3, 9]), 4, self_similarity=True
    )
    assert alike.similarity.diagonal() == pytest.approx([1, 1, 1, 0])


def test_only_the_latest_clicks_are_the_profile_and_repeats_count():
    """User 0 clicked 3, 0, 0 in that order; items 0 and 1 share a basket, as do 2 and 3."""
    train = [(0, 3), (0, 0), (0, 0), (1, 0), (1, 1), (2, 2), (2, 3)]
    knn = ItemKNN.fit(clicks_of([1, 1, 2, 2], [0, 1, 2, 3]), np.array([0, 0, 1, 1]), 4)
    task = make_task(train, [(0, 1)], 4, EvalConfig())

    assert knn.scores(task, history_length=2)(0, 1).tolist() == [[0, 2, 0, 0]]
    assert knn.scores(task)(0, 1).tolist() == [[0, 2, 1, 0]]
    assert knn.scores(task, history_length=None)(0, 1).tolist() == [[0, 2, 1, 0]]


def test_rolling_profiles_grow_click_by_click():
    train = [(0, 0), (1, 0), (1, 1), (2, 2), (2, 3)]
    knn = ItemKNN.fit(clicks_of([1, 1, 2, 2], [0, 1, 2, 3]), np.array([0, 0, 1, 1]), 4)
    task = make_task(train, [(0, 2), (0, 0)], 4, EvalConfig(history="rolling"))
    assert knn.scores(task)(0, 2).tolist() == [[0, 1, 0, 0], [0, 1, 0, 1]]
    assert knn.scores(task, history_length=1)(0, 2).tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]


def test_users_without_history_get_zeros():
    knn = ItemKNN.fit(clicks_of([0, 0], [0, 1]), np.array([0, 0]), 2)
    task = make_task([(0, 0)], [(1, 1)], 2, EvalConfig(users="all", candidates="all"))
    assert knn.scores(task)(0, 1).tolist() == [[0, 0]]


def test_one_basket_per_click_is_required():
    with pytest.raises(ValueError, match="1 basket numbers for 2 clicks"):
        ItemKNN.fit(clicks_of([0, 0], [0, 1]), np.array([0]), 2)


def reference_similarity(baskets: list[int], items: list[int], neighbours: int | None) -> dict[tuple[int, int], float]:
    held: dict[int, set[int]] = {}
    for basket, item in zip(baskets, items, strict=True):
        held.setdefault(basket, set()).add(item)
    single = Counter(item for content in held.values() for item in content)
    both = Counter((i, j) for content in held.values() for i in content for j in content if i != j)
    cosine = {(i, j): count / math.sqrt(single[i] * single[j]) for (i, j), count in both.items()}
    if neighbours is None:
        return cosine
    kept = {}
    for item in single:
        of_item = sorted((-np.float32(value), j) for (i, j), value in cosine.items() if i == item)
        kept |= {(item, j): -float(value) for value, j in of_item[:neighbours]}
    return kept


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), min_size=1, max_size=40),
    st.none() | st.integers(1, 4),
    st.sampled_from([1, 3, 4096]),
)
@settings(max_examples=150, deadline=None)
def test_similarity_equals_loops_over_baskets(pairs, neighbours, block_items):
    baskets, items = map(list, zip(*pairs, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("micrec.baselines.item_knn._BLOCK_ITEMS", block_items)
        knn = ItemKNN.fit(clicks_of([0] * len(items), items), np.array(baskets), 8, neighbours=neighbours)

    expected = np.zeros((8, 8))
    for (i, j), value in reference_similarity(baskets, items, neighbours).items():
        expected[i, j] = value
    assert knn.similarity.shape == (8, 8)
    assert knn.similarity.toarray() == pytest.approx(expected)


class TestWhatABaselineIsGiven:
    def test_no_click_of_the_period_or_later(self):
        """Ten clicks, of which the last four are the test: a baseline sees the first six, and the item table."""
        table = EntityTable(pl.Series(["a", "b"]), {}, pl.DataFrame({"item_id": ["a", "b"], "name": ["mug", "tea"]}))
        clicks = clicks_of([0] * 10, [0, 1] * 5)
        users = EntityTable(pl.Series([0]), {}, pl.DataFrame())
        dataset = Dataset(DatasetSchema(name="tiny"), users, table, clicks)
        task = evaluation_task(dataset, Split(6, 6, 10), EvalConfig(), "test")
        inputs = BaselineInputs.of(task, dataset, Config())
        assert inputs.train.time_ms.tolist() == [0, 1, 2, 3, 4, 5]
        assert inputs.dataset.items.frame["name"].to_list() == ["mug", "tea"]

    def test_it_is_left_out_with_a_reason(self):
        def missing(dataset: Dataset) -> str | None:
            return None if dataset.schema.roles.title else "it has no titles"

        clicks = clicks_of([0, 0, 0], [0, 2, 5])
        inputs = inputs_of(make_task([(0, 0), (0, 2)], [(0, 5)], 6, EvalConfig()), clicks)
        for name, model in {
            "titled": BaselineModel("titled", popularity_scores, missing=missing),
            "small": BaselineModel("small", popularity_scores, most_items=2),
            "fits": BaselineModel("fits", popularity_scores, most_items=3),
        }.items():
            BASELINES.register(name, model)
        try:
            asked = ["fits", "small", "titled", "popularity"]
            assert affordable(asked, inputs.dataset) == ["fits", "popularity"]
            assert left_out(asked, inputs.dataset) == {
                "small": "3 items with clicks are more than its 2",
                "titled": "it has no titles",
            }
        finally:
            for name in ("titled", "small", "fits"):
                BASELINES.remove(name)
