"""``micrec tune``: a search on validation clicks, then one reading of the test: winner, presets and every baseline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from abtest.offline.dataset_run import default_read
from abtest.offline.row_lifts import TrialPair, outcome, row_lifts
from abtest.offline.run_options import RunOptions
from abtest.offline.table_results import TableTrials, row_configs, table_results
from abtest.offline.table_run import open_table, run_rows
from abtest.offline.table_scenario import DatasetConfig, RowComparison, RowConfig, TableScenario, folder_name
from abtest.offline.trials import Trial, hash_dataset
from abtest.report.pages.tune_sections import write_tuned
from abtest.run_folder import alone_in_folder, check_run, finish_run, jsonable, open_run, write_scenario, write_text
from micrec.baselines import BASELINES
from micrec.config import Config, model_label
from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.frozen import Frozen
from micrec.presets import PRESETS
from micrec.settings import build_config, merge
from micrec.tuning.search_space import load_space

WINNER = "tuned"
CLOSED = "closed"  # of the study, once the test part may have been read


class TuneRequest(Frozen):
    """What ``micrec tune`` is asked for."""

    data: Path = Field(description="Dataset folder.")
    minutes: float | None = Field(None, gt=0.0, description="Minutes of search; null = as long as the trials take.")
    trials: int | None = Field(None, ge=1, le=10_000, description="Trials of search; null = as the minutes allow.")
    metric: str = Field("hit@50", description="What is maximised on the validation clicks.")
    space: Path | None = Field(None, description="YAML file of the search space; null = the shipped one.")
    sets: tuple[str, ...] = Field((), description="Config keys of every trial and every tested model, as key=value.")
    seed: int = Field(0, ge=0, lt=2**62, description="Of the search, and the first training seed.")
    seeds: int = Field(3, ge=2, le=10_000, description="Training seeds of each model that is tested.")
    compare: tuple[Literal["paper", "modern", "best"], ...] = Field(
        ("paper", "modern", "best"), description="Presets that are tested beside the winner."
    )


@alone_in_folder
def run_tuning(request: TuneRequest, out: Path, **given: Any) -> dict[str, Any]:
    """Search, then test, in a run folder; the same call goes on after an interruption.

    Args:
        request: What is searched, and what is tested.
        out: The run folder, see ``abtest.run_folder``.
        **given: ``RunOptions`` but for ``resolved``.

    Returns:
        The contents of ``results.json``; ``tuning`` holds the search.

    Raises:
        MicrecError: If a key, the space or the dataset is at fault, optuna is missing, or no trial finished.
    """
    from micrec.tuning.findings import best_config, best_trial, best_yaml, findings, trials_of
    from micrec.tuning.search import SearchRequest, search
    from micrec.tuning.study import JOURNAL, load_study, optuna

    out = Path(out)
    options = RunOptions(resolved={}, **given)
    check_request(request)
    optuna()
    space, same = load_space(request.space, request.sets)
    check_run(out, force=options.force, data=[request.data, *([request.space] if request.space else [])])
    dataset = (options.read or default_read())(request.data)
    _check_data(dataset, same)
    open_run(out, force=options.force)
    write_scenario(out, {"tune": request.model_dump(mode="json"), "space": space.model_dump(mode="json")})
    asked = SearchRequest(
        space,
        same,
        request.metric,
        request.seed,
        request.minutes,
        request.trials,
        _workers(options, same),
        options.executor,
    )
    if (out / JOURNAL).exists() and load_study(out).user_attrs.get(CLOSED):
        options.reporter.say("the search is closed, as the test part has been read: going on with the test")
        study = load_study(out)
    else:
        study = search(asked, dataset, out, hash_dataset(dataset), options.reporter)
        study.set_user_attr(CLOSED, True)
    trials = trials_of(study)
    config = best_config(asked, best_trial(trials))
    write_text(out / "best.yaml", best_yaml(config, best_trial(trials), str(request.data), request.metric))
    options.reporter.say(f"best: {model_label(config)}; the test part is read now, for the first time")
    table = tested_table(request, same, config)
    options = RunOptions(resolved=table.resolved(), **{**given, "force": False})
    found = run_rows(table, open_table(table, out, options), options)
    results = table_results(table, found, options)
    results |= {"kind": "tune", "tuning": jsonable({**findings(study, asked), "standings": standings(table, found)})}
    results["runtime_s"] += results["tuning"]["used_s"]
    return finish_run(out, results, write_tuned)


def check_request(request: TuneRequest) -> None:
    """Refuse what the keys cannot say one by one.

    Raises:
        MicrecError: All errors at once.
    """
    faults = []
    if request.minutes is None and request.trials is None:
        faults.append("--minutes or --trials: one of the two is needed: say how long to search")
    from micrec.settings import check

    faults += [
        fault.replace("train.metric", "--metric") for fault in check(Config, {"train": {"metric": request.metric}})[1]
    ]
    if faults:
        raise MicrecError.of("tune", faults)


def tested_table(request: TuneRequest, same: Mapping[str, Any], config: Config) -> TableScenario:
    """The table of the test: the winner first, then the presets, with every baseline."""
    rows = {WINNER: _row(f"tuned: {model_label(config)}", config)}
    for name in request.compare:
        rows[name] = _row(f"preset {name}", build_config(name, same))
    return TableScenario(
        kind="table",
        name="tune",
        title=f"Tuned on {request.data.name}",
        datasets={folder_name(request.data.resolve().name): DatasetConfig(data=request.data)},
        seeds=request.seeds,
        first_seed=request.seed,
        choose_epochs="first_seed",
        preset="paper",
        base=_shared(config),
        rows=rows,
        reference=request.compare[-1] if request.compare else WINNER,
        metrics=_metrics(config),
        comparisons=(RowComparison(row=WINNER, against=tuple(request.compare)),) if request.compare else (),
        baselines=tuple(name for name, one in BASELINES.items() if not one.is_ceiling),
    )


def standings(table: TableScenario, found: TableTrials) -> list[dict[str, Any]]:
    """The winner against each preset and each baseline at every N, with intervals over seeds and users."""
    (name,) = found.runs
    rows = found.rows[name]
    cutoffs = row_configs(table, name)[WINNER].evaluation.cutoffs
    others: dict[str, tuple[str, Any]] = {row: (table.rows[row].label, trials) for row, trials in rows.items()}
    others.pop(WINNER)
    others |= {label: (label, [trial]) for label, trial in found.references[name].items()}
    compared = []
    for metric in table.metrics:
        lifts = row_lifts([TrialPair(trials, rows[WINNER]) for _, trials in others.values()], metric, cutoffs)
        for (other, (label, trials)), one in zip(others.items(), lifts, strict=True):
            compared.append(
                {
                    "other": other,
                    "label": label,
                    "kind": _sort(other, rows),
                    "metric": metric,
                    "tuned": _mean(rows[WINNER], metric),
                    "value": _mean(trials, metric),
                    **one._asdict(),
                    "outcome": outcome(one.lift_ci),
                }
            )
    return compared


def _sort(other: str, rows: Mapping[str, Any]) -> str:
    if other in rows:
        return "preset"
    return "ceiling" if other.endswith("(ceiling)") else "baseline"


def _mean(trials: "Sequence[Trial]", metric: str) -> float:
    return sum(trial.metrics[metric] for trial in trials) / len(trials)


def _row(label: str, config: Config) -> RowConfig:
    """A whole config as the keys of a row, but those that all rows share."""
    keys = config.model_dump(mode="json", exclude={"preset": True, "split": True, "evaluation": True, "sessions": True})
    for name in ("seed", "device", "threads"):
        keys["train"].pop(name)
    return RowConfig(label=label, config=keys)


def _shared(config: Config) -> dict[str, Any]:
    keys = config.model_dump(mode="json", include={"split", "evaluation", "sessions"})
    train = config.model_dump(mode="json")["train"]
    return merge(keys, {"train": {name: train[name] for name in ("device", "threads")}})


def _metrics(config: Config) -> tuple[str, ...]:
    return tuple(f"hit@{n}" for n in config.evaluation.cutoffs)


def _workers(options: RunOptions, same: Mapping[str, Any]) -> int | None:
    device = str(same.get("train", {}).get("device", "auto"))
    return options.workers_for(device, 1024)


def _check_data(dataset: Dataset, same: Mapping[str, Any]) -> None:
    """Refuse a dataset that no preset could be tested on."""
    from micrec.fitting import check_inputs

    for name in PRESETS:
        check_inputs(dataset, build_config(name, same))
