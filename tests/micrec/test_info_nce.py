"""InfoNCE against loops written from Eq. 3-5, its laws, and the shared-negative scores."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import Tensor

from micrec.losses.info_nce import grouped_scores, info_nce

QUICK = settings(max_examples=40, deadline=None)
SCORE = st.floats(-30, 30)
Table = tuple[NDArray, NDArray, NDArray, NDArray]


def reference_info_nce(
    positive: NDArray,
    negative: NDArray,
    positive_mask: NDArray,
    negative_mask: NDArray,
    tau: float,
    denominator: str,
    reduction: str,
) -> float:
    """Eq. 3-5 as plain loops."""
    per_anchor, total = [], 0.0
    for i in range(len(positive)):
        terms = []
        for k in range(positive.shape[1]):
            if not positive_mask[i, k]:
                continue
            below = [math.exp(negative[i, j] / tau) for j in range(negative.shape[1]) if negative_mask[i, j]]
            if denominator == "with_positive":
                below.append(math.exp(positive[i, k] / tau))
            if below:
                terms.append(-math.log(math.exp(positive[i, k] / tau) / sum(below)))
        total += sum(terms)
        if terms:
            per_anchor.append(sum(terms) / len(terms))
    if reduction == "sum":
        return total
    return sum(per_anchor) / len(per_anchor) if per_anchor else 0.0


@st.composite
def score_tables(draw: st.DrawFn) -> Table:
    """Scores and masks of A anchors, P positives, K negatives; any of the masks may leave nothing."""
    a, p, k = draw(st.integers(0, 4)), draw(st.integers(1, 3)), draw(st.integers(0, 4))
    return (
        draw(hnp.arrays(np.float64, (a, p), elements=SCORE)),
        draw(hnp.arrays(np.float64, (a, k), elements=SCORE)),
        draw(hnp.arrays(np.bool_, (a, p))),
        draw(hnp.arrays(np.bool_, (a, k))),
    )


def tensors(*arrays: NDArray) -> list[Tensor]:
    return [torch.from_numpy(array) for array in arrays]


@pytest.mark.parametrize("denominator", ["with_positive", "negatives_only"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@QUICK
@given(table=score_tables(), tau=st.sampled_from([0.1, 0.5, 1.0, 3.0]))
def test_equals_the_loops_of_the_paper(table: Table, tau: float, denominator: Any, reduction: Any) -> None:
    positive, negative, positive_mask, negative_mask = tensors(*table)
    loss = info_nce(
        positive,
        negative,
        positive_mask=positive_mask,
        negative_mask=negative_mask,
        temperature=tau,
        denominator=denominator,
        reduction=reduction,
    )
    expected = reference_info_nce(*table, tau, denominator, reduction)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_two_anchors_by_hand() -> None:
    """Anchor 0: log(1 + e^-2 + e^-1) with s = 2 over 0 and 1; anchor 1: both of its positives cost log 2."""
    positive = torch.tensor([[2.0, 9.0], [1.0, 1.0]])
    negative = torch.tensor([[0.0, 1.0], [1.0, 5.0]])
    positive_mask = torch.tensor([[True, False], [True, True]])
    negative_mask = torch.tensor([[True, True], [True, False]])
    first = math.log(1 + math.exp(-2) + math.exp(-1))
    options: dict[str, Any] = {"positive_mask": positive_mask, "negative_mask": negative_mask, "temperature": 1.0}
    mean = info_nce(positive, negative, **options)
    assert mean.item() == pytest.approx((first + math.log(2)) / 2, rel=1e-6)
    total = info_nce(positive, negative, **options, reduction="sum")
    assert total.item() == pytest.approx(first + 2 * math.log(2), rel=1e-6)


@pytest.mark.parametrize("n_negatives", [0, 1, 50])
def test_equal_scores_cost_log_of_the_choices(n_negatives: int) -> None:
    """With every item alike the best guess is uniform."""
    positive, negative = torch.full((3, 1), 0.7), torch.full((3, n_negatives), 0.7)
    assert info_nce(positive, negative, temperature=0.3).item() == pytest.approx(math.log(1 + n_negatives), rel=1e-6)


@QUICK
@given(table=score_tables(), shift=st.floats(-100, 100))
def test_with_positive_is_never_negative_and_ignores_a_shift(table: Table, shift: float) -> None:
    positive, negative, positive_mask, negative_mask = tensors(*table)
    options: dict[str, Any] = {"positive_mask": positive_mask, "negative_mask": negative_mask, "temperature": 0.5}
    loss = info_nce(positive, negative, **options).item()
    assert loss >= 0
    assert info_nce(positive + shift, negative + shift, **options).item() == pytest.approx(loss, rel=1e-9, abs=1e-9)


def test_negatives_only_falls_without_bound_as_embeddings_grow() -> None:
    """Scaling embeddings by c scales raw dot products by c^2: the loss of a separated pair goes to -infinity."""
    losses = [
        info_nce(torch.tensor([[c * c]]), torch.zeros(1, 5), temperature=1.0, denominator="negatives_only").item()
        for c in (1.0, 10.0, 100.0)
    ]
    assert losses == pytest.approx([math.log(5) - 1, math.log(5) - 100, math.log(5) - 10_000])


@pytest.mark.parametrize("denominator", ["with_positive", "negatives_only"])
@QUICK
@given(table=score_tables(), data=st.data())
def test_masking_an_entry_is_removing_it(table: Table, data: st.DataObject, denominator: Any) -> None:
    positive, negative, _, _ = tensors(*table)
    options: dict[str, Any] = {"temperature": 1.0, "denominator": denominator}
    keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=negative.shape[1], max_size=negative.shape[1])))
    keep = keep.bool()
    masked = info_nce(positive, negative, negative_mask=keep.expand_as(negative), **options)
    removed = info_nce(positive, negative[:, keep], **options)
    assert masked.item() == pytest.approx(removed.item(), rel=1e-9, abs=1e-9)
    first_only = torch.zeros_like(positive, dtype=torch.bool)
    first_only[:, 0] = True
    masked = info_nce(positive, negative, positive_mask=first_only, **options)
    assert masked.item() == pytest.approx(info_nce(positive[:, :1], negative, **options).item(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("denominator", ["with_positive", "negatives_only"])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_masked_entries_may_hold_anything_and_get_no_gradient(denominator: Any, poison: float) -> None:
    positive = torch.tensor([[1.0, poison], [poison, poison], [0.5, 2.0]], requires_grad=True)
    negative = torch.tensor([[poison, 0.5], [1.0, poison], [poison, poison]], requires_grad=True)
    with torch.autograd.set_detect_anomaly(True):  # no NaN on the way either
        loss = info_nce(
            positive,
            negative,
            positive_mask=torch.tensor([[True, False], [False, False], [True, True]]),
            negative_mask=torch.tensor([[False, True], [True, False], [False, False]]),
            temperature=1.0,
            denominator=denominator,
        )
        loss.backward()
    weight = 1 / 2 if denominator == "with_positive" else 1.0  # anchor 2 has no negative: costs 0, or does not count
    slope = weight * (1 / (1 + math.exp(0.5)) if denominator == "with_positive" else 1.0)
    assert loss.isfinite()
    assert positive.grad is not None
    assert negative.grad is not None
    torch.testing.assert_close(positive.grad, torch.tensor([[-slope, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(negative.grad, torch.tensor([[0.0, slope], [0.0, 0.0], [0.0, 0.0]]))


@pytest.mark.parametrize("denominator", ["with_positive", "negatives_only"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_huge_scores_give_finite_loss_and_gradient(denominator: Any, dtype: torch.dtype) -> None:
    positive = torch.tensor([[1e4], [-1e4]], dtype=dtype, requires_grad=True)
    negative = torch.tensor([[-1e4, -1e4], [1e4, 0.0]], dtype=dtype, requires_grad=True)
    loss = info_nce(positive, negative, temperature=1.0, denominator=denominator, reduction="sum")
    loss.backward()
    gap = float(torch.tensor(1e4, dtype=dtype)) * 2
    expected = gap if denominator == "with_positive" else math.log(2) - gap + gap
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, abs=1e-2)
    assert positive.grad is not None
    assert negative.grad is not None
    assert positive.grad.flatten().tolist() == ([0, -1] if denominator == "with_positive" else [-1, -1])
    assert negative.grad[1].tolist() == [1, 0]


@pytest.mark.parametrize("shape", [(0, 1), (3, 1)])
@pytest.mark.parametrize("denominator", ["with_positive", "negatives_only"])
def test_nothing_to_learn_from_is_an_exact_zero_that_still_differentiates(
    shape: tuple[int, int], denominator: Any
) -> None:
    """No anchors at all, or anchors without a positive."""
    positive = torch.randn(shape, requires_grad=True)
    negative = torch.randn(shape[0], 4, requires_grad=True)
    loss = info_nce(
        positive,
        negative,
        positive_mask=torch.zeros(shape, dtype=torch.bool),
        temperature=1.0,
        denominator=denominator,
    )
    loss.backward()
    assert loss.item() == 0.0
    assert positive.grad is not None
    assert negative.grad is not None
    assert not positive.grad.any()
    assert not negative.grad.any()


def test_anchors_without_positives_do_not_dilute_the_mean() -> None:
    positive, negative = torch.tensor([[1.0], [3.0]]), torch.zeros(2, 2)
    with_empty = info_nce(positive, negative, positive_mask=torch.tensor([[True], [False]]), temperature=1.0)
    assert with_empty.item() == info_nce(positive[:1], negative[:1], temperature=1.0).item()


@pytest.mark.parametrize("denominator", ["with_positive", "negatives_only"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradient_equals_finite_differences(denominator: Any, reduction: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    positive = torch.randn(4, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    negative = torch.randn(4, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    positive_mask = torch.tensor([[1, 1], [1, 0], [0, 0], [0, 1]], dtype=torch.bool)
    negative_mask = torch.tensor([[1, 1, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)

    def loss(positive: Tensor, negative: Tensor) -> Tensor:
        return info_nce(
            positive,
            negative,
            positive_mask=positive_mask,
            negative_mask=negative_mask,
            temperature=0.7,
            denominator=denominator,
            reduction=reduction,
        )

    assert torch.autograd.gradcheck(loss, (positive, negative))


@pytest.mark.parametrize(("n_anchors", "group_size"), [(0, 3), (1, 1), (6, 3), (7, 3), (7, 1), (2, 8)])
def test_grouped_scores_equal_a_gather_per_anchor(n_anchors: int, group_size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    n_groups = math.ceil(n_anchors / group_size)
    anchors = torch.randn(n_anchors, 5, dtype=torch.float64, generator=generator)
    negatives = torch.randn(n_groups, 4, 5, dtype=torch.float64, generator=generator)
    scores = grouped_scores(anchors, negatives, group_size)
    assert scores.shape == (n_anchors, 4)
    for i in range(n_anchors):
        for j in range(4):
            expected = np.dot(anchors[i].numpy(), negatives[i // group_size, j].numpy())
            assert scores[i, j].item() == pytest.approx(expected, abs=1e-12)


def test_grouped_scores_pass_gradients_to_both_sides() -> None:
    generator = torch.Generator().manual_seed(2)
    anchors = torch.randn(5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    negatives = torch.randn(3, 2, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, n: grouped_scores(a, n, 2), (anchors, negatives))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, r"temperature must be > 0, got 0\.0"),
        ({"temperature": math.nan}, "temperature must be > 0, got nan"),
        ({"denominator": "all"}, "denominator must be one of with_positive, negatives_only, got 'all'"),
        ({"reduction": "none"}, "reduction must be one of mean, sum, got 'none'"),
        ({"positive_mask": torch.ones(2, 1)}, r"positive_mask must be bool \(True = use\), got torch.float32"),
        ({"negative_mask": torch.ones(2, 4, dtype=torch.bool)}, r"negative_mask \(2, 4\) must fit negative \(2, 3\)"),
        ({"negative_mask": torch.ones(3, dtype=torch.bool)}, r"negative_mask \(3,\) must fit negative \(2, 3\)"),
    ],
)
def test_bad_options_are_named(change: dict[str, Any], message: str) -> None:
    options = {"temperature": 1.0} | change
    with pytest.raises(ValueError, match=message):
        info_nce(torch.zeros(2, 1), torch.zeros(2, 3), **options)


@pytest.mark.parametrize(("positive", "negative"), [((2,), (2, 3)), ((2, 1), (3, 3)), ((2, 1), (2,))])
def test_bad_score_shapes_are_named(positive: tuple[int, ...], negative: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must have shapes \(A, P\) and \(A, K\): pass one row"):
        info_nce(torch.zeros(positive), torch.zeros(negative), temperature=1.0)


def test_bad_groups_are_named() -> None:
    with pytest.raises(ValueError, match="group_size must be >= 1, got 0"):
        grouped_scores(torch.zeros(4, 2), torch.zeros(1, 3, 2), 0)
    with pytest.raises(ValueError, match=r"negative_emb \(1, 3, 2\) must have shape \(G, K, D\) = \(2, K, 2\)"):
        grouped_scores(torch.zeros(4, 2), torch.zeros(1, 3, 2), 2)
    with pytest.raises(ValueError, match=r"negative_emb \(2, 3, 5\) must have shape"):
        grouped_scores(torch.zeros(4, 2), torch.zeros(2, 3, 5), 2)
