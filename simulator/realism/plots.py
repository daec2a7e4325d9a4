"""One picture of all statistics: real and synthetic laid over each other."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np

from simulator.realism.compare import RealismVerdict, StatisticComparison
from simulator.realism.statistics import Kind

COLUMNS = 4
REAL, SYNTHETIC = "#1f5fa8", "#d9722b"
BINS = 40
COLOURS = {  # of the titles
    RealismVerdict.ALIKE: "#1d1f23",
    RealismVerdict.NEAR: "#94650a",
    RealismVerdict.APART: "#b5391f",
    RealismVerdict.MISSING: "#5f646d",
}


def statistics_png(comparisons: Sequence[StatisticComparison], real: str, synthetic: str) -> bytes:
    """The picture as PNG; the same comparisons give the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [comparison for comparison in comparisons if comparison.distance is not None]
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(4.0 * COLUMNS, 2.9 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    for number, comparison in enumerate(shown):
        axes = figure.add_subplot(rows, COLUMNS, number + 1)
        (_curve if comparison.statistic.kind is Kind.CURVE else _distribution)(axes, comparison)
        ks = "" if comparison.ks is None else f"KS {comparison.ks:.2f}, "
        title = f"{comparison.statistic.name}: {comparison.verdict}\n{ks}distance {comparison.distance:.2f}"
        axes.set_title(title, fontsize=9, color=COLOURS[comparison.verdict])
        axes.tick_params(labelsize=7)
        axes.set_xlabel(comparison.statistic.unit if comparison.statistic.kind is not Kind.CURVE else "", fontsize=7)
        axes.set_ylabel(comparison.statistic.unit if comparison.statistic.kind is Kind.CURVE else "share", fontsize=7)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    handles = [_patch(REAL, real), _patch(SYNTHETIC, synthetic)]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def _distribution(axes: Any, comparison: StatisticComparison) -> None:
    """Histograms over common bins, on a log scale where the statistic has one."""
    samples = (comparison.real, comparison.synthetic)
    if comparison.statistic.kind is Kind.CLOCK:
        period = comparison.statistic.period or 1.0
        edges = np.arange(int(period) + 1.0)
    else:
        joint = np.log1p(np.concatenate(samples)) if comparison.statistic.log_scale else np.concatenate(samples)
        low, high = np.quantile(joint, (0.0, 0.999))
        edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
        edges = np.unique(np.expm1(edges)) if comparison.statistic.log_scale else edges
        if comparison.statistic.log_scale:
            axes.set_xscale("symlog", linthresh=1.0)
    for sample, colour in zip(samples, (REAL, SYNTHETIC), strict=True):
        counts, _ = np.histogram(np.clip(sample, edges[0], edges[-1]), edges)
        axes.stairs(counts / len(sample), edges, color=colour, fill=True, alpha=0.25)
        axes.stairs(counts / len(sample), edges, color=colour, linewidth=1.2)


def _curve(axes: Any, comparison: StatisticComparison) -> None:
    """Bars side by side for few points, lines for many."""
    points = comparison.statistic.points or tuple(str(place + 1) for place in range(len(comparison.real)))
    places = np.arange(len(points))
    for shift, values, colour in ((-0.2, comparison.real, REAL), (0.2, comparison.synthetic, SYNTHETIC)):
        axes.bar(places + shift, np.nan_to_num(values), width=0.38, color=colour, alpha=0.8)
    axes.set_xticks(places, _plain(points), rotation=30 if len(points) > 4 else 0)
    if len(points) == 1:
        axes.set_xlim(-1.0, 1.0)


def _plain(points: Sequence[str]) -> list[str]:
    return [_no_math(point) for point in points]


def _patch(colour: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, alpha=0.7, label=_no_math(label))


def _no_math(text: str) -> str:
    """Text that is not read as a formula."""
    return text.replace("$", r"\$")
