"""When a result may be called significant: at the end of a fixed test, or beyond the bound of a planned look."""

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

from scipy import special

from abtest.stats.contrast import LiftMethod
from abtest.stats.estimate import Estimate
from abtest.stats.moments import Moments
from abtest.stats.spending import Look, Spending, bounds, information_ratio, stagewise_p
from abtest.stats.terms import Term
from abtest.stats.welch import welch

NO_NEWS = "no new information since the look before: nothing may be spent"


class FixedHorizon(NamedTuple):
    """A fixed test at one look.

    Attributes:
        estimate: What the data say so far; its p holds for one look at the planned end only.
        ended: Whether the planned end is reached.
        significant: Whether p < alpha; None before the end or where there is no p.
        reason: Why ``significant`` is None, else None.
    """

    estimate: Estimate
    ended: bool
    significant: bool | None
    reason: str | None


def fixed_horizon(estimate: Estimate, *, planned_n: int | None = None, ended: bool | None = None) -> FixedHorizon:
    """A fixed test, which refuses to call anything significant before its planned end.

    Args:
        estimate: Estimate from the users so far, both arms.
        planned_n: Users of both arms at the planned end; alone it decides whether the test has ended.
        ended: Whether the end is reached, where it is planned in days or otherwise known.

    Raises:
        ValueError: If neither the planned users nor the end is given, or ``planned_n`` is not positive.
    """
    if planned_n is None and ended is None:
        raise ValueError("a fixed test needs its planned end: give planned_n (users of both arms) or ended.")
    if planned_n is not None and planned_n < 1:
        raise ValueError(f"planned_n must be >= 1, got {planned_n}.")
    n = estimate.control.n + estimate.treatment.n
    enough = planned_n is None or n >= planned_n
    done = enough if ended is None else ended and enough
    if not done:
        have = "the planned end" if planned_n is None or enough else f"the planned end ({n:,} of {planned_n:,} users)"
        why = f"{have} is not reached: a fixed test is read once, at its end"
        return FixedHorizon(estimate, False, None, why)
    return FixedHorizon(estimate, True, estimate.rejects, estimate.reason if estimate.p is None else None)


class SequentialLook(NamedTuple):
    """A planned look of a group-sequential test.

    Attributes:
        look: Information, level spent, bound.
        estimate: At the look's nominal level: its intervals are repeated confidence intervals.
        crossed: Whether the bound is crossed here; None where there is no p.
        stagewise_p: p of the whole test if it stops here; None where undefined.
    """

    look: Look
    estimate: Estimate
    crossed: bool | None
    stagewise_p: float | None


def group_sequential(
    data: Sequence[tuple[Moments, Moments]],
    metric: Term,
    *,
    planned_n: tuple[int, int],
    final: bool = False,
    alpha: float = 0.05,
    spending: Spending = "obrien-fleming",
    rho: float = 3.0,
    lift: LiftMethod = "welch-fieller",
) -> list[SequentialLook]:
    """Every look up to now of a test whose looks were planned; information from the users actually there.

    Args:
        data: Moments of control and treatment since the start, at each look.
        metric: A column or a ratio of two.
        planned_n: Users per arm, control and treatment, at the planned end.
        final: Whether the last look is the plan's last, which spends all that is left however many users came.
        alpha: Two-sided level of the whole test.
        spending: How the level is spent.
        rho: Power of the ``power`` family.
        lift: As in ``welch``.

    Returns:
        One per look. A look without new users, or beyond the planned ones before the final look, spends nothing.

    Raises:
        ValueError: If alpha, the spending or a column is not valid.
    """
    there = [information_ratio(control.n, treatment.n, *planned_n) for control, treatment in data]
    shares = [min(ratio, 1.0) for ratio in there]
    if final and shares:
        shares = [min(share, 1.0 - 1e-9) for share in shares[:-1]] + [1.0]
    new = [at for at, share in enumerate(shares) if share > max(shares[:at], default=0.0)]
    information: list[float] = []  # what makes looks alike are the users there, whatever the last look spends
    for at in new:
        information.append(max(there[at], information[-1] * (1.0 + 1e-9) if information else there[at]))
    clock = [shares[at] for at in new]
    plan = iter(bounds(information, alpha=alpha, spending=spending, rho=rho, clock=clock) if new else ())
    results: list[SequentialLook] = []
    passed: list[Look] = []
    for at, ((control, treatment), share) in enumerate(zip(data, shares, strict=True)):
        spent = passed[-1].spent if passed else 0.0
        if at in new:
            passed.append(next(plan))
            results.append(_at(passed, control, treatment, metric, lift))
            continue
        so_far = welch(control, treatment, metric, alpha=alpha, lift=lift)
        blank = Estimate(
            so_far.method, alpha, so_far.control, so_far.treatment, so_far.difference, lift=so_far.lift, reason=NO_NEWS
        )
        results.append(SequentialLook(Look(share, spent, math.inf, 0.0), blank, False, None))
    return results


def _at(passed: Sequence[Look], control: Moments, treatment: Moments, metric: Term, lift: LiftMethod) -> SequentialLook:
    look = passed[-1]
    estimate = welch(control, treatment, metric, alpha=max(look.alpha, sys.float_info.min), lift=lift)
    if estimate.log10_p is None or estimate.p is None:
        return SequentialLook(look, estimate, None, None)
    z = -float(special.ndtri_exp(estimate.log10_p * math.log(10.0) - math.log(2.0)))
    return SequentialLook(look, estimate, estimate.p < look.alpha, stagewise_p(passed, z))
