"""Logistic regression by Newton's method, pulled towards a prior."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

Floats = NDArray[np.float64]

STEPS, TOLERANCE = 50, 1e-8
_BLOCK = 16_384  # rows whose weighted copy is held at a time


def fit_logistic(x: NDArray[np.floating], y: NDArray, prior: Floats, strength: Floats) -> Floats:
    """Weights w that minimise sum(log loss of x w) + sum(strength * (w - prior)^2) / 2.

    The loss is convex; a step that would not lower it is halved.

    Args:
        x: Features, shape (m, F), a column of ones among them if there is to be an intercept.
        y: Outcomes, 0 or 1, shape (m,).
        prior: Where the weights are pulled to, and start, shape (F,).
        strength: How hard, above 0, shape (F,).
    """
    weights, loss = prior.copy(), _loss(x, y, prior, prior, strength)
    for _ in range(STEPS):
        gradient, hessian = strength * (weights - prior), np.diag(strength)
        for start in range(0, len(x), _BLOCK):
            block = x[start : start + _BLOCK].astype(np.float64)
            chance = expit(block @ weights)
            gradient += block.T @ (chance - y[start : start + _BLOCK])
            hessian += block.T @ (block * (chance * (1.0 - chance))[:, None])
        step = cho_solve(cho_factor(hessian), gradient)
        size = 1.0
        while (new := _loss(x, y, weights - size * step, prior, strength)) > loss and size > 1e-6:
            size /= 2.0
        if loss - new <= TOLERANCE * abs(loss):
            break
        weights, loss = weights - size * step, new
    return weights


def _loss(x: NDArray[np.floating], y: NDArray, weights: Floats, prior: Floats, strength: Floats) -> float:
    score = x @ weights
    return float(np.logaddexp(0.0, score).sum() - score @ y + 0.5 * (strength * (weights - prior) ** 2).sum())
