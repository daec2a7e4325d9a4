"""What a lift adds up to: in the treated users so far, and in everybody if all had the treatment."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from abtest.report import formatting
from abtest.report.tables import Results, Table

Interval = Sequence[float]


class Total(NamedTuple):
    """The sum of a metric over users, because of the treatment.

    Attributes:
        effect: The effect that it comes from.
        treated_users: Users of the treatment arm that the metric is about.
        treated: Added so far in the treatment arm.
        treated_ci: Its interval.
        users: Users that the metric is about: all, or a slice of them.
        everybody: Added if all these users had the treatment and none the control.
        everybody_ci: Its interval.
        relative: The latter over the total under control of all users, slice or not: the lift, times the slice's share
            of that total; None where that is unknown.
        relative_ci: Its interval.
    """

    effect: Mapping[str, Any]
    treated_users: int
    treated: float
    treated_ci: Interval | None
    users: float
    everybody: float
    everybody_ci: Interval | None
    relative: float | None
    relative_ci: Interval | None


def totals_of(results: Results) -> list[Total]:
    """Of every mean metric that may be read and has a difference, primary ones first."""
    scenario = results["scenario"]
    means = {one["metric"]: one for one in scenario["metrics"] if one["per"] is None}
    population = float(scenario.get("population") or results["dataset"]["users"])
    by_arm = results["dataset"]["users_by_arm"]
    assigned = scenario.get("units_by_arm") or by_arm  # what the n of an effect counts
    shown = [
        effect
        for family in ("primary", "guardrail", "secondary")
        for effect in results["effects"]
        if effect["family"] == family and effect["metric"] in means
    ]
    found = []
    for effect in shown:
        if effect["difference"] is None or not effect["valid"]:
            continue
        control, treatment = effect["control"], effect["treatment"]
        both = assigned[control["arm"]] + assigned[treatment["arm"]]
        users = population * (control["n"] + treatment["n"]) / both if both else 0.0
        treated = round(by_arm[treatment["arm"]] * treatment["n"] / max(assigned[treatment["arm"]], 1))
        share = _share_of_total(effect, means, shown, users, population)
        known = share is not None and effect["lift"] is not None
        relative = effect["lift"] * share if known else None
        relative_ci = [end * share for end in effect["lift_ci"]] if known and effect["lift_ci"] else None
        everybody = _times(effect, users)
        found.append(Total(effect, treated, *_times(effect, treated), users, *everybody, relative, relative_ci))
    return found


def total_table(results: Results) -> Table:
    """The totals, with what they mean in the notes."""
    several = len(results["scenario"]["treatments"]) > 1
    rows = [
        (
            f"{one.effect['metric']}, {one.effect['treatment']['arm']}" if several else one.effect["metric"],
            f"{one.treated_users:,}",
            count(one.treated, one.treated_ci),
            f"{one.users:,.0f}",
            count(one.everybody, one.everybody_ci),
            formatting.percent(one.relative),
            formatting.percent_interval(one.relative_ci),
        )
        for one in totals_of(results)
        if one.effect["family"] == "primary" or one.effect["slice"] != "all"
    ]
    header = ("in all", "treated", "added so far", "users", "added if all had it", "of the total", "interval")
    span = results["dataset"]["days"]
    length = f"over the {len(span)} days of the log" if span else "over the time of the log"
    notes = [
        f"The difference per user times the users, {length}; intervals likewise. Shares are of what all users would "
        "have under control."
    ]
    if results["scenario"].get("population"):
        notes.append(
            f"Scaled to a population of {results['scenario']['population']:,} users, as if they were like those of the "
            "test."
        )
    return Table("What it adds up to", header, rows, notes if rows else [])


def count(number: float, ends: Interval | None) -> str:
    """A total with its interval, with as many digits as its size deserves."""
    size = max([abs(number), *(abs(end) for end in ends or ())])
    digits = 0 if size >= 100 else 1 if size >= 1 else 4
    text = f"{number:+,.{digits}f}"
    return text if ends is None else f"{text} [{ends[0]:+,.{digits}f}, {ends[1]:+,.{digits}f}]"


def _times(effect: Mapping[str, Any], users: float) -> tuple[float, Interval | None]:
    ends = effect["difference_ci"]
    return effect["difference"] * users, None if ends is None else [end * users for end in ends]


def _share_of_total(
    effect: Mapping[str, Any],
    means: Mapping[str, Any],
    shown: Sequence[Mapping[str, Any]],
    users: float,
    population: float,
) -> float | None:
    """Share of all users' total under control that the users of this effect have; 1 of an effect on everybody."""
    if effect["slice"] == "all":
        return 1.0
    value = means[effect["metric"]]["value"]
    for one in shown:
        same_arm = one["treatment"]["arm"] == effect["treatment"]["arm"]
        if one["slice"] == "all" and same_arm and means[one["metric"]]["value"] == value and one["control"]["mean"]:
            return float(effect["control"]["mean"] * users / (one["control"]["mean"] * population))
    return None
