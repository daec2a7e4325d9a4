"""The forecast of popularity: by loops, its gradient, what it learns of planted rules, and from training to serving."""

import math

import numpy as np
import polars as pl
import pytest
import scipy.optimize
import scipy.sparse as sp
import torch

from micrec.config import Config
from micrec.data.popularity_forecast import (
    Forecast,
    ForecastPopularity,
    _loss,
    _Morning,
    fit_forecast,
    half_life_parts,
)
from micrec.errors import MicrecError
from micrec.fitting import fit
from micrec.model_folder import load_model, save_model
from micrec.retrieval import Retriever, load_bundle
from micrec.settings import merge
from tests.micrec.factories import random_dataset
from tests.micrec.serving import OFF

HALF_LIVES = (2.0, 5.0)


def random_clicks(rng, n, n_items, n_days):
    return rng.integers(0, n_items, n), np.sort(rng.integers(100, 100 + n_days, n))


@pytest.mark.parametrize("tabulate", [False, True])
def test_values_are_the_weighted_logs_and_the_words_of_items_with_few_clicks(tabulate):
    items, days = random_clicks(np.random.default_rng(0), 60, 6, 20)
    weights, effects = [0.7, -0.3, 0.4], [0.5, 0.0, -1.0, 2.0, 0.0, 0.1]
    forecast = Forecast(torch.tensor(weights), torch.zeros(1))
    parts = half_life_parts(items, days, 7, HALF_LIVES)
    popularity = ForecastPopularity(parts, forecast, torch.tensor([*effects, 3.0]), tabulate=tabulate)
    asked = torch.tensor([99, 104, 119, 120, 140])
    grid = popularity.grid(asked)
    some = popularity.grid(asked, torch.tensor([3, 1, 3]))
    assert grid.dtype == torch.float32
    assert torch.equal(some, grid[:, [3, 1, 3]])
    for row, day in enumerate(asked.tolist()):
        for item in range(7):
            expected = 0.0
            for weight, half_life in zip(weights, [*HALF_LIVES, math.inf], strict=True):
                shares = [0.5 ** ((day - then) / half_life) if then < day else 0.0 for then in days]
                own = sum(share for share, of in zip(shares, items, strict=True) if of == item)
                expected += weight * math.log(7 * (own + 0.3) / (sum(shares) + 2.1))
            so_far = sum(of == item and then < day for of, then in zip(items, days, strict=True))
            expected += [*effects, 3.0][item] * 10 / (10 + so_far)
            assert grid[row, item].item() == pytest.approx(expected, abs=3e-5)
    pairs = popularity.pairs(asked[:, None].expand(-1, 7), torch.arange(7).expand(5, -1))
    assert torch.allclose(pairs, grid, atol=1e-5)


def test_gradient_is_that_of_the_loss():
    rng = np.random.default_rng(1)
    items, days = random_clicks(rng, 80, 8, 20)
    parts = half_life_parts(items, days, 8, HALF_LIVES)
    words = sp.csr_matrix(rng.integers(0, 2, (8, 4)).astype(float))
    mornings = [_Morning.of(parts, items, days, day, 4) for day in (108, 113)]
    point = rng.normal(size=7)
    slope = _loss(point, mornings, 3, words)[1]
    numeric = scipy.optimize.approx_fprime(point, lambda x: _loss(x, mornings, 3, words)[0], 1e-6)
    np.testing.assert_allclose(slope, numeric, atol=1e-4)


def planted(seed, *, days, n_items, turnover, word):
    """Appeal drawn anew each day with probability ``turnover``; of new items those with a word take off."""
    rng = np.random.default_rng(seed)
    appeal = rng.pareto(1.2, n_items) + 0.1
    born = rng.integers(-40, days, n_items)
    has_word = rng.random(n_items) < 0.5
    items, at = [], []
    for day in range(days):
        anew = rng.random(n_items) < turnover
        appeal[anew] = rng.pareto(1.2, anew.sum()) + 0.1
        lift = np.where(has_word & (day - born > 3), word, 1.0)
        shares = np.where(born <= day, appeal * lift, 0.0)
        items.append(rng.choice(n_items, 120, p=shares / shares.sum()))
        at.append(np.full(120, day))
    return np.concatenate(items), np.concatenate(at), has_word


def test_fast_logs_want_clicks_of_late_and_steady_ones_want_all():
    half_lives = (1.0, 30.0)
    learned = []
    for turnover in (0.0, 0.3):
        items, days, _ = planted(0, days=80, n_items=150, turnover=turnover, word=1.0)
        parts = half_life_parts(items, days, 150, half_lives)
        learned.append(fit_forecast(parts, items, days, horizon=1, words=None).weights.numpy())
    steady, fast = learned
    assert fast[0] > 0.7
    assert abs(fast[1:]).sum() < 0.3
    assert steady[0] < 0.5
    assert steady[1] > 1.0


def test_a_word_of_items_that_take_off_gets_a_weight_and_another_none():
    items, days, has_word = planted(2, days=80, n_items=300, turnover=0.0, word=6.0)
    other = np.random.default_rng(3).random(300) < 0.5
    words = sp.csr_matrix(np.stack([has_word, other], axis=1).astype(float))
    parts = half_life_parts(items, days, 300, (7.0,))
    found = fit_forecast(parts, items, days, horizon=14, words=words).word_weights.numpy()
    assert found[0] == 0.0
    assert found[1] > 0.15
    assert abs(found[2]) < found[1] / 3


def test_tiny_logs_have_a_forecast():
    nothing = np.empty(0, np.int64)
    for items, days in ((nothing, nothing), (np.array([1]), np.array([5])), (np.array([1, 0]), np.array([5, 6]))):
        parts = half_life_parts(items, days, 3, HALF_LIVES)
        forecast = fit_forecast(parts, items, days, horizon=14, words=None)
        assert len(forecast.weights) == 3
        assert torch.isfinite(forecast.weights).all()
        assert torch.isfinite(ForecastPopularity(parts, forecast, None).grid(torch.tensor([5, 7]))).all()


KEYS = {
    "model": {
        "name": "fism",
        "embedding_dim": 4,
        "options": {"title_dim": 5, "id_gate": 3.0},
        "half_life_days": 3.0,
        "personal": True,
        "item_bias": True,
        "popularity_half_lives_days": [1, 7],
        "popularity_horizon_days": 2,
        "popularity_words": True,
    },
    "softmax": {"negatives": "full"},
    "contrast": OFF,
    "split": {"test_fraction": 0.3, "valid_fraction": 0.0},
    "train": {
        "rows": "session",
        "context": "before_session",
        "batch_size": 16,
        "epochs": 1,
        "device": "cpu",
        "fit_start": True,
    },
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(
        tmp_path_factory.mktemp("data") / "random", np.random.default_rng(5), n_users=30, n_items=40, n_clicks=700
    )


@pytest.fixture(scope="module")
def fitted(dataset):
    return fit(dataset, Config.model_validate(KEYS))


def test_a_model_keeps_its_forecast(fitted, dataset, tmp_path):
    save_model(fitted, dataset, tmp_path / "m")
    again = load_model(tmp_path / "m", dataset, device="cpu")
    prior = fitted.model.prior
    assert prior.half_life_weights.abs().sum() > 0
    assert torch.equal(again.model.prior.half_life_weights, prior.half_life_weights)
    assert torch.equal(again.model.prior.word_weights, prior.word_weights)
    assert len(prior.word_weights) > 2


def test_served_scores_are_those_of_the_evaluation(fitted, dataset, tmp_path):
    """As of the morning after the last click, from a bundle that went through a folder."""
    Retriever.build(fitted, dataset).save(tmp_path / "b")
    retriever = Retriever.load(tmp_path / "b")
    bundle = retriever.bundle
    days = dataset.clicks.time_ms // 86_400_000
    parts = half_life_parts(dataset.clicks.item_ids, days, len(dataset.items), (1.0, 7.0))
    prior = fitted.model.prior
    words = bundle.items.multi["title words"]
    effects = torch.tensor(
        [prior.word_weights[words.take(torch.tensor([item])).values.long()].sum() for item in range(bundle.items.n)]
    )
    popularity = ForecastPopularity(parts, prior.forecast, effects).grid(torch.tensor([int(days.max()) + 1]))[0]
    codes = bundle.items.single["item_id"].long()
    expected = (prior.bias.weight[codes, 0] + prior.drift * popularity).detach()
    np.testing.assert_allclose(bundle.vectors[:, -1], expected[bundle.candidates].numpy(), rtol=1e-4, atol=1e-4)


def test_an_item_added_later_stands_where_its_title_puts_it(fitted, dataset, tmp_path):
    """By its title alone it has the vectors of an item with the same title, and the words' effect."""
    Retriever.build(fitted, dataset, catalogue="all").save(tmp_path / "b")
    retriever = Retriever.load(tmp_path / "b")
    titles = retriever.bundle.titles.to_list()
    row = next(i for i, title in enumerate(titles) if title and retriever.bundle.items.vectors["titles"][i].any())
    item = dataset.items.frame.row(row, named=True)
    retriever.add_items(pl.DataFrame({"item_id": ["twin", "bare"], "title": [item["title"], None]}))
    items = retriever.bundle.items
    twin, bare = len(dataset.items), len(dataset.items) + 1
    known = items.vectors["titles"]
    assert (known[twin] @ known[row]).item() > 0.97
    assert not known[bare].any()
    words = items.multi["title words"]
    assert words.take(torch.tensor([twin])).values.tolist() == words.take(torch.tensor([row])).values.tolist()
    weights = fitted.model.prior.word_weights
    added = retriever.bundle.vectors[-2:, -1]
    effect = weights[words.take(torch.tensor([twin])).values.long()].sum().item()
    assert added[0] - added[1] == pytest.approx(fitted.model.prior.drift.item() * effect, abs=1e-5)
    retriever.save(tmp_path / "b", overwrite=True)
    again = load_bundle(tmp_path / "b")
    assert torch.equal(again.items.vectors["titles"], items.vectors["titles"])
    listed = Retriever(again)
    listed.remove_items(["twin"])
    listed.add_items(pl.DataFrame({"item_id": ["twin"], "title": [item["title"]]}))
    assert torch.allclose(listed.bundle.items.vectors["titles"][twin], known[twin], atol=1e-5)


def test_start_fits_the_numbers_beside_the_vectors(dataset):
    """The loss of the rows it was fitted to falls, and where nobody clicks twice own items are pushed away."""
    from micrec.training import Trainer

    def trainer(clicks, fit_start):
        return Trainer(dataset, clicks, Config.model_validate(merge(KEYS, {"train": {"fit_start": fit_start}})))

    seen, first = set(), []
    for place, pair in enumerate(zip(dataset.clicks.user_ids.tolist(), dataset.clicks.item_ids.tolist(), strict=True)):
        if pair not in seen:
            first.append(place)
            seen.add(pair)
    once = dataset.clicks[np.array(first)]
    fitted, plain = trainer(once, True), trainer(once, False)
    counts = torch.tensor([1.0, 0.4])
    assert (fitted.model.personal(counts) < -1.0).all()
    assert (plain.model.personal(counts) > 0.0).all()
    rows = fitted.data.rows("session")
    with torch.no_grad():
        losses = [float(t.losses(rows)["matching"]) for t in (fitted, plain)]
    assert losses[0] < losses[1]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"popularity_half_life_days": 7.0}, "both given"),
        ({"popularity_half_lives_days": []}, "popularity_words needs popularity_half_lives_days"),
        ({"popularity_half_lives_days": [7, -1]}, "greater than 0"),
        ({"popularity_horizon_days": 0}, "greater than or equal to 1"),
    ],
)
def test_keys_that_do_not_fit_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        Config.model_validate(merge(KEYS, {"model": model}))


def test_clicks_from_a_file_are_those_of_a_frame(fitted, dataset, tmp_path):
    """Seconds and written moments alike; a file that is none is refused by name."""
    from micrec.retrieval.item_files import FileOptions
    from micrec.retrieval.serving_request import Change

    half = type(dataset)(dataset.schema, dataset.users, dataset.items, dataset.clicks[:600])
    rest = dataset.clicks[600:]
    frame = pl.DataFrame(
        {
            "user_id": dataset.users.ids.gather(rest.user_ids.tolist()),
            "item_id": dataset.items.ids.gather(rest.item_ids.tolist()),
            "timestamp": pl.Series(rest.time_ms) // 1_000,
        }
    )
    written = frame.with_columns(pl.from_epoch("timestamp", "s").dt.strftime("%Y-%m-%dT%H:%M:%S"))
    frame.write_csv(tmp_path / "seconds.csv")
    written.rename({"user_id": "who"}).write_csv(tmp_path / "moments.csv")
    expected = Retriever.build(fitted, half)
    expected.add_clicks(frame)
    for name, columns in (("seconds.csv", {}), ("moments.csv", {"user_id": "who"})):
        retriever = Retriever.build(fitted, half)
        change = Change(None, [], None, FileOptions(columns=columns), tmp_path / name)
        assert not change.is_empty
        assert change.apply(retriever).notes == [f"{len(frame)} clicks taken in"]
        for user in dataset.users.ids.to_list()[:8]:
            assert retriever.recommend(user, 6) == expected.recommend(user, 6)
    written.with_columns(timestamp=pl.lit("soon")).write_csv(tmp_path / "wrong.csv")
    for name, message in (
        ("wrong.csv", "'soon' is no time"),
        ("moments.csv", "no column user_id"),
        ("no.csv", "no such"),
    ):
        with pytest.raises(MicrecError, match=message):
            Change(None, [], None, FileOptions(), tmp_path / name).apply(Retriever.build(fitted, half))
