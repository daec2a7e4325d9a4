"""The answers of a diagnosis as tables: what each loss moves, with intervals over the paired seeds, and its pull."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from abtest.report import formatting
from abtest.report.pages.diagnosis_questions import QUESTIONS, DiagnosisQuestion, name_of, way_of
from abtest.report.tables import Results, Table, arm_label
from micrec.gradients import FIGURES
from micrec.item_loss_kinds import ITEM_LOSSES

Effect = Mapping[str, Any]


class DiagnosisAnswer(NamedTuple):
    """One metric: an effect per treatment, in the order of the arms."""

    name: str
    effects: Sequence[Effect]


def answers(results: Results) -> list[tuple[DiagnosisQuestion, list[DiagnosisAnswer]]]:
    """The effects of a run by question; a metric that no question names is left to the other tables."""
    by_name: dict[str, list[Effect]] = {}
    for effect in results["effects"]:
        by_name.setdefault(name_of(effect), []).append(effect)
    grouped = []
    for question in QUESTIONS:
        found = [
            DiagnosisAnswer(name, effects) for name, effects in by_name.items() if name.startswith(question.metrics)
        ]
        if found:
            grouped.append((question, found))
    return grouped


def treatments(results: Results) -> list[str]:
    """Names of the arms that are compared with the control."""
    return [arm for arm in results["scenario"]["arms"] if arm != "control"]


def answer_tables(results: Results) -> list[Table]:
    """One table per question: the control's mean, then each treatment's difference from it with its interval."""
    header = ("metric (what it means)", *(arm_label(results, arm) for arm in ("control", *treatments(results))))
    tables = []
    for question, found in answers(results):
        rows = [
            (
                f"{name} ({way_of(name)})",
                formatting.value(effects[0]["control"]["mean"]),
                *(difference(effect) for effect in effects),
            )
            for name, effects in found
            if any(effect["difference"] is not None for effect in effects)
        ]
        tables.append(Table(question.title, header, rows, [question.reading]))
    return tables


def difference(effect: Effect) -> str:
    """Treatment minus control with its interval; a star where it is significant after Holm's adjustment."""
    found, interval = effect["difference"], effect["difference_ci"]
    if found is None:
        return formatting.UNDEFINED
    digits = 4 if abs(found) < 1 else 2
    text = f"{found:+.{digits}f}"
    if interval is not None:
        text += f" [{interval[0]:+.{digits}f}, {interval[1]:+.{digits}f}]"
    return f"{text} *" if effect["significant"] else text


def pull_table(results: Results) -> Table:
    """How hard each item loss pulls at the item embeddings in each arm, mean over seeds, early and late."""
    rows = []
    for arm in results["scenario"]["arms"]:
        models = [model for model in results["models"] if model["arm"] == arm]
        for loss in ITEM_LOSSES:
            cells = [_early_late(models, f"{loss}_{figure}") for figure in FIGURES]
            if any(cell != formatting.UNDEFINED for cell in cells):
                rows.append((f"{arm_label(results, arm)}: {loss}", *cells))
    reading = (
        "From the first epoch to the last. Size: length of the loss's gradient on the item embeddings, divided by that "
        "of the matching loss. Agreement: cosine of the two gradients. Gradient share: the loss's mean share of the "
        "two lengths over the rows that both touch; Adam, which scales every number by itself, is nearer to it."
    )
    header = ("arm: loss", "size", "agreement", "gradient share")
    return Table("How large is the gradient of each loss?", header, rows, [reading])


def diagnosis_tables(results: Results) -> list[Table]:
    """All tables that have rows."""
    return [table for table in (*answer_tables(results), pull_table(results)) if table.rows]


def _early_late(models: Sequence[Mapping[str, Any]], name: str) -> str:
    found = []
    for when in ("early", "late"):
        values = [model[key] for model in models if model.get(key := f"{name}_{when}") is not None]
        if not values:
            return formatting.UNDEFINED
        found.append(f"{sum(values) / len(values):.2f}")
    return " to ".join(found)
