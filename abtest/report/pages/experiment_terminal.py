"""An experiment's verdict and main tables on the terminal: validity first."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from abtest.report.pages import design_sections
from abtest.report.pages import experiment_tables as tables
from abtest.report.sections import section_of
from abtest.report.tables import Results, Table
from abtest.report.terminal import fitted, natural_width, plain_console, print_indented, print_table, with_columns

_WHAT_MATTERS = (0, 7, 3, 4, 6, 1, 2, 5)  # metric, outcome, lift, interval, adjusted p; then the arms and the plain p
_ARMS = (5, 6, 7)  # places of the latter
_COLOURS = {"ship": "bold green", "hold": "bold yellow", "stop": "bold red"}


def print_analysis(results: Results, console: Console | None = None) -> None:
    """Sample ratios, effects, what was left out, the verdict."""
    console = console or plain_console()
    for line in results["alarms"]:
        console.print(Text(f"NOT VALID: {line}", style="bold red"))
    families = [part for family in tables.FAMILIES for part in _effects(results, family, console.width)]
    print_tables(tables.filled([tables.srm_table(results), tables.balance_table(results), *families]), console)
    designs = (design_sections.other_users, design_sections.arms, design_sections.mid_test, design_sections.readings)
    for make in designs:
        print_tables([part for table in make(results).tables for part in fitted(table, console.width)], console)
    for note in results["notes"]:
        console.print(Text(f"note: {note}"))
    console.print()
    print_verdicts(results, console)


def _effects(results: Results, family: str, width: int) -> list[Table]:
    """With differences where they fit, else with what matters most in front. Alarms are not said a second time."""
    table = tables.effect_table(results, family)
    if natural_width(table) > width:
        table = tables.effect_table(results, family, absolute=False)
    alarms = {line.rstrip("."): "not valid, see above" for line in results["alarms"]}
    notes = []
    for note in table.notes:
        for alarm, short in alarms.items():
            note = note.replace(alarm, short)
        notes.append(note)
    table = table._replace(notes=notes)
    if natural_width(table) <= width:
        return [table]
    return fitted(with_columns(table, _WHAT_MATTERS), width, together=_ARMS)


def print_verdicts(results: Results, console: Console | None = None, *, reasons: bool = True) -> None:
    """The decision on every treatment, with or without its reasons."""
    console = console or plain_console()
    for place, verdict in enumerate(results["verdicts"]):
        if place and reasons:
            console.print()
        decision = verdict["decision"]
        console.print(Text.assemble((decision.upper(), _COLOURS[decision]), f": {verdict['headline']}"))
        print_indented(verdict["reasons"] if reasons else (), console)


def print_sections(results: Results, console: Console | None = None) -> None:
    """The tables of sections that a simulator added, without the folded ones."""
    console = console or plain_console()
    for data in results["sections"]:
        section = section_of(data)
        for text in section.text:
            console.print(Text(text))
        print_tables([table for table in section.tables if not table.folded], console)


def print_tables(found: Sequence[Table], console: Console | None = None) -> None:
    """Tables with their notes."""
    console = console or plain_console()
    for table in found:
        print_table(table, console)
