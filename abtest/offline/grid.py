"""A grid: settings tried on validation clicks, cell by cell, the best of them tested with the other rows."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from abtest.offline.dataset_run import BaselineFn, DatasetRun, RunSpec, TrainFn, train_cells
from abtest.offline.grid_scenario import GridScenario, Setting, setting_text
from abtest.offline.table_checks import nearest
from abtest.offline.table_run import bench_of, open_datasets, row_checks, table_results
from abtest.offline.table_scenario import Chosen
from abtest.offline.trials import Trial
from abtest.report.pages.table_files import write_files
from abtest.run_folder import RESULTS_FILE, alone_in_folder, jsonable, write_json
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.progress import NoProgress, Progress
from micrec.settings import merge


class GridTrial(NamedTuple):
    """A setting that was tried: its metric on the validation slice, one value per seed."""

    setting: Setting
    values: list[float]
    seconds: float

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    def as_dict(self) -> dict[str, Any]:
        """For results.json."""
        spread = statistics.stdev(self.values) if len(self.values) > 1 else None
        return {**self._asdict(), "mean": self.mean, "sd": spread}


class Searched(NamedTuple):
    """All trials on one dataset, in the order they were made, and the best of them."""

    start: Setting
    chosen: Setting
    trials: list[GridTrial]


@alone_in_folder
def run_grid(
    scenario: GridScenario,
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
    """Search, then test; see ``run_table``. Nothing of the test period is looked at before the choice is made."""
    progress = progress or NoProgress()
    datasets = open_datasets(
        scenario.chosen(), out, resolved=resolved, force=force, progress=progress, read=read, check=row_checks(scenario)
    )
    benches = {name: bench_of(dataset, out, name, progress) for name, dataset in datasets.items()}
    found = {
        chosen.name: search(scenario, chosen, _Trials(scenario, chosen, benches[chosen.name], train, workers))
        for chosen in scenario.chosen()
    }
    tuned = {}
    for name, keys in scenario.chosen():
        progress.say(f"{name}: chosen on validation: {setting_text(found[name].chosen)}")
        own = merge(keys.rows.get(scenario.tune, {}), scenario.keys_of(found[name].chosen))
        tuned[name] = keys.model_copy(update={"rows": {**keys.rows, scenario.tune: own}})
    test = scenario.model_copy(update={"datasets": tuned, "data": None})
    results = table_results(
        test, benches, resolved=resolved, command=command, workers=workers, train=train, baseline=baseline
    )
    results["search"] = jsonable(
        {
            name: {
                "metric": scenario.choose_by,
                "start": one.start,
                "chosen": one.chosen,
                "trials": [trial.as_dict() for trial in one.trials],
            }
            for name, one in found.items()
        }
    )
    results["runtime_s"] += sum(trial.seconds for one in found.values() for trial in one.trials)
    write_files(out, results)
    write_json(out / RESULTS_FILE, results)  # last: the run is finished once it is there
    return results


def search(scenario: GridScenario, chosen: Chosen, try_all: Callable[[Sequence[Setting]], list[GridTrial]]) -> Searched:
    """The best setting; of equal ones the earliest tried.

    Args:
        scenario: The factors and how they are searched.
        chosen: The dataset.
        try_all: Trials of settings, in their order; it may be asked for one it has tried.
    """
    start = scenario.start(chosen.keys)
    if scenario.search == "factorial":
        trials = try_all(scenario.combinations())
        return Searched(start, max(trials, key=lambda trial: trial.mean).setting, trials)
    trials, best = try_all([start]), start
    for _ in range(scenario.rounds):
        before = best
        for name, factor in scenario.factors.items():
            found = try_all([{**best, name: value} for value in factor.values])
            trials += [trial for trial in found if all(trial.setting != known.setting for known in trials)]
            incumbent = next(trial for trial in trials if trial.setting == best)
            best = max([incumbent, *found], key=lambda trial: trial.mean).setting
        if best == before:
            break
    return Searched(start, best, trials)


class _Trials:
    """Trains what is asked for, once each."""

    def __init__(
        self, scenario: GridScenario, chosen: Chosen, bench: DatasetRun, train: TrainFn | None, workers: int | None
    ) -> None:
        self.scenario, self.chosen, self.bench = scenario, chosen, bench
        self.train, self.workers = train, workers

    def __call__(self, settings: Sequence[Setting]) -> list[GridTrial]:
        scenario = self.scenario
        plans = {
            (place, seed): RunSpec(
                f"{self._name(setting)}-seed{seed}",
                f"{self.chosen.name}: trial {setting_text(setting)}, seed {seed}",
                scenario.trial_config(self.chosen.keys, setting, seed),
                "valid",
            )
            for place, setting in enumerate(settings)
            for seed in scenario.search_seed_numbers
        }
        cells = train_cells(self.bench, list(plans.values()), train=self.train, workers=self.workers, check=self._check)
        trials = []
        for place, setting in enumerate(settings):
            mine = [cells[plans[place, seed].name] for seed in scenario.search_seed_numbers]
            values = [cell.metrics.get(scenario.choose_by, math.nan) for cell in mine]
            trials.append(GridTrial(dict(setting), values, sum(cell.seconds for cell in mine)))
        return trials

    def _name(self, setting: Setting) -> str:
        """Folder of a setting: the place of each value among its factor's."""
        places = [factor.values.index(setting[name]) for name, factor in self.scenario.factors.items()]
        return "-".join(["trial", *map(str, places)])

    def _check(self, cell: Trial, config: Config) -> None:
        """Stop early where the metric that is to choose does not exist, or is undefined."""
        metric = self.scenario.choose_by
        if metric not in cell.metrics:
            raise MicrecError(f"choose_by: no metric {metric}: {nearest(metric, cell.metrics)}.")
        if math.isnan(cell.metrics[metric]):
            raise MicrecError(f"choose_by: {metric} is undefined on the validation slice: choose another metric.")
