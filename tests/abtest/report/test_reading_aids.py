"""What helps to read a page: directions, colours, axes, texts that neither break badly nor lie over each other."""

import copy
import itertools
import math

import pytest

from abtest.report.draw import NARROW, WIDE, draw
from abtest.report.figures import Bars, Intervals, Lines, Row, Series
from abtest.report.html import text_columns, unbroken
from abtest.report.pages.diagnosis_questions import QUESTIONS, way_of
from abtest.report.pages.table_figure import FigurePanel, _axis_start, _colours
from abtest.report.tables import Table, baseline_label, turned

LETTER = 7.5  # px, more than a letter of the figures takes


def extents(drawing):
    """(left, right, baseline) of each text, at a generous width of letters."""
    for mark in drawing.marks:
        if mark.shape == "text" and mark.style.startswith(("label", "number")):
            width = LETTER * len(mark.text) * 0.9
            left = mark.x - width if mark.anchor == "end" else mark.x
            yield left, left + width, mark.y


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("label", ["ACC", "HIT@50: MicRec (sem+sess), cosine, weights 0.3 over – all item-based CL"])
@pytest.mark.parametrize("text", ["+1.00 %", "+16.45 % [-27.21, +1974.62] %"])
def test_label_and_number_of_a_row_do_not_touch(width, label, text):
    drawing = draw(Intervals("t", [Row(label, text, 0.1, 0.0, 0.2), Row("b", text, 0.1, 0.0, 0.2)]), width)
    found = list(extents(drawing))
    for place, (left, right, y) in enumerate(found):
        assert left > -3
        assert right < width + 3
        for other_left, other_right, other_y in found[place + 1 :]:
            assert abs(y - other_y) > 10 or right < other_left or other_right < left


def test_the_label_of_a_level_is_in_the_legend_not_on_the_paper():
    figure = Lines("t", "x", "y", [Series("lift", [1.0, 2.0], [0.1, 0.2])], level=(0.15, "true lift"))
    drawing = draw(figure)
    assert ("level", "true lift") in drawing.legend
    assert "true lift" not in [mark.text for mark in drawing.marks]


def test_a_value_that_nobody_can_judge_does_not_squeeze_the_others():
    rows = [Row(f"m{place}", "", 0.0, -0.1, 0.1) for place in range(4)] + [Row("rare", "+400 %", 4.0)]
    drawing = draw(Intervals("t", rows))
    zero = next(mark.x for mark in drawing.marks if mark.style == "zero")
    whiskers = [mark for mark in drawing.marks if mark.style == "whisker even" and mark.y == mark.y2]
    paper = max(mark.x2 for mark in drawing.marks if mark.shape == "line")
    assert whiskers[0].x2 - zero > 0.25 * (paper - zero)  # 4.0 on the axis would leave them a fortieth
    assert [mark.style for mark in drawing.marks if mark.shape == "path"] == ["tip even"]


def test_bars_of_a_phone_keep_their_labels_off_the_numbers():
    drawing = draw(Bars("t", [("x" * 80, 1.0, "1,234 (50.00 %)")]), NARROW)
    (_, end, _), (start, _, _) = list(extents(drawing))[:2]
    assert end < start + 3


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("+1.00 % [-2.00, +4.00] %", "+1.00\xa0% [-2.00,\xa0+4.00]\xa0%"),
        ("0.5297 ± 0.0089", "0.5297 ±\xa00.0089"),
        ("4.7e-05", "4.7e-\u206005"),
        ("no difference shown", "no difference shown"),
    ],
)
def test_where_no_line_may_break(text, kept):
    assert unbroken(text) == kept


def test_sentences_stand_at_the_left_and_numbers_at_the_right():
    sentence = "share of test clicks whose item is among the user's top N"
    numbers = "-0.6716 [-2.9056, +1.5624] and +0.0017 [-0.0166, +0.0200]"
    table = Table("t", ("word", "meaning", "numbers", "n"), [("HIT", sentence, numbers, "1"), ("b", "", "", "")], [])
    assert text_columns(table) == [1]


def test_a_table_of_many_metrics_is_turned_and_loses_nothing():
    wide = Table("t", ("model", "a", "b", "c"), [("M", "1", "2", "3"), ("N", "4", "5", "6")], ["note"])
    found = turned(wide)
    assert found.header == ("metric", "M", "N")
    assert list(found.rows) == [("a", "1", "4"), ("b", "2", "5"), ("c", "3", "6")]
    assert found.notes == ["note"]
    long = wide._replace(rows=[*wide.rows, ("O", "7", "8", "9")])
    assert turned(long) is long


def test_only_the_reference_is_grey():
    bars = [f"model {place}" for place in range(12)]
    for reference in (0, 4, None):
        colours = _colours(FigurePanel("t", ["g"], bars, [[[1.0]] * 12], reference))
        grey = [place for place, colour in enumerate(colours) if spread(colour) < 40]
        assert grey == ([] if reference is None else [reference])


def spread(colour):
    """How far the strongest of red, green and blue is from the weakest, 0 for grey."""
    parts = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return max(parts) - min(parts)


@pytest.mark.parametrize(
    ("values", "from_zero"), [([0.2, 0.5], True), ([0.45, 0.5], False), ([-0.1, 0.5], True), ([0.5], True)]
)
def test_where_bars_begin(values, from_zero):
    assert (_axis_start(values) == 0.0) is from_zero


def test_every_metric_of_a_diagnosis_says_what_more_of_it_means():
    assert way_of("uniformity") == way_of("uniformity_clicks") == way_of("anisotropy") == "lower: more spread out"
    assert way_of("tail: hit@50") == way_of("hit@50") == "higher: better"
    assert way_of("tail_coverage@500") != way_of("coverage@500")
    starts = [start for question in QUESTIONS[4:6] for start in question.metrics]
    assert "higher: better" not in [way_of(start) for start in starts]  # a wider spread is neither good nor bad


def test_baselines_have_their_names_and_others_keep_theirs():
    assert baseline_label("item_knn (baseline)") == "item-kNN (baseline)"
    assert baseline_label("recent_popularity (baseline)") == "recent popularity (baseline)"
    assert baseline_label("mine (baseline)") == "mine (baseline)"


def test_a_study_of_one_variant_does_not_name_it():
    from abtest.online.study import Summary, study_section
    from abtest.online.study_reports import AA, ONLINE_AB

    one = Summary(
        variant="main",
        question=("ACC", "all", "MicRec"),
        runs=1,
        truths=(0.02,),
        truth=0.02,
        truth_ci=(0.01, 0.03),
        estimate=0.05,
        bias=0.03,
        bias_ci=None,
        covered=1,
        judged=1,
        expected=0.95,
        band=(0, 1),
        significant=0,
    )
    figure, table = study_section(ONLINE_AB, [one], 0.05).blocks[:2]
    assert [row.label for row in figure.rows] == ["ACC"]
    assert "To the right is better" in figure.caption
    assert not {"variant", "slice", "treatment"} & set(table.header)
    two = [one, one._replace(variant="other", question=("ACC", "all", "also"))]
    figure, table = study_section(ONLINE_AB, two, 0.05).blocks[:2]
    assert [row.label for row in figure.rows] == ["ACC, main, MicRec", "ACC, other, also"]
    assert {"variant", "treatment"} <= set(table.header)
    blind = one._replace(truths=(), truth=None, truth_ci=None, bias=None, judged=0)
    blocks = study_section(AA, [blind], 0.05).blocks
    assert [type(block).__name__ for block in blocks] == ["Table"]  # nothing to draw
    assert not [name for name in blocks[0].header if "truth" in name or "true" in name or "bias" in name]


def test_the_page_of_a_table_names_models_as_its_rows_do():
    from abtest.report.pages import table_page

    step = {"metric": "hit@50", "higher": "final", "lower": "none", "lift": 0.1, "lift_ci": [0.0, 0.2]}
    rows = {"final": {"label": "MicRec"}, "none": {"label": "ICAN"}}
    found = table_page._row({"scenario": {"rows": rows}}, {**copy.deepcopy(step), "verdict": "holds"})
    assert found.label == "HIT@50: MicRec over ICAN"


def test_names_below_a_panel_do_not_lie_over_each_other():
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from abtest.report.pages.table_figure import _drawn

    names = ["FM", "YoutubeDNN", "DeepFM", "AutoInt", "ICAN", "MIND", "ComiRec-DR", "ComiRec-SA", "SASRec", "BERT4Rec"]
    for groups in (["video world", "news world"], names):
        figure = _drawn([FigurePanel("HIT@50", groups, ["base", "losses"], [[[0.4], [0.5]]] * len(groups))])
        FigureCanvasAgg(figure).draw()
        labels = [label for label in figure.axes[0].get_xticklabels() if label.get_text()]
        for one, other in itertools.pairwise(labels):
            if one.get_rotation() == 0:
                assert one.get_window_extent().x1 < other.get_window_extent().x0
            else:  # slanted lines of text are as far apart as their right ends, seen across them
                ends = other.get_window_extent().x1 - one.get_window_extent().x1
                height = one.get_fontsize() * figure.dpi / 72
                assert ends * math.sin(math.radians(one.get_rotation())) > 0.9 * height
