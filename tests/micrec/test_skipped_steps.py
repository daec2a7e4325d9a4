"""Skipped Adam steps in closed form against the loop over them."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from micrec.optim.skipped import TOLERANCE, SkippedSteps

BETAS = [(0.9, 0.999), (0.9, 0.99), (0.5, 0.999), (0.0, 0.999), (0.5, 0.9), (0.9, 0.81), (0.99, 0.9)]
USUAL = BETAS[0]


def skipped_by_loop(  # one Adam step after the other, as in Algorithm 1 with gradient 0
    m: float, v: float, t0: int, rates: Sequence[float], beta1: float, beta2: float, eps: float
) -> float:
    moved = 0.0
    for t, rate in enumerate(rates, start=t0 + 1):
        m, v = beta1 * m, beta2 * v
        moved -= rate * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
    return moved


def evaluate(numbers: Tensor, m: float, root: float) -> float:
    total, below, *levels = numbers[0].tolist()
    below += root
    for minus_b, a in zip(levels[::2], levels[1::2], strict=True):
        below = root + minus_b / below + a
    return -m * total / below


@settings(max_examples=40, deadline=None)
@given(
    beta1=st.floats(0.0, 0.99),
    beta2=st.floats(0.5, 0.9999),
    start=st.integers(0, 3000),
    steps=st.integers(1, 120),
    magnitude=st.floats(-4, 4),
    growth=st.floats(0.97, 1.03),
)
def test_closed_form_equals_the_loop(
    beta1: float, beta2: float, start: int, steps: int, magnitude: float, growth: float
) -> None:
    """Every row age that may occur before the next flush, for any size of v beside eps, on a changing learning rate."""
    eps = 1e-8
    skipped = SkippedSteps(beta1, beta2, eps, device="cpu", step=start)
    taken: list[float] = []
    while len(taken) < steps and skipped.step < skipped.flush_at:
        taken.append(0.01 * growth ** len(taken))
        skipped.advance(taken[-1])
    root = eps * 10**magnitude
    for t0 in range(max(1, start), skipped.step):
        numbers = skipped.gather(torch.tensor([t0]), torch.tensor([t0]))
        expected = skipped_by_loop(1.0, root**2, t0, taken[t0 - start :], beta1, beta2, eps)
        assert evaluate(numbers, 1.0, root) == pytest.approx(expected, rel=5 * TOLERANCE, abs=1e-290)


def test_moments_may_lag_behind_the_weights() -> None:
    """A row moved to step 12 whose moments are still those of step 10, read again at step 30."""
    beta1, beta2 = USUAL
    skipped = SkippedSteps(beta1, beta2, 1e-8, device="cpu", step=1000)
    for _ in range(30):
        skipped.advance(0.01)
    numbers = skipped.gather(torch.tensor([1012]), torch.tensor([1010]))
    m, v = 2.0 * beta1**2, 1e-14 * beta2**2
    expected = skipped_by_loop(m, v, 1012, [0.01] * 18, beta1, beta2, 1e-8)
    assert evaluate(numbers, 2.0, 1e-7) == pytest.approx(expected, rel=TOLERANCE)


def test_the_usual_betas_need_no_flush_once_settled() -> None:
    assert SkippedSteps(*USUAL, 1e-8, device="cpu", step=500).flush_at == math.inf
    assert SkippedSteps(*USUAL, 1e-8, device="cpu", step=0).flush_at < 10


def test_hard_betas_are_flushed_more_often_instead_of_refused() -> None:
    assert SkippedSteps(0.99, 0.9, 1e-8, device="cpu", step=10**6).flush_at < 10**6 + 100
