"""CUPED: the part of a metric that pre-exposure covariates predict is subtracted before the arms are compared.

    D = (Y_T - Y_C) - theta . (X_T - X_C),   theta = Cov(X)^-1 Cov(X, Y) over the users of both arms together

(Deng, Xu, Kohavi, Walker 2013, with one theta for both arms as tea-tasting, gbstats and spotify-confidence have it).
The test is Welch's on ``Y - theta X`` per arm. The lift is relative to the control's raw mean B, and its interval takes
the covariance of D and B into account: in the control, ``D - rho B`` is minus the mean of ``(1 + rho) Y - theta X``, so
it is Welch-Fieller again. Ratios enter linearised: per arm at the arm's own value for the noise, at the pooled value
for theta. Covariates must be measured before exposure; a user without them counts 0, which stratifies better than it
adjusts.

Clusters are few, and a slope that was fitted to them takes degrees of freedom. With P covariates on G clusters, D
degrees of freedom before, F = G - 2 and T^2 = Hotelling's statistic of the covariates' imbalance, the adjusted noise is
taken times ``F / (F - P) (1 + T^2 / D)``, with ``D (F - P) / F`` degrees of freedom, and theta is that within the arms.
With clusters of one size this is the analysis of covariance of cluster means.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from abtest.stats.contrast import Contrast, Distribution, LiftMethod, NoisePart, judge
from abtest.stats.estimate import Estimate
from abtest.stats.moments import Moments
from abtest.stats.multiplicity import holm
from abtest.stats.noise_parts import pooled_dof
from abtest.stats.terms import ROUNDING, Linear, Term, linear, name_of
from abtest.stats.welch import unusable, welch

LEAST_DOF = 1.0 - 1e-9  # that slopes must leave of those of clusters


class Cuped(NamedTuple):
    """An adjusted estimate and what vouches for it.

    Attributes:
        estimate: Adjusted; its control mean is the raw one, its treatment mean is control + difference.
        raw: The same metric without adjustment.
        theta: Slope of the metric on each covariate; 0 for a covariate that does not vary.
        variance_reduction: 1 - squared standard error, adjusted over raw; None where undefined.
        balance: Each covariate compared between the arms: exposure cannot have moved it.
        balance_p: Smallest Holm-adjusted p of these: a small one means broken assignment or a covariate measured after
            exposure; None where undefined.
    """

    estimate: Estimate
    raw: Estimate
    theta: tuple[float, ...]
    variance_reduction: float | None
    balance: tuple[Estimate, ...]
    balance_p: float | None


class _Loss(NamedTuple):
    """What fitting slopes costs.

    Attributes:
        noise: Factor of the adjusted noise.
        dof_left: Share of the degrees of freedom that are left; 0 where they are fewer than 1.
    """

    noise: float = 1.0
    dof_left: float = 1.0


def cuped(
    control: Moments,
    treatment: Moments,
    metric: Term,
    covariates: Sequence[Term],
    *,
    alpha: float = 0.05,
    lift: LiftMethod = "welch-fieller",
    distribution: Distribution = "t",
    null: float = 0.0,
) -> Cuped:
    """Treatment against control on a mean or a ratio, adjusted for covariates.

    Args:
        control: Moments of the control's users, metric and covariates together.
        treatment: Moments of the treatment's users.
        metric: A column, or (numerator, denominator).
        covariates: Columns or (numerator, denominator) pairs, measured before exposure.
        alpha: 1 - level of the intervals.
        lift: As in ``welch``.
        distribution: ``normal`` for z instead of t.
        null: Lift that p is for.

    Raises:
        ValueError: If alpha is not within (0, 1), a column is unknown, or there is no covariate.
    """
    if not covariates:
        raise ValueError("covariates must name at least one column: without any, use welch.")
    names = ", ".join(map(name_of, covariates))
    raw = welch(control, treatment, metric, alpha=alpha, lift=lift, distribution=distribution, null=null)
    balance = tuple(welch(control, treatment, term, alpha=alpha, distribution=distribution) for term in covariates)
    adjusted_p = [p for p in holm([check.p for check in balance]) if p is not None]
    balance_p = min(adjusted_p, default=None)
    method = f"{raw.method}, CUPED on {names}"
    terms = (metric, *covariates)
    if blank := unusable(control, treatment, terms, method, alpha):
        return Cuped(blank, raw, (), None, balance, balance_p)
    c, t = linear(control, terms), linear(treatment, terms)
    slope, loss = theta(control + treatment, terms), _Loss()
    if c.expected is not None and t.expected is not None:
        slope, loss = _within_clusters(c, t)
    if loss.dof_left == 0.0:
        few = f"{c.n + t.n} units are too few to adjust for {names}: use welch, or fewer covariates"
        blank = Estimate(method, alpha, raw.control, raw.treatment, raw.difference, lift=raw.lift, reason=few)
        return Cuped(blank, raw, (), None, balance, balance_p)
    weights = np.concatenate([[1.0], -slope])
    difference = float(weights @ (t.value - c.value))
    noise_c, with_base = _quadratic(c, weights) / c.n, float(weights @ c.cov[:, 0]) / c.n
    noise_t = _quadratic(t, weights) / t.n
    parts = (
        NoisePart(
            noise_c * loss.noise,
            with_base if noise_c else 0.0,
            float(c.cov[0, 0]) / c.n,
            c.dof * loss.dof_left,
            c.expected,
        ),
        NoisePart(noise_t * loss.noise, 0.0, 0.0, t.dof * loss.dof_left, t.expected),
    )
    contrast = Contrast(difference, float(c.value[0]), parts)
    estimate = judge(contrast, c.n, t.n, method=method, alpha=alpha, lift=lift, distribution=distribution, null=null)
    gain = 1.0 - (estimate.se / raw.se) ** 2 if estimate.se is not None and raw.se else None
    return Cuped(estimate, raw, tuple(slope.tolist()), gain, balance, balance_p)


def theta(pooled: Moments, terms: Sequence[Term]) -> NDArray[np.float64]:
    """Slopes of the first term on the others, over users of both arms; 0 for what does not vary.

    Args:
        pooled: Moments of both arms together.
        terms: The metric and P covariates.

    Returns:
        Shape (P,). Covariates that repeat each other share the slope of least length.
    """
    cov = linear(pooled, terms).cov
    scale = np.sqrt(np.diag(cov)[1:])
    varies = scale > 0.0
    slope = np.zeros(len(scale))
    if varies.any():
        at = 1 + np.flatnonzero(varies)
        unit = scale[varies]
        correlation = cov[np.ix_(at, at)] / np.outer(unit, unit)
        solved = np.linalg.lstsq(correlation, cov[at, 0] / unit, rcond=1e-10)[0]
        slope[varies] = solved / unit
    return slope


def _within_clusters(control: Linear, treatment: Linear) -> tuple[NDArray[np.float64], _Loss]:
    """Slopes within the arms, shape (P,), by the noise of the difference; and what fitting them to clusters costs."""
    noise = control.cov / control.n + treatment.cov / treatment.n
    step = (treatment.value - control.value)[1:]
    scale = np.sqrt(np.diag(noise)[1:])
    at = np.flatnonzero(scale > 0.0)
    unit, slope = scale[at], np.zeros(len(scale))
    if not len(at):
        return slope, _Loss()
    correlation = noise[np.ix_(1 + at, 1 + at)] / np.outer(unit, unit)
    sides = np.column_stack([noise[1 + at, 0], step[at]]) / unit[:, None]
    solved, _, rank, _ = np.linalg.lstsq(correlation, sides, rcond=1e-10)
    slope[at] = solved[:, 0] / unit
    imbalance = float(solved[:, 1] @ sides[:, 1])  # Hotelling's T^2
    arms = (control, treatment)
    dof = pooled_dof([1.0, 1.0], [arm.dof for arm in arms], [arm.expected for arm in arms])
    free = control.n + treatment.n - 2
    left = (free - int(rank)) / free
    if left * dof < LEAST_DOF:
        return slope, _Loss(dof_left=0.0)
    return slope, _Loss((1.0 + imbalance / dof) / left, left)


def _quadratic(arm: Linear, weights: NDArray[np.float64]) -> float:
    """Variance per user of the weighted terms; 0 where it is only rounding."""
    variance = float(weights @ arm.cov @ weights)
    size = float(np.abs(weights) @ np.sqrt(np.diag(arm.cov)))
    return variance if variance > ROUNDING * size**2 else 0.0


def residual_cov(
    group: Moments, terms: Sequence[Term], covariates: Sequence[Term], pooled: Sequence[Moments]
) -> NDArray[np.float64]:
    """Covariance of the terms over the users of a group, each less what the covariates predict of it.

    Args:
        group: Its users.
        terms: P columns or ratios.
        covariates: Columns or ratios; none leaves the plain covariance.
        pooled: Users from whom the slopes of each term are taken, one for each term.

    Returns:
        Shape (P, P).
    """
    if not covariates:
        return linear(group, tuple(terms)).cov
    weights = np.zeros((len(terms), len(terms) + len(covariates)))
    for row, (term, users) in enumerate(zip(terms, pooled, strict=True)):
        weights[row, row] = 1.0
        weights[row, len(terms) :] = -theta(users, (term, *covariates))
    return weights @ linear(group, (*terms, *covariates)).cov @ weights.T


def residual_share(moments: Moments, metric: Term, covariates: Sequence[Term]) -> float:
    """Share of a metric's variance that the covariates leave: 1 - R^2 over these users."""
    terms = (metric, *covariates)
    weights = np.concatenate([[1.0], -theta(moments, terms)])
    whole = linear(moments, terms)
    return _quadratic(whole, weights) / float(whole.cov[0, 0])
