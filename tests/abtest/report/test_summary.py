"""The page in a minute: its facts are those of the results, its totals add up, and everybody can read it."""

import re

import numpy as np
import polars as pl
import pytest
from scipy import stats

import abtest
from abtest.report import glossary
from abtest.report.draw import draw
from abtest.report.figure_tables import figure_table
from abtest.report.figures import Bars, HeatMap, HeatSquare, Intervals, Lines, Row, Series
from abtest.report.html import html_report
from abtest.report.pages.experiment_markdown import markdown_report
from abtest.report.pages.summary_cards import summary_cards
from abtest.report.totals import total_table, totals_of
from micrec.errors import MicrecError
from tests.abtest.analysis.logs import days, users
from tests.abtest.report import test_browser

browser = test_browser.browser
AB = {"control": "A", "treatment": "B"}


def facts(results) -> dict[str, list[str]]:
    return {card.title: [line.text for line in card.lines] for card in summary_cards(results)}


@pytest.fixture(scope="module")
def won() -> dict:
    table = users(6000, lift=0.15).with_columns(
        country=pl.col("user_id").map_elements(lambda u: "NO" if u % 3 else "SE", pl.String)
    )
    bad = (pl.col("country") == "SE") & (pl.col("arm") == "B")
    table = table.with_columns(clicks=pl.when(bad).then(pl.col("clicks") // 2).otherwise("clicks"))
    return abtest.analyze(table, **AB, slices=["country"]).to_dict()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory, won):
    path = tmp_path_factory.mktemp("minute") / "report.html"
    path.write_text(html_report(won), encoding="utf-8")
    return path


class TestFacts:
    def test_a_win_with_a_slice_that_loses(self, won):
        found = facts(won)
        assert any(line.startswith("ACC ") and line.endswith(("better", "worse")) for line in found["What changed?"])
        assert "The arms got their shares of users" in found["Can it be believed?"]
        assert any(line.startswith("ACC differs by country, and some lose") for line in found["What differs?"])

    def test_a_hold_says_what_could_have_been_found(self):
        results = abtest.analyze(users(2000), **AB).to_dict()
        assert any("four of five true lifts of ACC" in line for line in facts(results)["Can it be believed?"])

    def test_an_invalid_test_says_no_and_no_differences(self):
        table = users(4000, lift=0.2).filter((pl.col("arm") == "A") | (pl.col("user_id") % 5 != 1))
        found = facts(abtest.analyze(table, **AB, slices=["cold"]).to_dict())
        assert found["Can it be believed?"][0].startswith("No: the arms did not get the planned shares")
        assert "What differs?" not in found

    def test_unbalanced_users_and_an_early_look(self):
        table = days(800, lift=0.1)
        table = table.with_columns(pre_clicks=pl.col("user_id") % 3 + 5 * (pl.col("arm") == "B").cast(pl.Int64))
        found = facts(abtest.analyze(table, **AB, planned_days=14).to_dict())["Can it be believed?"]
        assert "No: the users differed before the test" in found
        assert "Too early: day 7 of 14" in found

    def test_a_disagreement_is_told(self):
        rng = np.random.default_rng(1)
        pre = rng.gamma(2, 10, 3000)
        clicks = rng.poisson(pre * np.where(np.arange(3000) % 2, 1.02, 1.0))
        log = {"user_id": np.arange(3000), "arm": np.where(np.arange(3000) % 2, "B", "A"), "clicks": clicks}
        results = abtest.analyze(log | {"pre_clicks": pre}, **AB).to_dict()
        (effect,) = [e for e in results["effects"] if e["family"] == "primary"]
        assert not effect["significant"]  # CUPED sees what the plain test cannot
        assert any("Other methods do not all agree" in line for line in facts(results)["Can it be believed?"])

    def test_markdown_has_the_same_facts(self, won):
        text = markdown_report(won)
        assert all(
            re.sub(r"[\\]", "", line) in text.replace("\\", "") for lines in facts(won).values() for line in lines
        )


class TestTotals:
    def test_they_are_differences_times_users(self):
        table = users(3000, lift=0.1)
        results = abtest.analyze(table, **AB).to_dict()
        one = next(total for total in totals_of(results) if total.effect["metric"] == "ACC")
        a, b = (table.filter(pl.col("arm") == arm)["clicks"].to_numpy() for arm in "AB")
        assert one.treated == pytest.approx(b.sum() - a.mean() * len(b))
        assert one.everybody == pytest.approx((b.mean() - a.mean()) * 3000)
        low, high = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
        assert one.everybody_ci == pytest.approx([low * 3000, high * 3000])
        assert (one.relative, one.relative_ci) == (one.effect["lift"], one.effect["lift_ci"])

    def test_a_slice_adds_its_share_to_the_whole(self):
        table = users(4000, lift=0.1)
        results = abtest.analyze(table, **AB).to_dict()
        cold = next(total for total in totals_of(results) if total.effect["metric"] == "ACC-c")
        control = table.filter(pl.col("arm") == "A")
        share = control.filter("cold")["clicks"].mean() * table["cold"].sum() / (control["clicks"].mean() * 4000)
        assert cold.relative == pytest.approx(cold.effect["lift"] * share)
        assert cold.users == pytest.approx(table["cold"].sum())

    def test_a_population_scales_them(self):
        table = users(2000, lift=0.1)
        plain, scaled = (abtest.analyze(table, **AB, population=n).to_dict() for n in (None, 2_000_000))
        for a, b in zip(totals_of(plain), totals_of(scaled), strict=True):
            assert b.everybody == pytest.approx(1000 * a.everybody)
            assert b.treated == a.treated
            assert b.relative == pytest.approx(a.relative)
        assert "population of 2,000,000" in " ".join(total_table(scaled).notes)
        with pytest.raises(MicrecError, match="population"):
            abtest.analyze(table, **AB, population=0)

    def test_coverage_of_the_total(self):
        """The interval of what everybody would gain holds the truth in 95 % of the tests."""
        held = 0
        for seed in range(300):
            table = users(400, lift=0.3, seed=seed).select("user_id", "arm", "clicks")
            one = totals_of(abtest.analyze(table, **AB, checks=False).to_dict())[0]
            held += one.everybody_ci[0] <= 0.3 * 2.0 * 400 <= one.everybody_ci[1]
        assert 0.91 < held / 300 < 0.985  # 99.9 % of the binomial


class TestFigureTables:
    @pytest.mark.parametrize(
        ("figure", "rows", "cell"),
        [
            (Bars("t", [("a", 1.0, "1 (100 %)")]), 1, "1 (100 %)"),
            (Intervals("t", [Row("a", "", 0.1, 0.0, 0.2), Row("b")]), 2, "+10.00 %"),
            (Intervals("t", [Row("a", "", 0.1, 0.0, 0.2, mark=0.15)]), 1, "+15.00 %"),
            (Lines("t", "day", "lift", [Series("s", [1.0, 2.0], [0.1, None], [0.0, None], [0.2, None])]), 2, "n/a"),
            (
                HeatMap("t", "x", "y", ["p"], ["q"], [HeatSquare(0, 0, 0.1, "+10 %", ("+5", "+15"))], 1.0),
                1,
                "+5 to +15",
            ),
        ],
    )
    def test_every_value_is_in_the_table(self, figure, rows, cell):
        table = figure_table(figure)
        assert draw(figure).marks
        assert len(table.rows) == rows
        assert all(len(row) == len(table.header) for row in table.rows)
        assert any(cell in row for row in table.rows)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_colour_of_text_stands_out_from_its_ground(won):
    """WCAG 2.1: 4.5 to 1 for text, in light, dark and print."""
    page = html_report(won)
    schemes = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    assert len(schemes) == 3
    for scheme in schemes:
        colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{3,6})", scheme))
        colours = {n: c if len(c) == 7 else "#" + "".join(2 * x for x in c[1:]) for n, c in colours.items()}
        for ground in ("paper", "card"):
            for ink in ("ink", "quiet", "gain", "loss", "even", "ship", "hold", "stop", "first"):
                light, dark = sorted((luminance(colours[ground]), luminance(colours[ink])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (ground, ink)


def test_words_lead_to_their_meaning(won):
    page = html_report(won)
    targets = re.findall(r'class="word" href="#([^"]+)"', page)
    assert targets
    assert [target for target in targets if f'id="{target}"' not in page] == []
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_the_documentation_is_linked_where_the_package_names_it(won, monkeypatch):
    class Package:
        def get_all(self, name):
            return ["Source, https://example.org/code", "Documentation, https://example.org/docs/"]

    assert "glossary of the documentation" not in html_report(won)
    monkeypatch.setattr(glossary, "metadata", lambda name: Package())
    assert 'href="https://example.org/docs/glossary.html"' in html_report(won)


@pytest.mark.skipif(test_browser.CHROMIUM is None and not test_browser.REQUIRED, reason="no Chromium on this machine")
class TestInTheBrowser:
    def test_the_first_tab_skips_to_the_results(self, browser, page_file):
        page, _ = test_browser.opened(browser, page_file)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.locator(".skip").bounding_box()["width"] > 50  # it shows when it has the focus
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"

    def test_all_that_opens_or_scrolls_can_be_reached_by_keys(self, browser, page_file):
        page, _ = test_browser.opened(browser, page_file, viewport={"width": 390, "height": 844})
        reached = set()
        for _ in range(400):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
        wanted = page.evaluate(
            "[...document.querySelectorAll('main summary, main figure.table')].filter(e => e.checkVisibility())"
            ".map(e => [...document.querySelectorAll('*')].indexOf(e))"
        )
        assert set(wanted) <= reached

    def test_every_figure_has_its_numbers_for_a_screen_reader(self, browser, page_file):
        page, _ = test_browser.opened(browser, page_file)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        figures = page.locator("figure.chart").count()
        assert figures > 3
        assert page.locator("figure.chart details.numbers table tbody tr").count() >= figures
        phone, _ = test_browser.opened(browser, page_file, viewport={"width": 390, "height": 844})
        tree = phone.locator("main").aria_snapshot()
        assert "- table" in tree  # also where the style sheet makes blocks of rows
        assert "- columnheader" in tree or "- rowheader" in tree
        assert "Better:" in tree or "Worse:" in tree

    def test_the_verdict_and_the_minute_are_on_the_first_screen_and_sheet(self, browser, page_file):
        page, _ = test_browser.opened(browser, page_file, viewport={"width": 1280, "height": 1000})
        box = page.locator(".summary").bounding_box()
        assert box["y"] + box["height"] < 1100
        page.set_viewport_size({"width": 680, "height": 1000})  # A4 less its margins
        page.emulate_media(media="print")
        box = page.locator(".summary").bounding_box()
        assert box["y"] + box["height"] < 1000
        assert page.locator(".numbers:visible").count() == 0


def test_other_choices_of_users_are_compared():
    table = days(1500, lift=0.4)
    moved = (pl.col("user_id") % 40 < 2) & (pl.col("day") > 4)
    other = pl.when(pl.col("arm") == "A").then(pl.lit("B")).otherwise(pl.lit("A"))
    table = table.with_columns(arm=pl.when(moved).then(other).otherwise("arm"))
    results = abtest.analyze(table, **AB, design={"crossovers": "drop"}).to_dict()
    found = facts(results)["Can it be believed?"]
    assert "It does not depend on whose users count" in found
    for effect in results["variants"][1]["effects"]:
        effect["lift_ci"] = [-0.1, 0.1]
    assert "It depends on whose users count" in facts(results)["Can it be believed?"]
