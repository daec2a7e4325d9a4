"""results.json and the reports: valid, complete, the same for any reader, and safe with any name."""

import json
import re

import jsonschema
import polars as pl
import pytest

from abtest.analysis.output import check_out, write_report
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.results import results_of
from abtest.report.figures import Bars, Intervals, Lines, Row, Series
from abtest.report.sections import Section, section_data, section_of
from abtest.report.tables import Table
from abtest.schema import results_schema
from micrec.errors import MicrecError

from .logs import analysed, days, users

HOSTILE = "<script>alert(1)</script>\"'&|`*_$%#{}\\"
FUNNEL = Section(
    "Funnel",
    ("From request to click.",),
    [
        Table("Stages", ("stage", "count"), [("matched", "500")], []),
        Bars("Stages", [("matched", 500.0, "500"), ("shown", 10.0, "10")]),
        Lines("Days", "day", "clicks", [Series("A", [1, 2], [3.0, None])], y_percent=False),
        Intervals("Lifts", [Row("ACC", "+1 %", 0.01, -0.01, 0.03)]),
    ],
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    out = tmp_path_factory.mktemp("plain") / "run"
    table = days(lift=0.2).with_columns(pre_clicks=pl.lit(1.0) * (pl.col("user_id") % 7))
    plan = AnalysisPlan("A", ("B",), looks="daily", command="micrec analyze log.csv")
    return out, write_report(analysed(table, plan), out, [FUNNEL])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    out = tmp_path_factory.mktemp("hostile") / "run"
    table = (
        users(400)
        .rename({"pre_clicks": f"pre_{HOSTILE}"})
        .with_columns(pl.col("arm").replace({"B": HOSTILE}), **{HOSTILE: pl.lit(HOSTILE)})
    )
    plan = AnalysisPlan("A", (HOSTILE,), slices=(HOSTILE,), command=HOSTILE)
    section = Section(HOSTILE, (HOSTILE,), [Bars(HOSTILE, [(HOSTILE, 1.0, HOSTILE)], HOSTILE)])
    return out, write_report(analysed(table, plan), out, [section])


@pytest.mark.parametrize("run", ["plain", "hostile"])
def test_results_fit_the_schema(run, request):
    out, results = request.getfixturevalue(run)
    jsonschema.Draft202012Validator.check_schema(results_schema())
    stored = json.loads((out / "results.json").read_text())
    assert stored == results
    jsonschema.validate(stored, results_schema())


def test_the_schema_refuses_what_is_not_promised(plain):
    broken = json.loads(json.dumps(plain[1]))
    broken["effects"][0]["p"] = 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, results_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**plain[1], "surprise": 1}, results_schema())


def test_provenance(plain):
    results = plain[1]
    assert results["command"] == "micrec analyze log.csv"
    assert re.fullmatch("[0-9a-f]{16}", results["dataset"]["hash"])
    assert {"micrec", "python", "numpy", "polars"} <= set(results["versions"])
    assert results["runtime_s"] > 0


def test_the_same_log_gives_the_same_numbers(plain):
    table = days(lift=0.2).with_columns(pre_clicks=pl.lit(1.0) * (pl.col("user_id") % 7))
    plan = AnalysisPlan("A", ("B",), looks="daily", command="micrec analyze log.csv")
    again = results_of(analysed(table, plan), [FUNNEL])
    assert {**again, "runtime_s": 0} == {**plain[1], "runtime_s": 0}


def test_sections_come_back_as_they_were():
    data = json.loads(json.dumps(section_data(FUNNEL)))
    assert json.loads(json.dumps(section_data(section_of(data)))) == data


def test_every_report_says_the_verdict_and_the_funnel(plain):
    out, results = plain
    headline = results["verdicts"][0]["headline"]
    for name in ("report.html", "report.md"):
        text = (out / name).read_text()
        assert headline in text
        assert "Funnel" in text
    assert headline in (out / "table.tex").read_text()


def test_latex_has_the_paper_s_layout(plain):
    lines = (plain[0] / "table.tex").read_text().splitlines()
    assert r"arm & ACC & ADT & ACC-c & ADT-c & stay & stay-c \\" in lines
    assert any(re.match(r"B & \+\d+\.\d\d \\%\*? & ", line) for line in lines)


def test_no_text_of_the_data_becomes_markup(hostile):
    page = (hostile[0] / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<script" not in re.sub(r"(`+) .*? \1", "", (hostile[0] / "report.md").read_text())  # but in code spans
    table = [line for line in (hostile[0] / "table.tex").read_text().splitlines() if not line.startswith("%")]
    assert not any(re.search(r"(?<!\\)[%$#_]", line.replace(r"$^\dagger$", "")) for line in table)


def test_a_finished_analysis_and_foreign_folders_are_kept(plain, tmp_path):
    with pytest.raises(MicrecError, match="holds a finished analysis: use --force"):
        check_out(plain[0], force=False)
    check_out(plain[0], force=True)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(MicrecError, match="is not empty and holds no analysis"):
        check_out(tmp_path, force=True)
