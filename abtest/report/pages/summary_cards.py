"""The page in a minute: what changed, in numbers a product has; whether it can be believed; for whom it differs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from abtest.report import formatting
from abtest.report.pages.experiment_tables import interval, outcome
from abtest.report.tables import Results
from abtest.report.totals import count, totals_of
from abtest.stats.estimators import ESTIMATORS

Data = Mapping[str, Any]


class SummaryLine(NamedTuple):
    """One fact.

    Attributes:
        text: In a few words.
        detail: What stands below it, smaller.
        tone: "gain", "loss", "even" of an effect; "good" or "doubt" of a check.
    """

    text: str
    detail: str = ""
    tone: str = "even"


class SummaryCard(NamedTuple):
    """Facts under one question."""

    title: str
    lines: Sequence[SummaryLine]


def summary_cards(results: Results) -> list[SummaryCard]:
    """The three questions of every reader; a question without an answer is left out."""
    cards = [
        SummaryCard("What changed?", _effects(results)),
        SummaryCard("Can it be believed?", _checks(results)),
        SummaryCard("What differs?", _differences(results)),
    ]
    return [card for card in cards if card.lines]


def _effects(results: Results) -> list[SummaryLine]:
    totals = {(one.effect["metric"], one.effect["treatment"]["arm"]): one for one in totals_of(results)}
    lines = []
    for effect in results["effects"]:
        if effect["family"] != "primary":
            continue
        arm, several = effect["treatment"]["arm"], len(results["scenario"]["treatments"]) > 1
        name = f"{effect['metric']}, {arm}" if several else effect["metric"]
        head = f"{name} {formatting.percent(effect['lift'])}: {outcome(effect)}"
        means = f"{formatting.value(effect['control']['mean'])} to {formatting.value(effect['treatment']['mean'])}"
        parts = [f"{effect['label'] or effect['metric']}: {means}"]
        if effect["lift_ci"]:
            parts.append(f"{interval(results)} {formatting.percent_interval(effect['lift_ci'])}")
        if (total := totals.get((effect["metric"], arm))) and effect["valid"]:
            span = results["dataset"]["days"]
            when = f" in {len(span)} days" if span else ""
            users = f"{total.users:,.0f} users"
            parts.append(f"in all {count(total.everybody, total.everybody_ci)}{when} if all {users} had it")
        tone = effect["outcome"] if effect["valid"] else "even"
        lines.append(SummaryLine(head, "; ".join(parts) + ".", tone))
    return lines


def _checks(results: Results) -> list[SummaryLine]:
    lines = [_sample_ratio(results), *_balance(results), _when(results)]
    lines += [_unjudged(results), _other_users(results), _other_means(results), *_luck(results)]
    return [line for line in lines if line is not None]


def _sample_ratio(results: Results) -> SummaryLine:
    check = next(one for one in results["srm"] if one["scope"] == "all")
    counts = ", ".join(f"{arm} {users:,}" for arm, users in check["counts"].items())
    detail = f"{counts}; p {formatting.p_value(check['p'])}."
    broken = [one for one in results["srm"] if one["alarm"]]
    if check["alarm"]:
        return SummaryLine("No: the arms did not get the planned shares of users", detail, "doubt")
    if broken:
        where = ", ".join(dict.fromkeys(one["day"] or one["slice"] for one in broken))
        return SummaryLine(f"The shares of users are off in {where}", detail, "doubt")
    return SummaryLine("The arms got their shares of users", detail, "good")


def _balance(results: Results) -> list[SummaryLine]:
    if not results["balance"]:
        return []
    alarms = [one["covariate"] for one in results["balance"] if one["alarm"]]
    if alarms:
        names = ", ".join(dict.fromkeys(alarms))
        return [SummaryLine("No: the users differed before the test", f"In {names}.", "doubt")]
    names = ", ".join(dict.fromkeys(one["covariate"] for one in results["balance"]))
    return [SummaryLine("The users were alike before the test", f"By {names}.", "good")]


def _when(results: Results) -> SummaryLine | None:
    scenario, days = results["scenario"], results["dataset"]["days"]
    if scenario["looks"] != "final":
        kind = "daily looks" if scenario["looks"] == "daily" else "any number of looks"
        return SummaryLine(f"Planned for {kind}", "Intervals and p-values count all looks together.", "good")
    if days is None:
        return None
    planned = scenario["planned_days"]
    if len(days) < planned:
        return SummaryLine(f"Too early: day {len(days)} of {planned}", "A test read once is read at its end.", "doubt")
    return SummaryLine("Read once, at the planned end", f"After {len(days)} days.", "good")


def _unjudged(results: Results) -> SummaryLine | None:
    primary = [one for one in results["effects"] if one["family"] == "primary" and one["valid"]]
    blank = [one["metric"] for one in primary if one["significant"] is None]
    if not blank:
        return None
    reason = next(str(one["reason"]) for one in primary if one["significant"] is None)
    return SummaryLine(f"Not judged: {', '.join(dict.fromkeys(blank))}", f"{reason.rstrip('.')}.", "doubt")


def _other_users(results: Results) -> SummaryLine | None:
    """Whether other choices of users, such as those in two arms, would change what is significant."""
    variants = results.get("variants") or ()
    if len(variants) < 2 or not results["valid"]:
        return None
    first, *others = [{(e["metric"], e["arm"]): _side(e["lift_ci"]) for e in one["effects"]} for one in variants]
    names = [one["name"] for one in variants[1:]]
    apart = [name for name, sides in zip(names, others, strict=True) if sides != first]
    if apart:
        return SummaryLine("It depends on whose users count", f"Otherwise with {', '.join(apart)}.", "doubt")
    return SummaryLine("It does not depend on whose users count", f"The same with {', '.join(names)}.", "good")


def _other_means(results: Results) -> SummaryLine | None:
    """Whether estimates by other means have the same sign where the plain test is significant, or contradict."""
    primary = [one for one in results["effects"] if one["family"] == "primary" and one["valid"]]
    apart, asked = [], set()
    for effect in primary:
        own = _side(effect["lift_ci"]) if effect["significant"] else 0
        for name, other in effect["others"].items():
            label = ESTIMATORS[name].label if name in ESTIMATORS else name
            asked.add(label)
            side = _side(other["lift_ci"])
            if (side and own and side != own) or (side and not own and effect["significant"] is False):
                apart.append(f"{effect['metric']} by {label} {formatting.percent(other['lift'])}")
    if apart:
        return SummaryLine("Other methods do not all agree", f"{'; '.join(apart)}.", "doubt")
    return (
        SummaryLine("Other methods do not contradict it", f"By {', '.join(sorted(asked))}.", "good") if asked else None
    )


def _side(ends: Sequence[float] | None) -> int:
    return 0 if ends is None or ends[0] <= 0 <= ends[1] else 1 if ends[0] > 0 else -1


def _luck(results: Results) -> list[SummaryLine]:
    """How much of a win is luck; of a hold, what the test could have found."""
    lines = []
    for one in results.get("corrected_wins", ()):
        raw, corrected = formatting.percent(one["lift"]), formatting.percent(one["corrected"])
        ends = formatting.percent_interval(one["corrected_ci"])
        detail = f"What is significant was partly lucky. Corrected for that: {ends}."
        lines.append(SummaryLine(f"{one['metric']}: expect {corrected} rather than {raw}", detail))
    held = {verdict["arm"] for verdict in results["verdicts"] if verdict["decision"] == "hold"}
    found = [
        f"{curve['metric']} {formatting.percent(curve['mde']).removeprefix('+')}"
        for curve in results["power"]
        if curve["arm"] in held and curve["mde"] is not None
    ]
    if found and results["valid"]:
        text = "It finds four of five true lifts of " + ", ".join(dict.fromkeys(found))
        lines.append(SummaryLine(text, "Smaller ones it mostly misses."))
    return lines


def _differences(results: Results) -> list[SummaryLine]:
    if not results["valid"]:
        return []
    alpha = results["scenario"]["alpha"]
    tested = [one for one in results.get("heterogeneity", ()) if one["p_adjusted"] is not None]
    differ = [one for one in tested if one["p_adjusted"] < alpha]
    lines = [_column(one) for one in differ]
    if tested and not differ:
        columns = ", ".join(dict.fromkeys(one["column"] for one in tested))
        smallest = min(one["p_adjusted"] for one in tested)
        lines.append(
            SummaryLine(f"No difference shown by {columns}", f"Smallest p {formatting.p_value(smallest)}.", "good")
        )
    for one in results["novelty"]:
        if one["p"] is not None and one["p"] < alpha:
            early, late = formatting.percent(one["early"]["lift"]), formatting.percent(one["late"]["lift"])
            text = f"{one['metric']} changed over time: {early} at first, {late} later"
            lines.append(SummaryLine(text, f"p {formatting.p_value(one['p'])}.", "doubt"))
    for one in results.get("breakdowns", ()):
        parts = [part for part in one["components"][1:] if part["share"] is not None]
        if parts:
            most = max(parts, key=lambda part: abs(part["share"]))
            text = f"{one['metric']} moved by {most['name']}: {formatting.percent(most['lift'])}"
            lines.append(SummaryLine(text, f"{most['share']:.0%} of its change.".replace("%", " %")))
    return lines


def _column(one: Data) -> SummaryLine:
    """The slices that are furthest apart, as measured and shrunken."""
    slices = sorted(one["slices"], key=lambda part: part["shrunken"])
    ends = [slices[-1], slices[0]]
    shown = "; ".join(
        f"{part['slice']} {formatting.percent(part['lift'])} (shrunken {formatting.percent(part['shrunken'])})"
        for part in ends
    )
    p = formatting.p_value(one["p_adjusted"])
    opposite = slices[0]["shrunken_ci"][1] < 0 < slices[-1]["shrunken_ci"][0]
    text = f"{one['metric']} differs by {one['column']}" + (", and some lose" if opposite else "")
    return SummaryLine(text, f"{shown}. One test of {len(slices)} slices: p {p}.", "doubt")
