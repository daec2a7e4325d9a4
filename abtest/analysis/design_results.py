"""What results.json says of designs and readings; a key is there only where the analysis has it."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from abtest.analysis.effects import Effect
from abtest.analysis.several_arms import PairEffect
from abtest.stats.estimate import Estimate

if TYPE_CHECKING:
    from abtest.analysis.analysis import Analysis

EstimateData = Callable[[Estimate], dict[str, Any]]


def design_data(analysis: "Analysis", estimate_data: EstimateData) -> dict[str, Any]:
    """Results of several arms, mid-test chances, readings, variants and exposures.

    Args:
        analysis: What was found.
        estimate_data: From an estimate to its numbers by their names in the schema.
    """
    found = {
        "pairs": [_pair(one, estimate_data) for one in analysis.pairs],
        "combined": [_pair(one, estimate_data) for one in analysis.combined],
        "mid_test": [one._asdict() for one in analysis.mid_test],
        "bayes": [
            {"metric": one.metric, "arm": one.arm, "reason": one.reason, **(one.found._asdict() if one.found else {})}
            for one in analysis.bayes
        ],
        "equivalence": [
            {"metric": one.metric, "arm": one.arm, **(one.test._asdict() if one.test else {}), "reason": one.reason}
            for one in analysis.equivalence
        ],
        "variants": [
            {
                "name": one.name,
                "meaning": one.meaning,
                "counts": one.ratio.counts,
                "srm_p": one.ratio.p,
                "alarm": one.ratio.alarm,
                "effects": [_variant_effect(*effect, estimate_data) for effect in one.effects],
            }
            for one in analysis.variants
        ],
    }
    facts = analysis.log.exposure
    exposure = {"exposure": facts._asdict()} if facts is not None else {}
    return {key: rows for key, rows in found.items() if rows} | exposure


def effect_keys(effect: Effect) -> dict[str, Any]:
    """What only plans set on an effect, where it is set."""
    keys: dict[str, Any] = {}
    if effect.exploratory:
        keys["exploratory"] = True
    if effect.estimate.null:
        keys["null"] = effect.estimate.null
    if effect.family == "guardrail" and effect.metric.upper_margin is not None:
        keys["upper_margin"] = effect.metric.upper_margin
    return keys


def design_scenario(analysis: "Analysis") -> dict[str, Any]:
    """The design among the keys of the plan; what is not set is left out."""
    design, log = analysis.plan.design, analysis.log
    keys = {
        key: value for key, value in asdict(design).items() if value not in (None, (), {}, 0.0) and key != "planned"
    }
    if design.prior:
        keys["prior"] = {name or "all metrics": _prior(prior) for name, prior in design.prior.items()}
    keys |= {name: str(keys[name]) for name in ("exposures", "schedule") if name in keys}
    if design.planned is not None:
        keys["plan_file"] = dict(design.planned)
    if log.unit_noun is not None:
        keys |= {"unit_noun": log.unit_noun, "units_by_arm": dict(analysis.units)}
    if analysis.plan.looks == "open":
        keys["tuned_for"] = dict(analysis.tuned_for)
    return keys


def _prior(prior: Any) -> dict[str, Any]:
    flat = prior.sd == float("inf")
    return {"mean": None if flat else prior.mean, "sd": None if flat else prior.sd, "source": prior.source}


def _pair(one: PairEffect, estimate_data: EstimateData) -> dict[str, Any]:
    estimate = one.estimate
    return {
        "metric": one.metric,
        "base": one.base,
        "arm": one.arm,
        "base_n": estimate.control.n,
        "arm_n": estimate.treatment.n,
        **estimate_data(estimate),
        "p_holm": one.p_holm,
        "p_dunnett": one.p_dunnett,
        "reason": one.reason,
    }


def _variant_effect(metric: str, arm: str, estimate: Estimate, estimate_data: EstimateData) -> dict[str, Any]:
    return {"metric": metric, "arm": arm, **estimate_data(estimate)}
