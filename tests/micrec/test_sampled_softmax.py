"""The matching loss against loops written from Eq. 7, and its corrections against the full softmax."""

import itertools
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

from micrec.losses.sampled_softmax import full_softmax, in_batch_softmax, sampled_softmax, shared_softmax

QUICK = settings(max_examples=40, deadline=None)
SCORE = st.floats(-20, 20)


def reference_row(positive: float, negatives: list[float], denominator: str) -> float | None:
    """Eq. 7 for one row of finished logits; None where it is undefined."""
    below = [math.exp(logit) for logit in negatives]
    if denominator == "with_positive":
        below.append(math.exp(positive))
    return math.log(sum(below)) - positive if below else None


def reference_mean(rows: list[float | None]) -> float:
    defined = [row for row in rows if row is not None]
    return sum(defined) / len(defined) if defined else 0.0


def random_tensors(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]


def dot(a: Tensor, b: Tensor) -> float:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def gradient(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, inputs))


# Eq. 7 and the corrections, against loops


@st.composite
def rows(draw: st.DrawFn) -> dict[str, NDArray]:
    b, k = draw(st.integers(1, 4)), draw(st.integers(0, 4))
    return {
        "positive": draw(hnp.arrays(np.float64, b, elements=SCORE)),
        "negative": draw(hnp.arrays(np.float64, (b, k), elements=SCORE)),
        "negative_mask": draw(hnp.arrays(np.bool_, (b, k))),
        "positive_log_q": draw(hnp.arrays(np.float64, b, elements=st.floats(-5, 2))),
        "negative_log_q": draw(hnp.arrays(np.float64, (b, k), elements=st.floats(-5, 2))),
    }


@pytest.mark.parametrize("denominator", ["with_positive", "negatives_only"])
@pytest.mark.parametrize("logq", ["none", "standard", "refined"])
@QUICK
@given(row=rows(), tau=st.sampled_from([0.5, 1.0, 2.0]))
def test_equals_the_loops_of_the_paper(row: dict[str, NDArray], tau: float, logq: Any, denominator: Any) -> None:
    """log q is subtracted after the division by tau, and from the positive in ``standard`` only."""
    expected = []
    for i, positive in enumerate(row["positive"]):
        lowered = positive / tau - (row["positive_log_q"][i] if logq == "standard" else 0.0)
        negatives = [
            score / tau - (log_q if logq != "none" else 0.0)
            for score, log_q, use in zip(
                row["negative"][i], row["negative_log_q"][i], row["negative_mask"][i], strict=True
            )
            if use
        ]
        expected.append(reference_row(lowered, negatives, denominator))
    inputs: dict[str, Any] = {name: torch.from_numpy(values) for name, values in row.items()}
    mean = sampled_softmax(**inputs, temperature=tau, denominator=denominator, logq=logq)
    assert mean.item() == pytest.approx(reference_mean(expected), rel=1e-9, abs=1e-9)
    total = sampled_softmax(**inputs, temperature=tau, denominator=denominator, logq=logq, reduction="sum")
    assert total.item() == pytest.approx(sum(filter(None, expected)), rel=1e-9, abs=1e-9)
    if denominator == "with_positive":
        assert mean.item() >= 0


@pytest.mark.parametrize("logq", ["none", "standard"])
def test_equal_scores_and_a_uniform_draw_cost_log_of_the_choices(logq: Any) -> None:
    log_q = torch.full((20,), math.log(20 / 1000))
    loss = sampled_softmax(
        torch.zeros(3),
        torch.zeros(3, 20),
        positive_log_q=log_q[:3],
        negative_log_q=log_q,
        temperature=1.0,
        logq=logq,
    )
    assert loss.item() == pytest.approx(math.log(21), rel=1e-6)


def test_equal_scores_and_a_refined_uniform_draw_cost_log_of_the_catalogue() -> None:
    """20 draws from 999 other items stand for all 999."""
    log_q = torch.full((20,), math.log(20 / 999))
    loss = sampled_softmax(torch.zeros(3), torch.zeros(3, 20), negative_log_q=log_q, temperature=1.0, logq="refined")
    assert loss.item() == pytest.approx(math.log(1000), rel=1e-6)


@pytest.mark.parametrize("logq", ["none", "standard", "refined"])
def test_huge_scores_give_finite_gradients(logq: Any) -> None:
    positive = torch.tensor([-1e4, 1e4], requires_grad=True)
    negative = torch.tensor([[1e4, 0.0], [0.0, -1e4]], requires_grad=True)
    loss = sampled_softmax(
        positive,
        negative,
        positive_log_q=torch.zeros(2),
        negative_log_q=torch.zeros(2),
        temperature=1.0,
        logq=logq,
        reduction="sum",
    )
    by_positive, by_negative = gradient(loss, positive, negative)
    assert loss.item() == 2e4
    assert by_positive.tolist() == [-1, 0]
    assert by_negative.tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize("denominator", ["with_positive", "negatives_only"])
@pytest.mark.parametrize("logq", ["none", "standard", "refined"])
def test_gradient_equals_finite_differences(logq: Any, denominator: Any) -> None:
    positive, negative, log_q = random_tensors(0, (3,), (3, 4), (4,))
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]], dtype=torch.bool)

    def loss(positive: Tensor, negative: Tensor) -> Tensor:
        return sampled_softmax(
            positive,
            negative,
            negative_mask=mask,
            positive_log_q=log_q[:3],
            negative_log_q=log_q,
            temperature=0.6,
            denominator=denominator,
            logq=logq,
        )

    assert torch.autograd.gradcheck(loss, (positive.requires_grad_(), negative.requires_grad_()))


# The corrections against the full softmax. A draw of ``copies * COUNTS[j]`` times item j is a draw that hits every item
# exactly as often as expected: no random numbers, no tolerance for noise.

COUNTS = torch.tensor([1, 2, 4, 1])
TARGET = 2


def exact_draw(copies: int, *, keep_target: bool) -> Tensor:
    items = torch.repeat_interleave(torch.arange(4), COUNTS * copies)
    return items if keep_target else items[items != TARGET]


@pytest.mark.parametrize("copies", [1, 3])
def test_refined_equals_the_full_softmax_on_an_exact_draw(copies: int) -> None:
    """Value and gradient, at any size of the draw."""
    (scores,) = random_tensors(1, (4,))
    scores.requires_grad_()
    items = exact_draw(copies, keep_target=False)
    log_q = torch.log(COUNTS.double() * copies)
    sampled = sampled_softmax(
        scores[TARGET][None], scores[items][None], negative_log_q=log_q[items], temperature=0.5, logq="refined"
    )
    full = torch.logsumexp(scores / 0.5, 0) - scores[TARGET] / 0.5
    assert sampled.item() == pytest.approx(full.item(), abs=1e-12)
    torch.testing.assert_close(gradient(sampled, scores), gradient(full, scores))


def test_refined_has_the_gradient_of_the_weighted_loss_of_its_paper() -> None:
    """Khrylchenko et al. 2025: stop-gradient weight 1 - p times the loss over corrected negatives alone."""
    positive, negative, log_q = random_tensors(2, (5,), (5, 7), (5, 7))
    positive.requires_grad_()
    negative.requires_grad_()
    corrected = negative - log_q
    with torch.no_grad():
        p = positive.exp() / (positive.exp() + corrected.exp().sum(1))
    published = ((1 - p) * (torch.log(corrected.exp().sum(1)) - positive)).mean()
    ours = sampled_softmax(positive, negative, negative_log_q=log_q, temperature=1.0, logq="refined")
    torch.testing.assert_close(gradient(ours, positive, negative), gradient(published, positive, negative))


def test_refined_gradient_averages_to_the_full_gradient_over_random_draws() -> None:
    """20,000 rows of 200 draws from a skewed Q that never draws the target; the wrong sign is far off."""
    (scores,) = random_tensors(3, (6,))
    q = torch.tensor([0.4, 0.3, 0.0, 0.15, 0.1, 0.05])
    items = torch.multinomial(q.expand(20_000, -1), 200, replacement=True, generator=torch.Generator().manual_seed(0))
    log_q = torch.log(200 * q).double()
    expected = torch.softmax(scores, 0)
    expected[TARGET] -= 1
    errors = {}
    for sign in (1, -1):
        leaf = scores.clone().requires_grad_()
        loss = sampled_softmax(
            leaf[TARGET].expand(20_000),
            leaf[items],
            negative_log_q=sign * log_q[items],
            temperature=1.0,
            logq="refined",
        )
        errors[sign] = (gradient(loss, leaf)[0] - expected).abs().max().item()
    assert errors[1] < 0.005
    assert errors[-1] > 0.05


def test_standard_approaches_the_full_gradient_as_the_draw_grows_and_the_wrong_sign_does_not() -> None:
    """With the target left among the draws, the gradient of ``standard`` is off by about 1 / its expected count."""
    (scores,) = random_tensors(4, (4,))
    full = torch.softmax(scores, 0)
    full[TARGET] -= 1
    errors: dict[tuple[int, int], float] = {}
    for sign, copies in itertools.product((1, -1), (1, 10, 100)):
        leaf = scores.clone().requires_grad_()
        items = exact_draw(copies, keep_target=True)
        log_q = sign * torch.log(COUNTS.double() * copies)
        loss = sampled_softmax(
            leaf[TARGET][None],
            leaf[items][None],
            positive_log_q=log_q[TARGET][None],
            negative_log_q=log_q[items],
            temperature=1.0,
            logq="standard",
        )
        errors[sign, copies] = (gradient(loss, leaf)[0] - full).abs().max().item()
    assert errors[1, 10] < errors[1, 1] / 5
    assert errors[1, 100] < errors[1, 10] / 5
    assert errors[1, 100] < 0.01
    assert errors[-1, 100] > 0.1


@pytest.mark.parametrize(
    ("logq", "sign", "consistent"), [("standard", 1, True), ("none", 1, False), ("standard", -1, False)]
)
def test_standard_is_at_rest_exactly_where_scores_are_log_probabilities(logq: Any, sign: int, consistent: bool) -> None:
    """Every click y ~ P and every set S of negatives, item j in S with probability q_j, weighted by its probability.

    At scores tau * log P the expected gradient vanishes with the right correction, and only with it.
    """
    tau = 0.5
    p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    q = torch.tensor([0.9, 0.5, 0.3, 0.2], dtype=torch.float64)
    drawn = torch.tensor(list(itertools.product([False, True], repeat=4)))  # (16, 4)
    set_probability = torch.where(drawn, q, 1 - q).prod(1)
    scores = (tau * p.log()).requires_grad_()
    slope = torch.zeros(4, dtype=torch.float64)
    for y in range(4):
        for negatives, probability in zip(drawn, set_probability, strict=True):
            others = negatives & (torch.arange(4) != y)
            loss = sampled_softmax(
                scores[y][None],
                scores[None],
                negative_mask=others[None],
                positive_log_q=sign * q.log()[y][None],
                negative_log_q=sign * q.log(),
                temperature=tau,
                logq=logq,
            )
            slope += p[y] * probability * gradient(loss, scores)[0]
    assert (slope.abs().max().item() < 1e-12) == consistent


# Errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -1.0}, r"temperature must be > 0, got -1\.0"),
        ({"logq": "yes"}, "logq must be one of none, standard, refined, got 'yes'"),
        ({"logq": "refined"}, "logq=refined needs negative_log_q: pass the log of the expected counts"),
        (
            {"logq": "standard", "negative_log_q": torch.zeros(3)},
            "logq=standard needs positive_log_q and negative_log_q",
        ),
        (
            {"logq": "refined", "negative_log_q": torch.zeros(2)},
            r"negative_log_q \(2,\) must have the shape of negative \(2, 3\)",
        ),
        (
            {"positive": torch.zeros(2, 1)},
            r"positive \(2, 1\) and negative \(2, 3\) must have shapes \(B,\) and \(B, K\)",
        ),
        ({"negative_mask": torch.ones(2, 3)}, "negative_mask must be bool"),
    ],
)
def test_bad_options_are_named(change: dict[str, Any], message: str) -> None:
    inputs: dict[str, Any] = {"positive": torch.zeros(2), "negative": torch.zeros(2, 3), "temperature": 1.0}
    with pytest.raises(ValueError, match=message):
        sampled_softmax(**inputs | change)


def test_bad_shapes_of_the_layouts_are_named() -> None:
    user = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"user_emb \(2, 3\) and the clicked items' embeddings \(3, 3\)"):
        in_batch_softmax(user, torch.zeros(3, 3), temperature=1.0)
    with pytest.raises(ValueError, match=r"user_emb \(2, 3\) and negative_emb \(4, 2\) must be matrices of the same"):
        shared_softmax(user, user, torch.zeros(4, 2), temperature=1.0)
    with pytest.raises(ValueError, match="positive_ids and negative_ids go together"):
        shared_softmax(user, user, torch.zeros(4, 3), positive_ids=torch.zeros(2), temperature=1.0)
    with pytest.raises(ValueError, match=r"targets \(3,\) and user_emb \(2, 3\)"):
        full_softmax(user, torch.zeros(4, 3), torch.zeros(3, dtype=torch.long), temperature=1.0)
    with pytest.raises(ValueError, match=r"negative_mask \(4,\) must have shape \(B, N\) = \(2, 4\) or \(1, N\)"):
        full_softmax(
            user,
            torch.zeros(4, 3),
            torch.zeros(2, dtype=torch.long),
            negative_mask=torch.ones(4, dtype=torch.bool),
            temperature=1.0,
        )
