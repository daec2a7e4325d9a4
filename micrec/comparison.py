"""One trained model next to the floors, on the same test clicks."""

from typing import Any

from rich.markup import escape
from rich.table import Table

from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.split import temporal_split
from micrec.errors import MicrecError
from micrec.evaluation import EvalResult, evaluation_task
from micrec.evaluation.link_recall import read_links
from micrec.evaluation.task import Part
from micrec.experiment import FLOORS, evaluate_floor, evaluate_model
from micrec.fitting import Fitted
from micrec.presets import PRESETS
from micrec.settings import differences


def compare_with_floors(fitted: Fitted, dataset: Dataset, part: Part = "test") -> dict[str, EvalResult]:
    """Every offline metric of the model, of popularity and of item-kNN, by name, the model first.

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
    before = dataset.clicks[: rows.start]
    links = read_links(dataset)
    results = {model_label(config): evaluate_model(fitted, task, links)}
    return results | {name: evaluate_floor(name, task, before, config, links=links) for name in FLOORS}


def model_label(config: Config) -> str:
    """The base model and the item-contrastive losses that it was trained with: ``ican + feature, session``."""
    losses = [name for name in ("feature", "semantic", "session") if getattr(config.contrast, name).weight > 0]
    return f"{config.model.name} + {', '.join(losses)}" if losses else config.model.name


def switches(config: Config) -> str:
    """The preset and the keys that differ from it, in one line."""
    changed = differences(config, PRESETS[config.preset])
    return ", ".join([f"preset {config.preset}", *(f"{key}={value}" for key, value in changed.items())])


def results_as_dict(results: dict[str, EvalResult]) -> dict[str, Any]:
    """Metrics and slices by model, as plain data."""
    return {
        name: {
            "users": result.users,
            "lines": result.lines,
            "metrics": result.metrics,
            "slices": {
                part: {"users": found.users, "lines": found.lines, "metrics": found.metrics}
                for part, found in result.slices.items()
            },
        }
        for name, result in results.items()
    }


def results_table(results: dict[str, EvalResult]) -> Table:
    """All metrics, one column per model, for a terminal."""
    model = next(iter(results.values()))
    table = Table(
        title=f"{model.lines:,} clicks of {model.users:,} users, {model.candidates:,} candidates", title_justify="left"
    )
    table.add_column("metric")
    for name in results:
        table.add_column(escape(name), justify="right")
    for metric in dict.fromkeys(metric for result in results.values() for metric in result.metrics):
        values = (result.metrics.get(metric) for result in results.values())
        table.add_row(metric, *("" if value is None else f"{value:.4f}" for value in values))
    return table
