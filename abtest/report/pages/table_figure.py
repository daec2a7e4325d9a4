"""The figure of a table as PNG and PDF: a panel per metric, bars with the spread over seeds, every seed a dot."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from abtest.report.pages.table_latex import metric_title
from abtest.report.pages.table_layout import groups, label_of
from abtest.report.tables import Results

_REFERENCE = "#8f959e"  # grey: what the others are compared with
_COLOURS = (
    "#1f5f99",
    "#a8560f",
    "#6b4a94",
    "#0b7261",
    "#b5391f",
    "#4b6b1f",
    "#94650a",
    "#c27ba0",
    "#3f9fc4",
    "#d9a441",
)
_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # labels are text, whatever they hold
    "pdf.fonttype": 42,
}
_DPI = 160
_LETTERS = 40  # that fit below a panel side by side


class FigurePanel(NamedTuple):
    """One metric: groups of bars.

    Attributes:
        title: Above it.
        groups: Name of each group.
        bars: Name of each bar in a group.
        values: One list of numbers per group and bar, one number per seed.
        reference: Place of the bar that the others are compared with; None: none of them.
    """

    title: str
    groups: Sequence[str]
    bars: Sequence[str]
    values: Sequence[Sequence[Sequence[float]]]
    reference: int | None = 0


def figure_files(results: Results) -> dict[str, bytes]:
    """``figure.png`` and ``figure.pdf``."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    panels = panels_of(results)
    files = {}
    with rc_context(_STYLE):
        figure = _drawn(panels)
        png, pdf = io.BytesIO(), io.BytesIO()
        FigureCanvasAgg(figure)
        figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
        FigureCanvasPdf(figure)
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
        files = {"figure.png": png.getvalue(), "figure.pdf": pdf.getvalue()}
    return files


def panels_of(results: Results) -> list[FigurePanel]:
    """What is drawn: a panel per metric, datasets grouped; with ``figure.groups`` a panel per dataset too."""
    scenario = results["scenario"]
    keys, rows = scenario["figure"], list(scenario["rows"])
    metrics = keys["metrics"] or list(dict.fromkeys([scenario["metrics"][0], scenario["metrics"][-1]]))
    names = {name: facts["label"] for name, facts in results["datasets"].items()}
    models = {name: groups(results, name) for name in names}
    if keys["groups"]:
        first = next(iter(keys["groups"].values()))
        bars = list(keys["bars"]) or [label_of(results, row) for row in first]
        return [
            FigurePanel(
                f"{metric_title(metric)}, {label}" if len(names) > 1 else metric_title(metric),
                list(keys["groups"]),
                bars,
                [[_values(models[name][row], metric) for row in group] for group in keys["groups"].values()],
            )
            for name, label in names.items()
            for metric in metrics
        ]
    bars = [label_of(results, row) for row in rows]
    return [
        FigurePanel(
            metric_title(metric),
            list(names.values()),
            bars,
            [[_values(models[name][row], metric) for row in rows] for name in names],
            rows.index(results["reference"]) if results["reference"] in rows else None,
        )
        for metric in metrics
    ]


def _values(models: Sequence[Any], metric: str) -> list[float]:
    return [float(model[metric]) for model in models if model.get(metric) is not None]


def _drawn(panels: Sequence[FigurePanel]) -> Any:
    from matplotlib.figure import Figure

    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.7 * lines + 0.7), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for place, panel in enumerate(panels):
        _draw(axes[place // columns][place % columns], panel)
    for empty in range(len(panels), lines * columns):
        axes[empty // columns][empty % columns].set_axis_off()
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False)
    return figure


def _axis_start(values: Sequence[float]) -> float:
    """Where the axis begins: 0, unless all values lie far above it and close together."""
    if not values or min(values) <= 0 or min(values) == max(values):
        return 0.0
    start = min(values) - 0.5 * (max(values) - min(values)) - 1e-9
    return start if start > 0.3 * max(values) else 0.0


def _colours(panel: FigurePanel) -> list[str]:
    """A colour per bar: grey for the reference alone, so that no model under test is the grey one."""
    others = iter(_COLOURS * len(panel.bars))
    return [_REFERENCE if bar == panel.reference else next(others) for bar in range(len(panel.bars))]


def _draw(axis: Any, panel: FigurePanel) -> None:
    width = 0.8 / len(panel.bars)
    colours = _colours(panel)
    lowest = _axis_start([value for group in panel.values for bar in group for value in bar])
    for bar, name in enumerate(panel.bars):
        at = [group + (bar - (len(panel.bars) - 1) / 2) * width for group in range(len(panel.groups))]
        values = [group[bar] for group in panel.values]
        means = [sum(v) / len(v) if v else 0.0 for v in values]
        colour = colours[bar]
        if lowest > 0:  # a bar's length would mislead
            axis.plot(at, means, "D", color=colour, markersize=6, label=name)
        else:
            axis.bar(at, means, 0.92 * width, color=colour, label=name)
        for x, seeds in zip(at, values, strict=True):
            axis.plot([x] * len(seeds), seeds, ".", color="#1d1f23", markersize=2.5, alpha=0.7)
    crowded = sum(len(name) + 2 for name in panel.groups) > _LETTERS
    slant: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axis.set_xticks(range(len(panel.groups)), list(panel.groups), **slant)
    axis.set_title(panel.title)
    everything = [value for group in panel.values for bar in group for value in bar]
    if everything and min(everything) > 0:
        axis.set_ylim(lowest, max(everything) + 0.08 * (max(everything) - lowest))
        axis.set_ylabel("axis does not start at 0" if lowest > 0 else "", fontsize=7, color="#5f646d")
