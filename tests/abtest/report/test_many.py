"""Reports of many: treatments, each told what its own test could see; columns, none of them cut off."""

import polars as pl
import pytest

from abtest.analysis.output import write_report
from abtest.analysis.plan import AnalysisPlan
from abtest.online.study import Summary, study_section
from abtest.online.study_reports import MISSPECIFIED
from tests.abtest.analysis.logs import analysed, days
from tests.abtest.report import test_browser

browser = test_browser.browser


@pytest.fixture(scope="module")
def study():
    """Every metric of two variants with the widest cells that a study has."""
    wide = (-0.1234, 0.1234)
    common = ((-0.1,) * 100, -0.1111, wide, -0.1111, -0.1111, wide, 100, 100, 97.3, (93, 100), 100)
    names = ("a long variant's name, 0.25", "another")
    summaries = [
        Summary(variant, (metric, where, "MicRec without session loss"), 100, *common)
        for variant in names
        for metric in ("ACC", "ADT", "CTR")
        for where in ("all", "cold")
    ]
    return study_section(MISSPECIFIED, summaries, 0.05)


@pytest.fixture(scope="module")
def written(tmp_path_factory, study):
    out = tmp_path_factory.mktemp("many")
    table = days(lift=0.0)
    third = table.filter(pl.col("arm") == "B").with_columns(arm=pl.lit("C"), user_id=pl.col("user_id") + 1_000_000)
    plan = AnalysisPlan("A", ("B", "C"), looks="final", planned_days=table["day"].n_unique())
    return out / "report.html", write_report(analysed(pl.concat([table, third]), plan), out, [study])


def test_each_treatment_is_told_what_its_own_test_could_see(written):
    _, results = written
    for verdict in results["verdicts"]:
        seen = [line for line in verdict["reasons"] if "would have been found" in line]
        assert len(seen) == len({line.split(" in ")[1].split()[0] for line in seen}) == 2  # ACC and ADT, once each


@pytest.mark.skipif(test_browser.CHROMIUM is None and not test_browser.REQUIRED, reason="no Chromium on this machine")
@pytest.mark.parametrize(("width", "media"), [(1280, "screen"), (800, "screen"), (640, "print"), (390, "screen")])
def test_no_column_of_a_study_is_cut_off(browser, written, width, media):
    page, seen = test_browser.opened(browser, written[0], viewport={"width": width, "height": 900})
    page.emulate_media(media=media)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    wide = "[...document.querySelectorAll('.table.many')].filter(f => f.scrollWidth > f.clientWidth + 1).length"
    assert page.evaluate("document.querySelectorAll('.table.many').length") >= 2
    assert page.evaluate(wide) == 0
    assert seen == []
