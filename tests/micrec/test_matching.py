"""The matching loss in every variant against float64 loops over the rows (Eq. 7)."""

import numpy as np
import pytest
import torch

from micrec.config import Config
from micrec.data.dataset import Clicks
from micrec.matching import Batch, MatchingLoss
from micrec.train_data import load_train_data
from tests.micrec.test_train_data import dataset_of_clicks

N_USERS, N_ITEMS, B, D = 6, 20, 8, 4


class TablePool:
    """Stands for an ItemPool: embeddings straight from a table."""

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table

    def embeddings(self, item_ids: torch.Tensor) -> torch.Tensor:
        return self.table[item_ids]

    def scores(self, user_emb: torch.Tensor, item_ids: torch.Tensor) -> torch.Tensor:
        return (user_emb[:, None] * self.table[item_ids]).sum(dim=2)


def case(**softmax):
    rng = np.random.default_rng(0)
    n = 60
    popular = np.minimum(rng.geometric(0.15, n) - 1, N_ITEMS - 4)  # the last three items are never clicked
    clicks = Clicks(
        rng.integers(0, N_USERS, n).astype(np.int32), popular.astype(np.int32), np.arange(n, dtype=np.int64)
    )
    config = Config.model_validate({"softmax": softmax})
    dataset = dataset_of_clicks(clicks, n_users=N_USERS, n_items=N_ITEMS)
    data = load_train_data(dataset, clicks, config, torch.device("cpu"))
    loss = MatchingLoss(config.softmax, data, reduction="mean")
    rows = rng.integers(0, n, B)
    batch = Batch(torch.tensor(clicks.user_ids[rows]).long(), torch.tensor(clicks.item_ids[rows]).long())
    generator = torch.Generator().manual_seed(0)
    user_emb = torch.randn(B, D, generator=generator)
    table = torch.randn(N_ITEMS, D, generator=generator)
    draw = loss.draw(batch, generator)
    return clicks, loss, batch, draw, user_emb, table


def clicked_by(clicks: Clicks) -> dict[int, set[int]]:
    sets: dict[int, set[int]] = {u: set() for u in range(N_USERS)}
    for user, item in zip(clicks.user_ids.tolist(), clicks.item_ids.tolist(), strict=True):
        sets[user].add(item)
    return sets


def reference(user_emb, table, batch, negatives, tau, positive_q=None, negative_q=None):
    """Mean over rows of -log softmax of the positive; negatives: list of item lists; q: item -> expected count."""
    total = []
    for row in range(B):
        u = user_emb[row].double().numpy()
        target = int(batch.targets[row])

        def logit(item, q, u=u):
            return np.dot(u, table[item].double().numpy()) / tau - (0.0 if q is None else np.log(q[item]))

        positive = logit(target, positive_q)
        scores = [positive, *(logit(int(i), negative_q) for i in negatives[row])]
        total.append(-positive + np.log(np.sum(np.exp(scores))))
    return np.mean(total)


@pytest.mark.parametrize("kind", ["uniform", "popularity"])
@pytest.mark.parametrize("logq", ["none", "standard", "refined"])
def test_per_row_negatives(kind, logq):
    clicks, loss, batch, draw, user_emb, table = case(negatives=kind, num_negatives=7, logq=logq, temperature=0.5)
    own = clicked_by(clicks)
    assert draw.items.shape == (B, 7)
    for row in range(B):
        usable = draw.items[row][draw.mask[row]].tolist()
        assert not set(usable) & own[int(batch.users[row])], "a negative that the user clicked"
        assert max(usable, default=0) < N_ITEMS - 3, "an item that nobody clicked in training"
    counts = np.bincount(clicks.item_ids, minlength=N_ITEMS).astype(float)
    share = (counts > 0) / (counts > 0).sum() if kind == "uniform" else counts**0.75 / (counts**0.75).sum()
    q = 7 * share
    negatives = [draw.items[row][draw.mask[row]].tolist() for row in range(B)]
    expected = reference(
        user_emb, table, batch, negatives, 0.5, q if logq == "standard" else None, None if logq == "none" else q
    )
    assert loss(user_emb, batch, draw, TablePool(table)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["shared", "in_batch", "mixed"])
@pytest.mark.parametrize("logq", ["none", "standard", "refined"])
@pytest.mark.parametrize("reject", [True, False])
def test_shared_negatives(kind, logq, reject):
    clicks, loss, batch, draw, user_emb, table = case(
        negatives=kind, num_negatives=9, logq=logq, temperature=0.7, reject_clicked=reject
    )
    own = clicked_by(clicks)
    pool = [] if kind == "shared" else batch.targets.tolist()
    pool += [] if kind == "in_batch" else draw.items[-9:].tolist()
    assert draw.items.tolist() == pool
    counts = np.bincount(clicks.item_ids, minlength=N_ITEMS).astype(float)
    q = np.zeros(N_ITEMS)
    if kind != "shared":
        q += (B - 1) * counts / counts.sum()
    if kind != "in_batch":
        q += 9 * (counts > 0) / (counts > 0).sum()
    negatives = []
    for row in range(B):
        hidden = own[int(batch.users[row])] if reject else set()
        negatives.append([i for i in pool if i != int(batch.targets[row]) and i not in hidden])
    expected = reference(
        user_emb, table, batch, negatives, 0.7, q if logq == "standard" else None, None if logq == "none" else q
    )
    assert loss(user_emb, batch, draw, TablePool(table)).item() == pytest.approx(expected, rel=1e-5)


def test_full_softmax_runs_over_every_clicked_item():
    clicks, loss, batch, draw, user_emb, table = case(negatives="full")
    catalogue = sorted(set(clicks.item_ids.tolist()))
    assert draw.items.tolist() == catalogue
    negatives = [[i for i in catalogue if i != int(t)] for t in batch.targets]
    expected = reference(user_emb, table, batch, negatives, 1.0)
    assert loss(user_emb, batch, draw, TablePool(table)).item() == pytest.approx(expected, rel=1e-5)


def test_a_user_who_clicked_everything_gets_no_negative():
    """Rejection gives up after its rounds; such rows cost nothing instead of hanging or lying."""
    n = 5
    clicks = Clicks(np.zeros(n, np.int32), np.arange(n, dtype=np.int32), np.arange(n, dtype=np.int64))
    dataset = dataset_of_clicks(clicks, n_users=1, n_items=n)
    data = load_train_data(dataset, clicks, Config(), torch.device("cpu"))
    loss = MatchingLoss(Config().softmax, data, reduction="mean")
    batch = Batch(torch.zeros(n, dtype=torch.int64), torch.arange(n))
    draw = loss.draw(batch, torch.Generator().manual_seed(0))
    assert not draw.mask.any()
    table = torch.randn(n, D, requires_grad=True)
    value = loss(torch.randn(n, D), batch, draw, TablePool(table))
    value.backward()
    assert value.item() == pytest.approx(0.0)
    assert torch.isfinite(table.grad).all()
