"""One trained model next to the baselines, on the same test clicks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from micrec.baselines import BASELINES
from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import affordable, left_out
from micrec.config import Config, EvalConfig, model_label
from micrec.data.dataset import Dataset
from micrec.data.split import temporal_split
from micrec.errors import MicrecError
from micrec.evaluation import EvalResult, evaluation_task
from micrec.evaluation.link_recall import read_links
from micrec.evaluation.notes import judged_lines, notes
from micrec.evaluation.standing import label, standings, verdict
from micrec.evaluation.task import Part
from micrec.evaluation.way_to_ceiling import way_to_ceiling
from micrec.experiment import evaluate_baseline, evaluate_model, told_settings
from micrec.fitting import Fitted
from micrec.presets import PRESETS
from micrec.settings import differences
from micrec.shares import warnings

_PARTS: dict[Part, str] = {"test": "test", "valid": "validation"}
_SECTIONS = {  # of the metrics, by how their names begin
    "accuracy": ("hit", "user_hit", "recall", "ndcg", "mrr"),
    "lists": ("gini", "popularity", "tail", "seen"),
    "links": ("link_recall",),
}


def compare_with_baselines(fitted: Fitted, dataset: Dataset, part: Part = "test") -> dict[str, EvalResult]:
    """Every offline metric of the model and of all baselines, by name, the model first.

    In a generated world with planted links this includes link recall, see ``micrec.evaluation.link_recall``.

    Raises:
        MicrecError: If the model was trained on clicks of the part, or the part has nothing to evaluate.
    """
    config = fitted.config
    split = temporal_split(dataset.clicks, config.split, dataset.schema.days)
    rows = split.test if part == "test" else split.valid
    if fitted.trained_clicks > rows.start:
        raise MicrecError(
            f"the model was trained on the first {fitted.trained_clicks:,} clicks, and the {part} part starts at click "
            f"{rows.start:,}: measure it on the test part, or train with train.refit=false for the valid part."
        )
    task = evaluation_task(dataset, split, config.evaluation, part)
    inputs = BaselineInputs.of(task, dataset, config)
    links = read_links(dataset)
    trained_s = sum(entry["seconds"] for entry in fitted.state.log)
    results = {model_label(config): replace(evaluate_model(fitted, task, links), seconds=trained_s or None)}
    return results | {
        name: evaluate_baseline(name, inputs, links=links)
        for name in affordable(BASELINES, inputs.dataset, config.evaluation)
    }


def switches(config: Config) -> str:
    """The preset, the keys that differ from it, and what encoded the titles, in one line."""
    changed = differences(config, PRESETS[config.preset])
    if config.contrast.semantic.reads_titles:
        changed["contrast.semantic.encoder"] = config.contrast.semantic.encoder
    return ", ".join([f"preset {config.preset}", *(f"{key}={value}" for key, value in changed.items())])


def results_as_dict(results: dict[str, EvalResult], part: Part = "test") -> dict[str, Any]:
    """What is judged, the model against each baseline, warnings, notes, and metrics and slices by model, as data."""
    model = next(iter(results.values()))
    return {
        "reach": model.reach.as_dict(),
        "standings": [one._asdict() for one in standings(results)],
        "way_to_ceiling": way_to_ceiling(results),
        "warnings": warnings(model.reach.shares(), f"{_PARTS[part]} clicks"),
        "notes": notes(results),
        "seconds": {name: result.seconds for name, result in results.items()},
        "models": {
            name: {
                "users": result.users,
                "lines": result.lines,
                "settings": dict(result.settings),
                "metrics": result.metrics,
                "slices": {
                    part: {"users": found.users, "lines": found.lines, "metrics": found.metrics}
                    for part, found in result.slices.items()
                },
            }
            for name, result in results.items()
        },
    }


def summary(results: dict[str, EvalResult], part: Part) -> list[RenderableType]:
    """HIT beside its ceiling, coverage, what is judged, and how the model stands to the baselines, for a terminal."""
    model = next(iter(results.values()))
    ceilings = {"random lists": model.reach.chance, "highest possible": model.reach.ceiling}
    more = [f"warning: {text}" for text in warnings(model.reach.shares(), f"{_PARTS[part]} clicks")]
    more += [f"note: {text}" for text in notes(results)]
    return [
        _by_cutoff("HIT@N", results, "hit", ceilings, timed=True),
        _by_cutoff("coverage@N", results, "coverage", {}),
        *_way_table(results),
        f"Verdict: {verdict(standings(results), model)}.",
        "",
        "What is judged",
        *(f"  {line}" for line in judged_lines(model.reach, _PARTS[part])),
        *setting_lines(results),
        *([""] if more else []),
        *more,
        "",
    ]


def setting_lines(results: Mapping[str, EvalResult]) -> list[str]:
    """What the baselines chose on the validation slice, as lines under a heading; none where none chose anything."""
    told = {name: told_settings(result.settings) for name, result in results.items() if result.settings}
    lines = [f"  {_name(name)}: {text}" for name, text in told.items()]
    return ["", "Settings of the baselines, chosen on validation clicks where there are some", *lines] if lines else []


def left_out_lines(dataset: Dataset, evaluation: EvalConfig) -> list[str]:
    """Which baselines are not asked on a dataset, and why; ceilings are missed on worlds alone."""
    asked = [name for name, model in BASELINES.items() if not model.is_ceiling or model.lacks(dataset) is None]
    return [f"left out: {label(name)}: {reason}" for name, reason in left_out(asked, dataset, evaluation).items()]


def everything(results: dict[str, EvalResult]) -> list[RenderableType]:
    """The other metrics in sections, one column per model, four to a table, and the model's HIT by slice."""
    names, sections = list(results), other_metrics(results)
    parts = [{name: results[name] for name in names[first : first + 4]} for first in range(0, len(names), 4)]
    return [*(_metrics_table(part, sections) for part in parts), _slices_table(next(iter(results.values())))]


def other_metrics(results: dict[str, EvalResult]) -> dict[str, list[str]]:
    """Names of what ``summary`` leaves out, by section, in order."""
    names = dict.fromkeys(metric for result in results.values() for metric in result.metrics)
    sections: dict[str, list[str]] = {}
    for name in names:
        kind = name.partition("@")[0]
        if kind == "coverage" or (kind == "hit" and name.partition("@")[2].isdigit()):
            continue
        section = next((title for title, kinds in _SECTIONS.items() if kind.startswith(kinds)), "other")
        sections.setdefault(section, []).append(name)
    return sections


def _way_table(results: dict[str, EvalResult]) -> list[RenderableType]:
    """Where a ceiling is known, how far each model comes on the way from popularity to it."""
    way = way_to_ceiling(results)
    if not way:
        return []
    cutoffs = next(iter(results.values())).cutoffs
    table = _cutoff_table("way from popularity to the ceiling", cutoffs)
    for name, shares in way.items():
        table.add_row(escape(_name(name)), *(f"{100 * shares[n]:.1f} %" if n in shares else "" for n in cutoffs))
    return [table]


def _by_cutoff(
    title: str,
    results: dict[str, EvalResult],
    kind: str,
    more: Mapping[str, Mapping[int, float]],
    *,
    timed: bool = False,
) -> RenderableType:
    cutoffs = next(iter(results.values())).cutoffs
    rows = {_name(name): {n: found.metrics[f"{kind}@{n}"] for n in cutoffs} for name, found in results.items()}
    table = _cutoff_table(title, cutoffs)
    if timed:
        table.add_column("seconds", justify="right")
    seconds = {_name(name): found.seconds for name, found in results.items()}
    for name, values in {**rows, **more}.items():
        table.add_row(escape(name), *(f"{values[n]:.4f}" for n in cutoffs), *([told_s(seconds.get(name))] * timed))
    return table


def _cutoff_table(title: str, cutoffs: Sequence[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(title)
    for n in cutoffs:
        table.add_column(str(n), justify="right")
    return table


def told_s(seconds: float | None) -> str:
    """Seconds of a training, or of a baseline's fit and ranking, for a table."""
    return "" if seconds is None else f"{seconds:,.1f}"


def _metrics_table(results: dict[str, EvalResult], sections: Mapping[str, Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    for name in results:
        table.add_column(escape(_name(name)), justify="right")
    for section, metrics in sections.items():
        table.add_section()
        table.add_row(f"[bold]{section}[/]")
        for metric in metrics:
            values = (result.metrics.get(metric) for result in results.values())
            table.add_row(f"  {metric}", *("" if value is None else f"{value:.4f}" for value in values))
    return table


def _slices_table(model: EvalResult) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("HIT of the model by slice", "clicks", "users", *map(str, model.cutoffs)):
        table.add_column(title, justify="left" if len(table.columns) == 0 else "right")
    for name, part in model.slices.items():
        hits = (f"{part.metrics[f'hit@{n}']:.4f}" if part.metrics else "" for n in model.cutoffs)
        table.add_row(name, f"{part.lines:,}", f"{part.users:,}", *hits)
    return table


def _name(model: str) -> str:
    return label(model) if model in BASELINES else model
