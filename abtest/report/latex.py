"""table.tex: the paper's Table 2 with what it lacks, a lift, an interval and a p-value under each metric."""

from collections.abc import Sequence

from abtest.report import formatting
from abtest.report.tables import Results, arm_label, metric_names, model_table, switch_lines

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "−": "$-$",
    "–": "--",
}


def latex_table(results: Results) -> str:
    """One ``tabular`` that needs no package; the command and the switches stand above it as comments."""
    metrics = metric_names(results)
    models = model_table(results)
    body = [row_line(row) for row in models.rows]
    for arm in [arm for arm in results["scenario"]["arms"] if arm != "control"]:
        body += [r"\hline", *(row_line(row) for row in _test_rows(results, arm, metrics))]
    comments = [f"command: {results['command']}", *(f"{who}: {keys}" for who, keys in switch_lines(results))]
    lines = [
        *comment_lines(comments),
        rf"\begin{{tabular}}{{l{'r' * len(metrics)}}}",
        r"\hline",
        row_line(models.header),
        r"\hline",
        *body,
        r"\hline",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_ESCAPES.get(character, character) for character in " ".join(text.split()))


def _test_rows(results: Results, arm: str, metrics: list[str]) -> list[tuple[str, ...]]:
    found = {e["metric"]: e for e in results["effects"] if e["treatment"]["arm"] == arm and e["slice"] == "all"}
    effects = [found[metric] for metric in metrics]
    label = arm_label(results, arm)
    return [
        (f"{label}: lift", *(formatting.percent(effect["lift"]) for effect in effects)),
        (f"{label}: interval over seeds", *(formatting.percent_interval(effect["lift_ci"]) for effect in effects)),
        (f"{label}: paired p, Holm", *(formatting.p_value(effect["p_adjusted"]) for effect in effects)),
    ]


def comment_lines(comments: Sequence[str]) -> list[str]:
    """Comments, one line each whatever they hold."""
    return [f"% {' '.join(comment.split())}" for comment in comments]


def row_line(cells: tuple[str, ...]) -> str:
    """One row of a tabular."""
    return " & ".join(escape(cell) for cell in cells) + r" \\"
