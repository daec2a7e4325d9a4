"""What results.json says beside effects: which slices differ, why a metric moved, and how much of a win is luck."""

from collections.abc import Mapping, Sequence
from typing import Any

from scipy import special

from abtest.analysis.components import Breakdown
from abtest.analysis.heterogeneity import Heterogeneity
from abtest.stats.selection import after_selection


def heterogeneity_data(one: Heterogeneity) -> dict[str, Any]:
    """The numbers of one column's slices, by their names in the schema."""
    spread = one.spread
    return {
        "metric": one.metric.name,
        "arm": one.arm,
        "column": one.column,
        "q": spread.q if spread else None,
        "df": spread.df if spread else None,
        "p": spread.p if spread else None,
        "p_adjusted": one.p_adjusted,
        "mean": spread.mean if spread else None,
        "sd": spread.sd if spread else None,
        "slices": [part._asdict() for part in one.slices],
        "left_out": list(one.left_out),
        "reason": one.reason,
    }


def breakdown_data(one: Breakdown) -> dict[str, Any]:
    """The components of a metric that moved."""
    return {
        "metric": one.metric.name,
        "arm": one.arm,
        "total": one.total,
        "components": [
            {
                "name": part.name,
                "control": part.estimate.control.mean,
                "treatment": part.estimate.treatment.mean,
                "lift": part.estimate.lift,
                "lift_ci": part.estimate.lift_ci,
                "p": part.estimate.p,
                "share": part.share,
                "reason": part.estimate.reason,
            }
            for part in one.components
        ],
    }


def corrected_wins(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lifts of the primary metrics for which a treatment ships, corrected for having been significant.

    Args:
        results: Contents of results.json, with verdicts.
    """
    shipped = {verdict["arm"] for verdict in results["verdicts"] if verdict["decision"] == "ship"}
    primary = [effect for effect in results["effects"] if effect["family"] == "primary"]
    found = []
    for effect in primary:
        if effect["treatment"]["arm"] not in shipped or effect["outcome"] != "gain" or effect["lift"] is None:
            continue
        z = -float(special.ndtri_exp(effect["log10_p"] * _LN10 - _LN2))
        bound = min(_bound(effect, results["scenario"], primary), z)
        corrected = after_selection(z, bound, alpha=results["scenario"]["alpha"])
        ends = sorted(effect["lift"] * end / z for end in corrected.interval)
        found.append(
            {
                "metric": effect["metric"],
                "arm": effect["treatment"]["arm"],
                "lift": effect["lift"],
                "corrected": effect["lift"] * corrected.z / z,
                "corrected_ci": ends,
                "bound": bound,
            }
        )
    return found


_LN10, _LN2 = 2.302585092994046, 0.6931471805599453


def _bound(effect: Mapping[str, Any], scenario: Mapping[str, Any], primary: Sequence[Mapping[str, Any]]) -> float:
    """The \\|z\\| beyond which this metric counted as significant, after Holm's adjustment and the looks."""
    if scenario["looks"] == "final" and effect["p_adjusted"]:
        level = scenario["alpha"] * min(effect["p"] / effect["p_adjusted"], 1.0)
    else:
        level = (1.0 - effect["level"]) / max(len(primary), 1)
    return -float(special.ndtri(max(level, 1e-300) / 2.0))
