"""Which pairs are drawn: every one must be a true pair of its kind, and none may be missed in a small world."""

import numpy as np
import pytest

from micrec.config import EvalConfig, SessionsConfig
from micrec.data.dataset import Clicks
from micrec.data.split import Split
from micrec.evaluation import evaluation_task
from micrec.evaluation import pairs as module
from micrec.evaluation.link_recall import Links
from micrec.evaluation.pairs import (
    category_pairs,
    click_pairs,
    even_sample,
    link_pairs,
    positive_pairs,
    session_pairs,
    title_pairs,
)
from tests.micrec.factories import random_dataset


def drawn(pairs) -> set[tuple[int, int]]:
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def many(draw) -> set[tuple[int, int]]:
    """What a draw gives over many generators."""
    return set().union(*(drawn(draw(np.random.default_rng(seed))) for seed in range(60)))


def test_session_pairs_are_all_pairs_of_a_session():
    users = np.array([0, 0, 1, 0, 1, 0, 0], dtype=np.int32)
    items = np.array([4, 5, 4, 6, 4, 7, 5], dtype=np.int32)
    minutes = np.array([0, 10, 15, 50, 20, 80, 90])  # of user 0: sessions 4 5 6 and 7 5; user 1 clicks 4 twice
    clicks = Clicks(users, items, minutes * 60_000)
    first = {(4, 5), (4, 6), (5, 6), (5, 7)}
    assert many(lambda rng: session_pairs(clicks, SessionsConfig(), rng)) == first | {(b, a) for a, b in first}
    assert len(session_pairs(clicks[:1], SessionsConfig(), np.random.default_rng(0)).first) == 0


def test_session_partners_are_drawn_evenly():
    """Of the three others of a session each is as likely."""
    clicks = Clicks(np.zeros(4, dtype=np.int32), np.arange(4, dtype=np.int32), np.zeros(4, dtype=np.int64))
    counts = np.zeros((4, 4))
    for seed in range(900):
        pairs = session_pairs(clicks, SessionsConfig(), np.random.default_rng(seed))
        np.add.at(counts, (pairs.first, pairs.second), 1)
    assert counts.diagonal().sum() == 0
    assert counts[~np.eye(4, dtype=bool)] == pytest.approx(300, abs=60)  # sd 14


def test_category_pairs_are_all_pairs_of_a_category():
    codes = np.array([1, 2, 1, 0, 0, 1, 3, 2], dtype=np.int32)  # 0 = unknown
    items = np.array([0, 1, 2, 3, 4, 6, 7])  # 5 is not known
    found = many(lambda rng: category_pairs(codes, items, rng))
    assert found == {(0, 2), (2, 0), (1, 7), (7, 1)}
    assert len(category_pairs(codes, np.array([0, 6]), np.random.default_rng(0)).first) == 0


def test_link_pairs_go_from_source_to_target():
    group = np.array([0, 0, 1, 2, 2, 3])
    links = Links(group=group, pairs=np.array([[2, 1], [0, 2], [0, 1], [1, 3]]), category=None)
    known = np.arange(5)  # item 5, the only one of group 3, is not known
    found = many(lambda rng: link_pairs(links, known, rng))
    assert found == {(0, 3), (0, 4), (1, 3), (1, 4), (0, 2), (1, 2), (3, 2), (4, 2)}
    empty = Links(group=group, pairs=np.empty((0, 2), dtype=np.int64), category=None)
    assert len(link_pairs(empty, known, np.random.default_rng(0)).first) == 0


def test_title_pairs_are_near_titles():
    titles = ["red mug", "lamp", "red mug big", None, "lamp desk", "red mug"]
    found = drawn(title_pairs(titles, np.array([0, 1, 2, 3, 4]), np.random.default_rng(0)))
    assert found == {(0, 2), (2, 0), (1, 4), (4, 1)}


def test_click_pairs_follow_the_lines(tmp_path, monkeypatch):
    data = random_dataset(tmp_path, np.random.default_rng(0))
    n = len(data.clicks)
    task = evaluation_task(data, Split(n // 2, n // 2, n), EvalConfig(), "test")
    lines = sorted(zip(data.clicks.user_ids[n // 2 :].tolist(), data.clicks.item_ids[n // 2 :].tolist(), strict=True))
    pairs = click_pairs(task, np.random.default_rng(0))
    found = sorted(zip(task.user_ids[pairs.first].tolist(), pairs.second.tolist(), strict=True))
    assert found == [line for line in lines if line[0] in set(task.user_ids.tolist())]
    monkeypatch.setattr(module, "MOST_DRAWN", 50)
    fewer = click_pairs(task, np.random.default_rng(0))
    assert len(fewer.first) == 50
    assert set(zip(task.user_ids[fewer.first].tolist(), fewer.second.tolist(), strict=True)) <= set(lines)


def test_kinds_and_known_items_only(tmp_path):
    data = random_dataset(tmp_path, np.random.default_rng(0), n_items=200, n_clicks=300)
    n = len(data.clicks)
    task = evaluation_task(data, Split(n // 2, n // 2, n), EvalConfig(), "test")
    part = data.clicks[n // 2 :]
    pairs = positive_pairs(data, task, part, SessionsConfig(max_s=86_400), None, rng=np.random.default_rng(0))
    assert list(pairs) == ["clicks", "sessions", "titles", "categories"]
    assert not task.candidates.all()
    for kind, found in pairs.items():
        assert task.candidates[found.second].all()
        assert kind == "clicks" or task.candidates[found.first].all()


def test_even_sample_spans_all():
    assert even_sample(np.arange(5), 5).tolist() == [0, 1, 2, 3, 4]
    assert even_sample(np.arange(100), 3).tolist() == [0, 49, 99]
