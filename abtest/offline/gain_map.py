"""Run a gain map: every world drawn once, both rows of each map trained on it, and the gain with its interval."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abtest.offline.dataset_run import DatasetRun, open_datasets
from abtest.offline.dose_trends import dose_trends
from abtest.offline.gain_map_scenario import GainMapScenario, Square
from abtest.offline.row_effects import adjust
from abtest.offline.row_lifts import TrialPair, outcome, row_lifts
from abtest.offline.run_options import RunOptions
from abtest.offline.table_results import (
    TableTrials,
    dataset_facts,
    effective_configs,
    effects_of,
    head,
    models_of,
    row_configs,
    switches_of,
)
from abtest.offline.table_run import row_checks, run_rows
from abtest.offline.table_scenario import TableScenario
from abtest.report.pages.gain_map_page import write_map
from abtest.run_folder import alone_in_folder, finish_run, jsonable
from micrec.data.dataset import Dataset


@alone_in_folder
def run_gain_map(scenario: GainMapScenario, out: Path, **given: Any) -> dict[str, Any]:
    """Run a gain map into a run folder; see ``run_table`` for arguments and errors."""
    options = RunOptions(**given)
    tables = scenario.tables()
    runs = _open_worlds(scenario, tables, out, options)
    found = {}
    for panel, table in tables.items():
        own = {name: runs[name] for name, _ in table.chosen()}
        found[panel] = run_rows(table, own, options)
    return finish_run(out, gain_map_results(scenario, tables, found, options), write_map)


def gain_map_results(
    scenario: GainMapScenario,
    tables: Mapping[str, TableScenario],
    found: Mapping[str, TableTrials],
    options: RunOptions,
) -> dict[str, Any]:
    """results.json of a gain map: squares, the tests behind them, models, and what they depend on."""
    effects = [{"map": name, **one} for name, table in tables.items() for one in effects_of(table, found[name])]
    adjust(effects, scenario.alpha)
    models: dict[tuple[Any, ...], dict[str, Any]] = {}
    facts: dict[str, dict[str, Any]] = {}
    switches = {}
    for panel, table in tables.items():
        for name, run in found[panel].runs.items():
            configs = row_configs(table, name)
            facts.setdefault(name, dataset_facts(table, run, name, None, configs[table.reference_row]))
            for model in models_of(table, found[panel], name):
                models.setdefault((name, model["model"], model["arm"], model["seed"]), {**model, "dataset": name})
        first = next(iter(found[panel].runs))
        own = effective_configs(row_configs(table, first), found[panel].runs[first].dataset)
        shared, rows = switches_of(own)
        switches[panel] = {"shared": shared, "rows": rows}
    results = {
        **head(scenario.kind, options, scenario.seed_numbers),
        "runtime_s": sum(model["seconds"] for model in models.values()),
        "datasets": facts,
        "switches": {"preset": scenario.preset, "maps": switches},
        "squares": [
            square
            for panel, table in tables.items()
            for metric in scenario.metrics
            for square in _squares(scenario, panel, table, found[panel], metric)
        ],
        "effects": effects,
        "models": list(models.values()),
    }
    if scenario.across_worlds:
        results["trends"] = dose_trends(results["squares"], scenario.alpha)
    plain = jsonable(results)
    assert isinstance(plain, dict)
    return plain


def _open_worlds(
    scenario: GainMapScenario, tables: Mapping[str, TableScenario], out: Path, options: RunOptions
) -> dict[str, DatasetRun]:
    checks = {panel: row_checks(table) for panel, table in tables.items()}
    users = {panel: {name for name, _ in table.chosen()} for panel, table in tables.items()}

    def check(name: str, dataset: Dataset) -> None:
        for panel, look in checks.items():
            if name in users[panel]:
                look(name, dataset)

    return open_datasets(scenario.chosen(), out, options, check)


def _squares(
    scenario: GainMapScenario, panel: str, table: TableScenario, found: TableTrials, metric: str
) -> list[dict[str, Any]]:
    """The squares of one map: its lifts, and their intervals with the noise of seeds pooled over the map."""
    keys, places = scenario.panels[panel], scenario.squares(panel)
    pairs = [_pair(table, found, square) for square in places]
    cutoffs = row_configs(table, places[0].dataset)[table.reference_row].evaluation.cutoffs
    squares = []
    for square, one in zip(places, row_lifts(pairs, metric, cutoffs, alpha=scenario.alpha), strict=True):
        means = {row: _mean(found, square.dataset, row, metric) for row in (keys.against, keys.row)}
        squares.append(
            {
                "map": panel,
                "metric": metric,
                "dial": keys.dial.values[square.dial],
                "across": scenario.across.values[square.across],
                "dataset": square.dataset,
                "control": means[keys.against],
                "treatment": means[keys.row],
                **one._asdict(),
                "outcome": outcome(one.lift_ci),
                "references": {
                    label: trial.metrics.get(metric) for label, trial in found.references[square.dataset].items()
                },
            }
        )
    return squares


def _pair(table: TableScenario, found: TableTrials, square: Square) -> TrialPair:
    rows = found.rows[square.dataset]
    return TrialPair(rows[table.reference_row], rows[table.comparisons[0].row])


def _mean(found: TableTrials, dataset: str, row: str, metric: str) -> float:
    values = [trial.metrics[metric] for trial in found.rows[dataset][row]]
    return sum(values) / len(values)
