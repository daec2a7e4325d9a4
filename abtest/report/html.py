"""report.html: one file that needs nothing else, made from the contents of results.json and nothing else.

Every text goes through Jinja's autoescape; figures are SVG drawn twice, for a page and for a phone, and the style sheet
shows one of them. No script, no request.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from abtest.report.draw import NARROW, WIDE, Drawing, draw
from abtest.report.figures import Figure
from abtest.report.pages.experiment_page import Page, page_of


def html_report(results: Mapping[str, Any]) -> str:
    """The whole page."""
    return render(page_of(results))


def render(page: Page) -> str:
    """A page as HTML."""
    return str(_environment().get_template("report.html.j2").render(page=page, drawings=_drawings))


def _drawings(figure: Figure) -> list[tuple[str, Drawing]]:
    return [("wide", draw(figure, WIDE)), ("narrow", draw(figure, NARROW))]


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("abtest.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
