"""The tables that matter most, on the terminal: whole where they fit, else in parts that do."""

import os
from collections.abc import Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from abtest.report.pages.two_arm_verdict import verdict
from abtest.report.tables import Results, Table, effect_table, model_table, switch_lines

PLAIN_WIDTH = 220  # columns where no terminal tells: wide enough that no cell is folded


def print_results(results: Results, console: Console | None = None) -> None:
    """Models, primary and secondary effects, the switches that were on, and the verdict."""
    console = console or plain_console()
    for table in (
        model_table(results),
        effect_table(results, "primary", "Primary metrics"),
        effect_table(results, "secondary", "Secondary metrics"),
    ):
        if table.rows:
            print_table(table, console)
    for who, keys in switch_lines(results):
        console.print(Text(f"{who}: {keys}"))
    console.print()
    console.print(*(Text(line) for line in verdict(results)), sep="\n")


def plain_console() -> Console:
    """A console of the terminal's width; where there is none, of COLUMNS or of many columns."""
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        console.width = PLAIN_WIDTH
    return console


def print_table(table: Table, console: Console) -> None:
    """A table with its notes, in parts of the console's width."""
    for part in fitted(table, console.width):
        if part.title:
            console.print(Text(part.title, style="bold"))
        console.print(drawn(part._replace(title="")))
        print_indented(part.notes, console)


def print_indented(texts: Iterable[str], console: Console) -> None:
    """Paragraphs that are indented from their first line to their last."""
    for text in texts:
        console.print(Padding(Text(text), (0, 0, 0, 2), expand=False))


def fitted(table: Table, width: int, together: Sequence[int] = ()) -> list[Table]:
    """The table, or several with some of its columns each, none wider than this but where one column alone is.

    Args:
        table: Its first column, which names the row, stands in each part; the title in the first, notes in the last.
        width: Columns of the terminal.
        together: Places of neighbouring columns that are not parted.
    """
    parts, columns = [], [0]
    for place in range(1, len(table.header)):
        if place in together[1:]:
            columns.append(place)
            continue
        nexts = together if place in together else [place]
        if len(columns) > 1 and _width(table, [*columns, *nexts]) > width:
            parts.append(columns)
            columns = [0]
        columns.append(place)
    parts.append(columns)
    whole = [with_columns(table, part) for part in parts]
    return [
        part._replace(title=table.title if at == 0 else "", notes=table.notes if at == len(parts) - 1 else [])
        for at, part in enumerate(whole)
    ]


def with_columns(table: Table, places: Sequence[int]) -> Table:
    """The table with these of its columns, in this order."""
    rows = [tuple(row[place] for place in places) for row in table.rows]
    return table._replace(header=tuple(table.header[place] for place in places), rows=rows)


def natural_width(table: Table) -> int:
    """Columns of the terminal that the table needs for no cell to be folded."""
    return _width(table, range(len(table.header)))


def _width(table: Table, places: Sequence[int]) -> int:
    cells = [max(cell_len(row[place]) for row in [table.header, *table.rows]) for place in places]
    return sum(cells) + 3 * len(cells) + 1  # what box.SIMPLE_HEAD puts between and around them


def drawn(table: Table) -> RichTable:
    """A table whose cells are shown as they are."""
    title = Text(table.title, style="bold") if table.title else None
    drawn = RichTable(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for place, name in enumerate(table.header):
        drawn.add_column(Text(name), justify="right" if place else "left")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))  # Text: no markup, whatever the string holds
    return drawn
