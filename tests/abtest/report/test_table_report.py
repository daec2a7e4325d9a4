"""What a table's report says: verdicts, marks, lifts, and strings that must do no harm in any form."""

import copy
import csv
import io
import re

import pytest

from abtest.offline.orderings import step_verdict
from abtest.report.html import render
from abtest.report.pages.table_csv import csv_text
from abtest.report.pages.table_figure import figure_files, panels_of
from abtest.report.pages.table_latex import latex_table
from abtest.report.pages.table_layout import (
    beaten,
    claim_table,
    lift_table,
    main_table,
    passed_lines,
    sections,
    switch_lines,
)
from abtest.report.pages.table_page import html_report, markdown_report, page_of

from ..offline.table_fakes import run_fake_table

NASTY = "<script>|$x_1$ & 50 % \\input{a} `b` *c* #1"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("abtest.report.pages.table_files.figure_files", lambda _: {})
        patch.setattr("os.fsync", lambda _: None)
        sets = ["seeds=5", "rows.ican.label=Base (1)"]
        return run_fake_table(tmp_path_factory.mktemp("report") / "run", sets=sets)


@pytest.fixture
def nasty(results):
    results = copy.deepcopy(results)
    results["scenario"]["rows"]["final"]["label"] = NASTY
    results["datasets"]["video"]["label"] = NASTY
    results["orderings"][0]["claim"] = NASTY
    results["scenario"]["title"] = NASTY
    return results


def effect(seeds, users, p=0.01, alone=None):
    def test(sign):
        return {"significant": sign != 0, "difference": sign or 0.1, "lift_ci": alone if sign == 0 else None}

    return {
        **test(seeds),
        "p": p,
        "reason": "no seeds" if p is None else None,
        "users": None if users is None else test(users),
    }


@pytest.mark.parametrize(
    ("seeds", "users", "verdict", "why"),
    [
        (1, 1, "holds", "over seeds and over users"),
        (1, None, "holds", "over seeds"),
        (-1, -1, "does not hold", "the other way round, over seeds and over users"),
        (-1, None, "does not hold", "the other way round, over seeds"),
        (0, 0, "not shown", "not shown over seeds, not shown over users"),
        (0, None, "not shown", "not shown over seeds"),
        (1, 0, "not shown", "shown over seeds, not shown over users"),
        (0, -1, "not shown", "not shown over seeds, shown the other way round over users"),
        (1, -1, "not shown", "seeds and users contradict each other"),
    ],
)
def test_a_step_holds_only_where_all_tests_agree(seeds, users, verdict, why):
    assert step_verdict(effect(seeds, users)) == (verdict, why)


def test_what_holms_adjustment_costs_is_told():
    expected = "significant alone, but not after Holm, over seeds, shown over users"
    assert step_verdict(effect(0, 1, alone=(0.1, 0.2))) == ("not shown", expected)
    assert step_verdict(effect(0, None, alone=(-0.1, 0.2))) == ("not shown", "not shown over seeds")


def test_a_step_without_a_test_is_not_shown():
    assert step_verdict(effect(0, 0, p=None)) == ("not shown", "cannot be judged: no seeds")


def test_claims_are_told_with_what_speaks_for_and_against(results):
    counts = results["orderings"][0]["counts"]
    assert sum(counts.values()) == len(results["orderings"][0]["steps"]) == 2 * 2 * 2
    assert claim_table(results).rows[0][:2] == ("Each loss adds", results["orderings"][0]["verdict"])
    broken = copy.deepcopy(results)
    broken["orderings"][0] |= {"verdict": "does not hold", "counts": {"holds": 6, "does not hold": 2, "not shown": 0}}
    broken["orderings"][0]["intervals"] = {"above": 5, "below": 1}
    table = claim_table(broken)
    assert dict(zip(table.header[1:5], table.rows[0][1:5], strict=True)) == {
        "answer": "does not hold", "for": "6", "against": "2", "open": "0",
    }  # fmt: skip
    assert table.rows[0][5] == "5 above, 1 below"


def test_the_table_has_the_papers_numbers_at_its_side(results):
    table = main_table(results, "video")
    assert table.header == ("model", "hit@5", "hit@10", "paper hit@5")
    paper = {row[0]: row[-1] for row in table.rows}
    assert paper == {
        "popularity (baseline)": "",
        "recent popularity (baseline)": "",
        "EASE (baseline)": "",
        "item-kNN (baseline)": "",
        "title-kNN (baseline)": "",
        "Base (1)": "0.2000",
        "RFM* (fea)": "",
        "MicRec": "0.3000",
    }
    assert "never a target" in table.notes[-1]
    assert main_table(results, "news").header == ("model", "hit@5", "hit@10")
    lifts = {row[0]: row[1] for row in lift_table(results, "video").rows}
    assert lifts["MicRec"].endswith("(+50.00 %)")
    assert set(lifts) == {"RFM* (fea)", "MicRec"}


def test_the_table_says_what_can_be_hit_on_each_dataset(results):
    results = copy.deepcopy(results)
    assert not any("can be hit" in note for note in main_table(results, "video").notes)
    for model in results["models"]:
        ceiling = 0.9 if model["dataset"] == "video" else 0.4
        model |= {
            "judged_share": 0.75,
            "hittable_share": ceiling,
            "hit_ceiling@5": ceiling / 2,
            "hit_ceiling@10": ceiling,
        }
    line = "75.0 % of the test clicks are judged; {} % of these can be hit at all; "
    line += "highest possible HIT: {} at 5, {} at 10."
    assert line.format("90.0", "0.4500", "0.9000") in main_table(results, "video").notes
    notes = main_table(results, "news").notes
    assert line.format("40.0", "0.2000", "0.4000") in notes
    assert any(note.startswith("Warning: only 40.0 % of the judged clicks can be hit at all") for note in notes)
    assert not any("can be hit" in note for note in main_table(results, "video", metrics=["coverage@5"]).notes)


def test_a_line_says_which_baselines_a_row_does_not_pass(results):
    told = copy.deepcopy(results)
    means = {"popularity (baseline)": 0.25, "item_knn (baseline)": 0.9, "ease (baseline)": 0.35}
    rows = {"Base (1)": 0.3, "RFM* (fea)": 0.3, "MicRec": 0.95}
    told["models"] = [model for model in told["models"] if model["model"] in {**means, **rows}]
    for model in told["models"]:
        model["hit@5"] = model["hit@10"] = {**means, **rows}[model["model"]]
    assert passed_lines(told, "video") == (
        "Does not pass item-kNN, EASE on every metric: Base (1), RFM* (fea) (by mean over seeds).",
        "Passes every baseline: MicRec (by mean over seeds).",
    )
    told["models"] = [model for model in told["models"] if model["arm"] is not None]
    assert passed_lines(told, "video") == ()


def test_a_mark_needs_a_win_over_every_row_by_every_test(results):
    won = beaten(results, "video")
    assert ("final", "hit@5") in won
    assert "†" in {row[0]: row[1] for row in main_table(results, "video").rows}["MicRec"]
    lost = copy.deepcopy(results)
    for one in lost["effects"]:
        if one["treatment"]["arm"] == "final" and one["control"]["arm"] == "fea":
            one["users"]["significant"] = False
    assert ("final", "hit@5") not in beaten(lost, "video")


def test_switches_alike_everywhere_are_said_once(results):
    lines = switch_lines(results)
    assert lines[0] == ("preset", "paper")
    assert lines[1] == ("all rows", 'evaluation.cutoffs=[5, 10], contrast.semantic.encoder="tfidf"')
    assert ("MicRec", "nothing more") in lines
    assert len(lines) == 5


def test_html_escapes_every_string(nasty):
    text = html_report(nasty)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert render(page_of(nasty, sections(nasty))) == text


def test_markdown_escapes_every_string(nasty):
    text = markdown_report(nasty)
    assert "<script>" not in text
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.M)
    assert len(tables) > 5
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_latex_is_laid_out_as_the_papers_table(nasty):
    text = latex_table(nasty)
    body = text[text.index(r"\toprule") :].splitlines()
    assert r"\multicolumn{2}{c}{News \& more}" in body[1]
    assert body[2] == r"\cmidrule(lr){2-3}\cmidrule(lr){4-5}"
    rows = [line for line in body if line.endswith(r"\\") and "multicolumn" not in line]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {4}
    assert "\\input{" not in text[text.index(r"\begin{table}") :]  # above it stand comments
    assert "The paper's own numbers" in text
    best = next(row for row in rows if row.startswith(r"\textless{}script"))
    assert best.count(r"\textbf{") == 4
    assert all(line.startswith("%") for line in text[: text.index(r"\begin{table}")].splitlines())


def test_csv_disarms_formulas_and_keeps_numbers():
    lines = list(csv.reader(io.StringIO(csv_text(("a", "b"), [("=1+1", -2.5), ('say "x", y', None)]))))
    assert lines == [["a", "b"], ["'=1+1", "-2.5"], ['say "x", y', ""]]


def test_figure_groups_datasets_or_rows(results, nasty):
    by_dataset = panels_of(results)
    assert [(panel.title, list(panel.groups)) for panel in by_dataset] == [
        ("HIT@5", ["video", "News & more"]),
        ("HIT@10", ["video", "News & more"]),
    ]
    assert [len(bar) for bar in by_dataset[0].values[0]] == [5, 5, 5]
    grouped = copy.deepcopy(nasty)
    grouped["scenario"]["figure"] = {"metrics": ["hit@10"], "groups": {"A": ["ican"], "B": ["final"]}, "bars": ["only"]}
    panels = panels_of(grouped)
    assert [(list(p.groups), list(p.bars)) for p in panels] == [(["A", "B"], ["only"])] * 2
    finals = [m["hit@10"] for m in grouped["models"] if m["arm"] == "final" and m["dataset"] == "video"]
    assert panels[0].values[1][0] == finals


def test_figures_are_drawn_whatever_labels_hold_and_always_alike(nasty):
    files = figure_files(nasty)
    assert files["figure.png"].startswith(b"\x89PNG")
    assert files["figure.pdf"].startswith(b"%PDF")
    assert figure_files(nasty) == files
