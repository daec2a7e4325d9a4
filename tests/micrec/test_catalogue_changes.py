"""Items taken out of an index and put back: lists are those of a full sort over what is left."""

import numpy as np
import polars as pl
import pytest

from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.fitting import Fitted
from micrec.retrieval import INDEX_KINDS, Retriever
from micrec.retrieval.spelling import near_spellings
from tests.micrec.serving import fitted_on, full_sort, outside, small_dataset

GONE = ["i0001", "i0004", "i0010", "i0033"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("data") / "random")


@pytest.fixture(scope="module")
def fitted(dataset: Dataset) -> Fitted:
    return fitted_on(dataset)


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_no_list_shows_what_was_taken_out(fitted, dataset, tmp_path, kind):
    retriever = Retriever.build(fitted, dataset, kind=kind, k=5)
    names = dataset.items.ids.to_list()
    gone = [name for name in GONE if name in retriever.recommend(1003, 1000).item_ids]
    assert len(gone) >= 2
    retriever.remove_items(gone)
    retriever.save(tmp_path / "bundle")
    for one in (retriever, Retriever.load(tmp_path / "bundle")):
        for user in range(0, 25, 6):
            expected = full_sort(fitted, dataset, user, hidden={names.index(name) for name in gone})
            found = one.recommend(dataset.users.ids[user], 1000)
            assert found.item_ids == outside(dataset, expected)
        assert type(one.bundle.index) is type(Retriever.build(fitted, dataset, kind=kind, k=5).bundle.index)


def test_clicks_on_what_was_taken_out_still_tell_of_a_user(fitted, dataset):
    retriever = Retriever.build(fitted, dataset, catalogue="all", k=5)
    before = retriever.recommend_unseen({}, ["i0001", "i0004"], 1000)
    retriever.remove_items(["i0001"])
    after = retriever.recommend_unseen({}, ["i0001", "i0004"], 1000)
    assert after.item_ids == [item for item in before.item_ids if item != "i0001"]
    np.testing.assert_allclose(after.scores, [s for i, s in zip(*before[:2], strict=True) if i != "i0001"], rtol=1e-5)


def test_what_was_taken_out_comes_back_as_it_was(fitted, dataset):
    """Its id of the training included: nothing but the id is given."""
    retriever = Retriever.build(fitted, dataset, catalogue="all", k=5)
    before = retriever.recommend(1003, 1000)
    retriever.remove_items(GONE)
    retriever.add_items(pl.DataFrame({"item_id": GONE[::-1]}))
    after = retriever.recommend(1003, 1000)
    assert dict(zip(after.item_ids, after.titles, strict=True)) == dict(
        zip(before.item_ids, before.titles, strict=True)
    )
    scores = dict(zip(before.item_ids, before.scores, strict=True))
    np.testing.assert_allclose(after.scores, [scores[item] for item in after.item_ids], rtol=1e-5)
    assert len(retriever.bundle.item_ids) == 60
    with pytest.raises(MicrecError, match="i0001: known already"):
        retriever.add_items(pl.DataFrame({"item_id": ["i0001"]}))


def test_fields_that_are_given_take_the_place_of_the_known_ones(dataset):
    """A model without ids: an item with another's fields scores as that one does."""
    fitted = fitted_on(dataset, model={"item_id": False})
    retriever = Retriever.build(fitted, dataset, catalogue="all", k=5)
    twin = dataset.items.frame.filter(pl.col("item_id") == "i0020").select("category", "tags", "price", "title")
    retriever.remove_items(["i0001", "i0002"])
    given = pl.concat([twin, twin]).with_columns(item_id=pl.Series(["i0001", "new"]))
    retriever.add_items(given)
    found = retriever.recommend(1003, 1000)
    scores, titles = (dict(zip(found.item_ids, values, strict=True)) for values in found[1:])
    assert scores["i0001"] == pytest.approx(scores["i0020"], rel=1e-5)
    assert scores["new"] == pytest.approx(scores["i0020"], rel=1e-5)
    assert titles["i0001"] == titles["new"] == titles["i0020"]
    before = Retriever.build(fitted, dataset, catalogue="all", k=5)
    untouched = dict(zip(*before.recommend(1003, 1000)[:2], strict=True))
    for name in ("i0000", "i0003", "i0059"):
        assert scores[name] == pytest.approx(untouched[name], rel=1e-5)
    retriever.add_items(pl.DataFrame({"item_id": ["i0002"], "price": [2.0]}))
    same = before.bundle.items
    rows = retriever.bundle.items
    assert rows.single["category"][2] == same.single["category"][2]
    assert rows.numbers["price"][2] != same.numbers["price"][2]


def test_items_without_training_clicks_may_be_listed(fitted, dataset):
    retriever = Retriever.build(fitted, dataset, catalogue="train", k=5)
    missing = sorted(set(dataset.items.ids) - set(retriever.recommend(1003, 1000).item_ids))
    assert missing
    retriever.add_items(pl.DataFrame({"item_id": missing}))
    everything = Retriever.build(fitted, dataset, catalogue="all", k=5).recommend(1003, 1000)
    found = retriever.recommend(1003, 1000)
    assert found.item_ids == everything.item_ids
    np.testing.assert_allclose(found.scores, everything.scores, rtol=1e-5)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["i0001", "i001"], r"items to remove: i001 \(did you mean i00\d\d or i00"),
        (["i0004", "i0004x"], r"items to remove: i0004x \(did you mean i0004.*none of the 60 items.*leave it out"),
        (["i0003"], "items to remove: i0003: not in the index, leave it out"),
        ("i0004", r"items to remove: must be a list of ids, got 'i0004' \(str\)"),
        ([f"i{number:04d}" for number in range(60) if number != 3], "would leave no item in the index"),
    ],
)
def test_what_cannot_be_taken_out(fitted, dataset, ids, message):
    retriever = Retriever.build(fitted, dataset, catalogue="all", k=5)
    retriever.remove_items(["i0003"])
    before = retriever.recommend(1003, 1000)
    with pytest.raises(MicrecError, match=message):
        retriever.remove_items(ids)
    assert retriever.recommend(1003, 1000) == before


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("i0003", r"history: must be a list of item ids, got 'i0003' \(str\)"),
        (b"i0003", r"history: must be a list of item ids, got b'i0003' \(bytes\)"),
        ({"i0003": 1}, r"history: must be a list of item ids, got"),
        (3, r"history: must be a list of item ids, got 3 \(int\)"),
        ([None], "history: None: none of the 60 items"),
        ([["i0003"], {}, np.array([1])], r"history: \['i0003'\], \{\}, \[1\]: none of the 60 items"),
        (["I0003"], r"history: I0003 \(did you mean i0003\?\): none of the 60 items"),
    ],
)
def test_a_history_of_another_type_is_told(fitted, dataset, wrong, told):
    with pytest.raises(MicrecError, match=told):
        Retriever.build(fitted, dataset, k=5).recommend_unseen({}, wrong, 5)


def test_fields_of_another_type_are_told(fitted, dataset):
    retriever = Retriever.build(fitted, dataset, k=5)
    with pytest.raises(MicrecError, match=r"user fields: country: takes text such as 'k\d' or 'k\d', got 3 \(int\)"):
        retriever.recommend_unseen({"country": 3}, [], 5)
    with pytest.raises(MicrecError, match=r"user fields: 2 errors\n  - country: takes one.*\n  - age: must be a f"):
        retriever.recommend_unseen({"country": ["k1"], "age": {}}, [], 5)
    for k in ("5", 2.0, True):
        with pytest.raises(ValueError, match="k must be an integer"):
            retriever.recommend_unseen({}, [], k)


@pytest.mark.parametrize("titles", [[3], [["a"]], [1.5], [b"x"]])
def test_titles_are_text(fitted, dataset, titles):
    built = Retriever.build(fitted, dataset, k=5)
    with pytest.raises(MicrecError, match="new items, title: titles are text, got a column of"):
        built.add_items(pl.DataFrame({"item_id": ["x"], "title": titles}))


@pytest.mark.parametrize("ids", [[1.5, 2.0], [True, False], [None, 2.5], [["a"], ["b"]], [{"a": 1}, {"a": 2}]])
def test_ids_are_not_rounded(fitted, dataset, ids):
    built = Retriever.build(fitted, dataset, k=5)
    with pytest.raises(MicrecError, match="no text, as the known ids are, give text"):
        built.add_items(pl.DataFrame({"item_id": ids}))


def test_spellings_nearest_first():
    ids = pl.Series(["A7", "a70", "sku-0012", "sku-0021", "1", "10", "café", "Müller, Max"])
    assert near_spellings("a7", ids) == ["A7"]
    assert near_spellings("007", pl.Series([7, 70])) == ["7"]
    assert near_spellings("7.0", pl.Series([7, 70])) == ["7"]
    assert near_spellings("01", ids) == ["1"]
    assert near_spellings("sku-012", ids)[0] == "sku-0012"
    assert near_spellings("Muller, Max", ids) == ["Müller, Max"]
    assert near_spellings("", ids) == []
    assert near_spellings("wholly else", ids) == []
