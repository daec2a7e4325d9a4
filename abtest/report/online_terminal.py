"""An experiment's verdict and main tables on the terminal: validity first."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from abtest.report import online_tables as tables
from abtest.report.sections import section_of
from abtest.report.tables import Results, Table
from abtest.report.terminal import PLAIN_WIDTH, drawn

WIDE = 120  # columns from which differences fit beside lifts
_COLOURS = {"ship": "bold green", "hold": "bold yellow", "stop": "bold red"}


def print_analysis(results: Results, console: Console | None = None) -> None:
    """Sample ratios, effects, what was left out, the verdict."""
    console = console or _console()
    for line in results["alarms"]:
        console.print(Text(f"NOT VALID: {line}", style="bold red"))
    wide = console.width >= WIDE
    families = [tables.effect_table(results, family, absolute=wide) for family in tables.FAMILIES]
    print_tables(tables.filled([tables.srm_table(results), tables.balance_table(results), *families]), console)
    for note in results["notes"]:
        console.print(Text(f"note: {note}"))
    console.print()
    print_verdicts(results, console)


def print_verdicts(results: Results, console: Console | None = None, *, reasons: bool = True) -> None:
    """The decision on every treatment, with or without its reasons."""
    console = console or _console()
    for place, verdict in enumerate(results["verdicts"]):
        if place and reasons:
            console.print()
        decision = verdict["decision"]
        console.print(Text.assemble((decision.upper(), _COLOURS[decision]), f": {verdict['headline']}"))
        for reason in verdict["reasons"] if reasons else ():
            console.print(Text(f"  {reason}"))


def print_sections(results: Results, console: Console | None = None) -> None:
    """The tables of sections that a simulator added, without the folded ones."""
    console = console or _console()
    for data in results["sections"]:
        section = section_of(data)
        for text in section.text:
            console.print(Text(text))
        print_tables([table for table in section.tables if not table.folded], console)


def print_tables(found: Sequence[Table], console: Console | None = None) -> None:
    """Tables with their notes."""
    console = console or _console()
    for table in found:
        console.print(drawn(table))
        for note in table.notes:
            console.print(Text(f"  {note}"))


def _console() -> Console:
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console
