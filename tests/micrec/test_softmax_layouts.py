"""Shared, in-batch and full layouts of the matching loss against the per-row one and loops."""

from typing import Any

import pytest
import torch

from micrec.losses.sampled_softmax import full_softmax, in_batch_softmax, sampled_softmax, shared_softmax
from tests.micrec.test_sampled_softmax import dot, gradient, random_tensors, reference_mean, reference_row


def test_in_batch_equals_loops_and_masks_repeats_and_clicks() -> None:
    user, item, log_q = random_tensors(5, (5, 3), (5, 3), (5,))
    ids = torch.tensor([7, 8, 7, 9, 8])
    item = item[[0, 1, 0, 3, 1]]  # equal ids, equal embeddings
    log_q = log_q[[0, 1, 0, 3, 1]]
    clicked = torch.zeros(5, 5, dtype=torch.bool)
    clicked[0, 3] = clicked[3, 0] = clicked[3, 2] = True
    tau = 0.8
    expected = []
    for i in range(5):
        columns = [j for j in range(5) if ids[j] != ids[i] and not clicked[i, j]]
        logits = [dot(user[i], item[j]) / tau - float(log_q[j]) for j in range(5)]
        expected.append(reference_row(logits[i], [logits[j] for j in columns], "with_positive"))
    loss = in_batch_softmax(
        user, item, item_ids=ids, user_clicked=clicked, log_q=log_q, temperature=tau, logq="standard"
    )
    assert loss.item() == pytest.approx(reference_mean(expected), abs=1e-12)


def test_in_batch_without_ids_uses_every_other_row() -> None:
    user, item = random_tensors(6, (4, 3), (4, 3))
    expected = torch.nn.functional.cross_entropy(user @ item.T / 0.3, torch.arange(4))
    assert in_batch_softmax(user, item, temperature=0.3).item() == pytest.approx(expected.item(), abs=1e-12)


def test_a_batch_of_one_item_teaches_nothing() -> None:
    """Its only candidates are the positive itself: no pull, no push, no NaN."""
    user, item = random_tensors(7, (3, 2), (1, 2))
    user.requires_grad_()
    loss = in_batch_softmax(user, item.expand(3, 2), item_ids=torch.zeros(3, dtype=torch.long), temperature=1.0)
    assert loss.item() == 0.0
    assert not gradient(loss, user)[0].any()


@pytest.mark.parametrize("logq", ["none", "standard", "refined"])
def test_shared_negatives_equal_the_same_negatives_gathered_per_row(logq: Any) -> None:
    user, positive, pool, pool_log_q, row_log_q = random_tensors(8, (4, 3), (4, 3), (6, 3), (6,), (4,))
    positive_ids, negative_ids = torch.tensor([0, 1, 2, 3]), torch.tensor([3, 9, 1, 8, 9, 1])
    shared = shared_softmax(
        user,
        positive,
        pool,
        positive_ids=positive_ids,
        negative_ids=negative_ids,
        positive_log_q=row_log_q,
        negative_log_q=pool_log_q,
        temperature=0.4,
        logq=logq,
    )
    expected = sampled_softmax(
        torch.einsum("bd,bd->b", user, positive),
        torch.einsum("bd,kd->bk", user, pool),
        negative_mask=torch.tensor([[i != j for j in negative_ids] for i in positive_ids]),
        positive_log_q=row_log_q,
        negative_log_q=pool_log_q.expand(4, 6),
        temperature=0.4,
        logq=logq,
    )
    assert shared.item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize("denominator", ["with_positive", "negatives_only"])
def test_full_softmax_equals_loops(denominator: Any) -> None:
    user, item = random_tensors(9, (3, 4), (6, 4))
    targets = torch.tensor([5, 0, 5])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    for negative_mask in (None, mask, mask[:1]):
        expected = []
        for i in range(3):
            use = torch.ones(3, 6, dtype=torch.bool) if negative_mask is None else negative_mask.expand(3, 6)
            logits = [dot(user[i], item[j]) / 0.7 for j in range(6)]
            negatives = [logits[j] for j in range(6) if j != targets[i] and use[i, j]]
            expected.append(reference_row(logits[targets[i]], negatives, denominator))
        loss = full_softmax(user, item, targets, negative_mask=negative_mask, temperature=0.7, denominator=denominator)
        assert loss.item() == pytest.approx(reference_mean(expected), abs=1e-12)


def test_drawing_every_item_once_is_the_full_softmax() -> None:
    user, item = random_tensors(10, (3, 4), (6, 4))
    targets = torch.tensor([5, 0, 2])
    full = full_softmax(user, item, targets, temperature=0.7)
    for logq in ("none", "standard", "refined"):
        sampled = shared_softmax(
            user,
            item[targets],
            item,
            positive_ids=targets,
            negative_ids=torch.arange(6),
            positive_log_q=torch.zeros(3),
            negative_log_q=torch.zeros(6),
            temperature=0.7,
            logq=logq,
        )
        assert sampled.item() == pytest.approx(full.item(), abs=1e-12)
