"""Serving: the index against a full sort, known and unseen users, new items, and the bundle folder."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import faiss
import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

import micrec.retrieval.index as index_module
from micrec.checkpoint import save_checkpoint
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.fitting import Fitted, fit
from micrec.inference import encode_items
from micrec.model_folder import save_model
from micrec.models.columns import Ragged
from micrec.retrieval import INDEX_KINDS, Retriever, build_index, measure_recall, search
from micrec.settings import merge
from tests.micrec.factories import random_dataset

L = 4  # clicks the model reads; most users have more
OFF = {name: {"weight": 0} for name in ("feature", "semantic", "session")}
SMALL = {
    "model": {"embedding_dim": 8, "hidden": [8], "heads": 2, "history_length": L, "init_scale": 1.0},
    "softmax": {"num_negatives": 5},
    "contrast": OFF,
    "split": {"test_fraction": 0.5, "valid_fraction": 0.0},
    "train": {"batch_size": 128, "epochs": 1, "device": "cpu"},
}


def fitted_on(dataset: Dataset, **changes: object) -> Fitted:
    return fit(dataset, Config.model_validate(merge(SMALL, changes)))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """60 items, a few of them without a click in the first half of the log."""
    folder = tmp_path_factory.mktemp("data") / "random"
    return random_dataset(folder, np.random.default_rng(3), n_users=25, n_items=60, n_clicks=300)


@pytest.fixture(scope="module")
def fitted(dataset: Dataset) -> Fitted:
    return fitted_on(dataset)


@pytest.fixture(scope="module")
def retriever(fitted: Fitted, dataset: Dataset) -> Retriever:
    return Retriever.build(fitted, dataset, k=5)


def clicks_of(dataset: Dataset, user: int) -> list[int]:
    """All clicks of a dense user, oldest first, by a walk through the log."""
    pairs = zip(dataset.clicks.user_ids.tolist(), dataset.clicks.item_ids.tolist(), strict=True)
    return [item for clicker, item in pairs if clicker == user]


def all_scores(fitted: Fitted, dataset: Dataset, user: int) -> NDArray[np.float64]:
    """Scores of all items for one dense user by the towers alone, shape (N,)."""
    items, item_emb = encode_items(fitted.model, fitted.fields.items)
    recent = torch.tensor(clicks_of(dataset, user)[-L:], dtype=torch.int64)
    with torch.no_grad():
        row = fitted.fields.users.take(torch.tensor([user]))
        user_emb = fitted.model.user_tower(row, Ragged(recent, torch.tensor([0, len(recent)])), items)
    return (item_emb.double() @ user_emb[0].double()).numpy()


def full_sort(fitted: Fitted, dataset: Dataset, user: int, *, hidden: set[int] = frozenset()) -> list[int]:
    """Trained items that are not hidden, best first."""
    scores = all_scores(fitted, dataset, user)
    trained = set(dataset.clicks.item_ids[: fitted.trained_clicks].tolist())
    return sorted(trained - hidden, key=lambda item: -scores[item])


def outside(dataset: Dataset, items: list[int]) -> list[str]:
    return [dataset.items.ids[item] for item in items]


class TestIndex:
    def vectors(self, n: int = 2000) -> NDArray[np.float32]:
        """Directions at random and lengths that differ a hundredfold: no distance ranks like the inner product."""
        rng = np.random.default_rng(0)
        lengths = np.exp(rng.normal(0, 1.5, (n, 1)))
        return (rng.normal(size=(n, 16)) * lengths).astype(np.float32)

    def queries(self, n: int = 50) -> NDArray[np.float32]:
        return np.random.default_rng(1).normal(size=(n, 16)).astype(np.float32)

    @pytest.mark.parametrize(("kind", "least"), [("flat", 1.0), ("ivf", 0.4), ("hnsw", 0.95)])
    def test_it_ranks_by_inner_product(self, kind, least):
        vectors, queries = self.vectors(), self.queries()
        index = build_index(vectors, kind)
        assert index.metric_type == faiss.METRIC_INNER_PRODUCT
        scores, rows = search(index, queries, 20)
        products = queries.astype(np.float64) @ vectors.T.astype(np.float64)
        np.testing.assert_allclose(scores, np.take_along_axis(products, rows, axis=1), rtol=1e-3, atol=1e-4)
        assert (np.diff(scores, axis=1) <= 0).all()
        best = np.argsort(-products, axis=1)[:, :20]
        recall = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(rows.tolist(), best.tolist(), strict=True)])
        assert recall >= least  # for IVF the worst case: noise has no cells
        assert measure_recall(index, kind, vectors, queries, 20) == (kind, 2000, 20, 50, pytest.approx(recall))

    def test_of_equals_any_is_right(self):
        """Ten copies of one vector: which five of them are found says nothing of the index."""
        vectors = np.ones((10, 4), dtype=np.float32)
        index = build_index(vectors, "flat")
        assert measure_recall(index, "flat", vectors, vectors[:3], 5).recall == 1.0

    @pytest.mark.parametrize("kind", INDEX_KINDS)
    def test_longer_lists_than_there_are_vectors_are_padded(self, kind):
        scores, rows = search(build_index(self.vectors(3), kind), self.queries(2), 5)
        assert [sorted(row) for row in rows.tolist()] == [[-1, -1, 0, 1, 2]] * 2
        assert np.isneginf(scores[:, 3:]).all()
        assert search(build_index(self.vectors(3), kind), self.queries(0), 5)[1].shape == (0, 5)

    @pytest.mark.parametrize("kind", INDEX_KINDS)
    def test_the_search_widens_with_the_list(self, kind):
        """However long the list, it is full."""
        index = build_index(self.vectors(500), kind)
        for k in (100, 300, 500):
            assert (search(index, self.queries(10), k)[1] >= 0).all()

    def test_a_short_answer_is_replaced_by_the_exact_one(self, monkeypatch):
        """One cell of many cannot hold half of the vectors."""
        vectors, queries = self.vectors(400), self.queries(5)
        monkeypatch.setattr(index_module, "_width", lambda *_: faiss.SearchParametersIVF(nprobe=1))
        _, rows = search(build_index(vectors, "ivf"), queries, 200)
        best = np.argsort(-(queries.astype(np.float64) @ vectors.T), axis=1)[:, :200]
        assert [set(row) for row in rows.tolist()] == [set(row) for row in best.tolist()]

    def test_a_graph_that_leads_nowhere_is_left_for_an_exact_search(self):
        vectors, queries = self.vectors(50), self.queries(5)
        index = build_index(vectors, "hnsw")
        _, rows = index_module._search_exactly(index, queries, 50)
        np.testing.assert_array_equal(rows, np.argsort(-(queries.astype(np.float64) @ vectors.T), axis=1))

    def test_an_empty_catalogue_is_refused(self):
        with pytest.raises(ValueError, match="at least one vector"):
            build_index(self.vectors(0), "flat")


class TestKnownUsers:
    def test_flat_is_the_full_sort(self, retriever, fitted, dataset):
        for user, name in enumerate(dataset.users.ids):
            ranked = full_sort(fitted, dataset, user)
            answer = retriever.recommend(name, 7)
            assert answer.item_ids == outside(dataset, ranked[:7])
            np.testing.assert_allclose(answer.scores, all_scores(fitted, dataset, user)[ranked[:7]], rtol=1e-4)

    def test_hidden_clicks_give_way_to_the_next_best(self, retriever, fitted, dataset):
        """All that the user ever clicked, not only the few clicks that the tower reads."""
        shown = 0
        for user, name in enumerate(dataset.users.ids):
            seen = set(clicks_of(dataset, user))
            ranked = full_sort(fitted, dataset, user, hidden=seen)
            assert retriever.recommend(name, 9, hide_seen=True).item_ids == outside(dataset, ranked[:9])
            shown += len(seen & set(full_sort(fitted, dataset, user)[:9]))
        assert shown > 0  # or there was nothing to hide

    def test_a_list_longer_than_the_catalogue_ends(self, retriever, fitted, dataset):
        ranked = full_sort(fitted, dataset, 0)
        assert retriever.recommend(dataset.users.ids[0], 1000).item_ids == outside(dataset, ranked)
        unseen = full_sort(fitted, dataset, 0, hidden=set(clicks_of(dataset, 0)))
        assert retriever.recommend(dataset.users.ids[0], 1000, hide_seen=True).item_ids == outside(dataset, unseen)

    def test_ids_may_be_text_and_titles_come_along(self, retriever, dataset):
        by_number, by_text = retriever.recommend(1003, 3), retriever.recommend("1003", 3)
        assert by_number == by_text
        titles = dict(zip(dataset.items.ids, dataset.items.frame["title"], strict=True))
        assert by_number.titles == [titles[item] for item in by_number.item_ids]

    def test_an_unknown_user_is_told_what_to_do(self, retriever):
        with pytest.raises(MicrecError, match=r"user 7: none of the 25 users of the bundle: .*--field, --history"):
            retriever.recommend(7, 3)

    def test_no_list_at_all_is_a_bug(self, retriever):
        with pytest.raises(ValueError, match="k must be at least 1, got 0"):
            retriever.recommend(1003, 0)

    def test_the_catalogue(self, retriever, fitted, dataset):
        """Items without training clicks are left out, unless they are asked for."""
        trained = set(dataset.clicks.item_ids[: fitted.trained_clicks].tolist())
        assert len(trained) < len(dataset.items)
        assert set(retriever.recommend(1003, 1000).item_ids) == set(outside(dataset, sorted(trained)))
        everything = Retriever.build(fitted, dataset, catalogue="all")
        assert set(everything.recommend(1003, 1000).item_ids) == set(dataset.items.ids)

    @pytest.mark.parametrize("kind", INDEX_KINDS)
    def test_recall_is_measured_when_the_index_is_built(self, fitted, dataset, kind):
        built = Retriever.build(fitted, dataset, kind=kind, k=5, queries=10)
        assert built.report == (kind, len(built.bundle.candidates), 5, 10, 1.0)

    def test_the_fitted_model_is_left_as_it_was(self, fitted, dataset):
        built = Retriever.build(fitted, dataset)
        assert built.bundle.model is not fitted.model
        ours, theirs = fitted.model.state_dict(), built.bundle.model.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


class Matcher(Protocol):
    """What a simulator asks of a matching model."""

    def retrieve(self, user_ids: NDArray[np.int64], recent_items: NDArray[np.int64], k: int) -> NDArray[np.int64]: ...


class TestMatcher:
    def recent(self, dataset: Dataset, length: int) -> NDArray[np.int64]:
        rows = [clicks_of(dataset, user)[::-1][:length] for user in range(len(dataset.users))]
        return np.array([row + [-1] * (length - len(row)) for row in rows])

    @pytest.mark.parametrize("length", [L, 20])
    def test_all_users_at_once(self, retriever, fitted, dataset, length):
        matcher: Matcher = retriever
        found = matcher.retrieve(np.arange(len(dataset.users)), self.recent(dataset, length), 6)
        assert found.dtype == np.int64
        assert found.tolist() == [full_sort(fitted, dataset, user)[:6] for user in range(len(dataset.users))]

    def test_users_in_any_order_and_padding_at_the_end(self, retriever, dataset):
        recent, padding = self.recent(dataset, L), np.full((1, L), -1)
        found = retriever.retrieve(np.array([5, 2, 5]), np.concatenate([recent[[5, 2]], padding]), 200)
        assert found.shape == (3, 200)
        n = len(retriever.bundle.candidates)
        assert (found[:, :n] >= 0).all()
        assert (found[:, n:] == -1).all()
        np.testing.assert_array_equal(found[0], retriever.retrieve(np.array([5]), recent[[5]], 200)[0])
        assert retriever.retrieve(np.empty(0, dtype=np.int64), recent[:0], 3).shape == (0, 3)

    def test_ids_out_of_range_are_bugs(self, retriever):
        with pytest.raises(ValueError, match=r"user_ids must lie in 0 \.\. 24, got 0 \.\. 25"):
            retriever.retrieve(np.array([0, 25]), np.full((2, 3), -1), 3)
        with pytest.raises(ValueError, match="recent_items must be below 60, got 60"):
            retriever.retrieve(np.array([0]), np.array([[60]]), 3)
        with pytest.raises(ValueError, match=r"must be \(B,\) and \(B, L\)"):
            retriever.retrieve(np.array([0]), np.array([1]), 3)


class TestUnseenUsers:
    def test_with_the_fields_and_clicks_of_a_known_user(self, retriever, dataset):
        """The user id is not embedded, so that nothing tells the two apart."""
        for user, name in enumerate(dataset.users.ids):
            row = dataset.users.frame.row(user, named=True)
            fields = {"country": row["country"], "age": str(row["age"])}
            history = outside(dataset, clicks_of(dataset, user))
            assert retriever.recommend_unseen(fields, history, 5) == retriever.recommend(name, 5)
            hidden = retriever.recommend_unseen(fields, history, 5, hide_seen=True)
            assert hidden == retriever.recommend(name, 5, hide_seen=True)

    def test_an_embedded_user_id_is_unknown(self, dataset):
        built = Retriever.build(fitted_on(dataset, model={"user_id": True}), dataset)
        row = dataset.users.frame.row(0, named=True)
        fields = {"country": row["country"], "age": row["age"]}
        known, unseen = (
            built.recommend(dataset.users.ids[0], 5),
            built.recommend_unseen(fields, outside(dataset, clicks_of(dataset, 0)), 5),
        )
        assert known.scores != unseen.scores
        with pytest.raises(MicrecError, match="user_id: unknown field: the model reads country, age"):
            built.recommend_unseen({"user_id": 1000}, [], 5)

    def test_nothing_known_is_an_answer_too(self, retriever):
        assert len(retriever.recommend_unseen({}, [], 4).item_ids) == 4

    def test_unknown_items_are_listed(self, retriever):
        with pytest.raises(MicrecError, match=r"history: x, y: none of the 60 items of the bundle: leave them out, or"):
            retriever.recommend_unseen({}, ["i0001", "x", "y", "x"], 4)
        with pytest.raises(MicrecError, match=r"history: 0, 1, 2, 3, 4 and 3 more: none"):
            retriever.recommend_unseen({}, range(8), 4)

    def test_unknown_fields_are_listed(self, retriever):
        with pytest.raises(MicrecError) as caught:
            retriever.recommend_unseen({"contry": "k1", "age": "old"}, [], 4)
        assert str(caught.value).splitlines() == [
            "user fields: 2 faults",
            "  - contry: unknown field: the model reads country, age",
            "  - age: must be a finite number, got 'old': give a number, or leave the field out",
        ]


class TestNewItems:
    def test_a_twin_of_a_known_item_scores_as_it_does_without_its_id(self, dataset):
        """Without item ids in the model nothing tells twins apart; with them, the twin has the unknown id."""
        for item_id in (False, True):
            fitted = fitted_on(dataset, model={"item_id": item_id})
            built = Retriever.build(fitted, dataset)
            twin = dataset.items.frame.row(4, named=True) | {"item_id": "twin"}
            built.add_items(pl.DataFrame([twin]).drop("content"))
            answer = built.recommend(1003, 1000)
            scores = dict(zip(answer.item_ids, answer.scores, strict=True))
            if not item_id:
                assert scores["twin"] == pytest.approx(scores["i0004"], rel=1e-6)
                continue
            assert scores["twin"] != pytest.approx(scores["i0004"], rel=1e-3)
            columns = fitted.fields.items.take(torch.tensor([4]))
            columns.single["item_id"][:] = 0
            _, vector = encode_items(fitted.model, columns)
            user = dataset.users.lookup(1003)
            items, _ = encode_items(fitted.model, fitted.fields.items)
            recent = torch.tensor(clicks_of(dataset, user)[-L:])
            with torch.no_grad():
                users = fitted.fields.users.take(torch.tensor([user]))
                embedding = fitted.model.user_tower(users, Ragged(recent, torch.tensor([0, len(recent)])), items)
            assert scores["twin"] == pytest.approx(float(embedding[0] @ vector[0]), rel=1e-4)

    def test_they_can_be_retrieved_clicked_and_hidden(self, fitted, dataset):
        built = Retriever.build(fitted, dataset)
        before = built.recommend_unseen({}, ["i0001"], 3)
        new = pl.DataFrame({"item_id": ["n0", "n1"], "title": ["new lamp", None], "tags": ["tag1|tag2", ""]})
        built.add_items(new)
        everything = built.recommend_unseen({}, ["i0001"], 1000)
        assert set(everything.item_ids) >= {"n0", "n1"}
        titles = dict(zip(everything.item_ids, everything.titles, strict=True))
        assert (titles["n0"], titles["n1"]) == ("new lamp", None)
        assert [i for i in everything.item_ids if not i.startswith("n")][:3] == before.item_ids
        fresh = built.recommend_unseen({}, ["n0"], 1000, hide_seen=True)
        assert "n0" not in fresh.item_ids
        assert fresh.scores != built.recommend_unseen({}, [], 1000).scores[: len(fresh.scores)]
        dense = built.retrieve(np.array([0]), np.array([[60, 61]]), 1000)
        assert {60, 61} <= set(dense[0].tolist())

    def test_a_saved_bundle_keeps_them(self, fitted, dataset, tmp_path):
        built = Retriever.build(fitted, dataset)
        built.add_items(pl.DataFrame({"item_id": ["n0"], "price": ["2.5"]}))
        built.save(tmp_path / "bundle")
        assert Retriever.load(tmp_path / "bundle").recommend(1003, 1000) == built.recommend(1003, 1000)

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([{"title": "x"}], r"new items: no column item_id \(there are: title\): add it"),
            ([{"item_id": "i0001"}], "new items, item_id: i0001: known already, give a new one"),
            ([{"item_id": "a"}, {"item_id": "a"}], "a: there twice, keep one row of it"),
            ([{"item_id": "a"}, {"item_id": None}], "None: missing, give each item one"),
            ([{"item_id": "a", "colour": "red"}], "item fields: colour: unknown field: the model reads category, tags"),
            ([{"item_id": "a", "price": "dear"}], "item fields: price: must be a finite number, got 'dear'"),
        ],
    )
    def test_faults_add_nothing(self, fitted, dataset, rows, message):
        built = Retriever.build(fitted, dataset)
        before = built.recommend(1003, 1000)
        with pytest.raises(MicrecError, match=message):
            built.add_items(pl.DataFrame(rows))
        assert built.recommend(1003, 1000) == before

    def test_ids_must_be_integers_where_the_known_ones_are(self, dataset, fitted):
        built = Retriever.build(fitted, dataset)
        built = Retriever(replace(built.bundle, item_ids=pl.Series(range(60))))
        with pytest.raises(MicrecError, match="x1: no integer, as the known ids are, give an integer"):
            built.add_items(pl.DataFrame({"item_id": ["x1", "70"]}))
        built.add_items(pl.DataFrame({"item_id": ["70"]}))
        assert 70 in built.recommend(1003, 1000).item_ids


class TestFolder:
    @pytest.mark.parametrize("kind", INDEX_KINDS)
    def test_a_round_trip_changes_no_answer(self, fitted, dataset, tmp_path, kind):
        built = Retriever.build(fitted, dataset, kind=kind, k=5)
        built.save(tmp_path / "bundle")
        loaded = Retriever.load(tmp_path / "bundle")
        for name in dataset.users.ids:
            assert loaded.recommend(name, 5, hide_seen=True) == built.recommend(name, 5, hide_seen=True)
        unseen = ({"country": "k1"}, ["i0003", "i0001"], 8)
        assert loaded.recommend_unseen(*unseen) == built.recommend_unseen(*unseen)
        users, recent = np.arange(25), np.random.default_rng(0).integers(-1, 60, (25, 20))
        np.testing.assert_array_equal(loaded.retrieve(users, recent, 10), built.retrieve(users, recent, 10))
        assert loaded.report == built.report

    @pytest.mark.parametrize(
        "model",
        [
            {"name": "fm", "item_terms": True},
            {"name": "youtube_dnn", "l2_normalize": True},
            {"name": "deepfm", "user_fields": []},
            {"name": "autoint", "item_fields": ["tags"]},
            {"behaviour_tokens": "sequence", "positions": True},
            {"behaviour_pooling": "attention", "item_fields": [], "user_id": True},
        ],
    )
    def test_every_model_is_served(self, dataset, tmp_path, model):
        fitted = fitted_on(dataset, model=model)
        Retriever.build(fitted, dataset).save(tmp_path / "bundle")
        loaded = Retriever.load(tmp_path / "bundle")
        for user in (0, 7):
            answer = loaded.recommend(dataset.users.ids[user], 3)
            scores = all_scores(fitted, dataset, user)
            np.testing.assert_allclose(answer.scores, scores[full_sort(fitted, dataset, user)[:3]], rtol=1e-4)
        assert len(loaded.recommend_unseen({}, [], 3).item_ids) == 3

    def test_integer_ids_stay_integers(self, fitted, dataset, tmp_path):
        Retriever.build(fitted, dataset).save(tmp_path / "bundle")
        loaded = Retriever.load(tmp_path / "bundle")
        assert loaded.bundle.user_ids.to_list() == dataset.users.ids.to_list()
        assert loaded.bundle.user_ids.dtype == pl.Int64
        assert loaded.bundle.item_ids.to_list() == dataset.items.ids.to_list()

    def test_the_losses_leave_nothing_behind(self, dataset, tmp_path):
        """MicRec serves the very tensors that ICAN serves: same names, same shapes."""
        shapes = []
        for contrast in (OFF, {"semantic": {"svd_dim": 4, "top_k": 3}}):
            fitted = fit(dataset, Config.model_validate(merge(SMALL, {"contrast": None}, {"contrast": contrast})))
            folder = tmp_path / f"{len(shapes)}"
            save_model(fitted, dataset, folder / "model")
            Retriever.build(fitted, dataset).save(folder / "bundle")
            shapes.append([tensor_shapes(folder / part) for part in ("model", "bundle")])
        assert shapes[0] == shapes[1]
        assert len(shapes[0][0]) > 5

    def test_taken_folders(self, retriever, tmp_path):
        other = tmp_path / "other"
        other.mkdir()
        (other / "thesis.txt").write_text("mine")
        with pytest.raises(MicrecError, match="other: exists and is no serving bundle: name another folder"):
            retriever.save(other, overwrite=True)
        assert [path.name for path in other.iterdir()] == ["thesis.txt"]
        empty = tmp_path / "empty"
        empty.mkdir()
        retriever.save(empty)
        with pytest.raises(MicrecError, match="empty: holds a serving bundle: name another folder, or replace it"):
            retriever.save(empty)
        retriever.save(empty, overwrite=True)
        assert len(list(empty.iterdir())) == 2
        with pytest.raises(MicrecError, match=r"thesis\.txt: is a file, where a folder is needed"):
            retriever.save(other / "thesis.txt" / "bundle")

    @pytest.mark.parametrize("moment", ["tensors", "manifest", "rename"])
    def test_a_failed_save_leaves_nothing_new(self, retriever, tmp_path, monkeypatch, moment):
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            if moment == "rename":
                patch.setattr("micrec.artifact.os.replace", full)
            else:
                patch.setattr(f"micrec.checkpoint.{'save_file' if moment == 'tensors' else '_replace'}", full)
            with pytest.raises(MicrecError, match="No space left on device"):
                retriever.save(tmp_path / "bundle")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("moment", ["save_file", "_replace"])
    def test_a_failed_replacement_leaves_the_old_one(self, retriever, fitted, dataset, tmp_path, monkeypatch, moment):
        folder = tmp_path / "bundle"
        Retriever.build(fitted, dataset, kind="hnsw", k=5).save(folder)
        before = Retriever.load(folder).report

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(f"micrec.checkpoint.{moment}", stop)
        with pytest.raises(KeyboardInterrupt):
            retriever.save(folder, overwrite=True)
        assert Retriever.load(folder).report == before
        monkeypatch.undo()
        retriever.save(folder, overwrite=True)
        assert Retriever.load(folder).report.kind == "flat"

    def test_what_a_killed_save_left_is_cleared_away(self, retriever, tmp_path):
        partial = tmp_path / ".bundle.partial"
        partial.mkdir()
        (partial / ".tensors.tmp").write_text("half")
        retriever.save(tmp_path / "bundle")
        assert os.listdir(tmp_path) == ["bundle"]

    def test_other_folders_are_told_apart(self, retriever, fitted, dataset, tmp_path):
        save_model(fitted, dataset, tmp_path / "model")
        save_checkpoint(tmp_path / "checkpoint", {}, {"state": 1})
        (tmp_path / "empty").mkdir()
        for name, message in {
            "model": "holds a trained model, not a serving bundle: give a folder that micrec index wrote",
            "checkpoint": "holds the checkpoint of an unfinished training, not a serving bundle",
            "empty": "holds no serving bundle: give a folder that micrec index wrote",
            "none": "there is no such folder: give a folder that micrec index wrote",
        }.items():
            with pytest.raises(MicrecError, match=f"{name}: {message}"):
                Retriever.load(tmp_path / name)

    def test_damage_is_noticed(self, retriever, tmp_path):
        retriever.save(tmp_path / "bundle")
        (tensors,) = (tmp_path / "bundle").glob("*.safetensors")
        content = bytearray(tensors.read_bytes())
        content[-1] ^= 1
        tensors.write_bytes(content)
        with pytest.raises(MicrecError, match="damaged, its SHA-256"):
            Retriever.load(tmp_path / "bundle")


def tensor_shapes(folder: Path) -> dict[str, list[int]]:
    """Names and shapes from the header of a safetensors file."""
    (path,) = folder.glob("*.safetensors")
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
