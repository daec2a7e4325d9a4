"""The tables of an experiment's report as plain text cells; each form of the report draws and escapes them itself."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from abtest.report import formatting
from abtest.report.tables import Results, Table
from abtest.stats.estimators import ESTIMATORS

Data = Mapping[str, Any]

FAMILIES = {
    "primary": "Primary metrics",
    "guardrail": "Guardrails",
    "secondary": "Secondary metrics",
    "slice": "Primary metrics by slice",
}
ADJUSTED = {"primary": "Holm p", "guardrail": "p", "secondary": "BH p", "slice": "BH p"}


def effects(results: Results, family: str) -> list[Data]:
    """Effects of a family, in the order of the plan."""
    return [effect for effect in results["effects"] if effect["family"] == family]


def effect_table(results: Results, family: str, *, absolute: bool = True) -> Table:
    """Metric, both arms, difference and lift with their intervals, p and what it amounts to.

    Args:
        results: Contents of results.json.
        family: Family of metrics: primary, secondary, guardrail or slice.
        absolute: Whether the difference in the metric's own unit has a column.
    """
    rows = [
        (
            effect_name(results, effect),
            formatting.value(effect["control"]["mean"]),
            formatting.value(effect["treatment"]["mean"]),
            *((formatting.difference(effect["difference"], effect["difference_ci"]),) if absolute else ()),
            formatting.percent(effect["lift"]),
            formatting.percent_interval(effect["lift_ci"]),
            formatting.p_value(effect["p"]),
            formatting.p_value(effect["p_adjusted"]),
            outcome(effect),
        )
        for effect in effects(results, family)
    ]
    several = len(results["scenario"]["treatments"]) > 1
    header = (
        "metric",
        results["scenario"]["control"],
        "treatment" if several else results["scenario"]["treatments"][0],
        *(("difference",) if absolute else ()),
        "lift",
        interval(results),
        "p" if results["scenario"]["looks"] == "final" else "nominal p",
        ADJUSTED[family],
        "outcome",
    )
    notes = [*meanings(effects(results, family)), *reasons(results, effects(results, family))]
    return Table(FAMILIES[family], header, rows, notes, folded=family in ("secondary", "slice"))


def meanings(effects: Iterable[Data]) -> list[str]:
    """What the metrics are in words, and which are better low, in one line; nothing where the names say it."""
    known = {}
    for effect in effects:
        words = [effect["label"]] if effect["label"] and effect["label"] != effect["metric"] else []
        words += ["less is better"] if effect["direction"] == "down" else []
        if words:
            known[effect["metric"]] = f"{effect['metric']}: {', '.join(words)}"
    return [f"{'; '.join(known.values())}."] if known else []


def paper_table(results: Results) -> Table:
    """The layout of the paper's Table 3: one row per treatment, the lift of each metric, a star where significant.

    Below each its interval, its adjusted p, and the true lift where a simulator knows it; last the paper's own lifts.
    """
    shown = [e for family in ("primary", "guardrail", "secondary") for e in effects(results, family)]
    names = list(dict.fromkeys(effect["metric"] for effect in shown))
    rows = []
    for arm in results["scenario"]["treatments"]:
        mine = {effect["metric"]: effect for effect in shown if effect["treatment"]["arm"] == arm}
        rows.append((arm, *(starred(mine[name]) for name in names)))
        rows.append((interval(results), *(formatting.percent_interval(mine[name]["lift_ci"]) for name in names)))
        rows.append(("adjusted p", *(formatting.p_value(mine[name]["p_adjusted"]) for name in names)))
        truths = [(mine[name]["truth"] or {}).get("lift") for name in names]
        if any(truth is not None for truth in truths):
            rows.append(("true lift", *(formatting.percent(truth) for truth in truths)))
    notes = ["* adjusted p below alpha; † not valid; no mark: not significant or not judged."]
    if paper := results["scenario"].get("paper"):
        rows.append(("the paper's own", *(formatting.percent(paper[name]) if name in paper else "" for name in names)))
        notes.append("The paper's own lifts were measured on a private platform: for shape, never a target.")
    return Table(f"Lift over {results['scenario']['control']}", ("arm", *names), rows, notes)


def srm_table(results: Results) -> Table:
    """Users per arm against plan, everybody and by slice; the last day stands for all days."""
    arms = [results["scenario"]["control"], *results["scenario"]["treatments"]]
    days = [check for check in results["srm"] if check["scope"] == "day"]
    rows = []
    for check in [*(check for check in results["srm"] if check["scope"] != "day"), *days[-1:]]:
        name = {"all": "all users", "slice": check["slice"], "day": f"daily looks to {check['day']}"}[check["scope"]]
        counts = (f"{check['counts'][arm]:,}" for arm in arms)
        rows.append((name, *counts, formatting.p_value(check["p"]), "ALARM" if check["alarm"] else "as planned"))
    return Table(
        "Sample ratio",
        ("users", *arms, "p", "sample ratio"),
        rows,
        [],
        folded=not any(check["alarm"] for check in results["srm"]),
    )


def balance_table(results: Results) -> Table:
    """Covariates from before exposure."""
    several = len(results["scenario"]["treatments"]) > 1
    rows = [
        (
            f"{check['covariate']}, {check['arm']}" if several else check["covariate"],
            formatting.value(check["control"]),
            formatting.value(check["treatment"]),
            formatting.UNDEFINED if check["standardised"] is None else f"{check['standardised']:+.4f}",
            formatting.p_value(check["p_adjusted"]),
            "ALARM" if check["alarm"] else "balanced",
        )
        for check in results["balance"]
    ]
    header = ("before exposure", "control", "treatment", "difference / sd", "Holm p", "balance")
    folded = not any(check["alarm"] for check in results["balance"])
    return Table("Balance before exposure", header, rows, [], folded=folded)


def interaction_table(results: Results) -> Table:
    """Each slice's lift against everybody else's."""
    rows = [
        (
            _name(results, one["metric"], one["slice"], one["arm"]),
            formatting.percent(one["change"]),
            formatting.percent_interval(one["change_ci"]),
            formatting.p_value(one["p"]),
            formatting.p_value(one["p_adjusted"]),
        )
        for one in results["interactions"]
    ]
    notes = [
        f"{_name(results, one['metric'], one['slice'], one['arm'])}: {one['reason']}."
        for one in results["interactions"]
        if one["reason"]
    ]
    header = ("slice", "lift minus the rest's", plain_interval(results), "p", "BH p")
    return Table("Does the lift differ between slices?", header, rows, notes)


def novelty_table(results: Results) -> Table:
    """First two days against later ones."""
    rows = [
        (
            _name(results, one["metric"], "all", one["arm"]),
            formatting.percent(one["early"]["lift"]),
            formatting.percent(one["late"]["lift"]),
            formatting.percent(one["change"]),
            formatting.percent_interval(one["change_ci"]),
            formatting.p_value(one["p"]),
        )
        for one in results["novelty"]
    ]
    header = ("metric", "lift, days 1–2", "lift, later days", "change", plain_interval(results), "p")
    return Table("Does the lift last?", header, rows, [])


def look_table(results: Results) -> Table:
    """Every planned look."""
    rows = [
        (
            f"{_name(results, look['metric'], 'all', look['arm'])}, {look['label']}",
            f"{look['control_n'] + look['treatment_n']:,}",
            formatting.percent(look["on_day"]["lift"]),
            formatting.percent(look["so_far"]["lift"]),
            formatting.percent_interval(look["so_far"]["lift_ci"]),
            formatting.UNDEFINED if look["so_far"]["t"] is None else f"{look['so_far']['t']:+.2f}",
            formatting.UNDEFINED if look["bound"] is None else f"±{look['bound']:.2f}",
            {True: "crossed", False: "within", None: formatting.UNDEFINED}[look["crossed"]],
        )
        for look in results["looks"]
    ]
    header = ("look", "users so far", "lift that day", "lift so far", "repeated interval", "t", "bound", "stopping")
    return Table("Every look", header, rows, [], folded=True)


def other_table(results: Results) -> Table:
    """The main metrics by other means, beside the plain test."""
    rows, notes = [], []
    for effect in results["effects"]:
        if effect["family"] == "slice" or not effect["others"]:
            continue
        name = effect_name(results, effect)
        rows.append((f"{name}: as judged", *_other_cells(effect), ""))
        for kind, other in effect["others"].items():
            gain = effect["variance_reduction"] if kind == "cuped" else None
            less = "" if gain is None else f"{gain:.1%}".replace("%", " %")
            label = ESTIMATORS[kind].label if kind in ESTIMATORS else {"welch": "unadjusted"}.get(kind, kind)
            rows.append((f"{name}: {label}", *_other_cells(other), less))
            notes += [f"{name}, {label}: {other['reason'].rstrip('.')}."] if other["reason"] else []
    header = ("metric", "lift", interval(results), "p", "variance removed")
    return Table("The same questions by other means", header, rows, notes)


def quantile_table(results: Results) -> Table:
    """Where the middle and the heavy end of the users moved."""
    rows = [
        (
            f"{_name(results, one['metric'], 'all', one['arm'])}, P{100 * one['quantile']:g}",
            formatting.value(one["control"]),
            formatting.value(one["treatment"]),
            formatting.percent(one["lift"]),
            formatting.percent_interval(one["lift_ci"]),
        )
        for one in results.get("quantiles", [])
    ]
    notes = [
        f"{_name(results, one['metric'], 'all', one['arm'])}, P{100 * one['quantile']:g}: {one['reason'].rstrip('.')}."
        for one in results.get("quantiles", [])
        if one["reason"]
    ]
    header = ("quantile", "control", "treatment", "lift", interval(results))
    return Table("Users in the middle and at the top", header, rows, notes)


def check_table(results: Results) -> Table:
    """Checks that assume less."""
    rows = [
        (
            f"{_name(results, one['metric'], 'all', one['arm'])}: {one['test']}",
            one["statistic"],
            formatting.percent_interval(one["lift_ci"]),
            formatting.p_value(one["p"]),
        )
        for one in results.get("checks", [])
    ]
    level = f"{100 * (1 - results['scenario']['alpha']):g} %"
    header = ("check", "finding", f"{level} interval of the lift, this look alone", "p")
    return Table("Checks that assume less", header, rows, [])


def power_table(results: Results) -> Table:
    """What the test could have found."""
    rows = [
        (
            _name(results, curve["metric"], "all", curve["arm"]),
            f"{curve['n_control']:,} and {curve['n_treatment']:,}",
            formatting.percent(curve["mde"]).removeprefix("+"),
        )
        for curve in results["power"]
    ]
    notes = [
        f"{_name(results, curve['metric'], 'all', curve['arm'])}: {curve['reason'].rstrip('.')}."
        for curve in results["power"]
        if curve["reason"]
    ]
    header = ("metric", "users", "smallest lift found 80 % of the time")
    return Table("What this test can see", header, rows, notes)


def outcome(effect: Data) -> str:
    """What an effect amounts to, in a word or two."""
    if not effect["valid"]:
        return "not valid"
    if effect["guardrail"]:
        words = {"safe": "within the margin", "harmed": "beyond the margin", "unsure": "not shown within the margin"}
        most = effect.get("upper_margin")
        upper = "" if most is None else f" worse, {100 * most:g} % better"
        return f"{words[effect['guardrail']]} of {100 * effect['margin']:g} %{upper}"
    unplanned = ", exploratory" if effect.get("exploratory") else ""
    if effect["significant"] is None:
        return f"not judged{unplanned}"
    beyond = f" than {100 * effect['null']:+g} %" if effect.get("null") and effect["outcome"] == "gain" else ""
    word = {"gain": "better", "loss": "worse", "even": "no difference shown"}[effect["outcome"]]
    return word + beyond + unplanned


def starred(effect: Data) -> str:
    """A lift with the mark of the paper's table."""
    mark = "" if effect["lift"] is None else "†" if not effect["valid"] else "*" if effect["significant"] else ""
    return formatting.percent(effect["lift"]) + mark


def reasons(results: Results, found: Iterable[Data]) -> list[str]:
    """Why something is undefined, not judged or not valid; equal reasons once."""
    by_reason: dict[str, list[str]] = {}
    for effect in found:
        if effect["reason"]:
            by_reason.setdefault(effect["reason"], []).append(effect_name(results, effect))
    return [f"{', '.join(names)}: {reason.rstrip('.')}." for reason, names in by_reason.items()]


def effect_name(results: Results, effect: Data) -> str:
    """Metric, slice where the name does not say it, treatment where there are several."""
    where = effect["slice"] if effect["family"] == "slice" else "all"
    return _name(results, effect["metric"], where, effect["treatment"]["arm"])


def plain_interval(results: Results) -> str:
    """What the intervals of single questions are called."""
    return f"{100 * (1 - results['scenario']['alpha']):.4g} % interval"


def interval(results: Results) -> str:
    """What the intervals are called: those of a test that is looked at repeatedly hold at all looks together."""
    name = {"final": "interval", "daily": "repeated interval", "open": "anytime interval"}[results["scenario"]["looks"]]
    return f"{100 * (1 - results['scenario']['alpha']):.4g} % {name}"


def filled(tables: Sequence[Table]) -> list[Table]:
    """Those with rows."""
    return [table for table in tables if table.rows]


def _name(results: Results, metric: str, where: str, arm: str) -> str:
    parts = [
        metric,
        *([where] if where != "all" else []),
        *([arm] if len(results["scenario"]["treatments"]) > 1 else []),
    ]
    return ", ".join(parts)


def _other_cells(test: Data) -> tuple[str, str, str]:
    return formatting.percent(test["lift"]), formatting.percent_interval(test["lift_ci"]), formatting.p_value(test["p"])
