"""report.md of an experiment: the same sections as the page, with tables in place of figures."""

from collections.abc import Iterator

from abtest.report.markdown import code, escape, table_lines
from abtest.report.pages.experiment_page import page_of
from abtest.report.pages.experiment_tables import paper_table
from abtest.report.tables import Results, Table


def markdown_report(results: Results) -> str:
    """The whole report; every string that came from data or settings is escaped."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: Results) -> Iterator[str]:
    page = page_of(results)
    yield from (f"# {escape(page.title)}", "", escape(page.subtitle), "")
    if page.alarms:
        yield from (f"## {page.alarm_title}", "", *(f"- {escape(line)}" for line in page.alarms), "")
    yield "## Verdict"
    for verdict in page.verdicts:
        yield from ("", f"**{escape(verdict['decision'].upper())}**: {escape(verdict['headline'])}", "")
        yield from (f"- {escape(line)}" for line in verdict["reasons"])
    yield from ("", "## In a minute")
    for card in page.summary:
        yield from ("", f"**{escape(card.title)}**", "")
        yield from (f"- {escape(line.text)}. {escape(line.detail)}".rstrip() for line in card.lines)
    yield from ("", "## Table", "", *table_lines(paper_table(results)))
    for section in page.sections:
        yield from ("", f"## {escape(section.title)}")
        yield from (line for text in section.text for line in ("", escape(text)))
        for block in section.blocks:
            if isinstance(block, Table):
                yield from ("", f"### {escape(block.title)}", "", *table_lines(block))
    yield from ("", "## The rule behind the verdict", "", *(f"- {escape(line)}" for line in page.rule))
    yield from ("", "## How this was made", "")
    yield from (f"- {name}: {code(text)}" for name, text in page.provenance)
