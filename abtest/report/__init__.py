"""Reports of a run, all made from the contents of ``results.json`` and nothing else."""

from pathlib import Path

from abtest.report.latex import latex_table
from abtest.report.markdown import markdown_report
from abtest.report.pages.two_arm_page import html_report
from abtest.report.tables import Results
from abtest.run_folder import HTML_FILE, LATEX_FILE, REPORT_FILE, write_text


def write_report(out: Path, results: Results) -> None:
    """Write ``report.html``, ``report.md`` and ``table.tex`` into the run folder."""
    write_text(out / HTML_FILE, html_report(results))
    write_text(out / REPORT_FILE, markdown_report(results))
    write_text(out / LATEX_FILE, latex_table(results))


__all__ = ["latex_table", "markdown_report", "write_report"]
