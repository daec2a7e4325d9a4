"""Results as text and HTML: the same cells, escaped, turned over where they are wide, cut where they are long."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micrec.notebook import MOST_ROWS, Displayed, ResultTable, table_html, table_text


class Cells(HTMLParser):
    """The texts of a table's cells, and the tags that were met."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.tags: set[str] = set()
        self._open = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self._open = tag in ("td", "th")
        if self._open:
            self.cells.append("")

    def handle_endtag(self, tag):
        self._open = False

    def handle_data(self, data):
        if self._open:
            self.cells[-1] += data


def test_numbers_stand_to_the_right_below_their_headings():
    table = ResultTable("Counts", ("arm", "users"), [("control", "10"), ("treatment", "1,000")], ["Once a day."])
    assert table_text(table).splitlines() == [
        "Counts",
        "arm        users",
        "----------------",
        "control       10",
        "treatment  1,000",
        "  Once a day.",
    ]


def test_a_wide_table_is_turned_over_if_that_makes_it_narrower():
    names = tuple(f"quantity number {n}" for n in range(12))
    text = table_text(ResultTable("", ("row", *names), [("first", *map(str, range(12)))]))
    assert text.splitlines()[0].split() == ["row", "first"]
    assert text.splitlines()[2].split() == ["quantity", "number", "0", "0"]
    long = ("x" * 50, "y" * 50, "z" * 50)
    assert table_text(ResultTable("", long, [long, long, long])).splitlines()[0].split() == list(long)


def test_long_tables_say_how_much_is_hidden():
    table = ResultTable("", ("n",), [(str(n),) for n in range(MOST_ROWS + 7)])
    assert table_text(table).splitlines()[-1] == "… 7 more rows in to_frame()"
    assert table_html(table).count("<tr>") == MOST_ROWS + 1
    assert "… 7 more rows" in table_html(table)


@given(st.text(alphabet="<>&\"'ab", max_size=12), st.text(alphabet="<>&\"'/scriptab ", max_size=12))
def test_html_shows_any_text_as_it_is(name, cell):
    found = Cells(table_html(ResultTable(cell, ("metric", name), [(cell, name)], [cell])))
    assert found.cells == ["metric", name, cell, name]
    assert found.tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td", "p", "small"}


def test_a_result_shows_its_lines_and_its_open_tables():
    class Two(Displayed):
        def _lines(self):
            return ["first", "<b>second</b>"]

        def _tables(self):
            rows = [("a", "1")]
            return [ResultTable("open", ("x", "y"), rows), ResultTable("shut", ("x", "z"), rows, folded=True)]

    assert repr(Two()) == "first\n<b>second</b>\n\nopen\nx  y\n----\na  1"
    page = Two()._repr_html_()
    assert "<p><strong>first</strong></p><p>&lt;b&gt;second&lt;/b&gt;</p>" in page
    assert "<details><summary>shut</summary><table>" in page


@pytest.mark.parametrize("rows", [[], ()])
def test_empty_tables_are_left_out(rows):
    class Nothing(Displayed):
        def _lines(self):
            return ["nothing found"]

        def _tables(self):
            return [ResultTable("empty", ("x",), rows)]

    assert repr(Nothing()) == "nothing found"
    assert "table" not in Nothing()._repr_html_()
