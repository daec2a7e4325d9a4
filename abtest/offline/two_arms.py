"""The offline A/B: train every arm with the same seeds, test them on the same users, say which gains are real."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from abtest.arms import CONTROL
from abtest.offline.arm_effects import check_cell, compute_effects
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
from abtest.offline.offline_scenario import OfflineScenario
from abtest.offline.trials import Trial, TrialStore, hash_dataset
from abtest.report import write_report
from abtest.report.pages.diagnosis_files import write_diagnosis
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
from micrec.loss_requirements import applicable_config
from micrec.progress import NoProgress, Progress


@alone_in_folder
def run_offline(
    scenario: OfflineScenario,
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
    """Run a scenario into a run folder; an interrupted run goes on where it stopped, to the same result.

    Args:
        scenario: What to compare.
        out: The run folder, see ``abtest.run_folder``.
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
        MicrecError: If the folder holds a finished run or no run at all, the data are at fault, a metric of the
            scenario does not exist, or a training fails.
    """
    progress = progress or NoProgress()
    check_run(out, force=force, data=[scenario.data] if scenario.data is not None else [])
    read = read or default_read()
    dataset = None
    if scenario.data is not None:  # before anything is written or replaced
        dataset = read(scenario.data)
        if train is None:
            check_arms(scenario, dataset)
    open_run(out, force=force)
    write_scenario(out, resolved)
    if dataset is None:
        dataset = read(generated_world(scenario.world, out / WORLD_FOLDER, progress))
    bench = DatasetRun(dataset, hash_dataset(dataset), versions(), TrialStore(out / TRIALS_FOLDER), progress)
    baselines = run_baselines(bench, scenario.baselines, scenario.config(CONTROL, scenario.first_seed), baseline)
    cells = _run_arms(scenario, bench, train, workers)
    results = _results(scenario, bench, resolved, command, cells, baselines)
    write_report(out, results)
    write_diagnosis(out, results)
    write_json(out / RESULTS_FILE, results)  # last: the run is finished once it is there
    return results


def switches(scenario: OfflineScenario, dataset: Dataset | None = None) -> dict[str, Any]:
    """Which config keys were on: those that differ from the paper's defaults, or between the arms.

    Args:
        scenario: What was compared.
        dataset: The data: keys that they rule out are reported as they took effect, such as the semantic loss
            without titles.

    Returns:
        ``preset``; ``shared``, the keys all arms set alike; ``arms``, for each arm the keys in which arms differ.
    """
    configs = {arm: scenario.config(arm, scenario.first_seed) for arm in scenario.arms}
    if dataset is not None:
        configs = {arm: applicable_config(dataset, config)[0] for arm, config in configs.items()}
    return {"preset": scenario.preset, **switches_of(configs)}


def _run_arms(
    scenario: OfflineScenario, bench: DatasetRun, train: TrainFn | None, workers: int | None
) -> dict[str, list[Trial]]:
    """Every arm with every seed, seed by seed, so that an interrupted run holds whole pairs."""
    plans = [
        RunSpec(f"{arm}-seed{seed}", f"{scenario.arms[arm].label}, seed {seed}", scenario.config(arm, seed))
        for seed in scenario.seed_numbers
        for arm in scenario.arms
    ]

    def check(cell: Trial, config: Config) -> None:
        check_cell(cell, scenario, config.evaluation.cutoffs)

    found = train_cells(bench, plans, train=train, workers=workers, check=check)
    return {arm: [found[f"{arm}-seed{seed}"] for seed in scenario.seed_numbers] for arm in scenario.arms}


def _results(
    scenario: OfflineScenario,
    bench: DatasetRun,
    resolved: Mapping[str, Any],
    command: str,
    cells: dict[str, list[Trial]],
    baselines: dict[str, Trial],
) -> dict[str, Any]:
    dataset = bench.dataset
    cutoffs = scenario.config(CONTROL, scenario.first_seed).evaluation.cutoffs
    models = [model_row(dataset, f"{name} (baseline)", None, None, cell) for name, cell in baselines.items()]
    for arm, members in cells.items():
        seeds = zip(scenario.seed_numbers, members, strict=True)
        models += [model_row(dataset, scenario.arms[arm].label, arm, seed, cell) for seed, cell in seeds]
    everything = [*baselines.values(), *(cell for members in cells.values() for cell in members)]
    results = {
        "schema": SCHEMA,
        "kind": scenario.kind,
        "scenario": dict(resolved),
        "command": command,
        "versions": bench.versions,
        "seeds": list(scenario.seed_numbers),
        "runtime_s": sum(cell.seconds for cell in everything),
        "dataset": bench.facts(),
        "switches": switches(scenario, dataset),
        "effects": compute_effects(scenario, cells, cutoffs),
        "srm": [],  # an offline comparison assigns nobody: both arms see the same users
        "models": models,
    }
    plain = jsonable(results)
    assert isinstance(plain, dict)
    return plain


def check_arms(scenario: OfflineScenario, dataset: Dataset) -> None:
    """Refuse a dataset on which an arm cannot be trained."""
    from micrec.fitting import check_inputs

    for arm in scenario.arms:
        check_inputs(dataset, scenario.config(arm, scenario.first_seed))
