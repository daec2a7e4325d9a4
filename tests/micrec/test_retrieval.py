"""Serving: known users, unseen users and new items, against the towers and a full sort."""

from dataclasses import replace
from typing import Protocol

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.fitting import Fitted
from micrec.inference import encode_items
from micrec.models.columns import Ragged
from micrec.retrieval import INDEX_KINDS, Retriever
from tests.micrec.serving import L, all_scores, clicks_of, fitted_on, full_sort, outside, small_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("data") / "random")


@pytest.fixture(scope="module")
def fitted(dataset: Dataset) -> Fitted:
    return fitted_on(dataset)


@pytest.fixture(scope="module")
def retriever(fitted: Fitted, dataset: Dataset) -> Retriever:
    return Retriever.build(fitted, dataset, k=5)


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
        n = len(built.bundle.candidates)
        assert (built.report.kind, built.report.items, built.report.queries) == (kind, n, 10)
        assert [(depth.k, depth.recall) for depth in built.report.depths] == [
            (5, 1.0),
            (10, 1.0),
        ]  # fewer than 50 items

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
            "user fields: 2 errors",
            "  - contry: unknown field: the model reads country, age: leave it out",
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
