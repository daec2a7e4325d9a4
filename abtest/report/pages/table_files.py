"""The files of a table's run folder, beside results.json."""

from pathlib import Path

from abtest.report.pages.table_csv import table_csv, trials_csv
from abtest.report.pages.table_figure import figure_files
from abtest.report.pages.table_latex import latex_table
from abtest.report.pages.table_page import html_report, markdown_report
from abtest.report.tables import Results
from abtest.run_folder import HTML_FILE, LATEX_FILE, REPORT_FILE, write_bytes, write_text

TRIALS_CSV, TABLE_CSV = "trials.csv", "table.csv"


def write_files(out: Path, results: Results) -> None:
    """Report, LaTeX, CSV and figure, all from the contents of results.json and nothing else."""
    write_text(out / REPORT_FILE, markdown_report(results))
    write_text(out / HTML_FILE, html_report(results))
    write_text(out / LATEX_FILE, latex_table(results))
    write_text(out / TABLE_CSV, table_csv(results))
    write_text(out / TRIALS_CSV, trials_csv(results))
    for name, content in figure_files(results).items():
        write_bytes(out / name, content)
