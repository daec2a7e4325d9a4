"""table.tex of an experiment: the layout of the paper's Table 3, with an interval and an adjusted p below each lift."""

from abtest.report.latex import comment_lines, row_line
from abtest.report.pages.experiment_tables import paper_table
from abtest.report.tables import Results


def latex_report(results: Results) -> str:
    """One ``tabular`` that needs no package; verdict, data and command stand above it as comments."""
    table = paper_table(results)
    comments = [f"command: {results['command'] or 'called from Python'}"]
    comments += [f"data: {results['dataset']['name']} (hash {results['dataset']['hash']})"]
    comments += [f"NOT VALID: {line}" for line in results["alarms"]]
    comments += [f"{verdict['decision']}: {verdict['headline']}" for verdict in results["verdicts"]]
    lines = [
        *comment_lines([*comments, *table.notes]),
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\hline",
        row_line(table.header),
        r"\hline",
        *(row_line(row) for row in table.rows),
        r"\hline",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"
