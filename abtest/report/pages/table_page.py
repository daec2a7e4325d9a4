"""report.html, report.md and the terminal's view of a table: the same sections, drawn three ways."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from abtest.report import formatting, html, terminal
from abtest.report.figures import Intervals, Row, Tone
from abtest.report.formatting import percent, percent_interval
from abtest.report.markdown import code, escape, table_lines
from abtest.report.pages.evidence_section import agreement_line, evidence_section
from abtest.report.pages.experiment_page import Page, PagePart
from abtest.report.pages.table_latex import metric_title
from abtest.report.pages.table_layout import STEPS, claim_table, label_of, main_table, sections, switch_lines
from abtest.report.sections import Block, Section
from abtest.report.tables import Results, Table
from abtest.report.terminal import plain_console

FOLDED = {STEPS, "Cost", "Every run", "Switches that were on"}  # sections that open on a click, and stay off paper
_TONES: dict[str, Tone] = {"holds": "gain", "does not hold": "loss", "not shown": "even"}


def html_report(results: Results) -> str:
    """The whole page of a table of models."""
    return html_page(results, sections(results))


def html_page(results: Results, parts: list[Section]) -> str:
    """A page of the given sections."""
    return html.render(page_of(results, [part for part in parts if part.text or part.blocks]))


def page_of(results: Results, parts: list[Section]) -> Page:
    """A page of sections under the scenario's title."""
    placed = [
        PagePart(
            f"s{place}-{_anchor(part.title)}",
            part.title,
            part.text,
            [*_figures(results, part), *(_opened(block) if part.title in FOLDED else block for block in part.blocks)],
            part.title in FOLDED,
        )
        for place, part in enumerate(parts, start=1)
    ]
    return Page(
        eyebrow="Table of models" if "models" in results else "Table of datasets",
        title=results["scenario"]["title"],
        subtitle=subtitle(results),
        sections=placed,
        provenance=provenance(results),
    )


def markdown_report(results: Results, parts: list[Section] | None = None) -> str:
    """The whole report; every string that came from data or settings is escaped."""
    return "\n".join(_markdown(results, sections(results) if parts is None else parts)) + "\n"


def print_table(results: Results, console: Console | None = None) -> None:
    """The table on each dataset, the switches, and what holds."""
    console = console or plain_console()
    for name in results["datasets"]:
        terminal.print_table(main_table(results, name), console)
    for who, keys in switch_lines(results):
        console.print(Text(f"{who}: {keys}"))
    console.print()
    for block in evidence_section(results).tables if "evidence" in results else ():
        terminal.print_table(block, console)
    for line in results.get("evidence", {}).get("agreement", ()):
        console.print(Text(agreement_line(line)))
    if results["orderings"]:
        terminal.print_table(claim_table(results), console)


def subtitle(results: Results) -> str:
    """The run in one line."""
    seeds, names = results["seeds"], ", ".join(facts["label"] for facts in results["datasets"].values())
    if "preset" not in results["scenario"]:
        return f"{names}."
    preset = "" if "tuning" in results else f"; preset {results['scenario']['preset']}"  # whose rows have one each
    line = f"{names}; {formatting.seeds(seeds)}{preset}."
    validated = results["scenario"]["base"]["split"]["valid_fraction"] > 0
    if results["scenario"]["choose_epochs"] == "first_seed" and validated:
        line += f" Each row's number of epochs was chosen on the validation clicks with seed {seeds[0]}."
    return line


def provenance(results: Results) -> list[tuple[str, str]]:
    """What the numbers depend on, in pairs."""
    versions = results["versions"]
    data = [f"{facts['name']} (hash {facts['hash']})" for facts in results["datasets"].values()]
    return [
        ("Data", ", ".join(data)),
        ("Command", results["command"] or "called from Python"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        *([("Run time", f"{results['runtime_s']:,.1f} s of training and tests")] if "models" in results else []),
    ]


def _figures(results: Results, part: Section) -> list[Intervals]:
    """The claims' steps as intervals, a figure per dataset, above their table."""
    if part.title != STEPS:
        return []
    found = []
    for one in results["orderings"]:
        for name, facts in results["datasets"].items():
            rows = [_row(results, step) for step in one["steps"] if step["dataset"] == name]
            title = f"{one['claim']} ({facts['label']})" if len(results["datasets"]) > 1 else one["claim"]
            caption = (
                "Lift of a model over the one it is to beat, with its interval over training seeds, which is not "
                "adjusted. To the right of 0 the claim holds."
            )
            found.append(Intervals(title, rows, caption))
    return found


def _opened(block: Block) -> Block:
    """A table as part of a section that is folded itself."""
    return block._replace(folded=False) if isinstance(block, Table) else block


def _row(results: Results, step: Mapping[str, Any]) -> Row:
    low, high = step["lift_ci"] or (None, None)
    names = f"{label_of(results, step['higher'])} over {label_of(results, step['lower'])}"
    label = f"{metric_title(step['metric'])}: {names}"
    text = f"{percent(step['lift'])} {percent_interval(step['lift_ci'])}"
    return Row(label, text, step["lift"], low, high, tone=_TONES[step["verdict"]])


def _markdown(results: Results, parts: list[Section]) -> Iterator[str]:
    yield f"# {escape(results['scenario']['title'])}"
    yield from ("", escape(subtitle(results)))
    for part in parts:
        yield from ("", f"## {escape(part.title)}")
        if part.title.startswith("Switches"):
            yield ""
            yield from (f"- {escape(who)}: {code(keys)}" for who, keys in switch_lines(results))
            continue
        if part.text:
            yield ""
            yield from (f"- {escape(line)}" for line in part.text)
        for block in part.blocks:
            if isinstance(block, Table):
                yield from ("", f"### {escape(block.title)}", "", *table_lines(block))
    yield from ("", "## How to repeat this", "")
    yield f"    {' '.join(results['command'].split()) or 'micrec run scenario.resolved.yaml'}"
    yield from ("", "The file `scenario.resolved.yaml` beside this report holds every key of the run.", "")
    yield from (f"- {escape(name)}: {escape(text)}" for name, text in provenance(results))


def _anchor(title: str) -> str:
    return re.sub("[^a-z0-9]+", "-", title.lower()).strip("-")
