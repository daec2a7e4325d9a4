"""Which slices differ, and what a metric that moved is made of, as tables and figures of an experiment's report."""

from collections.abc import Mapping
from typing import Any

from abtest.report import formatting
from abtest.report.figures import Intervals, Row, Tone
from abtest.report.pages.experiment_tables import plain_interval
from abtest.report.tables import Results, Table

Data = Mapping[str, Any]


def heterogeneity_table(results: Results) -> Table:
    """One row per column of slices: the test that all its lifts are equal, and how far they are apart."""
    found = results.get("heterogeneity", ())
    rows = [
        (
            _name(results, one["metric"], one["column"], one["arm"]),
            str(len(one["slices"])),
            formatting.UNDEFINED if one["sd"] is None else f"{100 * one['sd']:.2f} points",
            formatting.p_value(one["p"]),
            formatting.p_value(one["p_adjusted"]),
        )
        for one in found
    ]
    notes = [
        f"{_name(results, one['metric'], one['column'], one['arm'])}: {one['reason']}."
        for one in found
        if one["reason"]
    ]
    left_out = dict.fromkeys(name for one in found for name in one["left_out"])
    if left_out:
        notes.append(f"Left out, as too small or not fit for a t-test: {', '.join(left_out)}.")
    if rows:
        notes.append("One test asks whether all slices of a column have one lift (Cochran's Q); Holm over the rows.")
    header = ("slices of", "slices", "spread of true lifts", "p", "Holm p")
    return Table("Do the slices differ?", header, rows, notes)


def shrunken_figure(results: Results) -> Intervals:
    """Every slice's lift as measured, and shrunken towards the others."""
    rows = []
    for one in results.get("heterogeneity", ()):
        for part in one["slices"]:
            label = _name(results, one["metric"], f"{part['slice']} ({part['users']:,})", one["arm"])
            low, high = part["shrunken_ci"]
            tone: Tone = "gain" if low > 0 else "loss" if high < 0 else "even"
            text = (
                f"{formatting.percent(part['shrunken'])} {formatting.percent_interval([low, high]).removesuffix(' %')}"
            )
            rows.append(Row(label, text, part["shrunken"], low, high, part["lift"], tone))
    caption = (
        "Lift of each slice given all slices of its column: the fewer its users and the more alike the others, the "
        "nearer to their mean. The diamond is the lift as measured. Where several slices are compared, believe the dot."
    )
    return Intervals("Lift by slice, shrunken", rows, caption)


def breakdown_tables(results: Results) -> list[Table]:
    """The components of every primary metric that moved."""
    found = [_breakdown(results, one) for one in results.get("breakdowns", ())]
    return [table._replace(notes=[]) for table in found[:-1]] + found[-1:]


def _breakdown(results: Results, one: Data) -> Table:
    rows = [
        (
            part["name"],
            formatting.value(part["control"]),
            formatting.value(part["treatment"]),
            formatting.percent(part["lift"]),
            formatting.percent_interval(part["lift_ci"]),
            formatting.p_value(part["p"]),
            formatting.UNDEFINED if part["share"] is None else f"{part['share']:.0%}".replace("%", " %"),
        )
        for part in one["components"]
    ]
    rows.append(("all together", "", "", formatting.percent(one["total"]), "", "", ""))
    control, arm = results["scenario"]["control"], one["arm"]
    header = ("component", control, arm, "lift", plain_interval(results), "p", "share of the change")
    notes = [
        "The lifts multiply: (1 + first) x (1 + second) x ... - 1 is that of the arm's total. Shares are of the change "
        "per user. Components are looked at because the metric moved; their p are not adjusted. A component is about "
        "those who got that far, and they may be others in each arm: it says where the change is, not why."
    ]
    return Table(f"{_name(results, one['metric'], 'all', arm)}: where the change comes from", header, rows, notes)


def _name(results: Results, metric: str, where: str, arm: str) -> str:
    parts = [metric, *([where] if where != "all" else [])]
    return ", ".join([*parts, *([arm] if len(results["scenario"]["treatments"]) > 1 else [])])
