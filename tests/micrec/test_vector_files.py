"""Exported vectors give the lists that serving gives, by arithmetic on the files alone."""

import json

import numpy as np
import polars as pl
import pytest

from micrec.errors import MicrecError
from micrec.retrieval import Retriever
from micrec.retrieval.vector_files import CARD, COLLECTION, export_vectors
from tests.micrec.serving import fitted_on, small_dataset

BASES = {
    "personal": {"model": {"name": "fm", "personal": True, "item_bias": True}},
    "interests": {"model": {"name": "comirec_sa"}},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("data") / "random")


@pytest.fixture(scope="module", params=BASES)
def retriever(request, dataset):
    return Retriever.build(fitted_on(dataset, **BASES[request.param]), dataset)


def ranked(folder, user, k: int) -> list[object]:
    """The k best items of a user: highest product of any interest, plus the term of own items."""
    items, users = pl.read_parquet(folder / "items.parquet"), pl.read_parquet(folder / "users.parquet")
    vectors = users.filter(pl.col("user_id") == user)["vector"].to_numpy()
    scores = dict(zip(items["item_id"], (items["vector"].to_numpy() @ vectors.T).max(axis=1).tolist(), strict=True))
    if (folder / "own_items.parquet").exists():
        own = pl.read_parquet(folder / "own_items.parquet").filter(pl.col("user_id") == user)
        for item, term in zip(own["item_id"], own["term"], strict=True):
            scores[item] += term
    return sorted(scores, key=lambda item: -scores[item])[:k]


def test_lists_from_parquet_are_those_of_the_retriever(retriever, dataset, tmp_path):
    out = tmp_path / "vectors"
    done = export_vectors(retriever.bundle, out, format="parquet")
    for user in dataset.users.ids:
        assert ranked(out, user, 8) == retriever.recommend(user, 8).item_ids
    card = json.loads((out / CARD).read_text())
    assert (card["items"], card["users"], card["dim"]) == (done.items, len(dataset.users), retriever.bundle.index.d)
    assert ("own_items" in card["score"]) == (out / "own_items.parquet").exists() == (done.own_items > 0)


def test_own_items_are_listed_ones(retriever, dataset, tmp_path):
    """What is taken out of the index is in no file."""
    user = dataset.users.ids[0]
    changed = Retriever(retriever.bundle)
    gone = next(item for item in changed.clicked_by(user) if item in set(changed.recommend(user, 100).item_ids))
    changed.remove_items([gone])
    export_vectors(changed.bundle, tmp_path / "vectors", format="parquet")
    assert gone not in pl.read_parquet(tmp_path / "vectors" / "items.parquet")["item_id"].to_list()
    if (own := tmp_path / "vectors" / "own_items.parquet").exists():
        assert gone not in pl.read_parquet(own)["item_id"].to_list()
    assert ranked(tmp_path / "vectors", user, 5) == changed.recommend(user, 5).item_ids


def test_a_folder_is_replaced_only_on_request_and_only_by_its_kind(retriever, tmp_path):
    out = tmp_path / "vectors"
    export_vectors(retriever.bundle, out, format="parquet")
    with pytest.raises(MicrecError, match="--force"):
        export_vectors(retriever.bundle, out, format="parquet")
    export_vectors(retriever.bundle, out, format="parquet", overwrite=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("kept")
    with pytest.raises(MicrecError, match="not a folder of vectors"):
        export_vectors(retriever.bundle, other, format="parquet", overwrite=True)
    assert (other / "letter.txt").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "vectors"]


def test_qdrants_lists_are_exact(retriever, dataset, tmp_path):
    client_of = pytest.importorskip("qdrant_client", reason='pip install "micrec[qdrant]"').QdrantClient
    out = tmp_path / "vectors"
    export_vectors(retriever.bundle, out, format="qdrant")
    users = pl.read_parquet(out / "users.parquet")
    client = client_of(path=str(out / "qdrant"))
    try:
        vectors = retriever.bundle.vectors
        names = retriever.bundle.item_ids.gather(retriever.bundle.candidates).to_list()
        for vector in users["vector"].head(5).to_numpy():
            found = client.query_points(COLLECTION, query=vector.tolist(), limit=6).points
            best = np.argsort(-(vectors @ vector), kind="stable")[:6]
            assert [point.payload["item_id"] for point in found] == [names[row] for row in best]
    finally:
        client.close()


def test_a_missing_package_is_named(retriever, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(MicrecError, match=r'pip install "micrec\[qdrant\]"'):
        export_vectors(retriever.bundle, tmp_path / "vectors", format="qdrant")
    assert not (tmp_path / "vectors").exists()


@pytest.mark.parametrize("base", BASES)
def test_an_index_of_codes_exports_and_keeps_the_vectors_of_the_towers(base, dataset, tmp_path):
    """Files have what the flat index has; taking items out and saving loses nothing to the codes."""
    fitted = fitted_on(dataset, **BASES[base])
    flat, coded = Retriever.build(fitted, dataset), Retriever.build(fitted, dataset, kind="ivfpq")
    user, gone = dataset.users.ids[0], dataset.items.ids[3]
    for step in range(2):
        files = []
        for name, retriever in (("flat", flat), ("coded", coded)):
            folder = tmp_path / f"{name}{step}"
            export_vectors(retriever.bundle, folder, format="parquet")
            files.append(pl.read_parquet(folder / "items.parquet"))
        assert files[0].drop("vector").equals(files[1].drop("vector"))
        np.testing.assert_allclose(files[0]["vector"].to_numpy(), files[1]["vector"].to_numpy(), rtol=1e-5, atol=1e-6)
        if step == 0:
            flat.remove_items([gone])
            coded.remove_items([gone])
    coded.save(tmp_path / "bundle")
    again = Retriever.load(tmp_path / "bundle")
    assert again.recommend(user, 10).item_ids == coded.recommend(user, 10).item_ids
    assert gone not in coded.recommend(user, 100).item_ids
