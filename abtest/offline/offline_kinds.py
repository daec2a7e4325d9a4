"""The kinds of scenario that train models on a dataset: two arms, a table, a grid, and the count of datasets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abtest.arms import arm_faults, config_faults
from abtest.offline import table_checks
from abtest.offline.grid_scenario import GridScenario, grid_faults
from abtest.offline.offline_scenario import OfflineScenario
from abtest.offline.statistics_scenario import StatisticsScenario
from abtest.offline.table_checks import nearest, same_folder_faults, scenario_faults
from abtest.offline.table_scenario import TableScenario
from abtest.scenario_kind import ScenarioKind
from micrec.settings import check

# -- two arms ----------------------------------------------------------------------------------------------------------


def _check_two_arms(schema: type[OfflineScenario], data: Mapping[str, Any]) -> tuple[OfflineScenario | None, list[str]]:
    scenario, faults = check(schema, data)
    faults = [*faults, *config_faults(data, schema.unread)]
    if scenario is not None:
        faults += arm_faults(scenario.arms, schema.reserved_arms)
        faults += [] if faults else scenario.faults()
    return scenario, faults


def _run_two_arms(scenario: OfflineScenario, out: Path, **given: Any) -> dict[str, Any]:
    from abtest.offline.two_arms import run_offline

    results: dict[str, Any] = run_offline(scenario, out, **given)
    return results


def _show_two_arms(results: dict[str, Any]) -> None:
    from abtest.report.terminal import print_results

    print_results(results)


def _look_at_two_arms(scenario: OfflineScenario) -> None:
    from abtest.offline.dataset_run import default_read
    from abtest.offline.two_arms import check_arms

    if scenario.data is not None:
        check_arms(scenario, default_read()(scenario.data))


def _describe_two_arms(scenario: OfflineScenario) -> str:
    arms = ", ".join(f"{name} ({arm.label})" for name, arm in scenario.arms.items())
    models = len(scenario.arms) * scenario.seeds
    return f"preset {scenario.preset}, {arms}, {scenario.seeds} seeds: {models} models"


TWO_ARMS = ScenarioKind(
    schema=OfflineScenario,
    check=_check_two_arms,
    preflight=_look_at_two_arms,
    run=_run_two_arms,
    show=_show_two_arms,
    describe=_describe_two_arms,
)

# -- a table, and a grid of which one row is searched ------------------------------------------------------------------


def _check_table(schema: type[TableScenario], data: Mapping[str, Any]) -> tuple[TableScenario | None, list[str]]:
    scenario, faults = check(schema, data)
    faults = [*faults, *table_checks.config_faults(data)]
    if scenario is not None and not faults:
        faults += scenario_faults(scenario)
    return scenario, faults


def _check_grid(schema: type[GridScenario], data: Mapping[str, Any]) -> tuple[GridScenario | None, list[str]]:
    scenario, faults = _check_table(schema, data)
    assert scenario is None or isinstance(scenario, GridScenario)
    if scenario is not None and not faults:
        faults += grid_faults(scenario)
    return scenario, faults


def _run_table(scenario: TableScenario, out: Path, **given: Any) -> dict[str, Any]:
    from abtest.offline.table_run import run_table

    results: dict[str, Any] = run_table(scenario, out, **given)
    return results


def _run_grid(scenario: GridScenario, out: Path, **given: Any) -> dict[str, Any]:
    from abtest.offline.grid import run_grid

    results: dict[str, Any] = run_grid(scenario, out, **given)
    return results


def _show_table(results: dict[str, Any]) -> None:
    from abtest.report.pages.table_page import print_table

    print_table(results)


def _look_at_table(scenario: TableScenario) -> None:
    from abtest.offline.dataset_run import default_read
    from abtest.offline.table_run import read_given, row_checks

    read_given(scenario.chosen(), default_read(), row_checks(scenario))


def _describe_table(scenario: TableScenario | StatisticsScenario) -> str:
    return scenario.work()


TABLE = ScenarioKind(
    schema=TableScenario,
    check=_check_table,
    preflight=_look_at_table,
    run=_run_table,
    show=_show_table,
    describe=_describe_table,
)
GRID = ScenarioKind(
    schema=GridScenario,
    check=_check_grid,
    preflight=_look_at_table,
    run=_run_grid,
    show=_show_table,
    describe=_describe_table,
)

# -- the count of datasets ---------------------------------------------------------------------------------------------


def _check_statistics(
    schema: type[StatisticsScenario], data: Mapping[str, Any]
) -> tuple[StatisticsScenario | None, list[str]]:
    scenario, faults = check(schema, data)
    return scenario, faults if scenario is None or faults else dataset_faults(scenario)


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


def _run_statistics(scenario: StatisticsScenario, out: Path, **given: Any) -> dict[str, Any]:
    from abtest.offline.dataset_statistics import run_statistics

    results: dict[str, Any] = run_statistics(scenario, out, **given)
    return results


def _show_statistics(results: dict[str, Any]) -> None:
    from rich.console import Console

    from abtest.offline.dataset_statistics import count_table, shape_table
    from abtest.report.terminal import PLAIN_WIDTH, drawn

    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    console.print(drawn(count_table(results)), drawn(shape_table(results)))


def _look_at_statistics(scenario: StatisticsScenario) -> None:
    from abtest.offline.dataset_run import default_read
    from abtest.offline.table_run import read_given

    read_given(scenario.chosen(), default_read(), lambda name, dataset: None)


STATISTICS = ScenarioKind(
    schema=StatisticsScenario,
    check=_check_statistics,
    preflight=_look_at_statistics,
    run=_run_statistics,
    show=_show_statistics,
    describe=_describe_table,
)
