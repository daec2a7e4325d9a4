"""Many lists by one search, against single requests; a request that cannot be answered leaves the others alone."""

import numpy as np
import pytest

from micrec.errors import MicrecError
from micrec.retrieval import ListRequest, Retriever
from tests.micrec.serving import clicks_of, fitted_on, outside, small_dataset

BASES = {
    "personal": {"model": {"name": "fm", "personal": True, "item_bias": True}},
    "interests": {"model": {"name": "comirec_sa"}},
    "plain": {},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("data") / "random")


@pytest.fixture(scope="module", params=BASES)
def retriever(request, dataset):
    return Retriever.build(fitted_on(dataset, **BASES[request.param]), dataset)


def mixed_requests(dataset) -> list[ListRequest]:
    """Known and unseen users in turn, with lists of several lengths, with and without what was clicked."""
    asked = []
    for user in range(len(dataset.users)):
        history = outside(dataset, clicks_of(dataset, user))
        asked.append(ListRequest(1 + user % 9, user=dataset.users.ids[user], hide_seen=user % 2 == 0))
        asked.append(ListRequest(3 + user % 5, fields={"country": "c1"}, history=history, hide_seen=user % 3 == 0))
    return asked


def alone(retriever: Retriever, request: ListRequest):
    if request.user is not None:
        return retriever.recommend(request.user, request.k, hide_seen=request.hide_seen)
    return retriever.recommend_unseen(request.fields, request.history, request.k, hide_seen=request.hide_seen)


def test_many_lists_are_those_of_single_requests(retriever, dataset):
    asked = mixed_requests(dataset)
    for request, found in zip(asked, retriever.recommend_many(asked), strict=True):
        expected = alone(retriever, request)
        assert found.item_ids == expected.item_ids
        assert found.titles == expected.titles
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_answered_has_its_error_in_its_place(retriever, dataset):
    user = dataset.users.ids[0]
    asked = [
        ListRequest(2, user="nobody"),
        ListRequest(2, user=user),
        ListRequest(0, user=user),
        ListRequest(2, history=["no such item"]),
        ListRequest(2, fields={"no such field": 1}),
        ListRequest(2),
    ]
    found = retriever.recommend_many(asked)
    told = [str(one) if isinstance(one, MicrecError) else None for one in found]
    assert [told[place] is None for place in range(6)] == [False, True, False, False, False, True]
    assert "user nobody" in told[0]
    assert "at least 1" in told[2]
    assert "no such item" in told[3]
    assert "no such field" in told[4]
    assert found[1].item_ids == retriever.recommend(user, 2).item_ids
    assert found[5].item_ids == retriever.recommend_unseen({}, [], 2).item_ids


def test_no_request_no_list(retriever):
    assert retriever.recommend_many([]) == []


def test_lists_end_where_the_index_does(retriever, dataset):
    n = retriever.bundle.index.ntotal
    short, long = retriever.recommend_many([ListRequest(2), ListRequest(n + 50)])
    assert len(short.item_ids) == 2
    assert len(long.item_ids) == n
    assert len(set(long.item_ids)) == n
