"""report.html: one file that needs nothing else, made from the contents of results.json and nothing else.

Every text goes through Jinja's autoescape; figures are SVG drawn twice, for a page and for a phone, and the style sheet
shows one of them. No script, no request.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from abtest.report.draw import NARROW, WIDE, Drawing, draw
from abtest.report.figure_tables import figure_table
from abtest.report.figures import Figure
from abtest.report.pages.experiment_page import Page, page_of
from abtest.report.tables import Table

_MARKS = {  # of a fact: its sign, and what a screen reader says in its place
    "gain": ("▲", "Better: "),
    "loss": ("▼", "Worse: "),
    "even": ("•", ""),
    "good": ("✓", "Fine: "),
    "doubt": ("!", "Take care: "),
}
_LONG = 40  # characters from which a cell is text to be read, not a number to be compared


def html_report(results: Mapping[str, Any]) -> str:
    """The whole page."""
    return render(page_of(results))


def render(page: Page) -> str:
    """A page as HTML."""
    return str(
        _environment()
        .get_template("report.html.j2")
        .render(page=page, drawings=_drawings, text_columns=text_columns, figure_table=figure_table, marks=_MARKS)
    )


def text_columns(table: Table) -> list[int]:
    """Places of the columns, but for the first, that hold sentences: they start at the left and break between words."""
    return [
        place for place in range(1, len(table.header)) if any(_is_text(row[place]) for row in table.rows if row[place])
    ]


def unbroken(text: str) -> str:
    """The text with spaces at which no line may break: within an interval, before a per-cent sign, behind ±."""
    text = re.sub(r"\[[^\[\]]*\]", lambda found: found.group().replace(" ", "\N{NO-BREAK SPACE}"), text)
    text = re.sub(r" (?=%)|(?<=±) ", "\N{NO-BREAK SPACE}", text)
    return re.sub(r"(?<=[0-9]e-)(?=[0-9])", "\N{WORD JOINER}", text)


def breakable(name: str) -> str:
    """A name with places at which a line may break, behind each underscore."""
    return name.replace("_", "_\N{ZERO WIDTH SPACE}")


def _is_text(cell: str) -> bool:
    return len(cell) > _LONG and sum(char.isalpha() for char in cell) > len(cell) / 2


def _drawings(figure: Figure) -> list[tuple[str, Drawing]]:
    return [("wide", draw(figure, WIDE)), ("narrow", draw(figure, NARROW))]


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("abtest.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"unbroken": unbroken, "breakable": breakable}
    return environment
