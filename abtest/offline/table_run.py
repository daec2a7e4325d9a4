"""A table from its scenario: every row with every seed on every dataset, then the tests, the report, the figure."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from abtest.offline.arm_effects import check_hits
from abtest.offline.dataset_run import (
    BaselineFn,
    DatasetRun,
    RunSpec,
    TrainFn,
    default_read,
    generated_world,
    model_row,
    run_baselines,
    switches_of,
    train_cells,
)
from abtest.offline.table_checks import nearest
from abtest.offline.table_effects import judge_orderings, table_effects
from abtest.offline.table_scenario import Chosen, TableScenario
from abtest.offline.trials import Trial, TrialStore, hash_dataset
from abtest.report.pages.table_files import write_files
from abtest.run_folder import (
    RESULTS_FILE,
    SCHEMA,
    TRIALS_FOLDER,
    WORLD_FOLDER,
    alone_in_folder,
    check_run,
    jsonable,
    open_run,
    versions,
    write_json,
    write_scenario,
)
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.describe import describe
from micrec.errors import MicrecError
from micrec.loss_requirements import applicable_config
from micrec.progress import NoProgress, Progress
from micrec.settings import differences


@alone_in_folder
def run_table(
    scenario: TableScenario,
    out: Path,
    *,
    resolved: Mapping[str, Any],
    force: bool = False,
    command: str = "",
    workers: int | None = None,
    progress: Progress | None = None,
    train: TrainFn | None = None,
    baseline: BaselineFn | None = None,
    read: Callable[[Path], Dataset] | None = None,
) -> dict[str, Any]:
    """Run a table's scenario into a run folder; an interrupted run goes on, cell by cell, to the same result.

    Args:
        scenario: The table.
        out: The run folder, see ``abtest.run_folder``; cells and worlds lie in a folder per dataset.
        resolved: The scenario as plain data with every key, from ``load_scenario``.
        force: Replace a finished run.
        command: What the user typed, for the report.
        workers: Models trained at a time; None = one per core on a CPU. Any number gives the same results.
        progress: Where to report.
        train: Trains and tests one model; by default ``micrec.experiment.run_model``.
        baseline: Tests a model without training; by default ``micrec.experiment.run_baseline``.
        read: Reads a dataset folder; by default ``micrec.data.store.read_dataset``.

    Returns:
        The contents of ``results.json``.

    Raises:
        MicrecError: If the folder holds a finished run or no run at all, a dataset is at fault, a row cannot be
            trained on it, a metric does not exist, or a training fails.
    """
    progress = progress or NoProgress()
    datasets = open_datasets(
        scenario.chosen(), out, resolved=resolved, force=force, progress=progress, read=read, check=row_checks(scenario)
    )
    benches = {name: bench_of(dataset, out, name, progress) for name, dataset in datasets.items()}
    results = table_results(
        scenario, benches, resolved=resolved, command=command, workers=workers, train=train, baseline=baseline
    )
    write_files(out, results)
    write_json(out / RESULTS_FILE, results)  # last: the run is finished once it is there
    return results


def table_results(
    scenario: TableScenario,
    benches: Mapping[str, DatasetRun],
    *,
    resolved: Mapping[str, Any],
    command: str,
    workers: int | None,
    train: TrainFn | None,
    baseline: BaselineFn | None,
) -> dict[str, Any]:
    """Floors and rows on every dataset, and the contents of results.json."""
    baselines: dict[str, dict[str, Trial]] = {}
    cells: dict[str, dict[str, list[Trial]]] = {}
    for name, keys in scenario.chosen():
        benches[name].progress.say(f"dataset {name}: {len(scenario.rows)} rows, {scenario.seeds} seeds")
        config = scenario.config(keys, scenario.reference_row, scenario.first_seed)
        baselines[name] = run_baselines(benches[name], scenario.baselines, config, baseline)
        cells[name] = _run_rows(scenario, Chosen(name, keys), benches[name], train, workers)
    return _results(scenario, benches, resolved, command, cells, baselines)


def open_datasets(
    chosen: Sequence[Chosen],
    out: Path,
    *,
    resolved: Mapping[str, Any],
    force: bool,
    progress: Progress,
    read: Callable[[Path], Dataset] | None,
    check: Callable[[str, Dataset], None],
) -> dict[str, Dataset]:
    """The datasets of a run, in order; folders are read and checked before anything is written, worlds drawn after."""
    check_run(out, force=force, data=[keys.data for _, keys in chosen if keys.data is not None])
    read = read or default_read()
    given = read_given(chosen, read, check)
    open_run(out, force=force)
    write_scenario(out, resolved)
    datasets = {}
    for name, keys in chosen:
        if name not in given:
            given[name] = read(generated_world(keys.world_config(), out / WORLD_FOLDER / name, progress))
            check(name, given[name])
        datasets[name] = given[name]
    return datasets


def read_given(
    chosen: Sequence[Chosen], read: Callable[[Path], Dataset], check: Callable[[str, Dataset], None]
) -> dict[str, Dataset]:
    """The datasets that lie in folders, read and checked.

    Raises:
        MicrecError: What is wrong with any of them.
    """
    given, faults = {}, []
    for name, keys in chosen:
        if keys.data is not None:
            try:
                given[name] = read(keys.data)
                check(name, given[name])
            except MicrecError as fault:
                faults.append(str(fault))
    if faults:
        raise MicrecError(faults[0]) if len(faults) == 1 else MicrecError.of("datasets", faults)
    return given


def bench_of(dataset: Dataset, out: Path, name: str, progress: Progress) -> DatasetRun:
    """Where the cells of one dataset lie."""
    return DatasetRun(dataset, hash_dataset(dataset), versions(), TrialStore(out / TRIALS_FOLDER / name), progress)


def check_cell(cell: Trial, scenario: TableScenario, cutoffs: Sequence[int]) -> None:
    """Stop early where a finished cell cannot answer the scenario.

    Raises:
        MicrecError: If a metric or slice that the scenario names was not evaluated. A metric that this dataset has no
            word for, such as link recall where no link is known, stays undefined.
    """
    from micrec.experiment import optional_metrics

    known = {*cell.metrics, *optional_metrics(cutoffs)}
    wanted = {"metrics": scenario.metrics, "details": scenario.details}
    wanted |= {f"orderings.{place}.metrics": one.metrics or () for place, one in enumerate(scenario.orderings)}
    faults = [
        f"{where}: no metric {metric}: {nearest(metric, cell.metrics)}"
        for where, metrics in wanted.items()
        for metric in metrics
        if metric not in known
    ]
    faults += [
        f"slices: no slice {name}: choose from {', '.join(cell.slices) or 'none'}"
        for name in scenario.slices
        if name not in cell.slices
    ]
    if faults:
        raise MicrecError.of(f"scenario {scenario.name}", faults)


def dataset_facts(bench: DatasetRun, label: str, paper: str | None, config: Config) -> dict[str, Any]:
    """One dataset of ``datasets`` in results.json."""
    counted = describe(bench.dataset, config.split, config.sessions)
    counts = ("sessions", "train", "validation", "test")
    fields = [field.name for field in counted.fields]
    return {
        **bench.facts(),
        "label": label,
        "paper": paper,
        **{name: getattr(counted, name) for name in counts},
        "fields": fields,
        "links": bench.dataset.folder is not None
        and (bench.dataset.folder / "ground_truth" / "links.parquet").exists(),
    }


def row_checks(scenario: TableScenario) -> Callable[[str, Dataset], None]:
    """What refuses a dataset on which a row cannot be trained."""
    from micrec.fitting import check_inputs

    chosen = dict(scenario.chosen())

    def check(name: str, dataset: Dataset) -> None:
        faults = []
        for row in scenario.rows:
            try:
                check_inputs(dataset, scenario.config(chosen[name], row, scenario.first_seed))
            except MicrecError as fault:
                faults.append(str(fault))
        if faults:
            raise MicrecError.of(f"dataset {name}", list(dict.fromkeys(faults)))

    return check


def _run_rows(
    scenario: TableScenario, chosen: Chosen, bench: DatasetRun, train: TrainFn | None, workers: int | None
) -> dict[str, list[Trial]]:
    """Every row with every seed, seed by seed, so that an interrupted run holds whole pairs."""

    def trained(seeds: Sequence[int], epochs: Mapping[str, int]) -> dict[str, Trial]:
        plans = [
            RunSpec(
                f"{row}-seed{seed}",
                f"{chosen.name}: {keys.label}, seed {seed}",
                scenario.config(chosen.keys, row, seed, epochs=epochs.get(row)),
            )
            for seed in seeds
            for row, keys in scenario.rows.items()
        ]
        return train_cells(bench, plans, train=train, workers=workers, check=check)

    def check(cell: Trial, config: Config) -> None:
        check_cell(cell, scenario, config.evaluation.cutoffs)
        check_hits(cell, config.evaluation.cutoffs)

    seeds = list(scenario.seed_numbers)
    if scenario.choose_epochs == "first_seed":
        found = trained(seeds[:1], {})
        epochs = {row: int(found[f"{row}-seed{seeds[0]}"].info["best_epoch"]) for row in scenario.rows}
        found |= trained(seeds[1:], epochs)
    else:
        found = trained(seeds, {})
    return {row: [found[f"{row}-seed{seed}"] for seed in seeds] for row in scenario.rows}


def _switches(configs: Mapping[str, Config]) -> dict[str, Any]:
    """Keys that differ from the paper's defaults: those that all rows share, and each row's own."""
    shared = switches_of(configs)["shared"]
    unsaid = {*shared, "preset", "train.seed"}
    rows = {row: differences(config, Config()) for row, config in configs.items()}
    own = {row: {key: value for key, value in keys.items() if key not in unsaid} for row, keys in rows.items()}
    return {"shared": shared, "rows": own}


def _results(
    scenario: TableScenario,
    benches: Mapping[str, DatasetRun],
    resolved: Mapping[str, Any],
    command: str,
    cells: Mapping[str, Mapping[str, Sequence[Trial]]],
    baselines: Mapping[str, Mapping[str, Trial]],
) -> dict[str, Any]:
    models: list[dict[str, Any]] = []
    for name, bench in benches.items():
        here = [
            model_row(bench.dataset, f"{baseline} (baseline)", None, None, cell)
            for baseline, cell in baselines[name].items()
        ]
        for row, members in cells[name].items():
            seeds = zip(scenario.seed_numbers, members, strict=True)
            here += [model_row(bench.dataset, scenario.rows[row].label, row, seed, cell) for seed, cell in seeds]
        models += [{**model, "dataset": name} for model in here]
    effects = table_effects(scenario, cells)
    chosen = dict(scenario.chosen())
    facts = {}
    switches = {}
    for name, keys in chosen.items():
        configs = {row: scenario.config(keys, row, scenario.first_seed) for row in scenario.rows}
        label = keys.label or benches[name].dataset.name
        facts[name] = dataset_facts(benches[name], label, keys.paper, configs[scenario.reference_row])
        trained = {row: applicable_config(benches[name].dataset, config)[0] for row, config in configs.items()}
        switches[name] = _switches(trained)
    results = {
        "schema": SCHEMA,
        "kind": scenario.kind,
        "scenario": dict(resolved),
        "command": command,
        "versions": versions(),
        "seeds": list(scenario.seed_numbers),
        "runtime_s": sum(model["seconds"] for model in models),
        "datasets": facts,
        "reference": scenario.reference_row,
        "switches": {"preset": scenario.preset, "datasets": switches},
        "effects": effects,
        "orderings": judge_orderings(scenario, effects),
        "models": models,
    }
    plain = jsonable(results)
    assert isinstance(plain, dict)
    return plain
