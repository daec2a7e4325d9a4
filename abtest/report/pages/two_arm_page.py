"""The page of an offline A/B: the verdict in words, the lifts with both intervals, then every table."""

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.report import formatting, html
from abtest.report.figures import Intervals, Row, Tone
from abtest.report.formatting import percent, percent_interval
from abtest.report.glossary import offline_glossary
from abtest.report.pages.experiment_page import Page, PagePart
from abtest.report.pages.two_arm_verdict import verdicts
from abtest.report.sections import Section
from abtest.report.tables import (
    WAY,
    Results,
    Table,
    arm_label,
    metric_names,
    report_tables,
    significance,
    switch_lines,
    turned,
)

FOLDED = {"Costs and single runs", "What was on"}  # sections that open on a click, and stay off paper
_MANY = 8  # rows from which a table that is not the answer opens on a click

LUCK = (
    "Over seeds: how would the lift change with other training seeds, on these test users?",
    "Over users: how would the lift change for other users of the same kind, with these trained models?",
    "A gain counts where it is significant over seeds and over users, after Holm's adjustment.",
)


def html_report(results: Results) -> str:
    """The whole page."""
    return html.render(page_of(results))


def page_of(results: Results) -> Page:
    """The page of a results.json of kind offline_ab."""
    scenario, dataset = results["scenario"], results["dataset"]
    labels = [arm_label(results, arm) for arm in scenario["arms"]]
    parts = [
        PagePart(f"s{place}", section.title, section.text, section.blocks, section.title in FOLDED)
        for place, section in enumerate(sections_of(results), start=1)
    ]
    return Page(
        eyebrow="Offline comparison",
        title=f"{_listed(labels[1:])} against {labels[0]}",
        subtitle=f"{dataset['name']}: {dataset['users']:,} users, {dataset['items']:,} items, {dataset['clicks']:,} "
        f"clicks; training {formatting.seeds(results['seeds'])}; preset {scenario['preset']}.",
        verdicts=[
            {
                "arm": arm_label(results, arm),
                "decision": _decision(results, arm),
                "headline": headline,
                "reasons": reasons,
            }
            for arm, (headline, *reasons) in verdicts(results).items()
        ],
        rule=LUCK,
        sections=parts,
        provenance=[
            ("Data", f"{dataset['name']} (hash {dataset['hash']})"),
            ("Command", results["command"] or "micrec run scenario.resolved.yaml"),
            ("Versions", ", ".join(f"{name} {version}" for name, version in results["versions"].items())),
            ("Run time", f"{results['runtime_s']:,.1f} s of training and tests"),
        ],
    )


def sections_of(results: Results) -> list[Section]:
    """Figure and tables, the keys that were on, the words."""
    models, *rest = report_tables(results)
    rest = [table._replace(folded=_on_demand(table)) for table in rest]
    effects = [table for table in rest if table.title.startswith(("Primary metrics", "Secondary"))]
    way = [table for table in rest if table.title == WAY]
    others = [table for table in rest if table not in (*effects, *way)]
    level = f"{100 * (1 - results['scenario']['alpha']):g} %"
    switches = Table("Config keys", ("who", "keys"), switch_lines(results), [])
    return [
        Section("What changed", LUCK[:2], [lift_figure(results), *effects]),
        Section("Models", (), [turned(models), *way]),
        Section("Costs and single runs", (), others),
        Section("What was on", ("Keys that differ from the preset, or between the arms.",), [switches]),
        offline_glossary(metric_names(results), level),
    ]


def lift_figure(results: Results) -> Intervals:
    """The primary metrics' lifts: a full dot over seeds, a hollow one over users."""
    rows = []
    for effect in (one for one in results["effects"] if one["family"] == "primary"):
        several = len({one["treatment"]["arm"] for one in results["effects"]}) > 1
        name = effect["metric"] + (f", {arm_label(results, effect['treatment']['arm'])}" if several else "")
        rows.append(_row(f"{name}, over seeds", effect, _tone(effect)))
        if effect["users"]:
            rows.append(_row("over users", {**effect["users"], "lift": effect["lift"]}, _tone(effect), hollow=True))
    caption = "Lift of the treatment, with intervals that are not adjusted. To the right is better."
    return Intervals("Lift of the primary metrics", rows, caption)


def _row(label: str, test: Mapping[str, Any], tone: Tone, *, hollow: bool = False) -> Row:
    low, high = test["lift_ci"] or (None, None)
    text = f"{percent(test['lift'])} {percent_interval(test['lift_ci'])}"
    return Row(label, text, test["lift"], low, high, tone=tone, hollow=hollow)


def _tone(effect: Mapping[str, Any]) -> Tone:
    if significance(effect) not in ("seeds and users", "seeds"):
        return "even"
    return "gain" if effect["difference"] > 0 else "loss"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else ", ".join(names)


def _on_demand(table: Table) -> bool:
    """Whether a table opens on a click: the slices, and secondary metrics where they are many."""
    many = len(table.rows) > _MANY and not table.title.startswith(("Every run", "Cost"))
    return many or "by slice" in table.title


def _decision(results: Results, arm: str) -> str:
    """The colour of the verdict: a gain somewhere and no loss, a loss, or neither."""
    effects = [effect for effect in results["effects"] if effect["treatment"]["arm"] == arm]
    tones = {_tone(effect) for effect in effects if effect["family"] == "primary"}
    return "stop" if "loss" in tones else "ship" if "gain" in tones else "hold"
