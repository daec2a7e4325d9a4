"""The field term: by loops over the click log, in every base, in served lists, and the choice of its field."""

import math
from collections import defaultdict

import numpy as np
import polars as pl
import pytest
import torch

from micrec import start_fit
from micrec.config import Config
from micrec.data.schema import FieldType
from micrec.data.split import temporal_split
from micrec.data.store import dataset_of_frames
from micrec.data.telling_field import FurtherGain, countable_fields, gain_of, telling_fields, value_shares
from micrec.errors import MicrecError
from micrec.evaluation import evaluation_task
from micrec.fitting import fit
from micrec.model_folder import load_model, save_model
from micrec.progress import NoProgress
from micrec.retrieval import Retriever
from micrec.settings import merge
from micrec.training import Trainer
from tests.micrec.factories import random_dataset, random_frames
from tests.micrec.serving import OFF

DAY_MS = 86_400_000
HALF_LIFE = 3.0
KEYS = {
    "model": {"name": "fism", "embedding_dim": 4, "hidden": [4], "history_length": 50, "half_life_days": HALF_LIFE},
    "softmax": {"negatives": "full"},
    "contrast": OFF,
    "split": {"test_fraction": 0.3, "valid_fraction": 0.0},
    "train": {"rows": "session", "context": "before_session", "batch_size": 16, "epochs": 1, "device": "cpu"},
}


def config_of(name="fism", **model):
    options = {"ican": {"heads": 2}, "mind": {"interests": 2}, "sasrec": {"layers": 1}}.get(name, {})
    return Config.model_validate(merge(KEYS, {"model": {"name": name, "options": options, **model}}))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(
        tmp_path_factory.mktemp("data") / "random", np.random.default_rng(5), n_users=30, n_items=40, n_clicks=700
    )


def values_of(dataset, field):
    """The values of every item, none of them twice."""
    cells = dataset.items.frame[field].to_list()
    return [
        list(dict.fromkeys(cell or [])) if isinstance(cell, list) else [cell] * (cell is not None) for cell in cells
    ]


def terms_by_hand(model, dataset, field, user, now_ms, *, trained, known):
    """The term of every item for a dense user at a moment: counts of ``known`` clicks, shares of ``trained`` ones."""
    values, totals, counts = values_of(dataset, field), defaultdict(lambda: 0.5), defaultdict(float)
    clicks = dataset.clicks
    for place, (who, item, then) in enumerate(zip(clicks.user_ids, clicks.item_ids, clicks.time_ms, strict=True)):
        for value in values[item]:
            totals[value] += (place < trained) / len(values[item])
            if who == user and place < known:
                counts[value] += 0.5 ** ((now_ms - then) / DAY_MS / HALF_LIFE) / len(values[item])
    whole = sum(totals[value] for value in {value for some in values for value in some})
    weight, prior = model.field_term.terms[0].weight.item(), math.exp(model.field_term.terms[0].log_prior_clicks.item())
    term = {value: weight * math.log(1 + counts[value] / (prior * total / whole)) for value, total in totals.items()}
    return [sum(term[value] for value in some) / max(len(some), 1) for some in values]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("fism", "category"),
        ("fism", "tags"),
        ("fm", "tags"),
        ("ican", "category"),
        ("mind", "tags"),
        ("sasrec", "tags"),
    ],
)
def test_the_term_of_every_base_by_loops(dataset, name, field):
    """What the dot products lose without the term's weight is the sum over the history's values."""
    fitted = fit(dataset, config_of(name, field_term=field))
    model = fitted.model
    with torch.no_grad():
        model.field_term.terms[0].log_prior_clicks.fill_(0.7)
        model.field_term.terms[0].weight.fill_(1.3)
    task = evaluation_task(
        dataset, temporal_split(dataset.clicks, fitted.config.split), fitted.config.evaluation, "test"
    )
    user_emb, item_emb = fitted.embed(task)
    width = model.field_term.width
    assert model.output_dim == item_emb.shape[1] == model.encoding_dim + width
    terms = (user_emb[..., -width:].double() @ item_emb[:, -width:].double().T).numpy()
    for row, user in enumerate(task.user_ids.tolist()):
        now_ms, stop = int(task.clock.query_ms[row]), fitted.trained_clicks
        expected = terms_by_hand(model, dataset, field, user, now_ms, trained=stop, known=stop)
        assert np.allclose(terms[row], expected, atol=1e-4)
    assert np.ptp(terms) > 0.5


def test_two_fields_are_two_terms_side_by_side(dataset):
    """With numbers of their own, wherever the codes of their values stand."""
    fitted = fit(dataset, config_of(field_term=("tags", "category")))
    one, other = fitted.model.field_term.terms
    assert [one.spec.name, other.spec.name] == ["category", "tags"]  # as they stand among the embedded fields
    with torch.no_grad():
        for term, weight, prior in ((one, 1.3, 0.7), (other, 0.4, -0.5)):
            term.weight.fill_(weight)
            term.log_prior_clicks.fill_(prior)
    task = evaluation_task(
        dataset, temporal_split(dataset.clicks, fitted.config.split), fitted.config.evaluation, "test"
    )
    together = fitted.embed(task)
    width = fitted.model.field_term.width
    assert width == one.width + other.width
    found = together[0][:, -width:] @ together[1][:, -width:].T
    alone = []
    for name, term in (("category", one), ("tags", other)):
        fitted.model.field_term.terms = torch.nn.ModuleList([term])
        user_emb, item_emb = fitted.embed(task)
        assert fitted.model.field_term.width == term.width
        alone.append(user_emb[:, -term.width :] @ item_emb[:, -term.width :].T)
        assert np.ptp(alone[-1].numpy()) > 0.2, name
    assert torch.allclose(found, alone[0] + alone[1], atol=1e-5)


def test_a_model_stored_with_one_term_is_read(dataset):
    model = Trainer(dataset, dataset.clicks, config_of(field_term="tags")).model
    stored = {name.replace("field_term.terms.0.", "field_term."): t + 1 for name, t in model.state_dict().items()}
    assert not any("terms" in name for name in stored)
    model.load_state_dict(dict(stored))
    assert torch.equal(model.field_term.terms[0].shares, stored["field_term.shares"])


def test_a_row_finds_its_clicks_by_the_term_too(dataset):
    """The loss of a step is that of the scores with the term, and its numbers learn."""
    trainer = Trainer(dataset, dataset.clicks[:400], config_of(field_term="category", init_scale=1e-6))
    positions = trainer.data.rows("session")[-8:]
    with torch.no_grad():
        found = trainer.losses(positions)["matching"].item()
    model, expected = trainer.model, []
    catalogue = trainer.data.catalogue.numpy()
    batch = trainer.data.batch(positions, "session")
    rows = np.argsort(dataset.clicks.user_ids[:400], kind="stable")
    for row, target in zip(batch.rows.tolist(), batch.targets.tolist(), strict=True):
        place = int(positions[row])
        now_ms = int(trainer.data.time_ms[place])
        user = int(batch.row_users[row])
        log = dataset.clicks[np.sort(rows[:place][dataset.clicks.user_ids[rows[:place]] == user])]
        counts, values = defaultdict(float), values_of(dataset, "category")
        for item, then in zip(log.item_ids, log.time_ms, strict=True):
            counts[values[item][0]] += 0.5 ** ((now_ms - then) / DAY_MS / HALF_LIFE)
        totals = defaultdict(lambda: 0.5)
        for item in dataset.clicks[:400].item_ids:
            totals[values[item][0]] += 1
        whole, prior = (
            sum(totals[v] for v in {v for (v,) in values}),
            math.exp(model.field_term.terms[0].log_prior_clicks.item()),
        )
        scores = np.array([math.log1p(counts[v] / (prior * totals[v] / whole)) for (v,) in values])
        expected.append(np.log(np.exp(scores[catalogue]).sum()) - scores[target])
    assert found == pytest.approx(np.mean(expected), rel=1e-3)
    before = [number.item() for number in model.field_term.parameters()]
    trainer.epoch(NoProgress())
    assert all(a != b.item() for a, b in zip(before, model.field_term.parameters(), strict=True))


@pytest.mark.parametrize("field", ["category", "tags"])
def test_a_bundle_serves_what_the_evaluation_ranks(dataset, tmp_path, field):
    """From a folder, at the end of the log; an item added later has the terms of its values."""
    fitted = fit(dataset, config_of(field_term=field, item_fields=(), user_fields=()))
    save_model(fitted, dataset, tmp_path / "m")
    again = load_model(tmp_path / "m", dataset, device="cpu")
    assert torch.equal(again.model.field_term.terms[0].shares, fitted.model.field_term.terms[0].shares)
    Retriever.build(fitted, dataset).save(tmp_path / "b")
    retriever = Retriever.load(tmp_path / "b")
    now_ms, trained = int(dataset.clicks.time_ms[-1]), set(dataset.clicks.item_ids[: fitted.trained_clicks].tolist())
    model = fitted.model
    with torch.no_grad():
        for bundled in (model, retriever.bundle.model):
            bundled.scale.zero_()  # so that the term alone scores
    for user in range(0, len(dataset.users), 7):
        every = terms_by_hand(
            model, dataset, field, user, now_ms, trained=fitted.trained_clicks, known=len(dataset.clicks)
        )
        answer = retriever.recommend(dataset.users.ids[user], 5)
        assert answer.scores == pytest.approx(sorted((every[item] for item in trained), reverse=True)[:5], abs=1e-3)
    donor = next(row for row, some in enumerate(values_of(dataset, field)) if some and row in trained)
    retriever.add_items(pl.DataFrame({"item_id": ["twin"], field: [dataset.items.frame[field][donor]]}))
    width = model.field_term.width
    vectors = retriever.bundle.vectors
    assert np.array_equal(vectors[-1, -width:], vectors[retriever.bundle.index_rows[donor], -width:])


def test_the_numbers_are_fitted_alike_from_parts_and_from_losses(dataset, monkeypatch):
    """Kept parts of the scores lead where the losses of whole passes lead, in 12 steps: on 500 clicks none is last."""
    monkeypatch.setattr(start_fit, "STEPS", 12)
    model = {
        "field_term": "tags",
        "personal": True,
        "popularity_half_life_days": 2.0,
        "options": {"title_dim": 5, "id_gate": 3.0},
        "init_scale": 0.3,
    }
    found = []
    for parts in (True, False):
        if not parts:
            monkeypatch.setattr(Trainer, "_score_parts", lambda self, positions: None)
        config = Config.model_validate(merge(config_of(**model).model_dump(), {"train": {"fit_start": True}}))
        trainer = Trainer(dataset, dataset.clicks[:500], config)
        states = {name: generator.get_state().tolist() for name, generator in trainer.generators.items()}
        found.append(([float(number.detach()) for number in trainer.model.score_numbers()], states))
    assert found[0][0] == pytest.approx(found[1][0], rel=0.02, abs=0.02)
    assert found[0][1] == found[1][1]


# -- which field ----------------------------------------------------------------------------------------------------


def planted(rng, telling):
    """A log in which users keep to one category, or to none."""
    schema, users, items, clicks = random_frames(rng, n_users=60, n_items=60, n_clicks=3_000)
    if telling:
        home = {user: f"c{user % 5}" for user in users["user_id"].to_list()}
        by_category = {value: some["item_id"].to_list() for (value,), some in items.group_by(["category"])}
        chosen = [
            rng.choice(by_category[home[user]]) if rng.random() < 0.7 else item
            for user, item in zip(clicks["user_id"].to_list(), clicks["item_id"].to_list(), strict=True)
        ]
        clicks = clicks.with_columns(item_id=pl.Series(chosen))
    return dataset_of_frames(schema, users, items, clicks)


def test_auto_takes_the_field_that_tells_and_none_where_none_does():
    telling, plain = (planted(np.random.default_rng(1), kind) for kind in (True, False))
    fields = countable_fields(telling.items, 100)
    assert fields == ["category", "tags"]
    assert telling_fields(telling.items, telling.clicks, fields, 100) == ("category",)
    assert telling_fields(plain.items, plain.clicks, fields, 100) == ()
    assert telling_fields(telling.items, telling.clicks, (), 100) == ()
    gains = [gain_of(value_shares(d.items.columns["category"]), d.clicks)[0] for d in (telling, plain)]
    assert gains[0] > 0.3
    assert gains[1] < 0.05
    assert (
        Trainer(telling, telling.clicks, config_of(field_term="auto")).model.field_term.terms[0].spec.name == "category"
    )
    assert Trainer(plain, plain.clicks, config_of(field_term="auto")).model.field_term is None
    few = config_of(field_term="auto", field_term_values=3)
    assert Trainer(telling, telling.clicks, few).model.field_term is None


def two_tell(rng):
    """A log in which users keep to one category and, apart from that, to one colour, of which ``shade`` is a copy."""
    schema, users, items, _ = random_frames(rng, n_users=150, n_items=300, n_clicks=1)
    colour = rng.integers(0, 6, len(items))
    items = items.with_columns(
        colour=pl.Series([f"k{c}" for c in colour]), title=pl.Series([f"shade{c}" for c in colour])
    )
    items = items.with_columns(shade=pl.col("colour"))
    category = np.array([int(value[1:]) for value in items["category"].to_list()])
    rows = []
    for user in range(150):
        weight = np.where(category == user % 5, 8.0, 1.0) * np.where(colour == user % 6, 8.0, 1.0)
        chosen = rng.choice(len(items), 40, p=weight / weight.sum())
        rows += [(users["user_id"][user], items["item_id"][int(item)]) for item in chosen]
    order = rng.permutation(len(rows))
    clicks = pl.DataFrame(
        {
            "user_id": [rows[i][0] for i in order],
            "item_id": [rows[i][1] for i in order],
            "timestamp": 1_700_000_000 + 60 * np.arange(len(rows)),
        }
    )
    fields = schema.items | {"colour": FieldType.CATEGORICAL, "shade": FieldType.CATEGORICAL}
    return dataset_of_frames(schema.model_copy(update={"items": fields}), users, items, clicks)


def test_auto_takes_a_further_field_that_tells_more_beside_the_first():
    """Not one that says the same, nor one without room, nor one whose values the titles tell."""
    data = two_tell(np.random.default_rng(3))
    fields = countable_fields(data.items, 100)
    assert {"category", "colour", "shade"} <= set(fields)

    def chosen(most=100, titles=None):
        return telling_fields(data.items, data.clicks, fields, most, titles)

    assert len(chosen()) == 2
    assert "category" in chosen()
    assert len({"colour", "shade"} & set(chosen())) == 1
    assert len(chosen(most=8)) == 1
    codes = data.items.columns["category"].codes  # the colour comes first here
    assert len(chosen(titles=np.eye(7, dtype=np.float32)[codes])) == 1
    noise = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    assert chosen(titles=noise) == chosen()
    assert Trainer(data, data.clicks, config_of(field_term="auto")).model.field_term.width == 11


def test_the_further_gain_by_loops():
    """The log chance under weights that a grid cannot better, less that without the further field."""
    data = two_tell(np.random.default_rng(4))
    shares = {name: value_shares(data.items.columns[name]) for name in ("category", "colour")}
    priors = {name: gain_of(own, data.clicks).prior for name, own in shares.items()}
    gain, error = FurtherGain.of(data.clicks, {n: (shares[n], priors[n]) for n in shares})(["category"], "colour")
    early = int(len(data.clicks) * 0.8)
    users, items = data.clicks.user_ids, data.clicks.item_ids
    popularity = np.bincount(items[:early], minlength=len(data.items)).astype(float)
    known = popularity > 0
    terms = {}
    for name, own in shares.items():
        dense = own.toarray()
        everybody = popularity @ dense + 0.5
        counts = np.zeros((users.max() + 1, dense.shape[1]))
        np.add.at(counts, users[:early], dense[items[:early]])
        terms[name] = np.log1p(counts / (priors[name] * everybody / everybody.sum())) @ dense.T

    def mean_log(weights):
        scores = sum(w * terms[name] for name, w in weights.items()) + np.log(np.where(known, popularity, 1e-300))
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        later = [(u, i) for u, i in zip(users[early:], items[early:], strict=True) if known[i]]
        return np.mean([logs[u, i] for u, i in later])

    grid = np.linspace(0.0, 2.0, 21)
    one = max(mean_log({"category": w}) for w in grid)
    both = max(mean_log({"category": w, "colour": v}) for w in grid for v in grid)
    assert gain == pytest.approx(both - one, abs=0.01)
    assert 0.0 < error < gain


def test_the_gain_by_loops():
    """Held-out clicks under a user's counts and the prior, against everybody's shares."""
    data = planted(np.random.default_rng(2), True)
    shares = value_shares(data.items.columns["tags"])
    early = int(len(data.clicks) * 0.8)
    dense, width = shares.toarray(), shares.shape[1]
    counts = defaultdict(lambda: np.zeros(width))
    for user, item in zip(data.clicks.user_ids[:early], data.clicks.item_ids[:early], strict=True):
        counts[user] += dense[item]
    counts = {user: some for user, some in counts.items() if some.sum() > 0}
    later = [
        (user, dense[item])
        for user, item in zip(data.clicks.user_ids[early:], data.clicks.item_ids[early:], strict=True)
        if user in counts and dense[item].any()
    ]
    everybody = sum(counts[user] for user in {user for user, _ in later}) + 0.5
    everybody = everybody / everybody.sum()
    means = []
    for prior in (1.0, 3.0, 10.0, 30.0, 100.0, 300.0):
        gains = [
            float(held @ np.log((counts[user] + prior * everybody) / (counts[user].sum() + prior) / everybody))
            for user, held in later
        ]
        means.append(sum(gains) / sum(held.sum() for _, held in later))
    assert gain_of(shares, data.clicks)[0] == pytest.approx(max(means), rel=1e-9)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("colour", "model.field_term: no field colour in the dataset; choose from category, tags, auto"),
        ("price", "model.field_term: price is numeric; choose from"),
        ("category", "model.field_term: category has 5 values, and must have 2 to 3; choose from auto"),
        (("tags", "category"), "model.field_term: tags and category have 13 values together, and may have 9; choose"),
        (("colour", "price"), "model.field_term: no field colour in the dataset; price is numeric; choose from"),
    ],
)
def test_a_field_that_cannot_be_counted_is_refused(dataset, field, message):
    with pytest.raises(MicrecError, match=message):
        Trainer(dataset, dataset.clicks, config_of(field_term=field, field_term_values=3 if field == "category" else 9))
