"""How results look where they are the last line of a cell: text for terminals, HTML for notebooks."""

import html
from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

MOST_ROWS = 60  # of a table that is shown; to_frame() has all
WIDE = 120  # letters of a line that are too many for most terminals


class ResultTable(NamedTuple):
    """A table as text cells; every form of display escapes them itself.

    Attributes:
        title: Heading; may be empty.
        header: Names of the columns; the first one labels the rows.
        rows: Cells, as many as the header has.
        notes: Sentences below the table.
        folded: Whether it opens on demand in a notebook, and is left out elsewhere.
    """

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: Sequence[str] = ()
    folded: bool = False


class Displayed:
    """Base of results: a readable ``repr``, and HTML in notebooks, from the same lines and tables."""

    @abstractmethod
    def _lines(self) -> Sequence[str]:
        """The sentences that are shown first."""

    def _tables(self) -> Sequence[ResultTable]:
        """The tables below it."""
        return ()

    def __repr__(self) -> str:
        shown = [table for table in self._tables() if table.rows and not table.folded]
        parts = ["\n".join(self._lines()), *(table_text(table) for table in shown)]
        return "\n\n".join(part for part in parts if part)

    def _repr_html_(self) -> str:
        first, *others = [html.escape(line) for line in self._lines()] or [""]
        lines = f"<p><strong>{first}</strong></p>" + "".join(f"<p>{line}</p>" for line in others)
        return f"<div>{lines}{''.join(table_html(table) for table in self._tables() if table.rows)}</div>"


def table_text(table: ResultTable) -> str:
    """A table for a terminal: the first column to the left, the others to the right; turned over where it is wide."""
    table = _turned(table)
    shown = [table.header, *table.rows[:MOST_ROWS]]
    widths = _widths(table)
    lines = [table.title] if table.title else []
    for number, row in enumerate(shown):
        cells = [cell.ljust(width) if not at else cell.rjust(width) for at, (cell, width) in _placed(row, widths)]
        lines.append("  ".join(cells).rstrip())
        if not number:
            lines.append("-" * _width(table))
    return "\n".join([*lines, *_more(table), *(f"  {note}" for note in table.notes)])


def table_html(table: ResultTable) -> str:
    """A table for a notebook; all text is escaped, colours are the notebook's own."""
    title = html.escape(table.title)
    caption = f"<caption>{title}</caption>" if title and not table.folded else ""
    head = "".join(_cell("th", name, place) for place, name in enumerate(table.header))
    body = "".join(
        f"<tr>{''.join(_cell('td', cell, place) for place, cell in enumerate(row))}</tr>"
        for row in table.rows[:MOST_ROWS]
    )
    notes = "".join(f"<p><small>{html.escape(note)}</small></p>" for note in (*_more(table), *table.notes))
    whole = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"
    return f"<details><summary>{title}</summary>{whole}</details>" if table.folded else whole


def _turned(table: ResultTable) -> ResultTable:
    """Columns as rows, if the table is wide and that makes it narrower."""
    if _width(table) <= WIDE:
        return table
    first, *others = zip(table.header, *table.rows[:MOST_ROWS], strict=True)
    turned = table._replace(header=first, rows=others)
    return turned if _width(turned) < _width(table) else table


def _widths(table: ResultTable) -> list[int]:
    shown = [table.header, *table.rows[:MOST_ROWS]]
    return [max(len(row[place]) for row in shown) for place in range(len(table.header))]


def _width(table: ResultTable) -> int:
    widths = _widths(table)
    return sum(widths) + 2 * (len(widths) - 1)


def _cell(tag: str, text: str, place: int) -> str:
    return f'<{tag} style="text-align:{"right" if place else "left"}">{html.escape(text)}</{tag}>'


def _placed(row: Sequence[str], widths: Sequence[int]) -> list[tuple[int, tuple[str, int]]]:
    return list(enumerate(zip(row, widths, strict=True)))


def _more(table: ResultTable) -> list[str]:
    hidden = len(table.rows) - MOST_ROWS
    return [f"… {hidden:,} more rows in to_frame()"] if hidden > 0 else []
