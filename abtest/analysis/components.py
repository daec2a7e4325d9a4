"""A metric that moved, by its components: users x active days per user x clicks per active day x dwell per click.

Each component is a mean or a ratio of two sums, so the lifts multiply to that of the arm's total exactly, and each has
its own test and interval. The share of a component is its part of the logarithm of the change per user; how many users
an arm has is the split's doing and not the treatment's.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from abtest.analysis import expressions
from abtest.analysis.effects import Effect
from abtest.analysis.expressions import Expression
from abtest.analysis.metrics import ALL, Metric
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.rollup import ACTIVE_DAYS
from abtest.analysis.unit_cells import UNIT, UnitCells
from abtest.analysis.userlog import UserLog
from abtest.stats.estimate import Estimate, Group
from abtest.stats.groups import CellMoments
from abtest.stats.terms import Term
from abtest.stats.welch import welch

_CHAIN = (ACTIVE_DAYS, "impressions", "clicks")  # from the widest; a metric's own column ends it
_SINGULAR = {ACTIVE_DAYS: "active day", "impressions": "impression", "clicks": "click"}
_PLURAL = {ACTIVE_DAYS: "active days", "dwell_s": "dwell, s,"}


class Component(NamedTuple):
    """One factor of a metric.

    Attributes:
        name: In words, such as "clicks per active day".
        estimate: Control, treatment and lift; users without a test, as their number is the split's.
        share: Of the logarithm of the change per user; None of the users and where a factor is not positive.
    """

    name: str
    estimate: Estimate
    share: float | None


class Breakdown(NamedTuple):
    """A primary metric that moved.

    Attributes:
        metric: What moved.
        arm: The treatment.
        total: Lift of the arm's total over the control's, both by their planned shares of the users.
        components: From the users to the metric.
    """

    metric: Metric
    arm: str
    total: float
    components: tuple[Component, ...]


def breakdowns_of(log: UserLog, effects: Sequence[Effect], plan: AnalysisPlan) -> list[Breakdown]:
    """Every primary mean that moved and has components."""
    there = set(log.users.collect_schema())
    moved = [
        effect
        for effect in effects
        if effect.family == "primary" and effect.significant and effect.metric.per is None and effect.slice == ALL
    ]
    chains = {effect.question: (*_chain(effect.metric, there), effect.metric.value) for effect in moved}
    if not any(len(chain) > 1 for chain in chains.values()):
        return []
    columns = {one.text: one.expr for chain in chains.values() for one in chain}
    cells: CellMoments | UnitCells
    if log.has_units:
        table = log.users.select(pl.col(UNIT), pl.col("arm").cast(pl.String), **columns)
        cells = UnitCells.of(table, list(columns), ["arm"])
    else:
        table = log.users.select(pl.col("arm").cast(pl.String), **columns)
        cells = CellMoments.of(table, list(columns), ["arm"])
    return [
        _breakdown(cells, effect, chains[effect.question], plan) for effect in moved if len(chains[effect.question]) > 1
    ]


def _chain(metric: Metric, there: set[str]) -> tuple[Expression, ...]:
    """What lies between the users and a metric: as its file says, else what the log has."""
    if metric.components:
        return metric.components
    own = metric.value.columns
    upto = _CHAIN.index(own[0]) if len(own) == 1 and own[0] in _CHAIN else len(_CHAIN)
    wide = _CHAIN[:upto] if metric.value.plain is not None else _CHAIN[:1]
    return tuple(expressions.parse(expressions.quoted(name)) for name in wide if name in there)


def _breakdown(
    cells: CellMoments | UnitCells, effect: Effect, chain: Sequence[Expression], plan: AnalysisPlan
) -> Breakdown:
    control, treatment = cells.total(arm=plan.control), cells.total(arm=effect.arm)
    counts = [
        cells.users(arm) if isinstance(cells, UnitCells) else cells.total(arm=arm).n
        for arm in (plan.control, effect.arm)
    ]
    users = _users(counts[0] / plan.weight(plan.control), counts[1] / plan.weight(effect.arm), plan.alpha)
    found = [Component("users, by the planned shares", users, None)]
    for place, factor in enumerate(chain):
        before = chain[place - 1] if place else None
        question: Term = factor.text if before is None else (factor.text, before.text)
        estimate = welch(control, treatment, question, alpha=plan.alpha)
        found.append(Component(_name(factor, before), estimate, None))
    logs = [None, *(_log_ratio(one.estimate) for one in found[1:])]
    total = math.fsum(one for one in logs if one is not None)
    shares = [one / total if one is not None and total and None not in logs[1:] else None for one in logs]
    components = tuple(one._replace(share=share) for one, share in zip(found, shares, strict=True))
    return Breakdown(effect.metric, effect.arm, _product(components), components)


def _users(control: float, treatment: float, alpha: float) -> Estimate:
    lift = treatment / control - 1.0
    groups = Group(round(control), control), Group(round(treatment), treatment)
    reason = "the number of users is the split's: the sample ratio tests it"
    return Estimate("counted", alpha, *groups, difference=treatment - control, lift=lift, reason=reason)


def _log_ratio(estimate: Estimate) -> float | None:
    return math.log1p(estimate.lift) if estimate.lift is not None and estimate.lift > -1.0 else None


def _product(components: Sequence[Component]) -> float:
    whole = 1.0
    for one in components:
        whole *= 1.0 + (one.estimate.lift or 0.0)
    return whole - 1.0


def _name(factor: Expression, before: Expression | None) -> str:
    what = _PLURAL.get(factor.plain or "", factor.text)
    per = "user" if before is None else _SINGULAR.get(before.plain or "", before.text)
    return f"{what} per {per}"
