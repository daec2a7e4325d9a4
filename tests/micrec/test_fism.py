"""FISM: its user vector by loops, titles beside ids, ids that count with their clicks, and a start from EASE."""

import math

import numpy as np
import pytest
import torch

from micrec.config import Config
from micrec.data.title_kernel import title_vectors
from micrec.item_losses.item_set import ItemSet
from micrec.models.columns import FieldColumns, Ragged
from micrec.models.ease_start import ease_factors
from micrec.models.start import StartValues
from micrec.progress import NoProgress
from micrec.retrieval import Retriever
from micrec.settings import merge
from micrec.training import Trainer
from tests.micrec.factories import random_dataset
from tests.micrec.serving import OFF, fitted_on, outside

MODEL = {
    "name": "fism",
    "embedding_dim": 4,
    "options": {"title_dim": 5, "id_gate": 3.0, "title_scale": 0.5},
    "init_scale": 1.0,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(
        tmp_path_factory.mktemp("data") / "random", np.random.default_rng(3), n_users=25, n_items=60, n_clicks=300
    )


def trainer_of(dataset, **changes):
    keys = {
        "model": MODEL,
        "contrast": OFF,
        "softmax": {"num_negatives": 5},
        "train": {"batch_size": 64, "epochs": 1, "device": "cpu"},
    }
    return Trainer(dataset, dataset.clicks[:200], Config.model_validate(merge(keys, changes)))


def gates_by_hand(options, specs, table, codes):
    """What each field of every row counts, float64, (N, F): n / (n + gate) by the clicks on or by rows of a value."""
    clicks = np.bincount(codes, minlength=len(table)).astype(float)
    found = np.zeros((len(table), len(specs)))
    for column, spec in enumerate(specs):
        if spec.own_id:
            found[:, column] = clicks / (clicks + options.id_gate) if options.id_gate else 1.0
            continue
        values = table.frame[spec.name].to_list()
        rows = [value if isinstance(value, list) else [value] for value in values]
        of_value = {}
        for row, own in zip(rows, clicks, strict=True):
            for value in row:
                of_value[value] = of_value.get(value, 0.0) + own
        gate = options.value_gate if spec.size else 0.0
        counts = {value: n / (n + gate) if gate else 1.0 for value, n in of_value.items()}
        found[:, column] = [options.field_scale * np.mean([counts[one] for one in row]) if row else 0 for row in rows]
    return found


def vectors_by_hand(trainer, dataset):
    """p and q of every item, float64: gated id and other fields, and the title's numbers."""
    model, items = trainer.model, trainer.data.fields.items
    gates = gates_by_hand(model.options, model.item_fields.specs, dataset.items, dataset.clicks[:200].item_ids)
    embedded = model.item_fields(items.take(torch.arange(items.n))).detach().double().numpy()
    titles = title_vectors(dataset.items.frame["title"].to_list(), 5).astype(np.float64)
    p, q = [], []
    for item in range(items.n):
        total = (gates[item, :, None] * embedded[item]).sum(axis=0)
        p.append([*total[:4], *(model.title_factor.item() * titles[item])])
        q.append([*total[4:], *titles[item]])
    return np.array(p), np.array(q)


@pytest.mark.parametrize("options", [{}, {"value_gate": 8.0, "field_scale": 0.5}, {"field_scale": 2.0, "id_gate": 0.0}])
def test_items_are_the_sum_of_what_their_fields_count(dataset, options):
    """On rows of any kind: as lists, and as the padded lists of fixed shapes."""
    trainer = trainer_of(dataset, model={"options": options})
    model, items = trainer.model.eval(), trainer.data.fields.items
    p, q = vectors_by_hand(trainer, dataset)
    assert {spec.name for spec in model.item_fields.specs} >= {"item_id", "category", "tags", "price"}
    for taken in (items.take(torch.arange(items.n)), items.take_padded(torch.arange(items.n))):
        fields = model.embed_items(taken)
        np.testing.assert_allclose(model.item_tower(fields).detach().numpy(), p, rtol=1e-4, atol=1e-5)
        history = Ragged(torch.arange(items.n), torch.arange(items.n + 1))
        users = trainer.data.fields.users.take(torch.zeros(items.n, dtype=torch.int64))
        read = model.user_tower(users, history, fields).detach().numpy()
        lone = model.embed_users(users).detach().numpy()[:, :, :4].sum(axis=1)
        np.testing.assert_allclose(read - np.pad(lone, ((0, 0), (0, 5))), q, rtol=1e-4, atol=1e-4)


def test_fields_are_summed_at_once_where_no_loss_hides_some(dataset):
    """The towers and the gradients of all tables are the same; the feature loss gets every field by itself."""
    trainers = [trainer_of(dataset, model={"options": {"value_gate": 8.0, "field_scale": 0.5}}) for _ in range(2)]
    trainers[1].model.sums_fields = False
    rows, found = torch.arange(len(dataset.items)), []
    for trainer in trainers:
        model = trainer.model.train()
        fields = model.embed_items(trainer.data.fields.items.take(rows))
        model.item_tower(fields).square().sum().backward()
        found.append((fields.shape[1], {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (summed, gradients), (apart, expected) = found
    assert (summed, apart) == (1 + 1, 4 + 1)  # behind them the titles
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient.to_dense(), expected[name].to_dense(), msg=name)
    hiding = {"contrast": {"feature": {"weight": 0.1, "form": "pseudo_clicks", "mask": "field"}}}
    assert not trainer_of(dataset, **hiding).model.sums_fields


def test_fields_of_users_count_by_the_clicks_of_their_users(dataset):
    trainer = trainer_of(dataset, model={"options": {"value_gate": 8.0, "field_scale": 0.5}})
    model = trainer.model.eval()
    users = trainer.data.fields.users.take(torch.arange(len(dataset.users)))
    gates = gates_by_hand(model.options, model.user_fields.specs, dataset.users, dataset.clicks[:200].user_ids)
    assert {spec.name for spec in model.user_fields.specs} == {"country", "age"}
    expected = gates[:, :, None] * model.user_fields(users).detach().double().numpy()
    np.testing.assert_allclose(model.embed_users(users).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_values_that_a_loss_drops_leave_the_mean_of_the_gates(dataset):
    trainer = trainer_of(dataset, model={"options": {"value_gate": 8.0}})
    model, items = trainer.model.eval(), trainer.data.fields.items
    rows = torch.arange(items.n)
    ragged, padded = items.take(rows), items.take_padded(rows)
    first = torch.ones(len(ragged.multi["tags"].values), dtype=torch.bool)
    first[ragged.multi["tags"].offsets[1:] - 1] = False  # the last value of each row is dropped
    shown = padded.multi["tags"].mask.clone()
    shown[torch.arange(items.n), padded.multi["tags"].lengths.clamp_min(1) - 1] = False
    found = model.embed_fields(ragged, keep={"tags": first})
    torch.testing.assert_close(found, model.embed_fields(padded, keep={"tags": shown}))
    assert not torch.allclose(found, model.embed_fields(ragged))


def test_a_model_stored_before_has_the_gates_of_its_ids(dataset):
    model = trainer_of(dataset).model
    stored = {key: value for key, value in model.state_dict().items() if not key.startswith("gates.")}
    stored["gates"] = torch.linspace(0, 1, len(dataset.items) + 1)
    found = trainer_of(dataset, model={"options": {"value_gate": 0.0}}).model
    found.load_state_dict(stored)
    assert torch.equal(found.gates.by_code(0), stored["gates"])


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_towers_are_the_sums_of_the_paper(dataset, alpha):
    trainer = trainer_of(dataset, model={"options": {"alpha": alpha}})
    model = trainer.model.eval()
    with torch.no_grad():
        model.scale.fill_(1.7)
    p, q = vectors_by_hand(trainer, dataset)
    histories = [[3, 7, 3, 3], [], [11, 0]]
    values = torch.tensor([item for row in histories for item in row])
    history = Ragged(values, torch.tensor([0, 4, 4, 6]), torch.tensor([1.0, 0.5, 0.25, 1.0, 0.5, 1.0]))
    fields = model.embed_items(trainer.data.fields.items.take(torch.arange(len(dataset.items))))
    users = trainer.data.fields.users.take(torch.tensor([4, 5, 6]))
    found = model.user_tower(users, history, fields).detach().numpy()
    counts = [{3: 2.25, 7: 0.5}, {}, {11: 0.5, 0: 1.0}]
    user_fields = model.user_fields(users).detach().double().numpy()[:, :, :4].sum(axis=1)
    for row, counted in enumerate(counts):
        squares = max(sum(math.log(1 + count) ** 2 for count in counted.values()), 1e-6)
        expected = np.zeros(9)
        for item, count in counted.items():
            expected += 1.7 * math.log(1 + count) / squares**alpha * q[item]
        expected[:4] += user_fields[row]
        assert found[row] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(model.item_tower(fields).detach().numpy(), p, rtol=1e-4, atol=1e-5)


def test_hidden_clicks_keep_the_expected_sum(dataset):
    """Each item stays with probability .6 and counts 1 / .6; the length is that of the whole profile."""
    trainer = trainer_of(dataset, model={"history_dropout": 0.4, "options": {"title_dim": 0, "id_gate": 0.0}})
    model = trainer.model.train()
    items = trainer.data.fields.items.take(torch.arange(len(dataset.items)))
    fields = model.embed_items(items)
    n = 4000
    history = Ragged(torch.tensor([2, 9, 30]).repeat(n), torch.arange(0, 3 * n + 1, 3))
    users = FieldColumns(
        n=n,
        single={"country": torch.zeros(n, dtype=torch.int64)},
        multi={},
        numbers={"age": torch.zeros(n)},
    )
    with torch.no_grad():
        drawn = model.user_tower(users, history, fields).double()
        whole = model.eval().user_tower(users, history, fields)[0].double()
        spread = drawn.std(dim=0) / n**0.5
    assert ((drawn.mean(dim=0) - whole).abs() < 5 * spread + 1e-5).all()
    assert drawn.std() > 0.01


def test_titles_that_share_rare_words_are_near():
    """Dot products of the factor are the kernel's where all of it is kept; words of one title are left out."""
    titles = ["red mug tea", "red mug tea", "red lamp", "blue lamp", None, "alone"]
    vectors = title_vectors(titles, 6)
    words = ["red", "mug", "tea", "lamp"]
    idf = {word: math.log(7 / (1 + sum(word in (title or "").split() for title in titles))) + 1 for word in words}
    rows = np.array([[idf[word] * (word in (title or "").split()) for word in words] for title in titles])
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    kernel = (rows @ rows.T) ** 2  # its diagonal is 1: the factor's rows have length 1 already
    np.testing.assert_allclose(vectors @ vectors.T, kernel, atol=1e-4)
    assert not vectors[4:].any()
    assert not title_vectors([None, "one", "two"], 3).any()


def test_start_from_ease_is_the_truncated_matrix():
    """Against the textbook: invert X'X + lambda, divide, cut the singular values."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 30, 400), rng.integers(0, 12, 400) + 1  # item 0 is never clicked
    counted = np.zeros((30, 13))
    np.add.at(counted, (users, items), 1.0)
    x = np.log1p(counted[:, 1:])
    inverse = np.linalg.inv(x.T @ x + 20.0 * np.eye(12))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    left, sizes, right = np.linalg.svd(weights)
    values = StartValues(
        torch.from_numpy(users), torch.from_numpy(items), torch.from_numpy(np.bincount(items, minlength=13)), 30, 1.0
    )
    p, q, known = ease_factors(values, 3, ridge=20.0)
    assert known.tolist() == [False] + [True] * 12
    expected = (left[:, :3] * sizes[:3]) @ right[:3]
    np.testing.assert_allclose((q @ p.T).numpy()[1:, 1:], expected, atol=1e-4)
    assert not p[0].any()
    assert not q[0].any()


def test_only_the_most_clicked_items_start_from_ease(dataset, monkeypatch):
    monkeypatch.setattr("micrec.models.ease_start.MOST_ITEMS", 7)
    counts = np.bincount(dataset.clicks[:200].item_ids, minlength=len(dataset.items))
    most = sorted(sorted(range(len(counts)), key=lambda item: (-counts[item], item))[:7])
    tables = [
        trainer_of(dataset, model={"options": {"start": start}}).model.item_fields.tables["item_id"].weight
        for start in ("random", "ease")
    ]
    moved = (tables[0] != tables[1]).any(dim=1).nonzero().squeeze(1) - 1
    assert moved.tolist() == most


def test_titles_place_items_without_clicks(dataset, tmp_path):
    """The whole catalogue is served; an item nobody clicked has the score of its title, its fields and its prior."""
    fitted = fitted_on(dataset, model={**MODEL, "history_length": 4})
    Retriever.build(fitted, dataset, catalogue="all").save(tmp_path / "bundle")
    retriever = Retriever.load(tmp_path / "bundle")
    model = fitted.model.eval()
    with torch.no_grad():
        fields = model.embed_items(fitted.fields.items.take(torch.arange(len(dataset.items))))
        item_emb = model.item_tower(fields).double().numpy()
        for user in range(5):
            clicks = [
                item
                for who, item in zip(dataset.clicks.user_ids.tolist(), dataset.clicks.item_ids.tolist(), strict=True)
                if who == user
            ][-4:]
            history = Ragged(torch.tensor(clicks), torch.tensor([0, len(clicks)]))
            user_emb = model.user_tower(fitted.fields.users.take(torch.tensor([user])), history, fields)[0].double()
            scores = item_emb @ user_emb.numpy()
            expected = sorted(range(len(scores)), key=lambda item: -scores[item])[:9]
            assert retriever.recommend(dataset.users.ids[user], 9).item_ids == outside(dataset, expected)
    untrained = np.bincount(dataset.clicks.item_ids[: fitted.trained_clicks], minlength=len(dataset.items)) == 0
    assert untrained.any()
    assert (np.linalg.norm(item_emb[untrained][:, 4:], axis=1) > 0).all()


# -- the item losses as pseudo-clicks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [("fism", "semantic"), ("fm", "semantic"), ("mind", "semantic"), ("ican", "session"), ("fism", "session")],
)
def test_pseudo_clicks_are_a_softmax_over_the_train_items_without_the_anchor(dataset, name, kind):
    """By loops: the user tower reads the anchor alone; its positive is to be found by dot product and bias."""
    trainer = trainer_with_pseudo_clicks(dataset, name, kind)
    loss = trainer.contrast.losses[kind]
    model = trainer.model.eval()
    drawn = loss.draw(ItemSet(torch.arange(40)), None, torch.Generator().manual_seed(0))
    clicks = np.bincount(dataset.clicks[:200].item_ids, minlength=len(dataset.items))
    assert (clicks[drawn.targets.numpy()] > 0).all()
    assert len(drawn.targets) >= 20
    seen = {}
    losses = trainer.losses
    trainer.contrast.draw = lambda targets, streams, pool: seen.setdefault(
        "draw", type(trainer.contrast).draw(trainer.contrast, targets, streams, pool)
    )
    found = losses(torch.arange(30))[kind].item()
    chosen = seen["draw"].losses[kind]
    items = trainer.data.fields.items
    fields = model.embed_items(items.take(torch.arange(items.n)))
    with torch.no_grad():
        item_emb = model.item_tower(fields).double().numpy()
        bias = model.prior.bias.weight.double().numpy()[items.single["item_id"].numpy(), 0]
        expected = []
        nobody = FieldColumns(n=1, single={"country": torch.tensor([0])}, multi={}, numbers={"age": torch.zeros(1)})
        for row, target in zip(chosen.rows.tolist(), chosen.targets.tolist(), strict=True):
            anchor = int(chosen.anchors[row])
            user = model.user_tower(nobody, Ragged(torch.tensor([anchor]), torch.tensor([0, 1])), fields)[0].double()
            user = user.numpy()
            if user.ndim == 2:
                shares = np.exp(user @ item_emb[target])
                user = shares @ user / shares.sum()
            scores = (item_emb @ user + bias) / 0.5
            others = [item for item in np.flatnonzero(clicks) if item != anchor]
            expected.append(math.log(sum(math.exp(scores[item]) for item in others)) - scores[target])
    assert found == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.parametrize("name", ["fism", "ican", "lightgcn"])
def test_feature_pseudo_clicks_find_an_item_among_all_by_a_dropped_view_of_it(dataset, name):
    """By loops: the user tower reads the item with its own id hidden, and the item itself is to be found."""
    trainer = trainer_with_pseudo_clicks(dataset, name, "feature")
    loss, model = trainer.contrast.losses["feature"], trainer.model.eval()
    hidden = [not spec.own_id for spec in model.item_fields.specs]
    hidden = torch.tensor([*hidden, *[True] * (model.rows_per_item - len(hidden))]).float()[:, None]
    loss._dropped = lambda clean, *_: clean * hidden
    positions = torch.arange(30)
    found = trainer.losses(positions)["feature"].item()
    anchors = sorted(set(trainer.data.batch(positions, "click").targets.tolist()))
    catalogue = np.flatnonzero(np.bincount(dataset.clicks[:200].item_ids, minlength=len(dataset.items)))
    items = trainer.data.fields.items
    with torch.no_grad():
        fields = model.embed_items(items.take(torch.arange(items.n)))
        item_emb = model.item_tower(fields).double().numpy()[catalogue]
        bias = model.prior.bias.weight.double().numpy()[items.single["item_id"].numpy(), 0][catalogue]
        expected = []
        nobody = FieldColumns(n=1, single={"country": torch.tensor([0])}, multi={}, numbers={"age": torch.zeros(1)})
        for anchor in anchors:
            read = (fields[anchor] * hidden)[None]
            user = model.user_tower(nobody, Ragged(torch.tensor([0]), torch.tensor([0, 1])), read)[0].double().numpy()
            scores = (item_emb @ user + bias) / 0.5
            expected.append(np.log(np.exp(scores).sum()) - scores[list(catalogue).index(anchor)])
    assert found == pytest.approx(np.mean(expected), rel=1e-4)


def trainer_with_pseudo_clicks(dataset, name, kind):
    keys = {"num_positives": 2}
    keys = {"semantic": {**keys, "svd_dim": 8, "top_k": 3}, "session": keys, "feature": {}}[kind]
    options = {"mind": {"interests": 2, "adaptive_interests": False}, "ican": {"heads": 2}}.get(name, {})
    config = {
        "model": {"name": name, "embedding_dim": 4, "hidden": [4], "item_bias": True, "options": options},
        "softmax": {"num_negatives": 5, "temperature": 0.5},
        "contrast": {
            **OFF,
            kind: {"weight": 1.0, "form": "pseudo_clicks", **keys},
        },
        "train": {"batch_size": 64, "epochs": 1, "device": "cpu"},
    }
    return Trainer(dataset, dataset.clicks[:200], Config.model_validate(config))


def test_pseudo_clicks_fall_and_bring_title_neighbours_near(dataset):
    trainer = trainer_of(
        dataset,
        contrast={"semantic": {"weight": 1.0, "form": "pseudo_clicks", "svd_dim": 8, "top_k": 3}},
        optim={"learning_rate": 0.05},
    )
    losses = [trainer.epoch(NoProgress()).losses["semantic"] for _ in range(4)]
    assert losses[-1] < losses[0]
