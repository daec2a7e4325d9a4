"""What an experiment's page says, in order: the verdict, whether it can be believed, then the numbers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from abtest.report.glossary import documented_glossary, online_glossary, word_anchors
from abtest.report.pages import design_sections as designs
from abtest.report.pages import experiment_figures as figures
from abtest.report.pages import experiment_tables as tables
from abtest.report.pages import insight_sections as insights
from abtest.report.pages.summary_cards import SummaryCard, summary_cards
from abtest.report.sections import Block, Section, section_of
from abtest.report.tables import Results
from abtest.report.totals import total_table

FOLDED = {  # sections that open on a click, so that the page shows what is decided and why, and prints short
    "By other means",
    "Power",
    "Link recall",
    "From request to click",
    "Why users clicked",
    "Serving",
    "Users by day",
}


class PagePart(NamedTuple):
    """A section with its place on the page; a folded one shows its heading until it is opened."""

    anchor: str
    title: str
    text: Sequence[str]
    blocks: Sequence[Block]
    folded: bool = False


class Page(NamedTuple):
    """A page, free of how it is drawn.

    Attributes:
        eyebrow: Above the title.
        title: What was compared.
        subtitle: On whom, for how long.
        sections: In order.
        provenance: What the numbers depend on.
        alarm_title: How far the alarms reach.
        alarms: Why nothing, or not everything, may be believed.
        verdicts: One per treatment: arm, decision, headline, reasons.
        rule: How verdicts are made.
        summary: The page in a minute.
        words: Anchor on the page of each word that its glossary explains.
        glossary_address: Of the documentation's glossary, if it has an address.
    """

    eyebrow: str
    title: str
    subtitle: str
    sections: Sequence[PagePart]
    provenance: Sequence[tuple[str, str]]
    alarm_title: str = ""
    alarms: Sequence[str] = ()
    verdicts: Sequence[Mapping[str, Any]] = ()
    rule: Sequence[str] = ()
    summary: Sequence[SummaryCard] = ()
    words: Mapping[str, str] = {}  # never written to
    glossary_address: str | None = None


def page_of(results: Results) -> Page:
    """The page of a results.json."""
    scenario = results["scenario"]
    sections = [section for section in sections_of(results) if section.text or section.blocks]
    parts = [
        PagePart(
            f"s{place}-{re.sub('[^a-z0-9]+', '-', section.title.lower()).strip('-')}",
            section.title,
            section.text,
            section.blocks,
            section.title in FOLDED,
        )
        for place, section in enumerate(sections, start=1)
    ]
    return Page(
        eyebrow="Simulated A/B test" if results["kind"] != "analyze" else "A/B test",
        title=f"{' and '.join(scenario['treatments'])} against {scenario['control']}",
        subtitle=subtitle(results),
        alarm_title="Some of these results are not valid" if results["valid"] else "These results are not valid",
        alarms=results["alarms"],
        verdicts=[_without(verdict, results["alarms"]) for verdict in results["verdicts"]],
        rule=results["rule"],
        sections=parts,
        provenance=provenance(results),
        summary=summary_cards(results),
        words=word_anchors(online_glossary(results)),
        glossary_address=documented_glossary(),
    )


def _without(verdict: Mapping[str, Any], said: Sequence[str]) -> dict[str, Any]:
    """The verdict less the reasons that stand above it already."""
    return {**verdict, "reasons": [line for line in verdict["reasons"] if line not in said]}


def sections_of(results: Results) -> list[Section]:
    """All sections of the report; some may be empty."""
    own = [_validity, designs.other_users, _lifts, designs.arms, _days, designs.mid_test, _slices, _others]
    own += [designs.readings, _power, designs.planned]
    more = [section_of(data) for data in results["sections"]]
    return [
        *(section for section in more if section.lead),
        *(make(results) for make in own),
        *(section for section in more if not section.lead),
        Section("What was left out or assumed", tuple(results["notes"])),
        online_glossary(results),
    ]


def subtitle(results: Results) -> str:
    """The test in one line."""
    data, scenario = results["dataset"], results["scenario"]
    days = data["days"]
    span = f" over {len(days)} days ({days[0]} to {days[-1]})" if days else ""
    looks = {"final": "read once", "daily": "planned for a look a day", "open": "open-ended"}[scenario["looks"]]
    unit = data["unit"][0].upper() + data["unit"][1:]
    noun = scenario.get("unit_noun")
    who = f"{data['users']:,} users"
    if noun is not None:
        units = f"{sum(scenario['units_by_arm'].values()):,} {noun}"
        who = units if noun == "periods" else f"{who} in {units}"
    line = f"{who}{span}; {unit}. Level {scenario['alpha']:g}, {looks}."
    variants = {one["variant"] for one in results.get("study", ())}
    runs = max((one["runs"] for one in results.get("study", ())), default=1)
    if len(variants) > 1 or runs > 1:
        line += " The verdict is that of one run among several; what they find together stands below it."
    return line


def provenance(results: Results) -> list[tuple[str, str]]:
    """What the numbers depend on, in pairs."""
    versions = results["versions"]
    learned = () if results["kind"] == "analyze" else ("torch", "faiss-cpu")
    names = ("micrec", "python", *learned, "numpy", "scipy", "polars", "platform")
    return [
        (
            "Data",
            f"{results['dataset']['name']} (hash {results['dataset']['hash']}, {results['dataset']['rows']:,} rows)",
        ),
        ("Command", results["command"] or "called from Python"),
        ("Versions", ", ".join(f"{name} {versions[name]}" for name in names if name in versions)),
        ("Run time", f"{results['runtime_s']:.1f} s"),
        ("Lift", "treatment over control, minus 1; its interval holds the lifts that Welch's test does not reject"),
        ("Unit", designs.unit_words(results)),
    ]


def _validity(results: Results) -> Section:
    if results["alarms"]:
        text = "Read no effect before the alarms above are explained."
    elif results["balance"]:
        text = "Every arm got the users it was promised, and nothing differed before the test."
    else:
        text = "Every arm got the users it was promised."
    found = tables.filled([tables.srm_table(results), tables.balance_table(results)])
    return Section("Can this be believed?", (text,), [figures.srm_figure(results), *found])


def _lifts(results: Results) -> Section:
    found = [tables.effect_table(results, family) for family in ("primary", "guardrail", "secondary")]
    if results["scenario"].get("paper"):
        found.insert(0, tables.paper_table(results))
    found[1:1] = insights.breakdown_tables(results)
    found.append(total_table(results))
    return Section("What changed", (), [figures.lift_figure(results), *tables.filled(found)])


def _days(results: Results) -> Section:
    if not results["looks"]:
        return Section("Day by day")
    text = {
        "daily": "Every day was a look. The band holds at all looks together; the test may stop when it leaves 0.",
        "final": "The test is read once, at its end. The band shows the bounds that daily looks would have needed.",
        "open": "The band is a confidence sequence: it holds however often and however long one looks."
        + designs.tuning(results),
    }[results["scenario"]["looks"]]
    more = tables.filled([tables.novelty_table(results), tables.look_table(results)])
    return Section("Day by day", (text,), [*figures.daily_figures(results), *more])


def _slices(results: Results) -> Section:
    found = [tables.effect_table(results, "slice")]
    if not found[0].rows:
        return Section("Slices")
    text = "Slices differ only where the test between them says so; significant here and not there is no evidence."
    more = tables.filled([insights.heterogeneity_table(results), tables.interaction_table(results), *found])
    shrunken = [insights.shrunken_figure(results)] if results.get("heterogeneity") else []
    return Section("Slices", (text,), [figures.slice_figure(results), *shrunken, *more])


def _others(results: Results) -> Section:
    blocks: list[Block] = []
    if any(effect["variance_reduction"] is not None for effect in results["effects"]):
        blocks.append(figures.cuped_figure(results))
    found = [tables.other_table(results), tables.quantile_table(results), tables.check_table(results)]
    text = ("The verdict rests on the plain test; these show how much it depends on the method.",)
    blocks += tables.filled(found)
    return Section("By other means", text if blocks else (), blocks)


def _power(results: Results) -> Section:
    if not any(curve["lifts"] for curve in results["power"]):
        return Section("Power")
    return Section("Power", (), [figures.power_figure(results), *tables.filled([tables.power_table(results)])])
