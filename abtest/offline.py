"""The offline A/B: train every arm with the same seeds, test them on the same users, say which gains are real."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from abtest.cells import Cell, CellStore, ModelResult, cell_key, hash_dataset
from abtest.effects import check_cell, compute_effects
from abtest.report import write_report
from abtest.runfolder import (
    CELLS_FOLDER,
    RESULTS_FILE,
    SCENARIO_FILE,
    WORLD_FOLDER,
    check_run,
    jsonable,
    open_run,
    versions,
    write_json,
    write_text,
)
from abtest.scenario import CONTROL, OfflineScenario, scenario_yaml
from abtest.workers import Finished, Job, cpu_threads, default_workers, run_jobs
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.progress import NoProgress, Progress
from micrec.settings import differences, load_yaml

SCHEMA = "micrec-results/1"


class TrainFn(Protocol):
    """``micrec.experiment.run_model``."""

    def __call__(
        self, dataset: Dataset, config: Config, *, folder: Path | None, progress: Progress | None
    ) -> ModelResult: ...


class FloorFn(Protocol):
    """``micrec.experiment.run_floor``."""

    def __call__(self, name: str, dataset: Dataset, config: Config) -> ModelResult: ...


class _Run(NamedTuple):
    """What all cells of a run share."""

    scenario: OfflineScenario
    dataset: Dataset
    data_hash: str
    versions: dict[str, str]
    store: CellStore
    progress: Progress


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
    floor: FloorFn | None = None,
    read: Callable[[Path], Dataset] | None = None,
) -> dict[str, Any]:
    """Run a scenario into a run folder; an interrupted run goes on where it stopped, to the same result.

    Args:
        scenario: What to compare.
        out: The run folder, see ``abtest.runfolder``.
        resolved: The scenario as plain data with every key, from ``load_scenario``.
        force: Replace a finished run.
        command: What the user typed, for the report.
        workers: Models trained at a time; None = one per core on a CPU. Any number gives the same results.
        progress: Where to report.
        train: Trains and tests one model; by default ``micrec.experiment.run_model``.
        floor: Tests a model without training; by default ``micrec.experiment.run_floor``.
        read: Reads a dataset folder; by default ``micrec.data.store.read_dataset``.

    Returns:
        The contents of ``results.json``.

    Raises:
        MicrecError: If the folder holds a finished run or no run at all, the data are at fault, a metric of the
            scenario does not exist, or a training fails.
    """
    progress = progress or NoProgress()
    check_run(out, force=force)
    read = read or _default_read()
    dataset = None
    if scenario.data is not None:  # before anything is written or replaced
        dataset = read(scenario.data)
        if train is None:
            _check_arms(scenario, dataset)
    open_run(out, force=force)
    write_text(out / SCENARIO_FILE, scenario_yaml(resolved))
    if dataset is None:
        dataset = read(_generated_world(scenario, out / WORLD_FOLDER, progress))
    run = _Run(scenario, dataset, hash_dataset(dataset), versions(), CellStore(out / CELLS_FOLDER), progress)
    floors = _run_floors(run, floor)
    cells = _run_arms(run, train, workers)
    results = _results(run, resolved, command, cells, floors)
    write_report(out, results)
    write_json(out / RESULTS_FILE, results)  # last: the run is finished once it is there
    return results


def switches(scenario: OfflineScenario) -> dict[str, Any]:
    """Which config keys were on: those that differ from the paper's defaults, or between the arms.

    Returns:
        ``preset``; ``shared``, the keys all arms set alike; ``arms``, for each arm the keys in which arms differ.
    """
    configs = {arm: scenario.config(arm, scenario.first_seed) for arm in scenario.arms}
    changed = [
        differences(config, reference) for config in configs.values() for reference in (Config(), *configs.values())
    ]
    keys = {key: None for change in changed for key in change if key not in ("preset", "train.seed")}
    values = {arm: {key: _lookup(config, key) for key in keys} for arm, config in configs.items()}
    alike = {key for key in keys if all(value[key] == values[CONTROL][key] for value in values.values())}
    return {
        "preset": scenario.preset,
        "shared": {key: value for key, value in values[CONTROL].items() if key in alike},
        "arms": {arm: {k: v for k, v in value.items() if k not in alike} for arm, value in values.items()},
    }


def _run_arms(run: _Run, train: TrainFn | None, workers: int | None) -> dict[str, list[Cell]]:
    """Every arm with every seed, seed by seed, so that an interrupted run holds whole pairs."""
    scenario = run.scenario
    labels: dict[str, str] = {}
    keys: dict[str, dict[str, str]] = {}
    jobs: list[Job] = []
    total = len(scenario.arms) * scenario.seeds
    for seed in scenario.seed_numbers:
        for arm in scenario.arms:
            config, name = scenario.config(arm, seed), f"{arm}-seed{seed}"
            labels[name] = f"{scenario.arms[arm].label}, seed {seed} ({len(labels) + 1} of {total})"
            keys[name] = cell_key(config, run.data_hash, run.versions)
            if run.store.load(name, keys[name]) is not None:
                run.progress.say(f"{labels[name]}: done before, kept")
            else:
                jobs.append(Job(name, labels[name], config, run.store.start(name, keys[name])))
    run.progress.start("all models", len(jobs), "models")
    for finished in _finish(run, jobs, train, workers):
        name = finished.job.name
        run.store.save(name, finished.result, seconds=finished.seconds)
        check_cell(_stored(run, name, keys[name]), scenario, finished.job.config.evaluation.cutoffs)
        run.progress.say(f"{finished.job.label}: finished in {finished.seconds:.0f} s")
        run.progress.advance(1)
    run.progress.finish()
    cells: dict[str, list[Cell]] = {}
    for arm in scenario.arms:
        names = [f"{arm}-seed{seed}" for seed in scenario.seed_numbers]
        cells[arm] = [_stored(run, name, keys[name]) for name in names]
    return cells


def _finish(run: _Run, jobs: list[Job], train: TrainFn | None, workers: int | None) -> Iterator[Finished]:
    """Train what is left: here, or side by side in processes."""
    if not jobs:
        return
    device = jobs[0].config.train.device
    workers = min(workers, len(jobs)) if workers else default_workers(device, len(jobs))
    if train is None and workers > 1 and run.dataset.folder is not None:
        run.progress.say(f"{len(jobs)} models to train, {workers} at a time")
        yield from run_jobs(jobs, run.dataset.folder, workers=workers, progress=run.progress)
        return
    for job in jobs:
        run.progress.say(job.label)
        started_s = time.perf_counter()
        with cpu_threads(job.config):
            result = (train or _default_train())(run.dataset, job.config, folder=job.folder, progress=run.progress)
        yield Finished(job, result, time.perf_counter() - started_s)


def _stored(run: _Run, name: str, key: dict[str, str]) -> Cell:
    """A finished cell as a resumed run would see it, so that both give the same numbers."""
    cell = run.store.load(name, key)
    assert cell is not None
    return cell


def _run_floors(run: _Run, floor: FloorFn | None) -> dict[str, Cell]:
    """The models that need no training, on the same test users."""
    config = run.scenario.config(CONTROL, run.scenario.first_seed)
    key = cell_key(config, run.data_hash, run.versions)
    cells: dict[str, Cell] = {}
    for floor_name in run.scenario.floors:
        name = f"floor-{floor_name}"
        if run.store.load(name, key) is None:
            run.progress.say(f"floor {floor_name}")
            run.store.start(name, key)
            started_s = time.perf_counter()
            result = (floor or _default_floor())(floor_name, run.dataset, config)
            run.store.save(name, result, seconds=time.perf_counter() - started_s)
        cells[floor_name] = _stored(run, name, key)
    return cells


def _results(
    run: _Run, resolved: Mapping[str, Any], command: str, cells: dict[str, list[Cell]], floors: dict[str, Cell]
) -> dict[str, Any]:
    scenario, dataset = run.scenario, run.dataset
    cutoffs = scenario.config(CONTROL, scenario.first_seed).evaluation.cutoffs
    models = [_model_row(dataset, f"{name} (floor)", None, None, cell) for name, cell in floors.items()]
    for arm, members in cells.items():
        seeds = zip(scenario.seed_numbers, members, strict=True)
        models += [_model_row(dataset, scenario.arms[arm].label, arm, seed, cell) for seed, cell in seeds]
    everything = [*floors.values(), *(cell for members in cells.values() for cell in members)]
    results = {
        "schema": SCHEMA,
        "kind": scenario.kind,
        "scenario": dict(resolved),
        "command": command,
        "versions": run.versions,
        "seeds": list(scenario.seed_numbers),
        "runtime_s": sum(cell.seconds for cell in everything),
        "dataset": {
            "name": dataset.name,
            "hash": run.data_hash,
            "users": len(dataset.users),
            "items": len(dataset.items),
            "clicks": len(dataset.clicks),
        },
        "switches": switches(scenario),
        "effects": compute_effects(scenario, cells, cutoffs),
        "srm": [],  # an offline comparison assigns nobody: both arms see the same users
        "models": models,
    }
    plain = jsonable(results)
    assert isinstance(plain, dict)
    return plain


def _model_row(dataset: Dataset, label: str, arm: str | None, seed: int | None, cell: Cell) -> dict[str, Any]:
    plain = {
        name: value for name, value in cell.info.items() if value is None or isinstance(value, bool | int | float | str)
    }
    place = {"model": label, "arm": arm, "dataset": dataset.name, "seed": seed, "seconds": cell.seconds}
    return {**plain, **cell.metrics, **place, "slices": cell.slices}


def _generated_world(scenario: OfflineScenario, folder: Path, progress: Progress) -> Path:
    """The scenario's world, drawn unless the very same one lies there."""
    from simulator.world.generate import generate_world

    wanted = scenario.world.model_dump(mode="json")
    schema = folder / "dataset.yaml"
    if schema.exists() and load_yaml(schema).get("provenance", {}).get("config") == wanted:
        return folder
    progress.say("no data given: drawing a world")
    return generate_world(scenario.world, folder, overwrite=True, progress=progress).folder


def _check_arms(scenario: OfflineScenario, dataset: Dataset) -> None:
    from micrec.fitting import check_inputs

    for arm in scenario.arms:
        check_inputs(dataset, scenario.config(arm, scenario.first_seed))


def _default_train() -> TrainFn:
    from micrec.experiment import run_model

    return run_model


def _default_floor() -> FloorFn:
    from micrec.experiment import run_floor

    return run_floor


def _default_read() -> Callable[[Path], Dataset]:
    from micrec.data.store import read_dataset

    return read_dataset


def _lookup(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value
