"""The rows that every table has beside its models: no training seed changes them, and each is tested once a dataset.

Any kind of such rows is a function in ``SOURCES``: of a table, a dataset and the options of the run it makes the rows
that this dataset can have. Scenarios, tests and reports need no change for another.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple, TypeAlias

from abtest.offline.dataset_run import DatasetRun
from abtest.offline.run_options import BaselineFn, RunOptions
from abtest.offline.table_scenario import BASELINE, CEILING, TableScenario
from abtest.offline.trial_runs import tested_once
from abtest.offline.trials import Trial, TrialResult
from micrec.baselines import BASELINES
from micrec.baselines.baseline_scores import affordable, left_out
from micrec.config import Config, EvalConfig
from micrec.data.dataset import Dataset


class ReferenceRow(NamedTuple):
    """One row that is the same for every training seed.

    Attributes:
        name: Its name among its sort, such as ``ease``.
        sort: What it is, in a word that tables show behind its name, such as ``baseline``.
        test: From the dataset and the config of the table's reference row to its figures.
    """

    name: str
    sort: str
    test: Callable[[Dataset, Config], TrialResult]

    @property
    def label(self) -> str:
        """Its name in results.json and in tables."""
        return f"{self.name} ({self.sort})"


Source: TypeAlias = Callable[[TableScenario, DatasetRun, RunOptions], Iterable[ReferenceRow]]


def run_references(table: TableScenario, run: DatasetRun, config: Config, options: RunOptions) -> dict[str, Trial]:
    """Every reference row on one dataset, by label, on the test users of the models.

    Args:
        table: The scenario.
        run: The dataset and where its trials lie.
        config: Of the table's reference row: its split and evaluation are those of all rows.
        options: Who tests a baseline.

    Returns:
        The trials; the seconds of one are those of fitting, scoring and testing together.
    """
    reasons = missing_rows(table, run.dataset, config.evaluation)
    for name, reason in reasons.items():
        run.progress.say(f"baseline {name} is left out: {reason}")
    rows = [row for source in SOURCES for row in source(table, run, options) if row.name not in reasons]
    _say_memory(run, [row.name for row in rows if row.sort == BASELINE], options)
    return {
        row.label: tested_once(
            run, f"{row.sort}-{row.name}", config, partial(row.test, run.dataset, config), f"{row.sort} {row.name}"
        )
        for row in rows
    }


def _say_memory(run: DatasetRun, names: list[str], options: RunOptions) -> None:
    """What the baselines take, where one of them is solved densely."""
    if "ease" not in names or options.baseline is not None:
        return
    from micrec.estimates.baseline_memory import baseline_memory
    from micrec.estimates.memory import say_memory

    say_memory(run.progress, baseline_memory(run.dataset, names), each="each baseline")


def missing_rows(table: TableScenario, dataset: Dataset, evaluation: EvalConfig) -> dict[str, str]:
    """Why baselines cannot be asked on a dataset, by name; ceilings that nobody named are missed on worlds alone."""
    unnamed = [name for name in _ceilings(table) if BASELINES[name].lacks(dataset) is None]
    return left_out([*table.baselines, *unnamed], dataset, evaluation)


def baseline_rows(table: TableScenario, run: DatasetRun, options: RunOptions) -> Iterator[ReferenceRow]:
    """The scenario's baselines and ceilings."""
    for name in table.baselines:
        sort = CEILING if BASELINES[name].is_ceiling else BASELINE
        yield ReferenceRow(name, sort, partial(options.baseline or default_baseline(), name))


def ceiling_rows(table: TableScenario, run: DatasetRun, options: RunOptions) -> Iterator[ReferenceRow]:
    """The best possible results, where the dataset is a generated world that tells them; named or not."""
    for name in affordable(_ceilings(table), run.dataset):
        yield ReferenceRow(name, CEILING, partial(options.baseline or default_baseline(), name))


def _ceilings(table: TableScenario) -> list[str]:
    """Those that the scenario does not name itself, in the same order however they were registered."""
    return sorted(name for name, model in BASELINES.items() if model.is_ceiling and name not in table.baselines)


SOURCES: tuple[Source, ...] = (baseline_rows, ceiling_rows)


def default_baseline() -> BaselineFn:
    """``micrec.experiment.run_baseline``, imported when it is needed."""
    from micrec.experiment import run_baseline

    return run_baseline
