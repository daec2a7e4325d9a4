"""The files of an analysis: results.json for programs, report.html, report.md and table.tex for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from abtest.analysis.analysis import Analysis
from abtest.analysis.results import results_of
from abtest.report.html import html_report
from abtest.report.pages.experiment_latex import latex_report
from abtest.report.pages.experiment_markdown import markdown_report
from abtest.report.sections import Section
from abtest.run_folder import HTML_FILE, LATEX_FILE, REPORT_FILE, RESULTS_FILE, write_json, write_text
from micrec.errors import MicrecError


def write_report(
    analysis: Analysis, folder: Path, extra_sections: Sequence[Section] = (), **more: Any
) -> dict[str, Any]:
    """Write every file; results.json comes last and says that the others are whole.

    Args:
        analysis: What was found.
        folder: Made if it is not there.
        extra_sections: Shown before the notes of each report, such as a simulator's funnel.
        more: ``kind``, ``scenario`` and further values for ``results_of``.

    Returns:
        The contents of results.json.
    """
    results = results_of(analysis, extra_sections, **more)
    write_results(results, folder)
    return results


def write_results(results: Mapping[str, Any], folder: Path) -> None:
    """Write every file from the contents of a results.json."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise MicrecError(f"--out {folder}: cannot be used ({fault.strerror}): choose another folder.") from None
    write_text(folder / HTML_FILE, html_report(results))
    write_text(folder / REPORT_FILE, markdown_report(results))
    write_text(folder / LATEX_FILE, latex_report(results))
    write_json(folder / RESULTS_FILE, results)


def check_out(folder: Path, *, force: bool) -> None:
    """Refuse a folder that holds something else, or a finished analysis unless ``force`` is given.

    Raises:
        MicrecError: With the reason and what to do.
    """
    if folder.exists() and not folder.is_dir():
        raise MicrecError(f"--out {folder}: is a file: give a folder.")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / HTML_FILE).exists() and not (folder / RESULTS_FILE).exists():
        raise MicrecError(f"--out {folder}: is not empty and holds no analysis: give a new folder.")
    if (folder / RESULTS_FILE).exists() and not force:
        raise MicrecError(f"--out {folder}: holds a finished analysis: use --force to replace it, or another folder.")
