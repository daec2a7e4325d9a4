"""The kinds of scenario on datasets: two arms, a table, a grid and two maps train models, statistics only count."""

from collections.abc import Callable, Mapping
from typing import Any

from abtest.arms import arm_faults, config_faults
from abtest.offline import table_checks
from abtest.offline.evidence_map_scenario import EvidenceMapScenario, evidence_map_faults
from abtest.offline.gain_map_scenario import GainMapScenario, gain_map_faults
from abtest.offline.grid_scenario import GridScenario, grid_faults
from abtest.offline.offline_scenario import OfflineScenario
from abtest.offline.statistics_scenario import StatisticsScenario
from abtest.offline.table_scenario import TableScenario
from abtest.scenario_kind import ScenarioKind
from micrec.registry import loaded
from micrec.settings import check


def late(where: str) -> Callable[..., Any]:
    """The function that ``module:function`` names, imported when it is called: what trains models needs torch."""

    def call(*args: Any, **given: Any) -> Any:
        return loaded(where)(*args, **given)

    return call


def _check_two_arms(schema: type[OfflineScenario], data: Mapping[str, Any]) -> tuple[OfflineScenario | None, list[str]]:
    scenario, faults = check(schema, data)
    faults = [*faults, *config_faults(data)]
    if scenario is not None:
        faults += arm_faults(scenario.arms)
        faults += [] if faults else table_checks.two_arm_faults(scenario)
    return scenario, faults


def _check_table(schema: type[TableScenario], data: Mapping[str, Any]) -> tuple[TableScenario | None, list[str]]:
    scenario, faults = check(schema, data)
    faults = [*faults, *table_checks.config_faults(data)]
    if scenario is not None and not faults:
        faults += table_checks.scenario_faults(scenario)
    return scenario, faults


def _check_grid(schema: type[GridScenario], data: Mapping[str, Any]) -> tuple[TableScenario | None, list[str]]:
    scenario, faults = _check_table(schema, data)
    if isinstance(scenario, GridScenario) and not faults:
        faults += grid_faults(scenario)
    return scenario, faults


def _check_evidence_map(
    schema: type[EvidenceMapScenario], data: Mapping[str, Any]
) -> tuple[TableScenario | None, list[str]]:
    scenario, faults = _check_table(schema, data)
    if isinstance(scenario, EvidenceMapScenario) and not faults:
        faults += evidence_map_faults(scenario)
    return scenario, faults


def _check_gain_map(schema: type[GainMapScenario], data: Mapping[str, Any]) -> tuple[GainMapScenario | None, list[str]]:
    scenario, faults = check(schema, data)
    faults = [*faults, *table_checks.config_faults(data)]
    if scenario is not None and not faults:
        faults += gain_map_faults(scenario)
        if not faults:
            tables = scenario.tables().values()
            faults += dict.fromkeys(fault for table in tables for fault in table_checks.scenario_faults(table))
    return scenario, faults


def _check_statistics(
    schema: type[StatisticsScenario], data: Mapping[str, Any]
) -> tuple[StatisticsScenario | None, list[str]]:
    scenario, faults = check(schema, data)
    return scenario, faults if scenario is None or faults else table_checks.dataset_faults(scenario)


def _look_at(scenario: TableScenario) -> None:
    from abtest.offline.dataset_run import default_read, read_given
    from abtest.offline.table_run import row_checks

    read_given(scenario.chosen(), default_read(), row_checks(scenario))


def _look_at_folders(scenario: StatisticsScenario) -> None:
    from abtest.offline.dataset_run import default_read, read_given

    read_given(scenario.chosen(), default_read(), lambda name, dataset: None)


TWO_ARMS = ScenarioKind(
    schema=OfflineScenario,
    check=_check_two_arms,
    preflight=lambda scenario: _look_at(scenario.table()),
    run=late("abtest.offline.two_arms:run_offline"),
    show=late("abtest.report.terminal:print_results"),
    describe=OfflineScenario.work,
)
TABLE = ScenarioKind(
    schema=TableScenario,
    check=_check_table,
    preflight=_look_at,
    run=late("abtest.offline.table_run:run_table"),
    show=late("abtest.report.pages.table_page:print_table"),
    describe=TableScenario.work,
)
GRID = ScenarioKind(
    schema=GridScenario,
    check=_check_grid,
    preflight=_look_at,
    run=late("abtest.offline.grid:run_grid"),
    show=late("abtest.report.pages.table_page:print_table"),
    describe=GridScenario.work,
)
EVIDENCE_MAP = ScenarioKind(
    schema=EvidenceMapScenario,
    check=_check_evidence_map,
    preflight=_look_at,
    run=late("abtest.offline.evidence_map:run_evidence_map"),
    show=late("abtest.report.pages.table_page:print_table"),
    describe=EvidenceMapScenario.work,
)
GAIN_MAP = ScenarioKind(
    schema=GainMapScenario,
    check=_check_gain_map,
    run=late("abtest.offline.gain_map:run_gain_map"),
    show=late("abtest.report.pages.gain_map_page:print_map"),
    describe=GainMapScenario.work,
)
STATISTICS = ScenarioKind(
    schema=StatisticsScenario,
    check=_check_statistics,
    preflight=_look_at_folders,
    run=late("abtest.offline.dataset_statistics:run_statistics"),
    show=late("abtest.offline.dataset_statistics:print_statistics"),
    describe=StatisticsScenario.work,
)
