"""The offline A/B: a table with a row per arm, reported as arms and a verdict."""

from pathlib import Path
from typing import Any

from abtest.offline.offline_scenario import OfflineScenario
from abtest.offline.reference_rows import missing_rows
from abtest.offline.run_options import RunOptions
from abtest.offline.table_results import (
    TableTrials,
    effective_configs,
    effects_of,
    head,
    models_of,
    row_configs,
    runtime_s,
    switches_of,
)
from abtest.offline.table_run import open_table, run_rows
from abtest.offline.table_scenario import TableScenario
from abtest.report import write_report
from abtest.report.pages.diagnosis_files import write_diagnosis
from abtest.run_folder import alone_in_folder, finish_run, jsonable


@alone_in_folder
def run_offline(scenario: OfflineScenario, out: Path, **given: Any) -> dict[str, Any]:
    """Run the table that a two-arm scenario stands for; see ``run_table`` for arguments and errors."""
    options = RunOptions(**given)
    table = scenario.table()
    found = run_rows(table, open_table(table, out, options), options)
    return finish_run(out, two_arm_results(scenario, table, found, options), write_report, write_diagnosis)


def two_arm_results(
    scenario: OfflineScenario, table: TableScenario, found: TableTrials, options: RunOptions
) -> dict[str, Any]:
    """results.json of a two-arm test: as a table's, with one dataset, and with arms instead of rows."""
    ((name, run),) = found.runs.items()
    configs = row_configs(table, name)
    shared, own = switches_of(effective_configs(configs, run.dataset))
    evaluation = configs[table.reference_row].evaluation
    effects = [{key: value for key, value in one.items() if key != "dataset"} for one in effects_of(table, found)]
    results = {
        **head(scenario.kind, options, table.seed_numbers),
        "runtime_s": runtime_s(found),
        "dataset": {**run.facts(), "left_out": missing_rows(table, run.dataset, evaluation)},
        "switches": {"preset": table.preset, "shared": shared, "arms": own},
        "effects": effects,
        "srm": [],  # an offline comparison assigns nobody: both arms see the same users
        "models": models_of(table, found, name),
    }
    plain = jsonable(results)
    assert isinstance(plain, dict)
    return plain
