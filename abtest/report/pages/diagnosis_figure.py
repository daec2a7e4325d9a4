"""The picture of a diagnosis: a panel per metric, a dot with its interval per treatment, the control at 0.

Full dots are significant; each panel says what a higher or lower value means.
"""

import io
from typing import Any

from abtest.report.pages.diagnosis_answers import DiagnosisAnswer, answers, treatments
from abtest.report.pages.diagnosis_questions import way_of
from abtest.report.tables import Results, arm_label

COLOURS = ("#1f5f99", "#a8560f", "#6b4a94", "#0b7261", "#b5391f", "#4b6b1f", "#94650a", "#c27ba0")
STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # names are text, whatever they hold
    "pdf.fonttype": 42,
}
DPI = 150
_COLUMNS = 4


def picture_files(results: Results, name: str) -> dict[str, bytes]:
    """The picture as PNG and PDF, by file name."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        return rendered(_drawn(results), name)


def rendered(figure: Any, name: str) -> dict[str, bytes]:
    """A figure as PNG and PDF without dates or versions, so that equal runs write equal files."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    png, pdf = io.BytesIO(), io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    FigureCanvasPdf(figure)
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return {f"{name}.png": png.getvalue(), f"{name}.pdf": pdf.getvalue()}


def _drawn(results: Results) -> Any:
    from matplotlib.figure import Figure

    panels = [answer for _, found in answers(results) for answer in found]
    panels = [panel for panel in panels if any(effect["difference"] is not None for effect in panel.effects)]
    labels = [arm_label(results, arm) for arm in treatments(results)]
    lines = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(2.7 * _COLUMNS, (0.75 + 0.24 * len(labels)) * lines + 0.3), layout="constrained")
    grid = figure.subplots(lines, _COLUMNS, squeeze=False)
    for place in range(lines * _COLUMNS):
        axis = grid[place // _COLUMNS][place % _COLUMNS]
        if place < len(panels):
            _panel(axis, panels[place], labels, first=place % _COLUMNS == 0)
        else:
            axis.set_axis_off()
    return figure


def _panel(axis: Any, answer: DiagnosisAnswer, labels: list[str], *, first: bool) -> None:
    axis.axvline(0.0, color="#8f959e", linewidth=0.8)
    for place, effect in enumerate(answer.effects):
        found, interval = effect["difference"], effect["difference_ci"]
        if found is None:
            continue
        colour = COLOURS[place % len(COLOURS)]
        if interval is not None:
            axis.plot(interval, [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
        axis.plot([found], [place], "o", color=colour, markersize=4.5, mfc=colour if effect["significant"] else "white")
    axis.set_yticks(range(len(labels)), labels if first else [""] * len(labels))
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.set_title(answer.name, fontsize=8.5)
    axis.set_xlabel(way_of(answer.name), fontsize=7, color="#5f646d")
    axis.tick_params(axis="x", labelsize=7)
    axis.locator_params(axis="x", nbins=4)
    axis.margins(x=0.15)
