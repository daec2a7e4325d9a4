"""The files of a diagnosis in the run folder: diagnosis.md, diagnosis.csv, diagnosis.png and diagnosis.pdf."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from abtest.report.markdown import escape, table_lines
from abtest.report.pages.diagnosis_answers import answers, diagnosis_tables, treatments
from abtest.report.pages.diagnosis_figure import picture_files
from abtest.report.pages.diagnosis_questions import is_diagnosis
from abtest.report.tables import Results, arm_label
from abtest.run_folder import write_bytes, write_text

_COLUMNS = ("question", "metric", "arm", "control", "treatment", "difference", "low", "high", "p", "p_adjusted")


def write_diagnosis(out: Path, results: Results) -> None:
    """Write the answers of an offline comparison; nothing if it asked for no figure of the geometry."""
    if not is_diagnosis(results):
        return
    write_text(out / "diagnosis.md", "\n".join(_markdown(results)) + "\n")
    write_text(out / "diagnosis.csv", _csv(results))
    for name, content in picture_files(results, "diagnosis").items():
        write_bytes(out / name, content)


def _markdown(results: Results) -> Iterator[str]:
    dataset, scenario = results["dataset"], results["scenario"]
    arms = ", ".join(escape(arm_label(results, arm)) for arm in treatments(results))
    n = len(results["seeds"])
    seeds = f"{n} training seeds, the same in every arm" if n > 1 else "one training seed, so there are no intervals"
    level = f"{1 - scenario['alpha']:.0%}".replace("%", " %")
    yield f"# {escape(scenario['name'])}: what each loss does"
    yield ""
    yield (
        f"{escape(dataset['name'])}: {dataset['users']:,} users, {dataset['items']:,} items, {dataset['clicks']:,} "
        f"clicks; {seeds}. {arms} against "
        f"{escape(arm_label(results, 'control'))}: differences in the metric's own unit, {level} intervals over the "
        "paired seeds; \\* = significant after Holm's adjustment within the family of report.md."
    )
    for table in diagnosis_tables(results):
        yield from ("", f"## {escape(table.title)}", "")
        yield from table_lines(table)
    yield from ("", "![differences from the control](diagnosis.png)")


def _csv(results: Results) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for question, found in answers(results):
        for answer in found:
            for effect in answer.effects:
                arm, control = effect["treatment"], effect["control"]
                ends = effect["difference_ci"] or (None, None)
                numbers = (control["mean"], arm["mean"], effect["difference"], *ends, effect["p"], effect["p_adjusted"])
                writer.writerow([question.title, answer.name, arm["arm"], *numbers])
    return text.getvalue()
