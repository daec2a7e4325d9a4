"""Table 1: counts of each dataset beside the paper's, and ratios that can be compared between sizes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abtest.offline.dataset_run import open_datasets
from abtest.offline.run_options import RunOptions
from abtest.offline.statistics_scenario import StatisticsScenario
from abtest.offline.table_results import head
from abtest.report.latex import comment_lines, escape, row_line
from abtest.report.pages.table_csv import csv_text
from abtest.report.pages.table_files import TABLE_CSV
from abtest.report.pages.table_page import html_page, markdown_report
from abtest.report.sections import Section
from abtest.report.tables import Results, Table
from abtest.report.terminal import plain_console, print_table
from abtest.run_folder import (
    HTML_FILE,
    LATEX_FILE,
    REPORT_FILE,
    alone_in_folder,
    finish_run,
    jsonable,
    write_text,
)
from micrec.data.dataset import Dataset
from micrec.data.describe import describe

COUNTS = ("users", "items", "sessions", "clicks", "train", "test")  # the columns of the paper's Table 1
_SHAPES: dict[str, tuple[str, str]] = {  # ratios, which can be compared between datasets of different size
    "sessions per user": ("sessions", "users"),
    "clicks per user": ("clicks", "users"),
    "clicks per item": ("clicks", "items"),
    "clicks per session": ("clicks", "sessions"),
    "users per item": ("users", "items"),
    "test share": ("test", "clicks"),
}
_MORE = {
    "item_gini": "Gini of clicks over items with clicks",
    "repeat_share": "share of repeated clicks",
    "density": "density",
    "clicks_per_user_median": "clicks per user, median",
    "clicks_per_item_median": "clicks per item, median",
    "session_clicks_median": "clicks per session, median",
}


@alone_in_folder
def run_statistics(scenario: StatisticsScenario, out: Path, **given: Any) -> dict[str, Any]:
    """Draw or read every dataset, count it, and write the report; see ``RunOptions`` for the arguments."""
    options = RunOptions(**given)

    def check(name: str, dataset: Dataset) -> None:
        describe(dataset, scenario.split, scenario.sessions)

    runs = open_datasets(scenario.chosen(), out, options, check)
    counted = {}
    for name, keys in scenario.chosen():
        found = describe(runs[name].dataset, scenario.split, scenario.sessions).to_dict()
        label = keys.label or found["name"]
        counted[name] = {"label": label, "hash": runs[name].data_hash, "paper": keys.paper, **found}
    seeds = [keys.world.seed if keys.is_world else 0 for _, keys in scenario.chosen()]
    results = {**head(scenario.kind, options, seeds), "runtime_s": 0.0, "datasets": counted}
    return finish_run(out, jsonable(results), _write_files)


def _write_files(out: Path, results: Results) -> None:
    parts = statistics_sections(results)
    write_text(out / REPORT_FILE, markdown_report(results, parts))
    write_text(out / HTML_FILE, html_page(results, parts))
    write_text(out / LATEX_FILE, _latex(results))
    write_text(out / TABLE_CSV, _csv(results))


def print_statistics(results: Results) -> None:
    """Print the counts and the ratios on the terminal."""
    console = plain_console()
    for table in (count_table(results), shape_table(results)):
        print_table(table, console)


def statistics_sections(results: Results) -> list[Section]:
    """Counts as in the paper, then ratios that do not depend on the size, then the fields."""
    shape = shape_table(results)
    fields = [
        Table(
            f"Fields of {facts['label']}",
            ("field", "type", "values", "missing"),
            [
                (
                    f"{field['table']}.{field['name']}",
                    field["type"],
                    _count(field["vocabulary"]),
                    f"{field['missing']:.1%}",
                )
                for field in facts["fields"]
            ],
            [],
            folded=True,
        )
        for facts in results["datasets"].values()
    ]
    return [
        Section("Counts", (), [count_table(results)]),
        Section("Ratios", ("A small dataset can have the same ratios as a large one.",), [shape]),
        Section("Fields", (), fields),
    ]


def count_table(results: Results) -> Table:
    """Counts in the layout of the paper's Table 1: our datasets, then the paper's."""
    rows = [
        (facts["label"], *(f"{facts[count]:,}" for count in COUNTS), str(len(facts["fields"])))
        for facts in results["datasets"].values()
    ]
    for paper in results["scenario"]["paper"].values():
        counts = paper["counts"]
        rows.append((f"{paper['label']} (the paper's)", *(_count(counts.get(name)) for name in (*COUNTS, "fields"))))
    header = ("dataset", *COUNTS, "fields")
    notes = ["Train: clicks before the test period, validation clicks included. Our fields include titles and times."]
    return Table(results["scenario"]["title"], header, rows, notes)


def shape_table(results: Results) -> Table:
    """Ratios of our datasets and the paper's, and further figures of ours that the paper does not print."""
    known = [(facts["label"], facts) for facts in results["datasets"].values()]
    known += [(f"{one['label']} (the paper's)", one["counts"]) for one in results["scenario"]["paper"].values()]
    rows = [
        (label, *(_ratio(counts, *pair) for pair in _SHAPES.values()), *(_figure(counts.get(key)) for key in _MORE))
        for label, counts in known
    ]
    return Table("Ratios and distributions", ("dataset", *_SHAPES, *_MORE.values()), rows, [])


def _latex(results: Results) -> str:
    table = count_table(results)
    split = len(results["datasets"])
    lines = [row_line(row) for row in table.rows]
    middle = [r"\midrule", *lines[split:]] if lines[split:] else []
    return (
        "\n".join(
            [
                *comment_lines([f"command: {results['command']}", "needs booktabs"]),
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{escape(results['scenario']['title'])}.}}",
                rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
                r"\toprule",
                row_line(table.header),
                r"\midrule",
                *lines[:split],
                *middle,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
            ]
        )
        + "\n"
    )


def _csv(results: Results) -> str:
    keys = [*COUNTS, "validation", *_MORE]
    lines = [(name, facts["label"], *(facts[key] for key in keys)) for name, facts in results["datasets"].items()]
    for name, paper in results["scenario"]["paper"].items():
        lines.append((f"paper {name}", paper["label"], *(paper["counts"].get(key) for key in keys)))
    return csv_text(("dataset", "label", *keys), lines)


def _ratio(counts: Mapping[str, Any], above: str, below: str) -> str:
    if not counts.get(above) or not counts.get(below):
        return ""
    return f"{counts[above] / counts[below]:.3g}"


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _figure(number: float | None) -> str:
    return "" if number is None else f"{number:.3g}"
