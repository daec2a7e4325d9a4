"""The tables that matter most, on the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from abtest.report.tables import Results, Table, effect_table, model_table, switch_lines
from abtest.report.verdict import verdict

PLAIN_WIDTH = 220  # columns where no terminal tells: wide enough that no cell is folded


def print_results(results: Results, console: Console | None = None) -> None:
    """Models, primary and secondary effects, the switches that were on, and the verdict."""
    console = console or Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    for table in (
        model_table(results),
        effect_table(results, "primary", "Primary metrics"),
        effect_table(results, "secondary", "Secondary metrics"),
    ):
        if table.rows:
            console.print(drawn(table))
            console.print(*(Text(f"  {note}") for note in table.notes), sep="\n", end="\n" if table.notes else "")
    for who, keys in switch_lines(results):
        console.print(Text(f"{who}: {keys}"))
    console.print()
    console.print(*(Text(line) for line in verdict(results)), sep="\n")


def drawn(table: Table) -> RichTable:
    """A table whose cells are shown as they are."""
    drawn = RichTable(box=box.SIMPLE_HEAD, title=Text(table.title, style="bold"), title_justify="left")
    for place, name in enumerate(table.header):
        drawn.add_column(Text(name), justify="right" if place else "left")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))  # Text: no markup, whatever the string holds
    return drawn
