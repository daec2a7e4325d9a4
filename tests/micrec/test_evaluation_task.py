"""What is asked of a model: histories, targets, candidates, who is left out."""

import numpy as np
import polars as pl
import pytest

from micrec.config import EvalConfig
from micrec.data.dataset import Clicks, Dataset, EntityTable
from micrec.data.schema import DatasetSchema
from micrec.data.split import Split
from micrec.errors import MicrecError
from micrec.evaluation import evaluation_task
from micrec.evaluation.task import expand_ranges

# (user, item) in time order; user 3 and item 4 appear only after the split, item 5 never
LOG = [(0, 0), (1, 1), (0, 2), (2, 1), (0, 2), (1, 0), (0, 1), (0, 1), (1, 4), (3, 0), (0, 0), (1, 1)]
SPLIT = Split(n_train=4, n_fit=6, n=12)


def dataset(log: list[tuple[int, int]], n_users: int = 4, n_items: int = 6) -> Dataset:
    users, items = np.array(log, dtype=np.int32).reshape(-1, 2).T
    return Dataset(
        schema=DatasetSchema(name="tiny"),
        users=EntityTable(pl.Series(range(n_users)), {}, pl.DataFrame()),
        items=EntityTable(pl.Series(range(n_items)), {}, pl.DataFrame()),
        clicks=Clicks(users, items, np.arange(len(log), dtype=np.int64) * 1000),
    )


def test_frozen_queries_are_users_with_distinct_targets_and_counts():
    task = evaluation_task(dataset(LOG), SPLIT, EvalConfig(), "test")

    assert task.user_ids.tolist() == [0, 1]
    assert task.target_offsets.tolist() == [0, 2, 4]
    assert task.target_items.tolist() == [0, 1, 1, 4]
    assert task.target_counts.tolist() == [1, 2, 1, 1]
    assert task.target_repeats.tolist() == [True, False, True, False]
    assert task.target_queries.tolist() == [0, 0, 1, 1]
    histories = [task.histories.items[b:e].tolist() for b, e in zip(task.begin, task.end, strict=True)]
    assert histories == [[0, 2, 2], [1, 0]]


def test_train_part_of_the_test_includes_the_validation_clicks():
    test = evaluation_task(dataset(LOG), SPLIT, EvalConfig(), "test")
    valid = evaluation_task(dataset(LOG), SPLIT, EvalConfig(), "valid")

    assert test.train_clicks.tolist() == [2, 2, 2, 0, 0, 0]
    assert valid.train_clicks.tolist() == [1, 2, 1, 0, 0, 0]
    assert valid.user_ids.tolist() == [0, 1]
    assert valid.target_items.tolist() == [2, 0]
    assert test.user_train_clicks.tolist() == [3, 2]


def test_rolling_queries_are_clicks_and_each_history_ends_just_before():
    task = evaluation_task(dataset(LOG), SPLIT, EvalConfig(history="rolling"), "test")

    assert task.user_ids.tolist() == [0, 0, 0, 1, 1]
    assert task.target_items.tolist() == [1, 1, 0, 4, 1]
    assert task.target_counts.tolist() == [1] * 5
    histories = [task.histories.items[b:e].tolist() for b, e in zip(task.begin, task.end, strict=True)]
    assert histories == [[0, 2, 2], [0, 2, 2, 1], [0, 2, 2, 1, 1], [1, 0], [1, 0, 4]]


def test_rolling_validation_sees_nothing_of_the_test():
    task = evaluation_task(dataset(LOG), SPLIT, EvalConfig(history="rolling"), "valid")

    assert task.histories.rows.max() < SPLIT.n_fit
    assert task.target_items.tolist() == [2, 0]


def test_unknown_targets_and_skipped_users_are_counted():
    task = evaluation_task(dataset(LOG), SPLIT, EvalConfig(), "test")

    assert task.candidates.tolist() == [True, True, True, False, False, False]
    assert (task.unknown_targets, task.skipped_users, task.skipped_lines) == (1, 1, 1)


def test_all_users_and_all_items_on_request():
    task = evaluation_task(dataset(LOG), SPLIT, EvalConfig(users="all", candidates="all"), "test")

    assert task.user_ids.tolist() == [0, 1, 3]
    assert task.user_train_clicks.tolist() == [3, 2, 0]
    assert task.end[2] == task.begin[2]  # no history
    assert task.candidates.all()
    assert (task.unknown_targets, task.skipped_users) == (0, 0)


@pytest.mark.parametrize("history", ["frozen", "rolling"])
def test_seen_items_are_those_of_the_train_part(history):
    task = evaluation_task(dataset(LOG), SPLIT, EvalConfig(seen="filter", history=history), "test")

    assert task.seen is not None
    seen = [task.seen.items[task.seen.offsets[u] : task.seen.offsets[u + 1]].tolist() for u in range(4)]
    assert seen == [[0, 2, 2], [1, 0], [1], []]
    assert evaluation_task(dataset(LOG), SPLIT, EvalConfig(), "test").seen is None


def test_queries_with_more_targets_come_first():
    log = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    task = evaluation_task(dataset(log), Split(3, 3, 9), EvalConfig(), "test")

    assert task.user_ids.tolist() == [2, 1, 0]
    assert task.target_items.tolist() == [1, 2, 3, 1, 2, 1]


def test_no_known_user_is_an_error_that_names_the_cure():
    with pytest.raises(MicrecError, match=r"none of the 1 clicks of the test part .* set evaluation\.users to all"):
        evaluation_task(dataset([(0, 0), (1, 0)]), Split(1, 1, 2), EvalConfig(), "test")


def test_an_empty_validation_part_is_an_error_that_names_the_cure():
    with pytest.raises(MicrecError, match=r"set split\.valid_fraction above 0"):
        evaluation_task(dataset(LOG), Split(6, 6, 12), EvalConfig(), "valid")


def test_expand_ranges_skips_empty_ones():
    rows, members = expand_ranges(np.array([2, 9, 7]), np.array([5, 9, 8]))

    assert rows.tolist() == [0, 0, 0, 2]
    assert members.tolist() == [2, 3, 4, 7]
