"""Softmax of rows with several clicks to find: against formulas in float64, and against autograd."""

import numpy as np
import pytest
import torch

from micrec.losses import catalogue_softmax, row_softmax
from micrec.shapes import fixed_shapes


def logits_by_hand(user, item, bias, drift, popularity, own, tau):
    scores = np.zeros((len(user), len(item)))
    for b in range(len(user)):
        for i in range(len(item)):
            scores[b, i] = (np.dot(user[b], item[i]) + bias[i] + drift * popularity[b][i] + own.get((b, i), 0.0)) / tau
    return scores


def cross_entropy_by_hand(scores, rows, columns):
    found = [np.log(np.sum(np.exp(scores[r]))) - scores[r][c] for r, c in zip(rows, columns, strict=True)]
    return float(np.mean(found))


@pytest.fixture
def case():
    rng = np.random.default_rng(1)
    own = {(0, 2): 1.5, (0, 4): -0.5, (2, 0): 0.75, (3, 6): 2.0}
    return {
        "user": rng.normal(size=(4, 3)),
        "item": rng.normal(size=(7, 3)),
        "bias": rng.normal(size=7),
        "drift": 0.7,
        "popularity": rng.normal(size=(4, 7)),
        "own": own,
        "rows": [0, 0, 0, 1, 3],
        "columns": [2, 5, 2, 1, 6],  # a click on one item twice counts twice
    }


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("part", [1, 7, 14, 1 << 18])
@pytest.mark.parametrize("tau", [1.0, 0.5])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_catalogue_softmax_is_the_cross_entropy_of_all_items(case, part, tau, count, threads, monkeypatch):
    threads(count)
    monkeypatch.setattr("micrec.losses.softmax_parts.PART_NUMBERS", {"cpu": part})
    scores = logits_by_hand(
        case["user"], case["item"], case["bias"], case["drift"], case["popularity"], case["own"], tau
    )
    expected = cross_entropy_by_hand(scores, case["rows"], case["columns"])
    leaves = {
        name: torch.tensor(case[name], dtype=torch.float64, requires_grad=True)
        for name in ("user", "item", "bias", "drift")
    }
    terms = torch.tensor(list(case["own"].values()), dtype=torch.float64, requires_grad=True)
    pairs = torch.tensor(list(case["own"]))
    popularity = torch.tensor(case["popularity"])
    rows, columns = torch.tensor(case["rows"]), torch.tensor(case["columns"])
    loss = catalogue_softmax(
        leaves["user"],
        leaves["item"],
        rows,
        columns,
        bias=leaves["bias"],
        drift=leaves["drift"],
        popularity=lambda rows, out: torch.index_select(popularity, 0, torch.arange(4)[rows], out=out),
        own=(pairs[:, 0], pairs[:, 1], terms),
        temperature=tau,
    )
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    inputs = [*leaves.values(), terms]
    ours = torch.autograd.grad(3.0 * loss, inputs)
    plain = leaves["user"] @ leaves["item"].T + leaves["bias"] + leaves["drift"] * popularity
    plain = plain.index_put((pairs[:, 0], pairs[:, 1]), terms, accumulate=True) / tau
    reference = torch.nn.functional.cross_entropy(plain[rows], columns)
    for got, want in zip(ours, torch.autograd.grad(3.0 * reference, inputs), strict=True):
        torch.testing.assert_close(got, want)


def test_catalogue_softmax_without_terms_needs_no_terms(case):
    user, item = (torch.tensor(case[name], dtype=torch.float64) for name in ("user", "item"))
    loss = catalogue_softmax(user, item, torch.tensor(case["rows"]), torch.tensor(case["columns"]))
    scores = logits_by_hand(case["user"], case["item"], np.zeros(7), 0.0, np.zeros((4, 7)), {}, 1.0)
    assert loss.item() == pytest.approx(cross_entropy_by_hand(scores, case["rows"], case["columns"]))


def row_softmax_by_hand(positive, negative, rows, mask, log_q, logq, denominator):
    found = []
    for t, row in enumerate(rows):
        own = positive[t] - (log_q[0][t] if logq == "standard" else 0.0)
        others = [
            np.exp(negative[row][k] - (0.0 if logq == "none" else log_q[1][k]))
            for k in range(negative.shape[1])
            if mask[row][k]
        ]
        total = sum(others) + (np.exp(own) if denominator == "with_positive" else 0.0)
        found.append(np.log(total) - own)
    return found


@pytest.mark.parametrize("denominator", ["with_positive", "negatives_only"])
@pytest.mark.parametrize("logq", ["none", "standard", "refined"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_row_softmax_is_a_softmax_for_each_click_of_the_row(denominator, logq, reduction):
    rng = np.random.default_rng(2)
    positive, negative, rows = rng.normal(size=5), rng.normal(size=(3, 4)), [0, 0, 1, 2, 2]
    mask = rng.random((3, 4)) < 0.7
    mask[:, 0] = True
    log_q = rng.normal(size=5), rng.normal(size=4)
    expected = row_softmax_by_hand(positive, negative, rows, mask, log_q, logq, denominator)
    loss = row_softmax(
        torch.tensor(positive),
        torch.tensor(negative),
        torch.tensor(rows),
        negative_mask=torch.tensor(mask),
        positive_log_q=torch.tensor(log_q[0]),
        negative_log_q=torch.tensor(log_q[1]),
        denominator=denominator,
        logq=logq,
        reduction=reduction,
    )
    assert loss.item() == pytest.approx(np.mean(expected) if reduction == "mean" else np.sum(expected))


@pytest.mark.parametrize("denominator", ["with_positive", "negatives_only"])
def test_row_softmax_over_all_items_counts_the_own_column_as_the_positive(denominator):
    scores, rows, columns = np.random.default_rng(3).normal(size=(2, 5)), [0, 1, 1], [4, 0, 2]
    expected = []
    for row, column in zip(rows, columns, strict=True):
        used = [i for i in range(5) if denominator == "with_positive" or i != column]
        expected.append(np.log(sum(np.exp(scores[row][i]) for i in used)) - scores[row][column])
    loss = row_softmax(
        torch.tensor(scores[rows, columns]),
        torch.tensor(scores),
        torch.tensor(rows),
        own_columns=torch.tensor(columns),
        denominator=denominator,
    )
    assert loss.item() == pytest.approx(np.mean(expected))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="pass the row of each clicked item"):
        row_softmax(torch.zeros(3), torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.5, 3.0]])
@pytest.mark.parametrize("asked", [[1.0, 1.0], [2.0, 2.0], [0.0, 1.0], [1.0, 0.0], [-0.5, 4.0]])
@pytest.mark.parametrize(("part", "count", "fixed"), [(1 << 18, 1, False), (7, 2, False), (7, 1, True)])
def test_groups_are_weighted_means_of_their_own_with_exact_gradients(
    case, weights, asked, part, count, fixed, threads, monkeypatch
):
    """The gradient of any sum of the groups is that of one softmax per group, whichever is at hand."""
    threads(count)
    monkeypatch.setattr("micrec.losses.softmax_parts.PART_NUMBERS", {"cpu": part})
    leaves = {
        name: torch.tensor(case[name], dtype=torch.float64, requires_grad=True) for name in ("user", "item", "bias")
    }
    terms = torch.tensor(list(case["own"].values()), dtype=torch.float64, requires_grad=True)
    pairs = torch.tensor(list(case["own"]))
    group, rows, columns = torch.tensor([0, 0, 1, 1]), torch.tensor(case["rows"]), torch.tensor(case["columns"])
    with fixed_shapes(fixed):
        losses = catalogue_softmax(
            leaves["user"],
            leaves["item"],
            rows,
            columns,
            bias=leaves["bias"],
            own=(pairs[:, 0], pairs[:, 1], terms),
            groups=(group, weights),
            temperature=0.5,
        )
        inputs = [*leaves.values(), terms]
        ours = torch.autograd.grad(losses, inputs, torch.tensor(asked, dtype=torch.float64), retain_graph=True)
        again = torch.autograd.grad(losses.sum(), inputs)
    plain = leaves["user"] @ leaves["item"].T + leaves["bias"]
    plain = plain.index_put((pairs[:, 0], pairs[:, 1]), terms, accumulate=True) / 0.5
    costs = torch.nn.functional.cross_entropy(plain[rows], columns, reduction="none")
    expected = [weight * costs[group[rows] == one].mean() for one, weight in enumerate(weights)]
    torch.testing.assert_close(losses, torch.stack(expected))
    for found, factors in ((ours, asked), (again, [1.0, 1.0])):
        total = sum(factor * loss for factor, loss in zip(factors, expected, strict=True))
        for got, want in zip(found, torch.autograd.grad(total, inputs, retain_graph=True), strict=True):
            torch.testing.assert_close(got, want)


def test_a_group_with_nothing_to_find_costs_nothing(case):
    user, item = (torch.tensor(case[name], requires_grad=True) for name in ("user", "item"))
    rows, columns, group = torch.tensor(case["rows"]), torch.tensor(case["columns"]), torch.tensor([0, 0, 1, 2])
    losses = catalogue_softmax(user, item, rows, columns, groups=(group, [1.0, 1.0, 1.0]))
    assert losses[1].item() == 0.0
    assert not torch.autograd.grad(losses[1], [user], retain_graph=True)[0].any()
    alone = catalogue_softmax(user, item, rows, columns, groups=(torch.zeros_like(group), [1.0]))
    assert alone.shape == (1,)
    assert alone.item() == pytest.approx(catalogue_softmax(user, item, rows, columns).item())
