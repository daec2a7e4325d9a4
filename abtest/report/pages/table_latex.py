"""table.tex: laid out as the paper's table, for booktabs, with the paper's own numbers in a block below for shape."""

from collections.abc import Iterator, Sequence

from abtest.report import formatting
from abtest.report.latex import comment_lines, escape
from abtest.report.pages.table_layout import beaten, groups, label_of, paper_number, switch_lines
from abtest.report.tables import Results, mean_of


def latex_table(results: Results) -> str:
    """One ``table`` environment; the command and the switches stand above it as comments."""
    comments = [f"command: {results['command']}", "needs booktabs"]
    comments += [f"{who}: {keys}" for who, keys in switch_lines(results)]
    return "\n".join([*comment_lines(comments), *_table(results)]) + "\n"


def metric_title(metric: str) -> str:
    """hit@50 as the paper writes it."""
    name, at, cutoff = metric.partition("@")
    return f"{name.upper() if name in ('hit', 'mrr', 'ndcg') else name}{at}{cutoff}"


def _table(results: Results) -> Iterator[str]:
    scenario, datasets = results["scenario"], list(results["datasets"])
    width = len(scenario["metrics"])
    yield r"\begin{table}"
    yield r"\centering"
    yield rf"\caption{{{escape(_caption(results))}}}"
    yield rf"\begin{{tabular}}{{l{'r' * (width * len(datasets))}}}"
    yield r"\toprule"
    heads = [rf"\multicolumn{{{width}}}{{c}}{{{escape(results['datasets'][name]['label'])}}}" for name in datasets]
    yield " & ".join(["Model", *heads]) + r" \\"
    yield "".join(rf"\cmidrule(lr){{{2 + place * width}-{1 + (place + 1) * width}}}" for place in range(len(datasets)))
    titles = [escape(metric_title(metric)) for metric in scenario["metrics"]]
    yield " & ".join(["", *(titles * len(datasets))]) + r" \\"
    yield r"\midrule"
    yield from _rows(results, datasets)
    yield from _paper_rows(results, datasets)
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table}"


def _rows(results: Results, datasets: Sequence[str]) -> Iterator[str]:
    metrics = results["scenario"]["metrics"]
    found = {name: groups(results, name) for name in datasets}
    marks = {name: beaten(results, name) for name in datasets}
    best = {
        (name, metric): max(
            (mean_of(models, metric)[0] or 0.0) for models in found[name].values() if models[0]["arm"] is not None
        )
        for name in datasets
        for metric in metrics
    }
    every = dict.fromkeys(row for of in found.values() for row in of)  # not every dataset has each baseline or ceiling
    rows = sorted(every, key=lambda row: row in results["scenario"]["rows"])
    trained = False
    for row in rows:
        if not trained and row in results["scenario"]["rows"]:
            trained = True
            if row != rows[0]:
                yield r"\midrule"
        cells = []
        for name in datasets:
            for metric in metrics:
                if row not in found[name]:
                    cells.append("")
                    continue
                mean, sd = mean_of(found[name][row], metric)
                text = formatting.value(mean)
                text = rf"\textbf{{{text}}}" if mean is not None and mean == best[name, metric] else text
                text += r"$^\dagger$" if (row, metric) in marks[name] else ""
                cells.append(text + (rf" {{\scriptsize $\pm$ {formatting.value(sd)}}}" if sd is not None else ""))
        yield " & ".join([escape(label_of(results, row)), *cells]) + r" \\"


def _paper_rows(results: Results, datasets: Sequence[str]) -> Iterator[str]:
    metrics = results["scenario"]["metrics"]
    table = {
        row: [paper_number(results, name, row, metric) for name in datasets for metric in metrics]
        for row in results["scenario"]["rows"]
    }
    known = {row: cells for row, cells in table.items() if any(cell is not None for cell in cells)}
    if not known:
        return
    span = 1 + len(metrics) * len(datasets)
    yield r"\midrule"
    yield rf"\multicolumn{{{span}}}{{l}}{{\emph{{The paper's own numbers, on private data: for shape, no target}}}} \\"
    for row, cells in known.items():
        texts = ["" if cell is None else formatting.value(cell) for cell in cells]
        yield " & ".join([escape(label_of(results, row)), *texts]) + r" \\"


def _caption(results: Results) -> str:
    seeds = len(results["seeds"])
    over = f"Mean ± standard deviation over {seeds} training seeds" if seeds > 1 else "One training seed"
    text = f"{results['scenario']['title']}. {over}; bold: best mean"
    if any(beaten(results, name) for name in results["datasets"]):
        text += "; †: above every row it was tested against, over seeds and users (Holm over the table)"
    return f"{text}. Preset {results['switches']['preset']}."
