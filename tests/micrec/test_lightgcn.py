"""LightGCN against its published rule with dense matrices in float64, from training to served lists."""

import numpy as np
import pytest
import torch

from micrec.config import Config
from micrec.errors import MicrecError
from micrec.fitting import fit
from micrec.model_folder import load_model, save_model
from micrec.models.columns import FieldColumns, Ragged
from micrec.models.graph import ClickGraph, spread_items
from micrec.progress import NoProgress
from micrec.retrieval import Retriever
from micrec.settings import validate
from tests.micrec.factories import random_dataset
from tests.micrec.serving import outside
from tests.micrec.test_training import OFF, config_of, trainer_of

BARE = {"name": "lightgcn", "item_fields": [], "user_fields": [], "history_length": 1000, "init_scale": 0.5}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(
        tmp_path_factory.mktemp("data") / "random", np.random.default_rng(3), n_users=25, n_items=40, n_clicks=300
    )


def adjacency(users, items, n_users, n_items):
    """A of the paper, (U + N, U + N), with zeros for those without a click, and the degrees."""
    matrix = np.zeros((n_users + n_items, n_users + n_items))
    for user, item in zip(users, items, strict=True):
        matrix[user, n_users + item] = matrix[n_users + item, user] = 1.0
    degrees = matrix.sum(axis=1)
    roots = np.sqrt(np.maximum(degrees, 1.0))
    return matrix / roots / roots[:, None], degrees


def layers_of(matrix, start, count):
    found = [start]
    for _ in range(count):
        found.append(matrix @ found[-1])
    return found


@pytest.mark.parametrize("with_users", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_spreading_is_the_dense_recursion(layers, with_users):
    """Values, and gradients against autograd through the dense matrix."""
    generator = torch.Generator().manual_seed(layers)
    clicked = torch.randint(0, 7, (30,), generator=generator), torch.randint(0, 9, (30,), generator=generator)
    matrix, _ = adjacency(clicked[0].tolist(), clicked[1].tolist(), 8, 10)  # user 7 and item 9 have no click
    users, items = (torch.randn(n, 4, generator=generator).double().requires_grad_() for n in (8, 10))
    start = torch.cat([users if with_users else torch.zeros_like(users), items])
    dense = layers_of(torch.from_numpy(matrix), start, layers)
    expected = [sum(layer[8:] for layer in dense[1:stop]) for stop in (layers + 1, layers)]
    expected[1] = torch.zeros(10, 4).double() + expected[1]
    found = spread_items(items, users if with_users else None, ClickGraph.of(*clicked, 8, 10), layers)
    weights = [torch.randn(10, 4, generator=generator).double() for _ in range(2)]
    read = [items, users] if with_users else [items]
    totals = [sum((w * part).sum() for w, part in zip(weights, parts, strict=True)) for parts in (found, expected)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    ours, theirs = (torch.autograd.grad(total + 0.0 * items.sum(), read, allow_unused=True) for total in totals)
    for start, *gradients in zip(read, ours, theirs, strict=True):
        one, other = (torch.zeros_like(start) if gradient is None else gradient for gradient in gradients)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def all_layers(trainer, n_train, dataset, layers):
    """Layers 0 .. K of users and of items from the id tables, and the degrees."""
    clicks = dataset.clicks[:n_train]
    n_users, n_items = len(dataset.users), len(dataset.items)
    matrix, degrees = adjacency(clicks.user_ids, clicks.item_ids, n_users, n_items)
    model = trainer.model
    items = model.item_fields.tables["item_id"].weight[1:].detach().double().numpy()
    with_users = "user_id" in model.user_fields.tables
    users = model.user_fields.tables["user_id"].weight[1:].detach().double().numpy() if with_users else None
    start = np.concatenate([np.zeros((n_users, items.shape[1])) if users is None else users, items])
    found = layers_of(matrix, start, layers)
    return [layer[:n_users] for layer in found], [layer[n_users:] for layer in found], degrees[n_users:]


@pytest.mark.parametrize("user_id", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_towers_are_the_mean_of_the_layers(dataset, user_id, training):
    """With the whole of their training clicks as history, users are where the paper's matrix puts them."""
    trainer = trainer_of(dataset, model=BARE | {"user_id": user_id}, contrast=OFF)
    model, n_train = trainer.model, len(trainer.data)
    model.train()
    if not training:
        model.eval()
    users, items, _ = all_layers(trainer, n_train, dataset, 3)
    columns = trainer.data.fields.items
    fields = model.embed_items(columns.take(torch.arange(columns.n)))
    train = dataset.clicks[:n_train]
    histories = [train.item_ids[train.user_ids == user].tolist() for user in range(len(dataset.users))]
    history = Ragged(
        torch.tensor([item for row in histories for item in row]), torch.tensor(np.cumsum([0, *map(len, histories)]))
    )
    everyone = trainer.data.fields.users.take(torch.arange(len(dataset.users)))
    user_emb = model.user_tower(everyone, history, fields).detach().numpy()
    clicked = np.bincount(train.item_ids, minlength=len(dataset.items)) > 0
    np.testing.assert_allclose(
        model.item_tower(fields).detach().numpy()[clicked], np.mean(items, axis=0)[clicked], rtol=1e-4, atol=1e-6
    )
    known = np.array([bool(row) for row in histories])
    np.testing.assert_allclose(user_emb[known], np.mean(users, axis=0)[known], rtol=1e-4, atol=1e-6)


def test_a_new_user_is_what_they_clicked(dataset):
    """(1 / 4) of the sums of layers 0 to 2 of the items, over the roots of 3 and of each item's users."""
    trainer = trainer_of(dataset, model=BARE | {"user_id": True}, contrast=OFF)
    model = trainer.model.train().eval()
    _, items, degrees = all_layers(trainer, len(trainer.data), dataset, 3)
    columns = trainer.data.fields.items
    fields = model.embed_items(columns.take(torch.arange(columns.n)))
    clicked = [int(item) for item in np.flatnonzero(degrees)[:3]]
    nobody = FieldColumns(n=1, single={"user_id": torch.tensor([0])}, multi={}, numbers={})
    found = model.user_tower(nobody, Ragged(torch.tensor(clicked * 2), torch.tensor([0, 6])), fields)
    layers = sum(items[:3])
    expected = sum(layers[item] / np.sqrt(3 * degrees[item]) for item in clicked) / 4
    np.testing.assert_allclose(found[0].detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_other_fields_count_at_their_own_item_and_for_items_without_clicks(dataset):
    """The fields join layer 0, and do not spread."""
    trainer = trainer_of(dataset, model={**BARE, "item_fields": None}, contrast=OFF)
    model = trainer.model.train().eval()
    _, items, degrees = all_layers(trainer, len(trainer.data), dataset, 3)
    columns = trainer.data.fields.items.take(torch.arange(len(dataset.items)))
    embedded = model.item_fields(columns).detach().double().numpy()
    expected = (embedded.sum(axis=1) + np.where(degrees[:, None] > 0, sum(items[1:]), 0.0)) / 4
    found = model.item_tower(model.embed_items(columns)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert (degrees == 0).any()


def test_hidden_clicks_make_a_shorter_history(dataset):
    """In training each item of the history is there or not, and the degree is that of what is there."""
    trainer = trainer_of(dataset, model=BARE | {"history_dropout": 0.5}, contrast=OFF)
    model = trainer.model.eval()
    columns = trainer.data.fields.items
    fields = model.embed_items(columns.take(torch.arange(columns.n)))
    n = 400
    nobody = FieldColumns(n=n, single={}, multi={}, numbers={})
    history = Ragged(torch.tensor([2, 9]).repeat(n), torch.arange(0, 2 * n + 1, 2))
    one, other = fields[2, -1] / 4, fields[9, -1] / 4
    possible = torch.stack([torch.zeros_like(one), one, other, (one + other) / 2**0.5])
    found = model.train().user_tower(nobody, history, fields)
    nearest = (found[:, None] - possible).norm(dim=2)
    assert nearest.min(dim=1).values.max() < 1e-6
    assert (torch.bincount(nearest.argmin(dim=1), minlength=4) > 60).all()


@pytest.mark.parametrize("terms", [{}, {"personal": True, "item_bias": True, "half_life_days": 3.0}])
def test_saved_loaded_and_served_it_ranks_alike(dataset, tmp_path, terms):
    config = config_of(
        model={**BARE, "user_id": True, **terms},
        contrast=OFF,
        train={"rows": "session", "context": "before_session", "epochs": 2, "patience": 0},
    )
    fitted = fit(dataset, config)
    save_model(fitted, dataset, tmp_path / "model")
    loaded = load_model(tmp_path / "model", dataset, device="cpu")
    columns = fitted.fields.items.take(torch.arange(len(dataset.items)))
    torch.testing.assert_close(loaded.model.embed_items(columns), fitted.model.embed_items(columns), rtol=0, atol=0)
    assert fitted.model.found.abs().max() > 0
    retriever = Retriever.build(loaded, dataset)
    retriever.save(tmp_path / "bundle")
    again = Retriever.load(tmp_path / "bundle")
    for user in (0, 7):
        first, second = (one.recommend(dataset.users.ids[user], 8) for one in (retriever, again))
        assert first == second
    unseen = again.recommend_unseen({}, outside(dataset, [3, 5]), 8)
    assert len(unseen.item_ids) == 8
    again.add_items({"item_id": ["new one"], "title": ["word1 thing"]})
    assert "new one" in again.recommend(dataset.users.ids[0], 100).item_ids


def test_evaluation_in_the_middle_leaves_the_training_as_it_is(dataset):
    """What is kept for use is made of the vectors, and never the other way round."""
    plain, looked = (trainer_of(dataset, model=BARE | {"user_id": True, "id_dropout": 0.2}) for _ in range(2))
    for _ in range(2):
        plain.epoch(NoProgress())
        looked.epoch(NoProgress())
        looked.model.eval()
    for name, tensor in plain.model.named_parameters():
        assert torch.equal(tensor, dict(looked.model.named_parameters())[name]), name


def test_parameters_of_another_day_are_spread_over_todays_graph(dataset):
    """What a platform does that goes on from yesterday's model: the graph is today's, its degrees too."""
    yesterday, today = trainer_of(dataset, model=BARE), trainer_of(dataset, model=BARE)
    expected = today.model.train().degrees.clone()
    yesterday.model.degrees[1:] = 9.0
    today.load_parameters(yesterday.parameters())
    today.epoch(NoProgress())
    today.model.eval()
    assert torch.equal(today.model.degrees, expected)
    columns = today.data.fields.items.take(torch.arange(len(dataset.items)))
    _, items, _ = all_layers(today, len(today.data), dataset, 3)
    found = today.model.item_tower(today.model.embed_items(columns)).detach().numpy()
    clicked = expected[1:].numpy() > 1
    np.testing.assert_allclose(found[clicked], np.mean(items, axis=0)[clicked], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mask", ["element", "field", "categorical", "rfm", "cfm"])
@pytest.mark.parametrize("apply_on", ["input", "tower"])
def test_every_mask_of_the_feature_loss_fits(dataset, mask, apply_on):
    trainer = trainer_of(
        dataset, model={"name": "lightgcn"}, contrast={"feature": {"mask": mask, "apply_on": apply_on}}
    )
    first = trainer.epoch(NoProgress()).losses["feature"]
    for _ in range(4):
        last = trainer.epoch(NoProgress()).losses["feature"]
    assert last < first


def test_without_item_ids_there_is_no_graph():
    with pytest.raises(MicrecError, match="name lightgcn needs item_id true, got false: set item_id to true"):
        validate(Config, {"model": {"name": "lightgcn", "item_id": False}}, where="x")
