"""The kinds of scenario that make a table, and how each is checked."""

from collections.abc import Mapping
from typing import Any

from abtest.offline.grid_scenario import GridScenario, grid_faults
from abtest.offline.statistics_scenario import StatisticsScenario
from abtest.offline.table_checks import config_faults, nearest, same_folder_faults, scenario_faults
from abtest.offline.table_scenario import TableScenario
from micrec.errors import MicrecError
from micrec.settings import check

AnyTable = TableScenario | StatisticsScenario

TABLE_KINDS: dict[str, type[AnyTable]] = {
    "table": TableScenario,
    "grid": GridScenario,
    "statistics": StatisticsScenario,
}


def check_table(where: str, kind: type[AnyTable], data: Mapping[str, Any]) -> AnyTable:
    """A scenario of these kinds from plain data.

    Raises:
        MicrecError: If any key of the scenario or of a row's config is at fault; all faults at once.
    """
    found, faults = check(kind, data)
    scenario: AnyTable | None = found
    if issubclass(kind, TableScenario):
        faults += config_faults(data)
    if scenario is not None and not faults:
        faults += scenario_faults(scenario) if isinstance(scenario, TableScenario) else dataset_faults(scenario)
    if isinstance(scenario, GridScenario) and not faults:
        faults += grid_faults(scenario)
    if scenario is None or faults:
        raise MicrecError.of(where, faults)
    return scenario


def dataset_faults(scenario: StatisticsScenario) -> list[str]:
    """What the keys of the datasets cannot say one by one."""
    faults = same_folder_faults("datasets", scenario.datasets)
    for name, keys in scenario.datasets.items():
        if keys.base or keys.rows:
            faults.append(f"datasets.{name}: base and rows are of models, and nothing is trained here: remove them")
        if keys.paper is not None and keys.paper not in scenario.paper:
            faults.append(
                f"datasets.{name}.paper: the paper has no {keys.paper}: {nearest(keys.paper, scenario.paper)}"
            )
    return faults
