"""Reports: complete, escaped, and honest about what was and was not shown."""

import copy
import io
import re

import pytest
from rich.console import Console

from abtest.report import formatting, latex, markdown
from abtest.report.pages.two_arm_verdict import verdict
from abtest.report.tables import report_tables, significance, switch_lines
from abtest.report.terminal import print_results

from ..offline.fakes import run_fake, tiny_dataset

HOSTILE = "A|B_<script>alert(1)</script>\n# `x` & 100% ${y}~^\\ [red]*"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return run_fake(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Every string that data or settings can set, set to the worst."""
    folder = tmp_path_factory.mktemp("hostile")
    results = run_fake(folder / "run", dataset=tiny_dataset(HOSTILE))
    results["scenario"]["arms"]["treatment"]["label"] = HOSTILE
    for model in results["models"]:
        model["model"] = HOSTILE if model["arm"] == "treatment" else model["model"]
    for effect in results["effects"]:
        effect["slice"] = HOSTILE if effect["family"] == "slice" else effect["slice"]
        effect["reason"] = HOSTILE
    results["switches"]["shared"] = {"model.user_fields": ["``", HOSTILE]}
    results["command"] = f"micrec run 'x\n```{HOSTILE}'"
    return results


def effect(metric: str, lift: float | None, seeds: bool | None, users: bool | None, reason: str | None = None) -> dict:
    interval = None if lift is None else [lift - 0.01, lift + 0.01]
    p = {True: 0.01, False: 0.4, None: None}
    return {
        "family": "primary",
        "metric": metric,
        "slice": "all",
        "size": None,
        "control": {"arm": "control"},
        "treatment": {"arm": "treatment"},
        "difference": lift,
        "lift": lift,
        "lift_ci": interval if seeds is not None else None,
        "significant": seeds,
        "p_adjusted": p[seeds],
        "reason": reason,
        "users": None if users is None else {"significant": users, "p_adjusted": p[users], "lift_ci": interval},
    }


class TestMarkdown:
    def test_it_holds_the_whole_story(self, results):
        text = markdown.markdown_report(results)
        assert text.startswith("# tiny: MicRec against ICAN\n")
        titles = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
        assert titles == [
            "Verdict",
            "Models (mean ± standard deviation over training seeds)",
            "Primary metrics",
            "Secondary metrics",
            "Primary metrics by slice",
            "Cost (mean over training seeds)",
            "Every run",
            "What was on",
            "How to read this",
            "How to repeat this",
        ]
        for part in (
            "popularity (baseline)",
            "item-kNN (baseline)",
            "95 % over users",
            "    micrec run tiny.yaml",
        ):
            assert part in text
        assert text.count("- preset: `paper`") == 1  # once, not under every table
        assert text.count("contrast.session.weight=0.1") == 1

    def test_a_slice_shows_its_size(self, results):
        rows = [row[0] for table in report_tables(results) for row in table.rows]
        assert "hit@5, tail (30 users, 145 clicks)" in rows

    def test_what_is_undefined_says_why_once(self, results):
        told = copy.deepcopy(results)
        for row in told["effects"][:2]:
            row["p"], row["reason"] = None, "too few"
        table = report_tables(told)[1]
        assert table.notes == ["paired t over 3 training seeds: too few (hit@5; hit@10)."]
        assert [row[5] for row in table.rows] == ["n/a", "n/a"]

    def test_every_row_fits_its_header(self, hostile):
        widths = []
        for line in markdown.markdown_report(hostile).splitlines():
            if not line.startswith("|"):
                widths.append(0)
                continue
            width = len(re.findall(r"(?<!\\)\|", line))
            assert widths[-1] in (0, width)
            widths.append(width)
        assert max(widths) > 5

    def test_data_cannot_speak_markup(self, hostile):
        text = markdown.markdown_report(hostile)
        outside_code = re.sub(r"(`+) ?.*?[^`]\1(?!`)", "", re.sub(r"(?m)^    .*$", "", text))
        assert "<script" not in outside_code
        assert not re.search(r"(?<!\\)\[red", outside_code)
        assert "# `x`" not in text.splitlines()

    @pytest.mark.parametrize(
        ("text", "span"),
        [("plain", "`plain`"), ("a`b", "`` a`b ``"), ("``", "``` `` ```"), ("a\n  b", "`a b`"), ("a|b", "`a|b`")],
    )
    def test_a_code_span_ends_where_it_should(self, text, span):
        assert markdown.code(text) == span


class TestLatex:
    def test_rows_and_tests(self, results):
        text = latex.latex_table(results)
        assert text.splitlines()[0] == "% command: micrec run tiny.yaml"
        assert r"\begin{tabular}{lrrr}" in text
        assert "item-kNN (baseline)" in text
        assert text.count(r"$\pm$") == 2 * 3
        assert re.search(r"MicRec: paired p, Holm & \S+ & \S+ & \S+ \\\\", text)

    def test_data_cannot_speak_latex(self, hostile):
        text = latex.latex_table(hostile)
        body = text[text.index(r"\begin") :]
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {3}
        assert not re.search(r"(?<!\\)[%#_$]", body.replace(r"$\pm$", ""))
        comments = text[: text.index(r"\begin")]
        assert all(line.startswith("% ") for line in comments.splitlines())


class TestTerminal:
    def print(self, results: dict) -> str:
        stream = io.StringIO()
        print_results(results, Console(file=stream, highlight=False, emoji=False))
        return stream.getvalue()

    def test_tables_switches_and_verdict(self, results):
        text = self.print(results)
        for part in ("Primary metrics", "popularity (baseline)", "preset: paper", "MicRec against ICAN", "hit@10"):
            assert part in text
        assert "\x1b" not in text
        assert "…" not in text  # nothing cut where no terminal tells the width

    def test_markup_in_data_is_text(self, hostile):
        assert "[red]*" in self.print(hostile)


class TestVerdict:
    @pytest.mark.parametrize(
        ("seeds", "users", "word"),
        [
            (True, True, "seeds and users"),
            (True, False, "seeds only"),
            (False, True, "users only"),
            (None, True, "users only"),
            (True, None, "seeds"),
            (False, False, "no"),
            (False, None, "no"),
            (None, None, "n/a"),
        ],
    )
    def test_significance(self, seeds, users, word):
        assert significance(effect("hit@5", 0.1, seeds, users)) == word

    def test_gains_losses_and_doubts_are_told_apart(self, results):
        told = copy.deepcopy(results)
        told["effects"] = [
            effect("a", 0.05, True, True),
            effect("b", -0.04, True, True),
            effect("c", 0.03, True, False),
            effect("d", 0.02, False, True),
            effect("e", 0.01, False, False),
            effect("f", None, None, None, reason="the control mean is 0"),
        ]
        told["scenario"]["metrics"]["primary"] = ["hit@5", "hit@10"]
        lines = verdict(told)
        assert lines[0] == (
            "MicRec against ICAN on tiny data: significantly better on 1 and worse on 1 of 6 primary metrics, "
            "over 3 training seeds and, for HIT, over test users too (Holm-adjusted)."
        )
        assert lines[1:7] == [
            "Gain significant over training seeds and over test users: "
            "a +5.00 % (seeds [+4.00, +6.00] %, p 0.010, users [+4.00, +6.00] %, p 0.010).",
            "Loss significant over training seeds and over test users: "
            "b -4.00 % (seeds [-5.00, -3.00] %, p 0.010, users [-5.00, -3.00] %, p 0.010).",
            "Gain significant over training seeds, but not over users: other users might not show it: "
            "c +3.00 % (seeds [+2.00, +4.00] %, p 0.010, users [+2.00, +4.00] %, p 0.400).",
            "Gain significant over users, but not over training seeds: other seeds might not show it: "
            "d +2.00 % (seeds [+1.00, +3.00] %, p 0.400, users [+1.00, +3.00] %, p 0.010).",
            "Not significant: e +1.00 % (seeds [+0.00, +2.00] %, p 0.400, users [+0.00, +2.00] %, p 0.400).",
            "Could not be judged: f n/a (the control mean is 0).",
        ]

    def test_nothing_significant_is_said_plainly(self, results):
        told = copy.deepcopy(results)
        told["effects"] = [effect("hit@5", 0.01, False, True)]
        assert "significantly different on none of 1 primary metrics" in verdict(told)[0]

    def test_baselines_are_judged(self, results):
        lines = verdict(results)
        assert "MicRec passes these baselines on every primary metric: popularity." in lines
        missed = "recent popularity on hit@10; item-kNN on hit@10; EASE on hit@10; title-kNN on hit@10"
        assert f"MicRec does not pass these baselines: {missed}." in lines


class TestNumbers:
    def test_forms(self):
        assert [formatting.seeds(x) for x in ([3], [0, 1, 2])] == ["seed 3", "seeds 0 to 2"]
        assert [formatting.value(x) for x in (0.12345, 12345.6, None)] == ["0.1235", "12,346", "n/a"]
        assert formatting.mean_sd(0.1, None) == "0.1000"
        assert formatting.percent(-0.0123) == "-1.23 %"
        assert formatting.percent_interval([-0.01, 0.5]) == "[-1.00, +50.00] %"
        assert [formatting.p_value(p) for p in (0.04567, 4.2e-9, 1e-305, None)] == [
            "0.046",
            "4.2e-09",
            "<1e-300",
            "n/a",
        ]


def test_switches_are_told_per_arm(results):
    lines = dict(switch_lines(results))
    assert lines["preset"] == "paper"
    assert lines["all arms"] == 'evaluation.cutoffs=[5, 10], contrast.semantic.encoder="tfidf"'
    assert lines["ICAN"].startswith("contrast.feature.weight=0.0, ")


def test_two_arms_of_one_label_stay_apart(tmp_path):
    results = run_fake(tmp_path / "run", sets=["arms.again={label: MicRec, config: {train: {epochs: 3}}}"])
    models = report_tables(results)[0]
    assert [row[0] for row in models.rows][-2:] == ["MicRec (treatment)", "MicRec (again)"]
