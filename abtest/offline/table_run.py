"""The offline engine: every row of a table with every seed on every dataset, then the tests and the report.

Every offline scenario that trains models is a table here: ``offline_ab`` has two rows, and of ``grid`` one row is
searched first.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from abtest.offline.dataset_run import Check, DatasetRun, open_datasets
from abtest.offline.reference_rows import run_references
from abtest.offline.row_effects import check_hits
from abtest.offline.run_options import RunOptions
from abtest.offline.table_checks import nearest
from abtest.offline.table_results import TableTrials, table_results
from abtest.offline.table_scenario import Chosen, TableScenario
from abtest.offline.trial_runs import RunSpec, train_trials
from abtest.offline.trials import Trial
from abtest.report.pages.table_files import write_files
from abtest.run_folder import alone_in_folder, finish_run
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.errors import MicrecError


@alone_in_folder
def run_table(scenario: TableScenario, out: Path, **given: Any) -> dict[str, Any]:
    """Run a table's scenario into a run folder; an interrupted run goes on, trial by trial, to the same result.

    Args:
        scenario: The table.
        out: The run folder, see ``abtest.run_folder``; trials and worlds lie in a folder per dataset.
        **given: See ``RunOptions``.

    Returns:
        The contents of ``results.json``.

    Raises:
        MicrecError: If the folder holds a finished run or no run at all, a dataset is invalid, a row cannot be
            trained on it, a metric does not exist, or a training fails.
    """
    options = RunOptions(**given)
    found = run_rows(scenario, open_table(scenario, out, options), options)
    return finish_run(out, table_results(scenario, found, options), write_files)


def open_table(table: TableScenario, out: Path, options: RunOptions) -> dict[str, DatasetRun]:
    """The run folder made ready, with the table's datasets, on each of which every row can be trained."""
    return open_datasets(table.chosen(), out, options, row_checks(table))


def run_rows(table: TableScenario, runs: Mapping[str, DatasetRun], options: RunOptions) -> TableTrials:
    """Reference rows and rows on every dataset, trained and tested or as they were stored."""
    references, rows = {}, {}
    for line in table.missing_logs():
        options.reporter.say(line)
    for name, keys in table.chosen():
        runs[name].progress.say(f"dataset {name}: {len(table.rows)} rows, {table.seeds} seeds")
        config = table.config(keys, table.reference_row, table.first_seed)
        references[name] = run_references(table, runs[name], config, options)
        rows[name] = _train_rows(table, Chosen(name, keys), runs[name], options)
    return TableTrials(runs, references, rows)


def row_checks(table: TableScenario) -> Check:
    """What refuses a dataset on which a row cannot be trained."""
    from micrec.fitting import check_inputs

    chosen = dict(table.chosen())

    def check(name: str, dataset: Dataset) -> None:
        faults = []
        for row in table.rows:
            try:
                check_inputs(dataset, table.config(chosen[name], row, table.first_seed))
            except MicrecError as fault:
                faults.append(str(fault))
        if faults:
            raise MicrecError.of(f"dataset {name}", list(dict.fromkeys(faults)))

    return check


def check_trial(trial: Trial, table: TableScenario, cutoffs: Sequence[int]) -> None:
    """Stop early where a finished trial cannot answer the scenario.

    Raises:
        MicrecError: If a metric or slice that the scenario names was not evaluated. A metric that this dataset has no
            word for, such as link recall where no link is known, stays undefined.
        ValueError: If the per-user hits do not add up to the metrics.
    """
    from micrec.experiment import optional_metrics

    known = {*trial.metrics, *optional_metrics(cutoffs)}
    faults = [
        f"{where}: no metric {metric}: {nearest(metric, trial.metrics)}"
        for where, metrics in table.named_metrics().items()
        for metric in metrics
        if metric not in known
    ]
    faults += [
        f"{where}: no slice {name}: choose from {', '.join(trial.slices) or 'none'}"
        for where, slices in table.named_slices().items()
        for name in slices
        if name not in trial.slices
    ]
    if faults:
        raise MicrecError.of(f"scenario {table.name}", faults)
    check_hits(trial, cutoffs)


def _train_rows(table: TableScenario, chosen: Chosen, run: DatasetRun, options: RunOptions) -> dict[str, list[Trial]]:
    """Every row with every seed, seed by seed, so that an interrupted run holds whole pairs."""
    where = f"{chosen.name}: " if len(table.chosen()) > 1 else ""

    def trained(seeds: Sequence[int], epochs: Mapping[str, int]) -> dict[str, Trial]:
        specs = [
            RunSpec(
                f"{row}-seed{seed}",
                f"{where}{keys.label}, seed {seed}",
                table.config(chosen.keys, row, seed, epochs=epochs.get(row)),
            )
            for seed in seeds
            for row, keys in table.rows.items()
        ]
        return train_trials(run, specs, options, check)

    def check(trial: Trial, config: Config) -> None:
        check_trial(trial, table, config.evaluation.cutoffs)

    seeds = list(table.seed_numbers)
    if table.choose_epochs == "first_seed":
        found = trained(seeds[:1], {})
        epochs = {row: int(found[f"{row}-seed{seeds[0]}"].info["best_epoch"]) for row in table.rows}
        found |= trained(seeds[1:], epochs)
    else:
        found = trained(seeds, {})
    return {row: [found[f"{row}-seed{seed}"] for seed in seeds] for row in table.rows}
