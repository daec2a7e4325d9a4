"""A grid search: settings are compared on validation clicks, and the best one is tested with the other rows."""

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from abtest.offline.dataset_run import DatasetRun
from abtest.offline.grid_scenario import GridScenario, Setting, setting_text
from abtest.offline.run_options import RunOptions
from abtest.offline.table_checks import nearest
from abtest.offline.table_results import table_results
from abtest.offline.table_run import open_table, run_rows
from abtest.offline.table_scenario import Chosen
from abtest.offline.trial_runs import RunSpec, train_trials
from abtest.offline.trials import Trial
from abtest.report.pages.table_files import write_files
from abtest.run_folder import alone_in_folder, finish_run, jsonable
from micrec.config import Config
from micrec.errors import MicrecError
from micrec.settings import merge


class GridTrial(NamedTuple):
    """One setting and its metric on the validation clicks, one value per seed."""

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
    """All trials on one dataset, in the order in which they ran, and the best setting."""

    start: Setting
    chosen: Setting
    trials: list[GridTrial]

    def as_dict(self, metric: str) -> dict[str, Any]:
        """For results.json; ``metric`` is what chose."""
        trials = [trial.as_dict() for trial in self.trials]
        return {"metric": metric, "start": self.start, "chosen": self.chosen, "trials": trials}


@alone_in_folder
def run_grid(scenario: GridScenario, out: Path, **given: Any) -> dict[str, Any]:
    """Search, then test; see ``run_table``. Nothing of the test period is looked at before the choice is made."""
    options = RunOptions(**given)
    runs = open_table(scenario, out, options)
    found = {
        chosen.name: search(scenario, chosen, _Trials(scenario, chosen, runs[chosen.name], options))
        for chosen in scenario.chosen()
    }
    tuned = {}
    for name, keys in scenario.chosen():
        options.reporter.say(f"{name}: chosen on validation: {setting_text(found[name].chosen)}")
        own = merge(keys.rows.get(scenario.tune, {}), scenario.keys_of(found[name].chosen))
        tuned[name] = keys.model_copy(update={"rows": {**keys.rows, scenario.tune: own}})
    test = scenario.model_copy(update={"datasets": tuned, "data": None})
    results = table_results(test, run_rows(test, runs, options), options)
    results["search"] = jsonable({name: one.as_dict(scenario.choose_by) for name, one in found.items()})
    results["runtime_s"] += sum(trial.seconds for one in found.values() for trial in one.trials)
    return finish_run(out, results, write_files)


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

    def __init__(self, scenario: GridScenario, chosen: Chosen, run: DatasetRun, options: RunOptions) -> None:
        self.scenario, self.chosen, self.run, self.options = scenario, chosen, run, options

    def __call__(self, settings: Sequence[Setting]) -> list[GridTrial]:
        scenario = self.scenario
        specs = {
            (place, seed): RunSpec(
                f"{self._name(setting)}-seed{seed}",
                f"{self.chosen.name}: trial {setting_text(setting)}, seed {seed}",
                scenario.trial_config(self.chosen.keys, setting, seed),
                "valid",
            )
            for place, setting in enumerate(settings)
            for seed in scenario.search_seed_numbers
        }
        found = train_trials(self.run, list(specs.values()), self.options, self._check)
        trials = []
        for place, setting in enumerate(settings):
            mine = [found[specs[place, seed].name] for seed in scenario.search_seed_numbers]
            values = [trial.metrics.get(scenario.choose_by, math.nan) for trial in mine]
            trials.append(GridTrial(dict(setting), values, sum(trial.seconds for trial in mine)))
        return trials

    def _name(self, setting: Setting) -> str:
        """Folder of a setting: the place of each value among its factor's."""
        places = [factor.values.index(setting[name]) for name, factor in self.scenario.factors.items()]
        return "-".join(["trial", *map(str, places)])

    def _check(self, trial: Trial, config: Config) -> None:
        """Stop early where the metric that is to choose does not exist, or is undefined."""
        metric = self.scenario.choose_by
        if metric not in trial.metrics:
            raise MicrecError(f"choose_by: no metric {metric}: {nearest(metric, trial.metrics)}.")
        if math.isnan(trial.metrics[metric]):
            raise MicrecError(f"choose_by: {metric} is undefined on the validation slice: choose another metric.")
