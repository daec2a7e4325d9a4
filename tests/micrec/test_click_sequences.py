"""Padded click sequences by loops, and batches cut by length against whole ones."""

import numpy as np
import pytest
import torch

from micrec.models import click_sequences
from micrec.models.click_sequences import by_length, click_vectors, pad_clicks, worth_cutting
from micrec.models.columns import FieldColumns
from tests.micrec.test_models import HISTORY, N_ITEMS, item_columns, model_of, ragged

NEW = ("mind", "comirec_dr", "comirec_sa", "sasrec", "bert4rec")


def test_a_click_is_the_scaled_mean_of_its_fields():
    fields = torch.randn(5, 3, 16, generator=torch.Generator().manual_seed(0))
    expected = np.mean([fields[:, f].numpy() for f in range(3)], axis=0) * 4.0
    np.testing.assert_allclose(click_vectors(fields).numpy(), expected, rtol=1e-5)


def test_padding_by_loops():
    vectors = torch.randn(N_ITEMS, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    padded, mask = pad_clicks(ragged(HISTORY), vectors, 7)
    for user, clicks in enumerate(HISTORY):
        gap = 7 - len(clicks)
        assert mask[user].tolist() == [False] * gap + [True] * len(clicks)
        assert padded[user, :gap].abs().sum() == 0
        for place, item in enumerate(clicks):
            assert torch.equal(padded[user, gap + place], vectors[item])
    padded.sum().backward()
    counts = [sum(clicks.count(item) for clicks in HISTORY) for item in range(N_ITEMS)]
    assert vectors.grad[:, 0].tolist() == counts
    nobody, mask = pad_clicks(ragged([[], []]), vectors, 4)
    assert nobody.shape == (2, 4, 3)
    assert not mask.any()


@pytest.mark.parametrize("limit", [1, 3, 4, 6, 20])
def test_histories_go_with_their_like_and_come_back_in_order(limit):
    rng = np.random.default_rng(limit)
    rows = [rng.integers(0, N_ITEMS, rng.integers(0, limit + 1)).tolist() for _ in range(50)]
    asked = []

    def encode(history, length):
        sizes = history.offsets.diff()
        assert int(sizes.max()) <= length <= limit
        asked.append((length, len(sizes)))
        sums = [history.values[a:b].sum() for a, b in zip(history.offsets[:-1], history.offsets[1:], strict=True)]
        return torch.stack([torch.stack(sums), sizes], dim=1)

    found = by_length(ragged(rows), limit, encode)
    assert found.tolist() == [[sum(row), len(row)] for row in rows]
    assert sum(n for _, n in asked) == 50
    assert len({length for length, _ in asked}) == len(asked) <= 4
    assert len(asked) > 1 or limit == 1


@pytest.mark.parametrize("name", NEW)
def test_a_batch_in_training_gives_what_it_gives_whole(name, monkeypatch):
    """Users and the gradients of all parameters, in a batch large enough to be cut by length."""
    rng = np.random.default_rng(0)
    history = ragged([rng.integers(0, N_ITEMS, rng.integers(0, 7)).tolist() for _ in range(300)])
    users = FieldColumns(n=300, single={"country": torch.arange(300) % 3}, multi={}, numbers={})
    assert worth_cutting(history)
    found = {}
    for cut in (True, False):
        monkeypatch.setattr(click_sequences, "LEAST_ROWS", 256 if cut else 10**9)
        model = model_of(name=name, init_scale=0.7).train()
        fields = model.embed_items(item_columns().take(torch.arange(N_ITEMS)))
        vectors = model.user_tower(users, history, fields)
        vectors.square().sum().backward()
        gradients = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.grad is not None}
        found[cut] = vectors.detach(), gradients
    torch.testing.assert_close(found[True][0], found[False][0], rtol=1e-4, atol=1e-5)
    assert found[True][1].keys() == found[False][1].keys()
    for key, gradient in found[True][1].items():
        torch.testing.assert_close(gradient, found[False][1][key], rtol=1e-3, atol=1e-4)
