"""A small fitted model, and its lists by a full sort that shares no code with the serving modules."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.fitting import Fitted, fit
from micrec.inference import encode_items
from micrec.models.columns import Ragged
from micrec.settings import merge
from tests.micrec.factories import random_dataset

L = 4  # clicks the model reads; most users have more
OFF = {name: {"weight": 0} for name in ("feature", "semantic", "session")}
SMALL = {
    "model": {"embedding_dim": 8, "hidden": [8], "options": {"heads": 2}, "history_length": L, "init_scale": 1.0},
    "softmax": {"num_negatives": 5},
    "contrast": OFF,
    "split": {"test_fraction": 0.5, "valid_fraction": 0.0},
    "train": {"batch_size": 128, "epochs": 1, "device": "cpu"},
}


def fitted_on(dataset: Dataset, **changes: object) -> Fitted:
    return fit(dataset, Config.model_validate(merge(SMALL, changes)))


def small_dataset(folder: Path) -> Dataset:
    """60 items, a few of them without a click in the first half of the log."""
    return random_dataset(folder, np.random.default_rng(3), n_users=25, n_items=60, n_clicks=300)


def clicks_of(dataset: Dataset, user: int) -> list[int]:
    """All clicks of a dense user, oldest first, by a walk through the log."""
    pairs = zip(dataset.clicks.user_ids.tolist(), dataset.clicks.item_ids.tolist(), strict=True)
    return [item for clicker, item in pairs if clicker == user]


def all_scores(fitted: Fitted, dataset: Dataset, user: int) -> NDArray[np.float64]:
    """Scores of all items for one dense user by the towers alone, the best interest's where they have several, (N,)."""
    items, item_emb = encode_items(fitted.model, fitted.fields.items)
    recent = torch.tensor(clicks_of(dataset, user)[-L:], dtype=torch.int64)
    with torch.no_grad():
        row = fitted.fields.users.take(torch.tensor([user]))
        user_emb = fitted.model.user_tower(row, Ragged(recent, torch.tensor([0, len(recent)])), items)
    vectors = user_emb[0].double().reshape(-1, item_emb.shape[1]).numpy()
    return np.max([item_emb.double().numpy() @ vector for vector in vectors], axis=0)


def full_sort(fitted: Fitted, dataset: Dataset, user: int, *, hidden: set[int] = frozenset()) -> list[int]:
    """Trained items that are not hidden, best first."""
    scores = all_scores(fitted, dataset, user)
    trained = set(dataset.clicks.item_ids[: fitted.trained_clicks].tolist())
    return sorted(trained - hidden, key=lambda item: -scores[item])


def outside(dataset: Dataset, items: list[int]) -> list[str]:
    return [dataset.items.ids[item] for item in items]
