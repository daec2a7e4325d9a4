"""CSV of a table: ``table.csv`` for the means, ``trials.csv`` for every model, all metrics and slices."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from abtest.report.pages.table_layout import groups, label_of, paper_number
from abtest.report.tables import Results, mean_of


def table_csv(results: Results) -> str:
    """One line per dataset, row and metric."""
    scenario = results["scenario"]
    metrics = list(dict.fromkeys([*scenario["metrics"], *scenario["details"]]))
    lines = []
    for name in results["datasets"]:
        for row, models in groups(results, name).items():
            for slice_ in ("all", *scenario["slices"]):
                for metric in metrics if slice_ == "all" else scenario["metrics"]:
                    mean, sd = mean_of(models, metric, slice_)
                    paper = paper_number(results, name, row, metric) if slice_ == "all" else None
                    lines.append((name, row, label_of(results, row), slice_, metric, len(models), mean, sd, paper))
    return csv_text(("dataset", "row", "label", "slice", "metric", "seeds", "mean", "sd", "paper"), lines)


def trials_csv(results: Results) -> str:
    """One line per trained model or baseline; slices are columns such as ``tail.hit@50``."""
    flat = [_flat(model) for model in results["models"]]
    header = list(dict.fromkeys(key for model in flat for key in model))
    return csv_text(header, ([model.get(key) for key in header] for model in flat))


def csv_text(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """RFC 4180; text that a spreadsheet would take for a formula is quoted against it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_safe(cell) for cell in header])
    writer.writerows([_safe(cell) for cell in line] for line in lines)
    return buffer.getvalue()


def _flat(model: dict[str, Any]) -> dict[str, Any]:
    slices = {f"{name}.{key}": value for name, part in model["slices"].items() for key, value in part.items()}
    return {**{key: value for key, value in model.items() if key != "slices"}, **slices}


def _safe(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
