"""The contents of results.json, from the finished trials of a table."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from abtest.offline.dataset_run import DatasetRun
from abtest.offline.orderings import judge_orderings
from abtest.offline.reference_rows import missing_rows
from abtest.offline.row_effects import Effect, row_effects
from abtest.offline.run_options import RunOptions
from abtest.offline.table_scenario import TableScenario
from abtest.offline.trials import Trial
from abtest.run_folder import SCHEMA, jsonable, versions
from micrec.applicable_config import applicable_config
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.describe import describe
from micrec.settings import differences, flatten


class TableTrials(NamedTuple):
    """All that was trained and tested for a table, by dataset."""

    runs: Mapping[str, DatasetRun]
    references: Mapping[str, Mapping[str, Trial]]  # by label
    rows: Mapping[str, Mapping[str, Sequence[Trial]]]  # by row, one per seed


def table_results(table: TableScenario, found: TableTrials, options: RunOptions) -> dict[str, Any]:
    """results.json of a table: effects, claims, models, and what they depend on."""
    facts, switches = {}, {}
    for name, keys in table.chosen():
        configs = row_configs(table, name)
        label = keys.label or found.runs[name].dataset.name
        facts[name] = dataset_facts(table, found.runs[name], label, keys.paper, configs[table.reference_row])
        switches[name] = _row_switches(effective_configs(configs, found.runs[name].dataset))
    effects = effects_of(table, found)
    results = {
        **head(table.kind, options, table.seed_numbers),
        "runtime_s": runtime_s(found),
        "datasets": facts,
        "reference": table.reference_row,
        "switches": {"preset": table.preset, "datasets": switches},
        "effects": effects,
        "orderings": judge_orderings(table, effects),
        "models": [{**model, "dataset": name} for name in found.runs for model in models_of(table, found, name)],
    }
    plain = jsonable(results)
    assert isinstance(plain, dict)
    return plain


def head(kind: str, options: RunOptions, seeds: Sequence[int]) -> dict[str, Any]:
    """What results.json begins with, whatever the kind."""
    return {
        "schema": SCHEMA,
        "kind": kind,
        "scenario": dict(options.resolved),
        "command": options.command,
        "versions": versions(),
        "seeds": list(seeds),
    }


def effects_of(table: TableScenario, found: TableTrials) -> list[Effect]:
    """Every effect of a table; all its rows share one evaluation, and a baseline is the same with every seed."""
    configs = row_configs(table, next(iter(found.rows)))
    trials = {
        name: {**rows, **{label: [one] * table.seeds for label, one in found.references[name].items()}}
        for name, rows in found.rows.items()
    }
    return row_effects(table, trials, configs[table.reference_row].evaluation.cutoffs)


def models_of(table: TableScenario, found: TableTrials, dataset: str) -> list[dict[str, Any]]:
    """Reference rows and trained models of one dataset as objects of ``models`` in results.json."""
    name = found.runs[dataset].dataset.name
    models = [model_row(name, label, None, None, trial) for label, trial in found.references[dataset].items()]
    for row, trials in found.rows[dataset].items():
        seeds = zip(table.seed_numbers, trials, strict=True)
        models += [model_row(name, table.rows[row].label, row, seed, trial) for seed, trial in seeds]
    return models


def model_row(dataset: str, label: str, row: str | None, seed: int | None, trial: Trial) -> dict[str, Any]:
    """A trial as an object of ``models`` in results.json; ``row`` and ``seed`` are None of a reference row."""
    plain = {
        name: value
        for name, value in trial.info.items()
        if value is None or isinstance(value, bool | int | float | str)
    }
    place = {"model": label, "arm": row, "dataset": dataset, "seed": seed, "seconds": trial.seconds}
    return {**plain, **trial.metrics, **place, "slices": trial.slices}


def runtime_s(found: TableTrials) -> float:
    """Seconds of all training and tests, one after the other."""
    references = [trial for rows in found.references.values() for trial in rows.values()]
    trained = [trial for rows in found.rows.values() for trials in rows.values() for trial in trials]
    return sum(trial.seconds for trial in [*references, *trained])


def dataset_facts(
    table: TableScenario, run: DatasetRun, label: str, paper: str | None, config: Config
) -> dict[str, Any]:
    """One dataset of ``datasets`` in results.json."""
    counted = describe(run.dataset, config.split, config.sessions)
    counts = ("sessions", "train", "validation", "test")
    folder = run.dataset.folder
    return {
        **run.facts(),
        "label": label,
        "paper": paper,
        **{name: getattr(counted, name) for name in counts},
        "fields": [field.name for field in counted.fields],
        "links": folder is not None and (folder / "ground_truth" / "links.parquet").exists(),
        "left_out": missing_rows(table, run.dataset, config.evaluation),
    }


def row_configs(table: TableScenario, dataset: str) -> dict[str, Config]:
    """The config of every row with the first seed on one dataset."""
    keys = dict(table.chosen())[dataset]
    return {row: table.config(keys, row, table.first_seed) for row in table.rows}


def effective_configs(configs: Mapping[str, Config], dataset: Dataset) -> dict[str, Config]:
    """Configs as they take effect: without what the data rule out, such as the semantic loss without titles."""
    return {row: applicable_config(dataset, config)[0] for row, config in configs.items()}


def switches_of(configs: Mapping[str, Config]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Which config keys were on: those that differ from the paper's defaults, or between the models; the title encoder.

    Returns:
        The keys that all models set alike; and for each model the keys in which they differ.
    """
    changed = [
        differences(config, reference) for config in configs.values() for reference in (Config(), *configs.values())
    ]
    keys = {key: None for change in changed for key in change if key not in ("preset", "train.seed")}
    if any(config.contrast.semantic.reads_titles for config in configs.values()):
        keys["contrast.semantic.encoder"] = None
    plain = {row: flatten(config.model_dump()) for row, config in configs.items()}
    values = {row: {key: found[key] for key in keys if key in found} for row, found in plain.items()}
    first = next(iter(values.values()))
    alike = {
        key for key in first if all(key in value and value[key] == first[key] for value in values.values())
    }  # keys of a tower's options or of a registered loss are not in every config
    shared = {key: value for key, value in first.items() if key in alike}
    return shared, {row: {k: v for k, v in value.items() if k not in alike} for row, value in values.items()}


def _row_switches(configs: Mapping[str, Config]) -> dict[str, Any]:
    """Keys that differ from the paper's defaults: those that all rows share, and each row's own."""
    shared, _ = switches_of(configs)
    unsaid = {*shared, "preset", "train.seed"}
    rows = {row: differences(config, Config()) for row, config in configs.items()}
    own = {row: {key: value for key, value in keys.items() if key not in unsaid} for row, keys in rows.items()}
    return {"shared": shared, "rows": own}
