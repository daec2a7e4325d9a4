"""Estimators by name: further estimates of the effect that Welch's test judges, each shown beside it in a report.

All have one signature, so that one more is a function and a line here. Another package calls ``ESTIMATORS.register`` or
declares an entry point of the group ``micrec.estimators``.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Literal, NamedTuple

from abtest.stats.cuped import cuped
from abtest.stats.estimate import Estimate
from abtest.stats.moments import Moments
from abtest.stats.strata import UnitStrata, post_stratified, post_stratified_units
from abtest.stats.terms import Term
from abtest.stats.welch import welch
from micrec.registry import Registry

EstimatorName = Literal["welch", "cuped", "poststratified"]
ESTIMATOR_NAMES: tuple[EstimatorName, ...] = ("welch", "cuped", "poststratified")


class ArmMoments(NamedTuple):
    """Moments of one arm, as estimators receive them.

    Attributes:
        users: Moments of its users, of the metric, the covariates and the capped metric together.
        strata: The same for each stratum, where strata are known that exposure cannot move; else empty.
    """

    users: Moments
    strata: Mapping[Hashable, Moments]


class Comparison(NamedTuple):
    """One question to an estimator.

    Attributes:
        control: The control.
        treatment: The treatment.
        metric: A column of the moments, or (numerator, denominator).
        covariates: Columns measured before exposure.
        capped: Column of the metric with its values capped; None where there is none.
        alpha: 1 - level of the intervals.
        null: Lift that p is for.
        unit_strata: In place of the arms' strata, where units above the user were assigned.
    """

    control: ArmMoments
    treatment: ArmMoments
    metric: Term
    covariates: tuple[str, ...]
    capped: str | None
    alpha: float
    null: float = 0.0
    unit_strata: UnitStrata | None = None


class Estimator(NamedTuple):
    """A way to estimate one effect.

    Attributes:
        label: Its name in reports.
        estimate: From the question to the estimate; None where it does not apply, as CUPED without covariates.
    """

    label: str
    estimate: Callable[[Comparison], Estimate | None]


def _cuped(asked: Comparison) -> Estimate | None:
    """Adjusted for all covariates."""
    if not asked.covariates:
        return None
    arms = asked.control.users, asked.treatment.users
    return cuped(*arms, asked.metric, asked.covariates, alpha=asked.alpha, null=asked.null).estimate


def _post_stratified(asked: Comparison) -> Estimate | None:
    """Averaged over two strata or more."""
    if asked.unit_strata is not None:
        return post_stratified_units(asked.unit_strata, asked.metric, alpha=asked.alpha, null=asked.null)
    if len(asked.control.strata) < 2:
        return None
    strata = asked.control.strata, asked.treatment.strata
    return post_stratified(*strata, asked.metric, alpha=asked.alpha, null=asked.null)


def _capped(asked: Comparison) -> Estimate | None:
    """Welch's test on the capped values."""
    if asked.capped is None:
        return None
    return welch(asked.control.users, asked.treatment.users, asked.capped, alpha=asked.alpha, null=asked.null)


ESTIMATORS: Registry[Estimator] = Registry(
    "estimator",
    "estimators",
    {
        "cuped": Estimator("CUPED", _cuped),
        "post-stratified": Estimator("post-stratified", _post_stratified),
        "capped": Estimator("capped at the 99th percentile", _capped),
    },
)


KEYS: dict[str, str] = {"cuped": "cuped", "poststratified": "post-stratified"}


def planned_estimate(asked: Comparison, name: EstimatorName) -> Estimate:
    """The estimate that a plan judges by; Welch's where the planned one does not apply, as within a single stratum."""
    found = ESTIMATORS[KEYS[name]].estimate(asked) if name in KEYS else None
    if found is not None:
        return found
    return welch(asked.control.users, asked.treatment.users, asked.metric, alpha=asked.alpha, null=asked.null)


def variance_reduction(raw: Estimate, adjusted: Estimate | None) -> float | None:
    """1 - squared standard error, adjusted over raw; None where undefined."""
    if adjusted is None or adjusted.se is None or not raw.se:
        return None
    return 1.0 - (adjusted.se / raw.se) ** 2
