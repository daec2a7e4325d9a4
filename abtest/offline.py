"""The offline A/B: train every arm with the same seeds, test them on the same users, say which gains are real."""

import time
from collections.abc import Callable, Mapping
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

    def __call__(self, name: str, dataset: Dataset, config: Config, *, progress: Progress | None) -> ModelResult: ...


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
    dataset = read(scenario.data) if scenario.data is not None else None  # before anything is written or replaced
    open_run(out, force=force)
    write_text(out / SCENARIO_FILE, scenario_yaml(resolved))
    if dataset is None:
        dataset = read(_generated_world(scenario, out / WORLD_FOLDER, progress))
    run = _Run(scenario, dataset, hash_dataset(dataset), versions(), CellStore(out / CELLS_FOLDER), progress)
    floors = _run_floors(run, floor)
    cells = _run_arms(run, train)
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


def _run_arms(run: _Run, train: TrainFn | None) -> dict[str, list[Cell]]:
    """Every arm with every seed, seed by seed, so that an interrupted run holds whole pairs."""
    scenario = run.scenario
    cells: dict[str, list[Cell]] = {arm: [] for arm in scenario.arms}
    total = len(scenario.arms) * scenario.seeds
    for number, seed in enumerate(scenario.seed_numbers):
        for place, arm in enumerate(scenario.arms):
            config = scenario.config(arm, seed)
            label = f"{scenario.arms[arm].label}, seed {seed} ({number * len(scenario.arms) + place + 1} of {total})"

            def work(folder: Path, config: Config = config) -> ModelResult:
                return (train or _default_train())(run.dataset, config, folder=folder, progress=run.progress)

            cell = _cell(run, f"{arm}-seed{seed}", config, label, work)
            check_cell(cell, scenario, config.evaluation.cutoffs)
            cells[arm].append(cell)
    return cells


def _run_floors(run: _Run, floor: FloorFn | None) -> dict[str, Cell]:
    config = run.scenario.config(CONTROL, run.scenario.first_seed)
    cells: dict[str, Cell] = {}
    for name in run.scenario.floors:

        def work(_: Path, name: str = name) -> ModelResult:
            return (floor or _default_floor())(name, run.dataset, config, progress=run.progress)

        cells[name] = _cell(run, f"floor-{name}", config, f"floor {name}", work)
    return cells


def _cell(run: _Run, name: str, config: Config, label: str, work: Callable[[Path], ModelResult]) -> Cell:
    """The stored cell if it is finished and still valid, else a new one."""
    key = cell_key(config, run.data_hash, run.versions)
    cell = run.store.load(name, key)
    if cell is not None:
        run.progress.say(f"{label}: done before, kept")
        return cell
    run.progress.say(label)
    folder = run.store.start(name, key)
    started_s = time.perf_counter()
    run.store.save(name, work(folder), seconds=time.perf_counter() - started_s)
    cell = run.store.load(name, key)  # what a resumed run would see, so that both give the same numbers
    assert cell is not None
    return cell


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
    from simulator.world.simple import make_simple_world

    wanted = jsonable(scenario.world.model_dump())
    schema = folder / "dataset.yaml"
    if schema.exists() and jsonable(load_yaml(schema)).get("provenance", {}).get("config") == wanted:
        return folder
    progress.say("no data given: drawing a small world")
    return make_simple_world(scenario.world, folder, overwrite=True)


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
