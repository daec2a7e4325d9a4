"""Ship, hold or stop: one rule, the same for every test, with its reasons in plain words.

Reads the contents of results.json and nothing else, so that what is said and what is stored cannot differ.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from abtest.report import formatting

RULE = (
    "Hold, whatever the numbers say, if the comparison is not valid: a sample-ratio mismatch, or users who differed "
    "before exposure.",
    "Stop if a primary metric is significantly worse, or a guardrail is worse than its margin allows.",
    "Ship if at least one primary metric is significantly better, none is significantly worse, and every guardrail is "
    "within its margin (without a margin: not shown to be worse).",
    "Hold otherwise. A test that is read once is not read before its planned end, and a mean with fewer than 10 events "
    "expected an arm, or so skewed in arms of such sizes that a t-test does not hold, is not judged.",
    "Significant means: p below alpha after Holm's adjustment over primary metrics and treatments. Secondary metrics "
    "and slices inform; they never ship.",
)


class TestVerdict(NamedTuple):
    """What to do about one treatment.

    Attributes:
        arm: The treatment.
        decision: "ship", "hold" or "stop".
        headline: One sentence.
        reasons: Sentences, the strongest first.
    """

    arm: str
    decision: str
    headline: str
    reasons: list[str]


def verdicts_of(results: Mapping[str, Any]) -> list[TestVerdict]:
    """One verdict for every treatment, in the order of the plan."""
    return [_verdict(results, arm) for arm in results["scenario"]["treatments"]]


def _verdict(results: Mapping[str, Any], arm: str) -> TestVerdict:
    mine = [effect for effect in results["effects"] if effect["treatment"]["arm"] == arm]
    primary = [effect for effect in mine if effect["family"] == "primary"]
    guards = [effect for effect in mine if effect["family"] == "guardrail"]
    control = results["scenario"]["control"]
    broken = [effect for effect in primary if not effect["valid"]]
    if broken:
        reasons = list(dict.fromkeys([*results["alarms"], *(str(effect["reason"]) for effect in broken)]))
        return TestVerdict(arm, "hold", f"The comparison of {arm} with {control} is not valid.", reasons)
    better = [effect for effect in primary if effect["outcome"] == "gain"]
    worse = [effect for effect in primary if effect["outcome"] == "loss"]
    harmed = [effect for effect in guards if guardrail(effect) == "harmed"]
    unsure = [effect for effect in guards if guardrail(effect) == "unsure"]
    open_ = [effect for effect in primary if effect["significant"] is None]
    reasons = [_told(effect) for effect in (*worse, *better)]
    reasons += [_margin(results, effect) for effect in (*harmed, *unsure)]
    rest = [effect for effect in primary if effect not in (*better, *worse, *open_)]
    reasons += [_told(effect) for effect in rest]
    reasons += [f"{_measured(effect)}: not judged ({effect['reason']})." for effect in open_]
    reasons += [*_slices_that_differ(results, arm), *_truths(primary)]
    if worse or harmed:
        names = _names([*worse, *harmed])
        return TestVerdict(arm, "stop", f"{arm} is worse than {control} on {names}.", reasons)
    if better and not unsure and not open_:
        names = _names(better)
        return TestVerdict(
            arm, "ship", f"{arm} is better than {control} on {names}, and worse on no primary metric.", reasons
        )
    if open_ and len(open_) == len(primary):
        why = next(str(effect["reason"]) for effect in open_)
        return TestVerdict(arm, "hold", f"There is nothing to decide yet: {why}.", reasons)
    if better:
        why = "a guardrail is not yet shown to be safe" if unsure else "not every primary metric could be judged"
        return TestVerdict(arm, "hold", f"{arm} is better on {_names(better)}, but {why}.", reasons)
    return TestVerdict(
        arm,
        "hold",
        f"No primary metric tells {arm} from {control}.",
        [*reasons, *_detectable(results, arm), *_chances(results, arm)],
    )


def _slices_that_differ(results: Mapping[str, Any], arm: str) -> list[str]:
    """Slices whose lift is not that of the other users, after adjustment over all slices."""
    alpha = results["scenario"]["alpha"]
    lifts = {
        (effect["metric"], effect["slice"]): effect
        for effect in results["effects"]
        if effect["family"] == "slice" and effect["treatment"]["arm"] == arm
    }
    found = []
    for one in results["interactions"]:
        effect = lifts.get((one["metric"], one["slice"]))
        if one["arm"] == arm and effect and one["p_adjusted"] is not None and one["p_adjusted"] < alpha:
            found.append(
                f"Not the same for everybody: {_measured(effect)} in slice {one['slice']}, "
                f"{100 * one['change']:+.2f} points from the others' (adjusted p of the difference "
                f"{formatting.p_value(one['p_adjusted'])})."
            )
    return found


def _truths(effects: Sequence[Mapping[str, Any]]) -> list[str]:
    """The true lifts, where a simulator knows them."""
    known = [effect for effect in effects if effect.get("truth")]
    if not known:
        return []
    lifts = [
        f"{effect['metric']} {formatting.percent(effect['truth']['lift'])} "
        + formatting.percent_interval(
            [effect["truth"]["lift"] + sign * 1.96 * effect["truth"]["se"] for sign in (-1, 1)]
        )
        for effect in known
    ]
    return [f"True lift in these simulated worlds: {'; '.join(lifts)}."]


def guardrail(effect: Mapping[str, Any]) -> str:
    """ "safe" if the whole interval lies within the margin, "harmed" if none of it does, else "unsure"."""
    margin, interval = effect["margin"], effect["lift_ci"]
    if interval is None or not effect["valid"] or (effect["significant"] is None and effect["p"] is not None):
        return "unsure"
    low, high = interval if effect["direction"] == "up" else (-interval[1], -interval[0])
    most = effect.get("upper_margin", math.inf)
    if high < -margin or low > most:
        return "harmed"
    return "safe" if (low >= -margin or margin == 0) and high <= most else "unsure"


def _margin(results: Mapping[str, Any], effect: Mapping[str, Any]) -> str:
    """What the interval says of a guardrail's margin; with looks it is the one that holds at all of them together."""
    which = {"final": "", "daily": " by the repeated interval, which holds at all looks together"}.get(
        results["scenario"]["looks"], " by the anytime interval, which holds however often it is read"
    )
    margin, beyond = f"its margin of {100 * effect['margin']:g} %", "worse than {} allows"
    if "upper_margin" in effect:
        margin = f"its margins of {100 * effect['margin']:g} % worse and {100 * effect['upper_margin']:g} % better"
        beyond = "outside {}"
    if guardrail(effect) == "harmed":
        return f"Guardrail {_measured(effect)}: {beyond.format(margin)}{which}."
    why = f" ({effect['reason']})" if effect["significant"] is None and effect["reason"] else ""
    return f"Guardrail {_measured(effect)}: not shown to lie within {margin}{which}{why}."


def _told(effect: Mapping[str, Any]) -> str:
    words = {"gain": "significantly better", "loss": "significantly worse", "even": "no significant difference"}
    if null := effect.get("null"):
        words["gain"] += f" than {100 * null:+g} %"
        words["even"] += f" from {100 * null:+g} %"
    return f"{_measured(effect)}: {words[effect['outcome']]} (adjusted p {formatting.p_value(effect['p_adjusted'])})."


def _measured(effect: Mapping[str, Any]) -> str:
    interval = f" {formatting.percent_interval(effect['lift_ci'])}" if effect["lift_ci"] else ""
    return f"{effect['metric']} {formatting.percent(effect['lift'])}{interval}"


def _names(effects: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(effect["metric"] for effect in effects))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _detectable(results: Mapping[str, Any], arm: str) -> list[str]:
    """What a test of this size could have seen of one treatment."""
    return [
        f"With these users a true lift of {formatting.percent(curve['mde'])} in {curve['metric']} would have been "
        f"found {100 * curve['power']:.0f} % of the time{_adjusted(curve['alpha'], results['scenario']['alpha'])}."
        for curve in results["power"]
        if curve["mde"] is not None and curve["arm"] == arm
    ]


def _chances(results: Mapping[str, Any], arm: str) -> list[str]:
    """Before the planned end: whether it is still worth going on."""
    found = []
    for one in results.get("mid_test", ()):
        if one["arm"] != arm or one["power_planned"] is None:
            continue
        found.append(
            f"{one['metric']}: chance to find the planned lift of {100 * one['planned_lift']:g} % by the end "
            f"{100 * one['power_planned']:.0f} %"
            + ("; it lies below the futility bound, so the plan allows to stop here." if one["futile"] else ".")
        )
    return found


def _adjusted(level: float, alpha: float) -> str:
    """At which level, where it is not the plan's."""
    return (
        "" if math.isclose(level, alpha) else f" (at level {level:.2g}, as it is one of several comparisons or looks)"
    )
