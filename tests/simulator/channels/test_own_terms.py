"""A two-tower channel whose model has a personal term and priors: its lists by a full sort, day after day."""

from collections import Counter

import numpy as np
import pytest
import torch

from micrec.config import Config
from micrec.inference import encode_items, encode_users
from micrec.models.columns import Ragged
from micrec.retrieval import load_bundle
from micrec.settings import merge
from simulator.channels.two_tower.two_tower_config import TwoTowerConfig
from simulator.channels.two_tower.two_tower_trainer import SERVING, TwoTowerTrainer
from tests.simulator.channels.logs import check_lists, random_log, random_requests

DAY_S = 86_400
MODEL = {
    "name": "fism",
    "embedding_dim": 6,
    "history_length": 20,
    "half_life_days": 3.0,
    "personal": True,
    "item_bias": True,
    "popularity_half_life_days": 2.0,
    "options": {"id_gate": 4.0, "value_gate": 6.0},
}
CONFIG = Config.model_validate(
    {
        "model": MODEL,
        "softmax": {"negatives": "full"},
        "contrast": {name: {"weight": 0} for name in ("feature", "semantic", "session")},
        "optim": {"learning_rate": 0.05},
        "train": {"epochs": 2, "batch_size": 64, "device": "cpu", "rows": "session", "context": "before_session"},
    }
)


def popularity_by_hand(log):
    """As of the morning after the last click, in UTC days."""
    days = (log.clicks["timestamp"].to_numpy() // DAY_S).tolist()
    morning, faded = max(days) + 1, np.zeros(len(log.items))
    for item, day in zip(log.clicks["item_id"].to_list(), days, strict=True):
        faded[item] += 0.5 ** ((morning - day) / 2.0)
    return np.log(len(faded) * (faded + 0.3) / (faded.sum() + 0.3 * len(faded)))


@pytest.mark.parametrize("index", ["exact", "ivf", "hnsw", "tree"])
@pytest.mark.parametrize("hide_recent", [False, True])
def test_lists_are_a_full_sort_of_what_the_model_ranks_by(index, hide_recent, tmp_path):
    log = random_log()
    trainer = TwoTowerTrainer(CONFIG, TwoTowerConfig(index=index, hide_recent=hide_recent))
    trainer.train(log, previous=None, folder=tmp_path / "v1", seed=0)
    matcher, requests, k = trainer.load(tmp_path / "v1"), random_requests(log, 25), 12
    lists = matcher.retrieve(requests, k)
    check_lists(lists, set(log.clicks["item_id"].to_list()), k)
    bundle = load_bundle(tmp_path / "v1" / SERVING)
    model = bundle.model
    fields, item_emb = encode_items(model, bundle.items)
    codes = bundle.items.single["item_id"].numpy()
    prior = model.prior.bias.weight.detach().numpy()[codes, 0]
    prior = prior + model.prior.drift.item() * popularity_by_hand(log)
    candidates = set(log.clicks["item_id"].to_list())
    for row, (user, recent) in enumerate(zip(requests.user_ids, requests.recent_items, strict=True)):
        clicks = [int(item) for item in recent[::-1] if 0 <= item < len(codes)]  # all of them fresh
        users = bundle.users.concat(bundle.user_encoder.encode(log.users[:0].select([]), 1))
        known = bundle.user_ids.to_list()
        chosen = users.take(torch.tensor([known.index(user) if user in known else len(known)]))
        history = Ragged(torch.tensor(clicks, dtype=torch.int64), torch.tensor([0, len(clicks)]))
        scores = (item_emb @ encode_users(model, chosen, history, fields)[0]).numpy().astype(np.float64) + prior
        for item, count in Counter(clicks).items():
            scores[item] += model.personal.by_count.item() * np.log1p(count) + model.personal.once.item()
        allowed = candidates - (set(clicks) if hide_recent else set())
        best = sorted(allowed, key=lambda item: -scores[item])[:k]
        assert lists.items[row].tolist() == best
        assert lists.scores[row] == pytest.approx(scores[best], rel=1e-4, abs=1e-4)


def test_the_next_day_starts_from_yesterday_s_biases_and_counts_today_s_clicks(tmp_path):
    log = random_log()
    first = log.clicks.filter(log.clicks["timestamp"] < log.clicks["timestamp"].quantile(0.7))
    early = type(log)(log.users, log.items, first, log.impressions, log.now_s, log.start_s)
    trainer = TwoTowerTrainer(CONFIG, TwoTowerConfig(warm_epochs=0))
    trainer.train(early, previous=None, folder=tmp_path / "v1", seed=0)
    trainer.train(log, previous=tmp_path / "v1", folder=tmp_path / "v2", seed=1)
    old, new = (load_bundle(tmp_path / name / SERVING).model for name in ("v1", "v2"))
    assert torch.equal(old.prior.bias.weight, new.prior.bias.weight)
    assert torch.equal(old.personal.by_count, new.personal.by_count)
    counts = np.bincount(log.clicks["item_id"].to_numpy(), minlength=len(log.items))
    np.testing.assert_allclose(new.gates.by_code(0).numpy()[1:], counts / (counts + 4.0), rtol=1e-6)
    genders = log.clicks.join(log.users, on="user_id")["gender"].value_counts()["count"].to_numpy()
    gates = np.sort(new.user_gates.by_code(0).numpy()[1:])
    np.testing.assert_allclose(gates, np.sort(genders / (genders + 6.0)), rtol=1e-6)


@pytest.mark.parametrize(("fields", "carried"), [("category", True), (("category", "tags"), False)])
def test_field_terms_go_on_where_they_are_of_the_same_fields(fields, carried, tmp_path):
    log = random_log()

    def trainer(field_term):
        config = Config.model_validate(merge(CONFIG.model_dump(), {"model": {"field_term": field_term}}))
        return TwoTowerTrainer(config, TwoTowerConfig(warm_epochs=0))

    trainer("category").train(log, previous=None, folder=tmp_path / "v1", seed=0)
    trainer(fields).train(log, previous=tmp_path / "v1", folder=tmp_path / "v2", seed=1)
    old, new = (load_bundle(tmp_path / name / SERVING).model.field_term for name in ("v1", "v2"))
    assert old.terms[0].weight.item() != 1.0
    assert new.terms[0].weight.item() == (old.terms[0].weight.item() if carried else 1.0)
    assert [term.spec.name for term in new.terms] == (["category"] if carried else ["category", "tags"])
