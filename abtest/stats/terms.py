"""Metrics as terms: a column stands for its mean, a pair of columns for the ratio of their sums.

A ratio is linearised per user at its group's own value R, ``(numerator - R denominator) / mean(denominator)``, whose
mean is 0 and whose variance is that of the ratio to first order (delta method, Deng, Knoblich, Lu 2018); variances have
n - 1 below. A ratio whose denominator is 1 for every user is the mean of its numerator, digit for digit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from abtest.stats.moments import Moments

Term = str | tuple[str, str]
Floats = NDArray[np.float64]

ROUNDING = 1e-13  # a variance this small beside what cancelled to make it is rounding and not noise


class Linear(NamedTuple):
    """Terms over the users of one group.

    Attributes:
        n: Users.
        value: Value of each term, shape (P,).
        cov: Covariance of the terms per user, n - 1 below, shape (P, P).
        dof: Degrees of freedom of ``cov``.
        expected: Of clusters: a mean's variance as it is expected under their working model; None of users.
    """

    n: int
    value: Floats
    cov: Floats
    dof: float
    expected: float | None = None


def linear(moments: Moments, terms: Sequence[Term]) -> Linear:
    """Values and covariances of the terms; what is only rounding becomes a variance of 0.

    Args:
        moments: At least 2 users.
        terms: Columns, or (numerator, denominator) pairs whose denominators have a mean other than 0.
    """
    weights = np.zeros((len(terms), len(moments.names)))
    value = np.zeros(len(terms))
    for row, term in enumerate(terms):
        if isinstance(term, str):
            weights[row, moments.at(term)] = 1.0
            value[row] = moments.mean[moments.at(term)]
            continue
        top, bottom = moments.at(term[0]), moments.at(term[1])
        value[row] = moments.mean[top] / moments.mean[bottom]
        weights[row, top] += 1.0 / moments.mean[bottom]
        weights[row, bottom] -= value[row] / moments.mean[bottom]
    cov = weights @ moments.comoment @ weights.T / (moments.n - 1)
    size = np.abs(weights) @ np.sqrt(np.diag(moments.comoment) / (moments.n - 1))
    level = np.abs(weights) @ np.abs(moments.mean)
    still = np.diag(cov) <= np.maximum(ROUNDING * size**2, (10 * np.finfo(float).eps * level) ** 2)
    cov[still, :] = 0.0
    cov[:, still] = 0.0
    return Linear(moments.n, value, cov, moments.dof, moments.expected)


def undefined(moments: Moments, term: Term, arm: str) -> str | None:
    """Why a term and its variance cannot be computed for this arm, or None."""
    if moments.n < 2:
        return f"{arm} has {moments.n:,} user{'s' if moments.n != 1 else ''}: at least 2 are needed to see any spread"
    for column in columns_of(term):
        at = moments.at(column)
        if not (np.isfinite(moments.mean[at]) and np.isfinite(moments.comoment[at, at])):
            return f"{column} of {arm} is not finite"
    if not isinstance(term, str) and moments.mean[moments.at(term[1])] == 0.0:
        return f"{term[1]} of {arm} sums to 0: {name_of(term)} is undefined"
    return None


def value_of(moments: Moments, term: Term) -> float | None:
    """The metric in one arm, or None where undefined."""
    if moments.n == 0:
        return None
    if isinstance(term, str):
        value = float(moments.mean[moments.at(term)])
    else:
        bottom = float(moments.mean[moments.at(term[1])])
        if bottom == 0.0:
            return None
        value = float(moments.mean[moments.at(term[0])]) / bottom
    return value if np.isfinite(value) else None


def name_of(term: Term) -> str:
    """A term in words: ``clicks`` or ``clicks / impressions``."""
    return term if isinstance(term, str) else " / ".join(term)


def columns_of(term: Term) -> tuple[str, ...]:
    """The columns that a term needs."""
    return (term,) if isinstance(term, str) else term
