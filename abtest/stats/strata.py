"""Post-stratification: arms compared within strata that exposure cannot move (cold and warm), then averaged.

Each stratum weighs as its share w of all users. The noise is that within strata, ``sum w^2 Var``, plus that of the
shares themselves, ``Var_w(effect of the stratum) / N``: users are a draw from a population whose shares are not known
(as in gbstats). The lift is relative to the control averaged with the same weights.

Users of a unit above the user may lie in several strata. Then the noise is that between units, of what the strata of
each add up to; and so is that of the shares.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from abtest.stats.contrast import Contrast, Distribution, LiftMethod, NoisePart, judge
from abtest.stats.estimate import Estimate, Group
from abtest.stats.moments import Moments
from abtest.stats.terms import Linear, Term, linear, undefined
from abtest.stats.welch import unusable


class UnitStrata(NamedTuple):
    """Units of two arms, with what their users of each stratum did.

    Attributes:
        labels: The strata.
        control: Moments of the control's clusters, with the columns ``of_stratum(label, column)``.
        treatment: The same of the treatment.
        both: The same of the clusters of both arms together.
    """

    labels: tuple[str, ...]
    control: Moments
    treatment: Moments
    both: Moments


USERS = "users"  # column of ``UnitStrata`` with the users of a unit, also by stratum


def of_stratum(label: str, column: str) -> str:
    """Column of ``UnitStrata`` with a column summed over the users of a stratum, 0 for all others."""
    return f"{label}\x1f{column}"


def post_stratified(
    control: Mapping[Hashable, Moments],
    treatment: Mapping[Hashable, Moments],
    metric: Term,
    *,
    alpha: float = 0.05,
    lift: LiftMethod = "welch-fieller",
    distribution: Distribution = "t",
    null: float = 0.0,
) -> Estimate:
    """Treatment against control, averaged over strata.

    Args:
        control: Moments of the control's users per stratum.
        treatment: Moments of the treatment's users for the same strata.
        metric: A column, or (numerator, denominator) for the ratio of the weighted sums.
        alpha: 1 - level of the intervals.
        lift: As in ``welch``.
        distribution: ``normal`` for z instead of t.
        null: Lift that p is for.

    Raises:
        ValueError: If the strata of the arms differ, there are none, or alpha or a column is not valid.
    """
    if set(control) != set(treatment) or not control:
        raise ValueError(f"strata must be the same in both arms, got {list(control)} and {list(treatment)}.")
    method = f"{'Welch t' if distribution == 't' else 'z'}, post-stratified over {len(control)} strata"
    whole_c, whole_t = sum(control.values(), start=_nothing(control)), sum(treatment.values(), start=_nothing(control))
    if blank := unusable(whole_c, whole_t, (metric,), method, alpha):
        return blank
    columns = (metric,) if isinstance(metric, str) else metric
    arms = (("control", control), ("treatment", treatment))
    faults = [
        f"stratum {stratum}: {fault}"
        for stratum in control
        for arm, cells in arms
        for column in columns
        if (fault := undefined(cells[stratum], column, arm))
    ]
    if faults:
        groups = Group(whole_c.n, None), Group(whole_t.n, None)
        return Estimate(method, alpha, *groups, reason="; ".join(dict.fromkeys(faults)))
    total = whole_c.n + whole_t.n
    share = np.array([(control[s].n + treatment[s].n) / total for s in control])
    value_c, inner_c, noise_c = _arm(control, metric, share)
    value_t, inner_t, noise_t = _arm({s: treatment[s] for s in control}, metric, share)
    effect = inner_t - inner_c  # of each stratum, less the average one: what the shares' noise moves
    shares = NoisePart(
        float(share @ effect**2) / total,
        -float(share @ (effect * inner_c)) / total,
        float(share @ inner_c**2) / total,
        total - 1,
    )
    within_c = [NoisePart(v, v, v, control[s].n - 1) for s, v in zip(control, noise_c, strict=True)]
    within_t = [NoisePart(v, 0.0, 0.0, treatment[s].n - 1) for s, v in zip(control, noise_t, strict=True)]
    contrast = Contrast(value_t - value_c, value_c, (*within_c, *within_t, shares))
    users = whole_c.n, whole_t.n
    return judge(contrast, *users, method=method, alpha=alpha, lift=lift, distribution=distribution, null=null)


def post_stratified_units(
    units: UnitStrata,
    metric: Term,
    *,
    alpha: float = 0.05,
    lift: LiftMethod = "welch-fieller",
    distribution: Distribution = "t",
    null: float = 0.0,
) -> Estimate:
    """The same where units above the user were assigned; arguments as of ``post_stratified``.

    Raises:
        ValueError: If alpha or a column is not valid.
    """
    method = f"{'Welch t' if distribution == 't' else 'z'}, post-stratified over {len(units.labels)} strata"
    columns = (metric,) if isinstance(metric, str) else metric
    terms = [(of_stratum(s, column), of_stratum(s, USERS)) for column in columns for s in units.labels]
    if blank := unusable(units.control, units.treatment, tuple(terms), method, alpha):
        n_c, n_t = units.control.n, units.treatment.n
        return Estimate(method, alpha, Group(n_c, None), Group(n_t, None), reason=blank.reason)
    shares = linear(units.both, [(of_stratum(s, USERS), USERS) for s in units.labels])
    arms = linear(units.control, terms), linear(units.treatment, terms)
    (value_c, inner_c, noise_c), (value_t, inner_t, noise_t) = (_arm_of_units(one, shares.value) for one in arms)
    effect, moved = inner_t - inner_c, shares.cov / shares.n
    parts = (
        NoisePart(noise_c, noise_c, noise_c, arms[0].dof, arms[0].expected),
        NoisePart(noise_t, 0.0, 0.0, arms[1].dof, arms[1].expected),
        NoisePart(
            float(effect @ moved @ effect),
            -float(effect @ moved @ inner_c),
            float(inner_c @ moved @ inner_c),
            shares.dof,
            0.0,
        ),
    )
    contrast, n = Contrast(value_t - value_c, value_c, parts), (units.control.n, units.treatment.n)
    return judge(contrast, *n, method=method, alpha=alpha, lift=lift, distribution=distribution, null=null)


def _arm_of_units(arm: Linear, share: np.ndarray) -> tuple[float, np.ndarray, float]:
    """As ``_arm``, of the values of the strata, of a ratio those of its numerator and then of its denominator."""
    size = len(share)
    top, bottom = arm.value[:size], arm.value[size:]
    if not len(bottom):
        value = float(share @ top)
        return value, top - value, float(share @ arm.cov @ share) / arm.n
    per = float(share @ bottom)
    value = float(share @ top) / per
    slope = np.concatenate([share, -value * share]) / per
    return value, (top - value * bottom) / per, float(slope @ arm.cov @ slope) / arm.n


def _arm(cells: Mapping[Hashable, Moments], metric: Term, share: np.ndarray) -> tuple[float, np.ndarray, list[float]]:
    """The arm's weighted value, each stratum's linearised distance from it, and each one's squared standard error."""
    if isinstance(metric, str):
        means = np.array([cell.mean_of(metric) for cell in cells.values()])
        value = float(share @ means)
        noise = [
            float(w) ** 2 * float(linear(cell, (metric,)).cov[0, 0]) / cell.n
            for w, cell in zip(share, cells.values(), strict=True)
        ]
        return value, means - value, noise
    top = np.array([cell.mean_of(metric[0]) for cell in cells.values()])
    bottom = np.array([cell.mean_of(metric[1]) for cell in cells.values()])
    per = float(share @ bottom)
    value = float(share @ top) / per
    noise = []
    for w, cell in zip(share, cells.values(), strict=True):
        cov = linear(cell, metric).cov
        variance = cov[0, 0] - 2.0 * value * cov[0, 1] + value**2 * cov[1, 1]
        noise.append(float(w) ** 2 * float(variance) / per**2 / cell.n)
    return value, (top - value * bottom) / per, noise


def _nothing(cells: Mapping[Hashable, Moments]) -> Moments:
    return Moments.empty(next(iter(cells.values())).names)


def within_strata(strata: Sequence[Moments], question: Term) -> float:
    """Share of a mean's variance within strata; 1 for ratios, of which no more is promised."""
    if not isinstance(question, str) or len(strata) < 2:
        return 1.0
    users = sum(one.n for one in strata)
    whole = strata[0]
    for one in strata[1:]:
        whole = whole + one
    inside = math.fsum(one.var_of(question) * one.n for one in strata if one.n > 1)
    return min(inside / users / whole.var_of(question), 1.0)
