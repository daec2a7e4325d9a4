"""Exported towers give in onnxruntime what ours give: every base model, any batch and any length of history."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from micrec.data.recency import faded
from micrec.errors import MicrecError
from micrec.models.columns import TITLES, Ragged
from micrec.presets import BEST
from micrec.retrieval import Retriever
from micrec.retrieval import onnx_files as files
from micrec.retrieval.query import query_of, query_of_known
from micrec.retrieval.vector_files import CARD, export_vectors
from micrec.settings import merge
from micrec.towers import TOWERS
from tests.micrec.serving import fitted_on, small_dataset

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
CLOSE = {"rtol": 2e-5, "atol": 2e-5}
SETTINGS = {
    **{name: {"model": {"name": name}} for name in TOWERS},
    "sequence": {"model": {"options": {"behaviour_tokens": "sequence", "positions": True}}},
    "attention": {"model": {"behaviour_pooling": "attention", "linear_skip": True}},
    "terms": {"model": {"name": "fm", "options": {"item_terms": True}, "personal": True, "item_bias": True}},
    "best": {},  # all terms beside the product, titles, fading clicks
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("data") / "random")


@pytest.fixture(scope="module", params=SETTINGS)
def exported(request, dataset, tmp_path_factory):
    """A bundle and the folder of its towers."""
    bundle = Retriever.build(fitted_on(dataset, **settings_of(request.param)), dataset).bundle
    out = tmp_path_factory.mktemp("onnx") / "towers"
    export_vectors(bundle, out, format="onnx")
    return bundle, out


def settings_of(name: str) -> dict:
    if name != "best":
        return SETTINGS[name]
    keys = BEST.model_dump(mode="json", include={"preset", "model", "softmax", "train"})
    sizes = {"embedding_dim": 8, "history_length": 9, "options": {"title_dim": 6}}
    return merge(keys, {"model": sizes, "train": {"epochs": 1, "batch_size": 128, "device": "cpu"}})


def padded(rows: list[list[int]], width: int) -> np.ndarray:
    """Newest last, -1 before."""
    found = np.full((len(rows), width), -1, np.int64)
    for place, row in enumerate(rows):
        if row:
            found[place, width - len(row) :] = row
    return found


def field_inputs(columns, specs, entity: str) -> dict[str, np.ndarray]:
    found = {}
    for spec in specs:
        name = spec.name if spec.name.startswith(f"{entity}_") else f"{entity}_{spec.name}"
        if spec.multi_valued:
            ragged = columns.multi[spec.name]
            lists = [part.tolist() for part in torch.split(ragged.values, ragged.offsets.diff().tolist())]
            found[name] = padded(lists, max(1, *map(len, lists)))
        else:
            part = columns.single if spec.size else columns.numbers
            found[name] = part[spec.name].numpy()
    return found


def run(path, inputs: dict) -> list[np.ndarray]:
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = {one.name for one in session.get_inputs()}  # a field that a tower does not read is no input of its file
    return session.run(None, {name: value for name, value in inputs.items() if name in wanted})


def histories(bundle, users: int) -> list[list[int]]:
    clicks = bundle.clicks
    return [part.tolist() for part in torch.split(clicks.values, clicks.offsets.diff().tolist())][:users]


@pytest.mark.parametrize("users", [1, 25])
def test_user_vectors_are_those_of_the_service(exported, users):
    bundle, out = exported
    lists, model = histories(bundle, users), bundle.model
    rows = np.arange(users)
    query = query_of_known(bundle, rows)
    inputs = field_inputs(bundle.users.take(torch.from_numpy(rows)), model.user_fields.specs, "user")
    width = max(map(len, lists))
    inputs["history"] = padded(lists, width)
    if model.config.half_life_days is not None:
        ages = torch.split(bundle.now_ms - bundle.click_ms, bundle.clicks.offsets.diff().tolist())[:users]
        weights = np.zeros((users, width), np.float32)
        for place, age in enumerate(ages):
            weights[place, width - len(age) :] = faded(age, model.config.half_life_days).numpy()
        inputs["history_weights"] = weights
    found = run(out / "user.onnx", inputs)
    np.testing.assert_allclose(found[0], query.embeddings, **CLOSE)
    assert (len(found) == 3) == (query.own is not None)
    if query.own is not None:
        mine = [
            dict(zip(items[items >= 0], terms[items >= 0], strict=True))
            for items, terms in zip(*found[1:], strict=True)
        ]
        for user, terms in enumerate(mine):
            wanted = query.own.take(torch.tensor([user]))
            assert sorted(terms) == wanted.values.tolist()
            np.testing.assert_allclose([terms[item] for item in sorted(terms)], wanted.weights.numpy(), **CLOSE)


@pytest.mark.parametrize("clicks", [0, 1, 3, 9])
def test_any_length_of_history(exported, clicks):
    bundle, out = exported
    history = list(np.random.default_rng(clicks).integers(0, bundle.items.n, clicks))
    ragged = Ragged(torch.tensor(history, dtype=torch.int64), torch.tensor([0, clicks]))
    if bundle.model.config.half_life_days is not None:
        ragged = ragged._replace(weights=torch.ones(clicks))
    users = bundle.users.take(torch.tensor([3]))
    inputs = field_inputs(users, bundle.model.user_fields.specs, "user")
    inputs |= {"history": padded([history], clicks), "history_weights": np.ones((1, clicks), np.float32)}
    found = run(out / "user.onnx", inputs)[0]
    np.testing.assert_allclose(found, query_of(bundle, users, ragged).embeddings, **CLOSE)


def test_item_vectors_are_those_of_the_index(exported):
    bundle, out = exported
    if not (out / "item.onnx").exists():
        pytest.skip("items without fields")
    table = pl.read_parquet(out / "items.parquet")
    assert table["item_id"].to_list() == bundle.item_ids.to_list()
    columns = bundle.items.take(torch.arange(bundle.items.n))
    inputs = field_inputs(columns, bundle.model.item_fields.specs, "item")
    if TITLES in columns.vectors:
        inputs["title_vector"] = columns.vectors[TITLES].numpy()
    if "prior" in table.columns:
        inputs["prior"] = table["prior"].to_numpy()
    found = run(out / "item.onnx", inputs)[0]
    listed = table["vector"].is_not_null().to_numpy()
    np.testing.assert_allclose(found[listed], np.stack(table.filter(listed)["vector"].to_numpy()), **CLOSE)
    assert listed.sum() == len(bundle.candidates)


def test_a_large_table_of_items_lies_in_a_file_of_its_own(exported, tmp_path):
    bundle, _ = exported
    files.write_towers(bundle, tmp_path, inline_bytes=0)
    assert (tmp_path / files.TABLE_FILE).stat().st_size > 0
    inputs = field_inputs(bundle.users.take(torch.tensor([0])), bundle.model.user_fields.specs, "user")
    inputs |= {"history": np.array([[1, 2]]), "history_weights": np.ones((1, 2), np.float32)}
    assert np.isfinite(run(tmp_path / "user.onnx", inputs)[0]).all()


def test_the_card_names_inputs_and_outputs(exported):
    bundle, out = exported
    card = json.loads((out / CARD).read_text())
    assert card["format"] == "onnx"
    assert card["user.onnx"]["inputs"]["history"]["shape"] == ["batch", "clicks"]
    assert card["user.onnx"]["outputs"][0] == "embedding"
    fields = json.loads((out / "fields.json").read_text())
    assert fields["item"].keys() == {spec.name for spec in bundle.model.item_fields.specs}


def test_a_tower_that_cannot_be_exported_is_an_error(dataset, tmp_path, monkeypatch):
    bundle = Retriever.build(fitted_on(dataset, model={"name": "youtube_dnn"}), dataset).bundle
    ours = type(bundle.model).encode_user

    def ragged_alone(tower, users, history, items):
        return history.offsets if torch.jit.is_tracing() else ours(tower, users, history, items)

    monkeypatch.setattr(type(bundle.model), "encode_user", ragged_alone)
    with pytest.raises(
        MicrecError, match=r"--format onnx: the tower youtube_dnn cannot be exported .*: choose parquet"
    ):
        export_vectors(bundle, tmp_path / "towers", format="onnx")
    assert not (tmp_path / "towers").exists()
