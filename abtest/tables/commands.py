"""Running a scenario of any kind of table, and showing what it found on the terminal."""

from pathlib import Path
from typing import Any

from abtest.tables.kinds import AnyTable
from abtest.tables.page import print_table
from abtest.tables.run import run_table


def run_and_print(scenario: AnyTable, out: Path, **given: Any) -> dict[str, Any]:
    """Run a scenario, see ``run_table`` for what may be given, and print its table."""
    results = run_table(scenario, out, **given)
    print_table(results)
    return results
