"""Serving of users with several interests: K searches merged, against a full sort by the highest product."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.config import EvalConfig
from micrec.data.split import temporal_split
from micrec.evaluation import evaluation_task
from micrec.model_folder import load_model, save_model
from micrec.retrieval import INDEX_KINDS, Retriever, build_index, search
from micrec.retrieval.index import measure_recall, merge_lists
from tests.micrec.serving import OFF, clicks_of, fitted_on, full_sort, outside, small_dataset

NEW = ("mind", "comirec_dr", "comirec_sa", "sasrec", "bert4rec")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("data") / "random")


@pytest.fixture(scope="module", params=NEW)
def fitted(request, dataset):
    return fitted_on(dataset, model={"name": request.param})


def test_lists_of_the_retriever_are_a_full_sort(fitted, dataset, tmp_path):
    """For known users, for many at once, for unseen ones with the same clicks; from memory and from a folder."""
    Retriever.build(fitted, dataset, k=5).save(tmp_path / "bundle")
    retriever = Retriever.load(tmp_path / "bundle")
    assert [depth.recall for depth in retriever.report.depths] == [1.0] * len(retriever.report.depths)
    assert retriever.report.depths[0].k == 5
    users = range(len(dataset.users))
    recent = np.array([(clicks_of(dataset, user)[::-1] + [-1] * 20)[:20] for user in users])
    at_once = retriever.retrieve(np.arange(len(users)), recent, 6)
    for user in users:
        ranked = full_sort(fitted, dataset, user)
        assert at_once[user].tolist() == ranked[:6]
        answer = retriever.recommend(dataset.users.ids[user], 7)
        assert answer.item_ids == outside(dataset, ranked[:7])
        assert len(set(answer.item_ids)) == 7
        seen = set(clicks_of(dataset, user))
        hidden = retriever.recommend(dataset.users.ids[user], 1000, hide_seen=True)
        assert hidden.item_ids == outside(dataset, full_sort(fitted, dataset, user, hidden=seen))
        row = dataset.users.frame.row(user, named=True)
        fields = {"country": row["country"], "age": row["age"]}
        unseen = retriever.recommend_unseen(fields, outside(dataset, clicks_of(dataset, user)), 7)
        assert unseen.item_ids == answer.item_ids


def test_offline_hits_are_those_of_the_served_lists(fitted, dataset):
    """HIT@N by counting under the highest score = HIT@N of the lists that serving gives."""
    config = EvalConfig(cutoffs=(3, 10))
    task = evaluation_task(dataset, temporal_split(dataset.clicks, fitted.config.split), config, "test")
    result = fitted.with_evaluation(config).evaluate(task)
    retriever = Retriever.build(fitted, dataset)
    begin, end = task.begin, task.end
    recent = np.array(
        [(task.histories.items[b:e][::-1].tolist() + [-1] * 20)[:20] for b, e in zip(begin, end, strict=True)]
    )
    lists = retriever.retrieve(task.user_ids.astype(np.int64), recent, 10)
    for n in (3, 10):
        hits = [
            count * (item in lists[query, :n])
            for query, item, count in zip(task.target_queries, task.target_items, task.target_counts, strict=True)
        ]
        assert result.metrics[f"hit@{n}"] == pytest.approx(sum(hits) / task.target_counts.sum())
        assert result.metrics[f"coverage@{n}"] == pytest.approx(len(np.unique(lists[:, :n])) / task.candidates.sum())


def test_a_saved_model_answers_alike(fitted, dataset, tmp_path):
    save_model(fitted, dataset, tmp_path / "model")
    loaded = load_model(tmp_path / "model", dataset, device="cpu")
    assert loaded.config == fitted.config
    assert loaded.model.interests == fitted.model.interests
    task = evaluation_task(dataset, temporal_split(dataset.clicks, fitted.config.split), EvalConfig(), "test")
    for ours, theirs in zip(loaded.embed(task), fitted.embed(task), strict=True):
        assert torch.equal(ours, theirs)
    assert loaded.embed(task)[0].dim() == (2 if fitted.model.interests is None else 3)


def test_the_manifest_keeps_the_number_of_interests(dataset, tmp_path):
    switches = {"name": "comirec_sa", "options": {"interests": 2, "label_attention_power": float("inf")}}
    fitted = fitted_on(dataset, model=switches, contrast=OFF)
    save_model(fitted, dataset, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "manifest.json").read_text(encoding="utf-8"))["interests"] == 2
    loaded = load_model(tmp_path / "model", dataset, device="cpu")
    assert loaded.model.interests == 2
    assert loaded.config.model.options.label_attention_power == float("inf")


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 30),
    batch=st.integers(1, 5),
    interests=st.integers(1, 4),
    k=st.integers(1, 40),
)
def test_merged_lists_hold_what_the_highest_product_finds(seed, n, batch, interests, k):
    """Small whole numbers, so that products are exact and ties abound: scores agree, whichever equals are chosen."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-3, 4, (n, 3)).astype(np.float32)
    queries = rng.integers(-3, 4, (batch, interests, 3)).astype(np.float32)
    scores, rows = search(build_index(vectors, "flat"), queries, k)
    assert scores.shape == rows.shape == (batch, k)
    for query in range(batch):
        best = [max(float(u @ v) for u in queries[query]) for v in vectors]
        found = rows[query][rows[query] >= 0].tolist()
        assert len(found) == len(set(found)) == min(k, n)
        assert scores[query, : len(found)].tolist() == [best[row] for row in found]
        assert scores[query, : len(found)].tolist() == sorted(best, reverse=True)[: len(found)]
        assert (scores[query, len(found) :] == -np.inf).all()


def test_merged_lists_by_hand():
    scores = np.array([[3.0, 1.0, -np.inf, 2.0, 1.5, 0.0]], np.float32)
    rows = np.array([[7, 4, -1, 4, 9, 7]])
    for k, expected in ((2, [7, 4]), (3, [7, 4, 9])):
        best, found = merge_lists(scores, rows, k)
        assert found.tolist() == [expected]
        assert best.tolist() == [[3.0, 2.0, 1.5][:k]]
    best, found = merge_lists(scores, rows, 5)
    assert found.tolist() == [[7, 4, 9, -1, -1]]


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_recall_of_interests_is_measured_against_the_highest_product(kind):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, 8)).astype(np.float32)
    queries = rng.normal(size=(20, 3, 8)).astype(np.float32)
    index = build_index(vectors, kind)
    (depth,) = measure_recall(index, kind, vectors, queries, [10]).depths
    best = (queries @ vectors.T).max(axis=1)
    exact = np.argsort(-best, axis=1)[:, :10]
    _, rows = search(index, queries, 10)
    shares = [len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), rows.tolist(), strict=True)]
    assert depth.recall == pytest.approx(np.mean(shares))
    assert depth.recall == 1.0 or kind != "flat"
