"""Tables of what the designs of an experiment are worth."""

import math
from collections.abc import Sequence

from abtest.online.design_run import Advice
from abtest.online.design_scores import Score, reason, sound
from abtest.online.lift_text import bounds, percent
from abtest.report.tables import Table


def advice_tables(advice: Advice) -> list[Table]:
    """The designs beside the truth; and the test of the recommended one, where it was made."""
    truth = sum(advice.truth) / len(advice.truth)
    notes = [
        f"Clicks per visit in {len(advice.truth)} worlds of {advice.days} days; true lift {percent(truth)} on average "
        f"({', '.join(percent(one) for one in advice.truth)}). Bias: estimate less truth, in points. Off by: root of "
        "squared bias and squared noise, in points. What a treatment does to how often users come is in neither.",
        *(f"{one.name}: {one.what}." for one in advice.designs.values()),
    ]
    tables = [_table("Designs", advice.scores, advice, notes)]
    if advice.fresh:
        note = "Worlds that played no part in the recommendation."
        tables.append(_table("The recommended design in fresh worlds", advice.fresh, advice, [note]))
    return tables


def recommendation(advice: Advice) -> str:
    """The advice in one paragraph."""
    if advice.recommended is None:
        return "No design could be judged: simulate more users or days."
    told = f"Recommended: {reason(advice.recommended, advice.scores, advice.alpha)}"
    tested = {one.name: one for one in advice.fresh}
    if (again := tested.get(advice.recommended.name)) is not None:
        told += (
            f" In {again.runs} fresh worlds it is off by {100 * again.rmse:.1f} points (bias {100 * again.bias:+.1f} "
            f"{_points(again.bias_ci)}), and {again.covered} of {again.runs} intervals hold the truth"
        )
        others = [one for one in advice.fresh if one is not again]
        told += f"; {others[0].name}: {100 * others[0].rmse:.1f}." if others else "."
    return told


def _table(title: str, scores: Sequence[Score], advice: Advice, notes: list[str]) -> Table:
    level = f"{100 * (1 - advice.alpha):.4g} %"
    goal = "days for it" if advice.wanted is None else f"days for {percent(advice.wanted)}"
    header = ("design", "units", f"bias [{level}]", "truth in interval", "noise", "smallest lift", goal, "off by")
    rows = [
        (
            one.name + (" *" if advice.recommended is not None and one.name == advice.recommended.name else ""),
            f"{one.units:,.0f}",
            f"{100 * one.bias:+.1f} {_points(one.bias_ci)}",
            f"{one.covered} of {one.runs}" + ("" if sound(one, advice.alpha) else ", TOO FEW"),
            f"{100 * one.se:.1f}",
            percent(one.mde),
            f"{one.days:,}" if one.days is not None else "never",
            f"{100 * one.rmse:.1f}",
        )
        for one in scores
    ]
    return Table(title, header, rows, notes)


def _points(ci: tuple[float, float] | None) -> str:
    return "" if ci is None or not math.isfinite(ci[0]) else bounds(ci)
