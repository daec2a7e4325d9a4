"""Sections of an experiment's page on its design: other users, several arms, mid-test chances, readings, the plan.

Each is empty where results.json has nothing of the kind.
"""

from collections.abc import Mapping
from typing import Any

from abtest.report import formatting
from abtest.report.sections import Section
from abtest.report.tables import Results, Table

Data = Mapping[str, Any]


def other_users(results: Results) -> Section:
    """The primary metrics among other users, and who was exposed."""
    variants = results.get("variants", ())
    if not variants:
        return Section("Other users")
    several = len(results["scenario"]["treatments"]) > 1
    rows = []
    for variant in variants:
        for effect in variant["effects"]:
            name = f"{effect['metric']}, {effect['arm']}" if several else effect["metric"]
            cells = formatting.percent(effect["lift"]), formatting.percent_interval(effect["lift_ci"])
            rows.append((name, variant["name"], *cells, formatting.p_value(effect["p"])))
    order = {row[0]: place for place, row in reversed(list(enumerate(rows)))}
    rows.sort(key=lambda row: order[row[0]])
    level = f"{100 * (1 - results['scenario']['alpha']):.4g} % interval, this look alone"
    notes = [f"{one['name']}: {one['meaning']}" for one in variants if one["meaning"]]
    effects = Table("Primary metrics among other users", ("metric", "users", "lift", level, "p"), rows, notes)
    arms = [results["scenario"]["control"], *results["scenario"]["treatments"]]
    ratios = [
        (
            one["name"],
            *(f"{one['counts'][arm]:,}" for arm in arms),
            formatting.p_value(one["srm_p"]),
            "ALARM" if one["alarm"] else "as planned",
        )
        for one in variants
    ]
    split = Table("Their sample ratios", ("users", *arms, "p", "sample ratio"), ratios, [])
    exposure = [_exposure(results, arms)] if "exposure" in results else []
    text = "The verdict rests on the users in the first row; the other rows show how much that choice matters."
    return Section("Other users", (text,), [effects, split, *exposure])


def arms(results: Results) -> Section:
    """Every pair of arms, and arms together."""
    blocks = []
    if results.get("pairs"):
        notes = [
            "Holm p counts every pair of arms and primary metric here; Dunnett p the treatments against control, "
            "one metric at a time, and uses that they share it. The verdict rests on Holm against control.",
            *_reasons(results["pairs"]),
        ]
        rows = [_pair_row(one, dunnett=True) for one in results["pairs"]]
        header = ("metric", "arms", "lift", _interval(results), "p", "Holm p", "Dunnett p")
        blocks.append(Table("Every pair of arms", header, rows, notes))
    if results.get("combined"):
        rows = [_pair_row(one, dunnett=False) for one in results["combined"]]
        alone = ("metric", "arms", "lift", _interval(results), "p")
        blocks.append(Table("Arms together", alone, rows, _reasons(results["combined"])))
    return Section("Between the arms", (), blocks)


def mid_test(results: Results) -> Section:
    """Chances before the planned end."""
    found = results.get("mid_test", ())
    rows = [
        (
            one["metric"] if len(results["scenario"]["treatments"]) == 1 else f"{one['metric']}, {one['arm']}",
            f"{100 * one['information']:.0f} %",
            f"{one['z']:+.2f}",
            _share(one["power_planned"]),
            _share(one["power_current"]),
            _share(one["power_predictive"]),
            formatting.UNDEFINED if one["futility"] is None else f"{one['futility']:+.2f}",
            "may stop: futile" if one["futile"] else "go on",
        )
        for one in found
    ]
    header = ("metric", "information", "z", "if as planned", "if as seen", "predictive", "futility bound", "advice")
    notes = [
        "Chance to find an effect by the planned end, if the true lift is the planned one, if it is what was seen, and "
        "averaged over what the data leave open. Below the futility bound the plan may stop and overlooks the planned "
        "lift in at most 20 % of such tests; to go on costs no false alarms."
    ]
    table = [Table("Chance to find something yet", header, rows, notes)] if rows else []
    return Section("Before the planned end", (), table)


def readings(results: Results) -> Section:
    """Bayesian and equivalence readings."""
    blocks = []
    if results.get("bayes"):
        blocks.append(_bayes(results))
    if results.get("equivalence"):
        blocks.append(_equivalence(results))
    text = ("These decide nothing; they answer other questions about the same effects.",) if blocks else ()
    return Section("Other readings", text, blocks)


def planned(results: Results) -> Section:
    """The plan file, key by key."""
    plan = results["scenario"].get("plan_file")
    if not plan:
        return Section("As planned")
    unplanned = list(
        dict.fromkeys(
            effect["metric"] if effect["family"] != "slice" else f"slice {effect['slice']}"
            for effect in results["effects"]
            if effect.get("exploratory")
        )
    )
    unplanned += results["scenario"].get("exploratory_readings", ())
    text = "The analysis follows the plan file; options that contradict it are refused."
    text += f" Not planned, and so exploratory: {', '.join(unplanned)}." if unplanned else " Nothing was added to it."
    rows = [(key, _text(value)) for key, value in plan.items()]
    return Section("As planned", (text,), [Table("Plan", ("key", "value"), rows, [], folded=True)])


def tuning(results: Results) -> str:
    """For how many users a confidence sequence is tuned, as a sentence."""
    tuned = results["scenario"].get("tuned_for") or {}
    if not tuned:
        return ""
    sizes = ", ".join(f"{n:,.0f}" for n in dict.fromkeys(tuned.values()))
    return f" It is tuned to be narrowest at {sizes} users of both arms: those of the first day times the planned days."


def unit_words(results: Results) -> str:
    """What the test's unit is, and what that means for metrics."""
    noun = results["scenario"].get("unit_noun")
    if noun is None:
        return "the user; a ratio metric is a ratio of sums over users, tested with the spread between users"
    if noun == "periods":
        return "the period of a switchback; means are totals per period, tested with the spread between periods"
    words = noun.removeprefix("units (").removesuffix(")")
    return f"the {words}; means are per user, tested with the spread between units (CR2, Satterthwaite)"


def _exposure(results: Results, arms: list[str]) -> Table:
    facts = results["exposure"]
    rows = [
        (
            arm,
            f"{facts['assigned'][arm]:,}",
            f"{facts['exposed'][arm]:,}",
            f"{100 * facts['exposed'][arm] / facts['assigned'][arm]:.2f} %" if facts["assigned"][arm] else "n/a",
        )
        for arm in arms
    ]
    note = f"p of equal shares in all arms: {formatting.p_value(facts['p'])}. "
    note += "An arm that exposes more users changes who is compared."
    return Table("Who was exposed", ("arm", "assigned", "exposed", "share"), rows, [note])


def _bayes(results: Results) -> Table:
    rows, notes = [], []
    for one in results["bayes"]:
        name = _name(results, one)
        if "mean" not in one:
            notes.append(f"{name}: {one['reason']}.")
            continue
        rows.append(
            (
                name,
                formatting.percent(one["mean"]),
                formatting.percent_interval(one["interval"]),
                _share(one["beats_control"]),
                formatting.percent(one["loss_if_shipped"]).removeprefix("+"),
                formatting.percent(one["loss_if_kept"]).removeprefix("+"),
                _share(one["weight"]),
            )
        )
    priors = results["scenario"]["prior"]
    notes.append("Prior: " + "; ".join(f"{name}: {one['source']}" for name, one in priors.items()) + ".")
    notes.append("Looking often does not change these numbers, and they do not hold a rate of false alarms.")
    header = (
        "metric",
        "mean",
        "credible interval",
        "beats control",
        "loss if shipped",
        "loss if kept",
        "data's weight",
    )
    return Table("Posterior of the lift", header, rows, notes)


def _equivalence(results: Results) -> Table:
    rows, notes = [], []
    for one in results["equivalence"]:
        name = _name(results, one)
        if one.get("p") is None:
            notes.append(f"{name}: {one['reason']}.")
            continue
        answer = "equivalent" if one["holds"] else "not shown"
        rows.append(
            (name, formatting.percent_interval((one["low"], one["high"])), formatting.p_value(one["p"]), answer)
        )
    header = ("metric", "margins", "p", "equivalence")
    notes.append("Two one-sided tests: equivalent where the whole interval of the lift lies between the margins.")
    return Table("Is there no difference that matters?", header, rows, notes)


def _pair_row(one: Data, *, dunnett: bool) -> tuple[str, ...]:
    cells = (
        one["metric"],
        f"{one['arm']} against {one['base']}",
        formatting.percent(one["lift"]),
        formatting.percent_interval(one["lift_ci"]),
        formatting.p_value(one["p"]),
    )
    if not dunnett:
        return cells
    return (*cells, formatting.p_value(one["p_holm"]), formatting.p_value(one["p_dunnett"]))


def _reasons(found: Any) -> list[str]:
    return [f"{one['metric']}, {one['arm']} against {one['base']}: {one['reason']}." for one in found if one["reason"]]


def _interval(results: Results) -> str:
    return f"{100 * (1 - results['scenario']['alpha']):.4g} % interval, alone"


def _name(results: Results, one: Data) -> str:
    return str(one["metric"]) if len(results["scenario"]["treatments"]) == 1 else f"{one['metric']}, {one['arm']}"


def _share(share: float | None) -> str:
    return formatting.UNDEFINED if share is None else f"{100 * share:.1f} %"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_text(inner) for inner in value) or "none"
    return "none" if value is None else str(value)
