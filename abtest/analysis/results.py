"""results.json of an analysis: plain values with their provenance, valid against the shipped schema."""

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.analysis.analysis import Analysis
from abtest.analysis.daily_looks import DayLook, Novelty
from abtest.analysis.design_results import design_data, design_scenario, effect_keys
from abtest.analysis.effects import Effect, Interaction
from abtest.analysis.findings import breakdown_data, corrected_wins, heterogeneity_data
from abtest.analysis.metrics import describe
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.robust import QuantileCheck
from abtest.analysis.validity import BalanceCheck, RatioCheck
from abtest.analysis.verdict import RULE, guardrail, verdicts_of
from abtest.report.sections import Section, section_data
from abtest.run_folder import SCHEMA, jsonable, versions
from abtest.stats.estimate import Estimate


def results_of(
    analysis: Analysis,
    extra_sections: Sequence[Section] = (),
    *,
    kind: str = "analyze",
    scenario: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The contents of ``results.json``.

    Args:
        analysis: What was found.
        extra_sections: Shown at the end of every report, such as a simulator's funnel.
        kind: Kind of the run.
        scenario: Keys of the run beside the plan's, such as a simulator's resolved scenario.
        more: Values to replace or add, such as ``seeds`` or ``models``.
    """
    log, plan = analysis.log, analysis.plan
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": kind,
        "scenario": {**(scenario or {}), **_plan(plan, analysis)},
        "command": plan.command,
        "versions": versions(),
        "seeds": [plan.seed],
        "runtime_s": analysis.runtime_s,
        "dataset": {
            "name": log.source.name,
            "hash": log.source.hash,
            "rows": log.rows,
            "unit": log.unit,
            "users": sum(analysis.users.values()),
            "users_by_arm": dict(analysis.users),
            "days": list(log.days.labels) if log.days else None,
        },
        "notes": list(log.notes),
        "valid": not analysis.validity.faults.get("all"),
        "alarms": analysis.validity.alarms,
        "srm": [_ratio(check) for check in analysis.validity.ratios],
        "balance": [_balance(check) for check in analysis.validity.balance],
        "effects": [_effect(effect, plan) for effect in analysis.effects],
        "interactions": [_interaction(one) for one in analysis.interactions],
        "heterogeneity": [heterogeneity_data(one) for one in analysis.heterogeneity],
        "breakdowns": [breakdown_data(one) for one in analysis.breakdowns],
        "looks": [_look(look) for look in analysis.looks],
        "novelty": [_novelty(one) for one in analysis.novelty],
        "power": [{**curve._asdict(), "metric": curve.metric.name} for curve in analysis.power],
        "quantiles": [_quantile(one) for one in analysis.quantiles],
        "checks": [{**one._asdict(), "metric": one.metric.name} for one in analysis.checks],
        "models": [],
        "sections": [section_data(section) for section in extra_sections],
        **design_data(analysis, estimate_data),
        **more,
    }
    results["verdicts"] = [verdict._asdict() for verdict in verdicts_of(results)]
    results["corrected_wins"] = corrected_wins(results)
    results["rule"] = list(RULE)
    plain = jsonable(results)
    assert isinstance(plain, dict)
    return plain


def _plan(plan: AnalysisPlan, analysis: Analysis) -> dict[str, Any]:
    return {
        "control": plan.control,
        "treatments": list(plan.treatments),
        "weights": {arm: plan.weight(arm) for arm in plan.arms},
        "metrics": [describe(metric) for metric in analysis.log.metrics],
        "slices": list(analysis.log.slices),
        "covariates": list(analysis.log.covariates),
        "alpha": plan.alpha,
        "planned_days": plan.planned_days,
        "planned_users": plan.planned_users,
        "looks": plan.looks,
        "timezone": plan.timezone,
        "srm_alpha": plan.srm_alpha,
        "min_users": plan.min_users,
        "ignored_arms": list(plan.ignored_arms),
        "columns": dict(plan.columns),
        "rows": plan.rows,
        "dedupe": list(plan.dedupe),
        "split_salt": plan.split_salt,
        **design_scenario(analysis),
        "population": plan.population,
    }


def estimate_data(estimate: Estimate) -> dict[str, Any]:
    """The numbers of one test, by their names in the schema."""
    numbers = ("difference", "difference_ci", "lift", "lift_ci", "t", "p", "log10_p")
    df = estimate.df if estimate.df is not None and estimate.df < 1e15 else None
    return {
        "test": estimate.method,
        **{name: getattr(estimate, name) for name in numbers},
        "df": df,
        "reason": estimate.reason,
    }


def _effect(effect: Effect, plan: AnalysisPlan) -> dict[str, Any]:
    estimate = effect.estimate
    data = {
        "family": effect.family,
        "metric": effect.metric.name,
        "label": effect.metric.label,
        "slice": effect.slice,
        "direction": effect.metric.direction,
        "margin": effect.metric.margin,
        "control": {"arm": plan.control, "n": estimate.control.n, "mean": estimate.control.mean},
        "treatment": {"arm": effect.arm, "n": estimate.treatment.n, "mean": estimate.treatment.mean},
        **estimate_data(estimate),
        "level": 1 - estimate.alpha,
        "p_adjusted": effect.p_adjusted,
        "significant": effect.significant,
        "outcome": effect.outcome,
        "valid": effect.valid,
        "reason": effect.reason or estimate.reason,
        "others": {name: estimate_data(other) for name, other in effect.others.items()},
        "variance_reduction": effect.variance_reduction,
        "truth": {"lift": effect.truth[0], "se": effect.truth[1]} if effect.truth else None,
        "guardrail": None,
        **effect_keys(effect),
    }
    return {**data, "guardrail": guardrail(data)} if effect.family == "guardrail" else data


def _ratio(check: RatioCheck) -> dict[str, Any]:
    result = check.result
    return {
        "scope": check.scope,
        "slice": check.slice,
        "day": check.day,
        "counts": result.counts,
        "expected": result.expected,
        "p": result.p,
        "log10_p": result.log10_p,
        "test": "anytime-valid Dirichlet-multinomial, users so far" if check.scope == "day" else "chi-square",
        "alarm": result.alarm,
        "reason": result.reason,
    }


def _balance(check: BalanceCheck) -> dict[str, Any]:
    return {
        "covariate": check.covariate,
        "arm": check.arm,
        "control": check.estimate.control.mean,
        "treatment": check.estimate.treatment.mean,
        "standardised": check.standardised,
        "p": check.estimate.p,
        "p_adjusted": check.p_adjusted,
        "alarm": check.alarm,
        "reason": check.estimate.reason,
    }


def _interaction(one: Interaction) -> dict[str, Any]:
    return {
        "metric": one.metric.name,
        "slice": one.slice,
        "arm": one.arm,
        **one.test._asdict(),
        "p_adjusted": one.p_adjusted,
    }


def _quantile(one: QuantileCheck) -> dict[str, Any]:
    estimate = one.estimate
    return {
        "metric": one.metric.name,
        "arm": one.arm,
        "quantile": one.quantile,
        "control": estimate.control.mean,
        "treatment": estimate.treatment.mean,
        "lift": estimate.lift,
        "lift_ci": estimate.lift_ci,
        "reason": estimate.reason,
    }


def _look(look: DayLook) -> dict[str, Any]:
    return {
        "metric": look.metric.name,
        "arm": look.arm,
        "day": look.day,
        "label": look.label,
        "control_n": look.so_far.control.n,
        "treatment_n": look.so_far.treatment.n,
        "so_far": estimate_data(look.so_far),
        "on_day": estimate_data(look.on_day),
        "bound": look.level.z if look.level.z < 1e6 else None,
        "level": 1 - look.so_far.alpha,
        "information": look.level.information,
        "crossed": look.crossed,
    }


def _novelty(one: Novelty) -> dict[str, Any]:
    return {
        "metric": one.metric.name,
        "arm": one.arm,
        "early": estimate_data(one.early),
        "late": estimate_data(one.late),
        **one.test._asdict(),
    }
