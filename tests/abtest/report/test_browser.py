"""The page in a real browser: no errors, no requests, every figure drawn, nothing wider than a phone, dark at night."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from abtest.analysis.output import write_report
from abtest.analysis.plan import AnalysisPlan

from ..analysis.logs import analysed, days
from ..analysis.test_results import FUNNEL, HOSTILE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REQUIRED = os.environ.get("MICREC_REQUIRE_CHROMIUM") == "1"
pytestmark = pytest.mark.skipif(CHROMIUM is None and not REQUIRED, reason="no Chromium on this machine")
FIGURES = [
    "Users per arm", "Lift by metric", "ACC: lift day by day", "ADT: lift day by day", "Lift by slice",
    "Lift by slice, shrunken",
    "Variance removed by CUPED", "Power of this test", "Stages", "Days", "Lifts",
]  # fmt: skip


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    out = tmp_path_factory.mktemp("page")
    table = days(lift=0.2).with_columns(pre_clicks=pl.col("user_id") % 7, country=pl.lit("NO"))
    table = table.with_columns(arm=pl.col("arm").replace({"B": HOSTILE}), country=pl.lit(HOSTILE * 3))
    plan = AnalysisPlan("A", (HOSTILE,), looks="daily", slices=("country",), command=HOSTILE)
    write_report(analysed(table, plan), out, [FUNNEL])
    return out / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    assert CHROMIUM, "MICREC_REQUIRE_CHROMIUM=1, and there is no chromium on the PATH"
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def opened(browser: Any, path: Any, **options: Any) -> tuple[Any, list[str]]:
    """The page, and everything it complained of or asked for."""
    page = browser.new_page(**options)
    seen: list[str] = []
    page.on("console", lambda message: seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("request", lambda request: seen.append(request.url))
    page.on("dialog", lambda dialog: (seen.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    seen.remove(path.as_uri())
    return page, [one for one in seen if not one.startswith("data:")]


@pytest.mark.parametrize("width", [1280, 390])
def test_every_figure_is_drawn_and_nothing_is_asked_for(browser, page_file, width):
    page, complaints = opened(browser, page_file, viewport={"width": width, "height": 844})
    assert complaints == []
    assert 0 < page.locator("figure.chart svg:visible").count() < len(FIGURES)  # the rest opens on a click
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    captions = page.locator("figure.chart figcaption").all_inner_texts()
    titles = [title.replace(f", {HOSTILE}", "") for title in captions]
    assert titles == FIGURES
    shown = page.locator("figure.chart svg:visible")
    assert shown.count() == len(FIGURES)
    for place in range(shown.count()):
        box = shown.nth(place).bounding_box()
        assert box["width"] > 300
        assert box["height"] > 30
    assert page.locator("svg:visible [class*=dot], svg:visible [class*=bar]").count() > 20
    assert page.locator("script").count() == 0


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_nothing_is_wider_than_the_screen(browser, page_file, width):
    page, _ = opened(browser, page_file, viewport={"width": width, "height": 844})
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_figures_have_titles_and_axes_have_numbers(browser, page_file):
    page, _ = opened(browser, page_file, viewport={"width": 1280, "height": 844})
    names = page.evaluate(
        "[...document.querySelectorAll('svg.wide')].map(s => document.getElementById(s.getAttribute('aria-labelledby'))"
        ".textContent.length)"
    )
    assert min(names) > 3
    axes = page.locator("figure.lines svg.wide, figure.intervals svg.wide")
    for place in range(axes.count()):
        assert axes.nth(place).locator("text.axis").count() >= 3


def test_light_and_dark(browser, page_file):
    colours = {}
    for scheme in ("light", "dark"):
        page, _ = opened(browser, page_file, color_scheme=scheme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        ink = page.evaluate("getComputedStyle(document.querySelector('svg text.label')).fill")
        colours[scheme] = (brightness(ground), brightness(ink))
    assert colours["light"][0] > 200 > 80 > colours["light"][1]
    assert colours["dark"][0] < 60 < 180 < colours["dark"][1]


def test_it_prints(browser, page_file):
    page, _ = opened(browser, page_file)
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="print")
    on_paper = page.locator("figure.chart:visible figcaption").all_inner_texts()
    assert {"Users per arm", "Lift by metric"} <= set(on_paper)
    assert "Variance removed by CUPED" not in on_paper  # folded sections stay on the screen


def brightness(colour: str) -> float:
    red, green, blue = (float(part) for part in colour.split("(")[1].rstrip(")").split(",")[:3])
    return (red + green + blue) / 3


def test_no_table_is_cut_off_in_print(browser, page_file):
    page, _ = opened(browser, page_file, viewport={"width": 680, "height": 1000})  # A4 less its margins
    page.emulate_media(media="print")
    wide = "[...document.querySelectorAll('.table')].filter(f => f.scrollWidth > f.clientWidth + 1).length"
    assert page.evaluate(wide) == 0
