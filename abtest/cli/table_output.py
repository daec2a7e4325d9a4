"""Running a scenario of any kind of table, and showing what it found on the terminal."""

from pathlib import Path
from typing import Any

from rich.console import Console

from abtest.offline.dataset_statistics import StatisticsScenario, count_table, run_statistics, shape_table
from abtest.offline.grid import run_grid
from abtest.offline.grid_scenario import GridScenario
from abtest.offline.table_kinds import AnyTable
from abtest.offline.table_run import run_table
from abtest.report.pages.table_page import print_table
from abtest.report.terminal import PLAIN_WIDTH, drawn


def run_and_print(scenario: AnyTable, out: Path, **given: Any) -> dict[str, Any]:
    """Run a scenario, see ``run_table`` for what may be given, and print its table."""
    if isinstance(scenario, StatisticsScenario):
        results = run_statistics(scenario, out, **given)
        console = Console(highlight=False, emoji=False)
        if not console.is_terminal:
            console.width = PLAIN_WIDTH
        console.print(drawn(count_table(results)), drawn(shape_table(results)))
        return results
    if isinstance(scenario, GridScenario):
        results = run_grid(scenario, out, **given)
    else:
        results = run_table(scenario, out, **given)
    print_table(results)
    return results
