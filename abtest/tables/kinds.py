"""The kinds of scenario that make a table, and how each is checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abtest.tables.checks import config_faults, scenario_faults
from abtest.tables.scenario import TableScenario
from micrec.errors import MicrecError
from micrec.settings import check

AnyTable = TableScenario

TABLE_KINDS: dict[str, type[AnyTable]] = {"table": TableScenario}


def check_table(path: Path, kind: type[AnyTable], data: Mapping[str, Any]) -> AnyTable:
    """A scenario of these kinds from plain data.

    Raises:
        MicrecError: If any key of the scenario or of a row's config is at fault; all faults at once.
    """
    scenario, faults = check(kind, data)
    faults += config_faults(data)
    if scenario is not None and not faults:
        faults += scenario_faults(scenario)
    if scenario is None or faults:
        raise MicrecError.of(str(path), faults)
    return scenario
