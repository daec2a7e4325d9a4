"""A map of the items: where models put them, coloured by category, sized by popularity, planted links drawn in."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from abtest.offline.projections import Method, plane, turned_onto
from abtest.report.pages.diagnosis_figure import COLOURS, STYLE, rendered
from abtest.run_folder import write_bytes, write_text
from micrec.config import model_label
from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.evaluation.geometry import effective_rank, uniformity, unit
from micrec.evaluation.link_recall import read_links
from micrec.evaluation.pairs import even_sample, link_pairs
from micrec.fitting import Fitted
from micrec.inference import encode_items
from micrec.models import make_model
from micrec.training import stream

NAME = "map"  # of the files
MOST_ITEMS = 5_000  # t-SNE takes half a minute for them
_MOST_LINKS = 40
_REST = "#c3c7cd"


class ShownItems(NamedTuple):
    """The items of a map, n of them."""

    items: NDArray[np.int64]  # (n,) dense ids
    of: int  # items with training clicks
    clicks: NDArray[np.int64]  # (n,) training clicks
    category: list[str | None] | None  # of each item
    links: NDArray[np.int64]  # (L, 2) places of linked items


class MapPanel(NamedTuple):
    """One model, laid out one way."""

    model: str
    method: Method
    points: NDArray[np.float64]  # (n, 2)
    note: str


def draw_map(
    models: Sequence[Fitted],
    dataset: Dataset,
    out: Path,
    *,
    methods: Sequence[Method] = ("pca",),
    untrained: bool = False,
    items: int = 2_000,
    seed: int = 0,
    force: bool = False,
) -> list[Path]:
    """Write ``map.png``, ``map.pdf`` and ``map.csv`` (the points) into ``out``.

    Args:
        models: Trained models of the dataset.
        dataset: Categories, and the planted links of a world whose ground truth is there.
        out: A folder; made if it is not there.
        methods: One row of panels each.
        untrained: Begin with the first model as it was before its training.
        items: Items shown at most, 3 to ``MOST_ITEMS``.
        seed: Random seed of t-SNE.
        force: Replace the map that is there.

    Raises:
        MicrecError: If a map is there already, or there is too little to draw.
    """
    if (out / f"{NAME}.png").exists() and not force:
        raise MicrecError(f"{out}: holds a map: use --force to replace it, or --out for another folder.")
    if not 3 <= items <= MOST_ITEMS:
        raise MicrecError(f"--items: must be from 3 to {MOST_ITEMS:,}, got {items}.")
    shown = choose_items(dataset, models[0].trained_clicks, items)
    embeddings = _embeddings(models, shown, untrained=untrained)
    panels = [panel for method in methods for panel in _panels(embeddings, method, seed)]
    out.mkdir(parents=True, exist_ok=True)
    files = _rendered(panels, shown, dataset, columns=len(embeddings))
    for name, content in files.items():
        write_bytes(out / name, content)
    write_text(out / f"{NAME}.csv", _points(panels, shown, dataset))
    return [out / name for name in (*files, f"{NAME}.csv")]


def choose_items(dataset: Dataset, trained_clicks: int, most: int) -> ShownItems:
    """An even sample of the items with training clicks, and some of the planted links among them."""
    counts = np.bincount(dataset.clicks.item_ids[:trained_clicks], minlength=len(dataset.items))
    known = np.flatnonzero(counts)
    items = even_sample(known, most)
    if len(items) < 3:
        raise MicrecError(f"{dataset.name}: only {len(items)} items have training clicks: at least 3 make a map.")
    role = dataset.schema.roles.category
    column = dataset.items.columns.get(role) if role else None
    category = None
    if column is not None and column.codes is not None:
        category = [column.labels[code - 1] if code else None for code in column.codes[items]]
    return ShownItems(items, len(known), counts[items], category, _links(dataset, items))


def _links(dataset: Dataset, items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of some linked items, shape (L, 2)."""
    links = read_links(dataset)
    if links is None:
        return np.empty((0, 2), dtype=np.int64)
    rng = np.random.default_rng(0)
    pairs = np.unique(np.stack(link_pairs(links, items, rng), axis=1), axis=0)
    chosen = pairs if len(pairs) <= _MOST_LINKS else pairs[rng.choice(len(pairs), _MOST_LINKS, replace=False)]
    return np.searchsorted(items, chosen)


def _embeddings(models: Sequence[Fitted], shown: ShownItems, *, untrained: bool) -> dict[str, torch.Tensor]:
    """Unit embeddings (n, D) of the shown items by name of the model; names stay apart."""
    named: list[tuple[str, Any, Fitted]] = [(model_label(one.config), one.model, one) for one in models]
    if untrained:
        first = models[0]
        fresh = make_model(
            first.config.model,
            first.fields.user_specs,
            first.fields.item_specs,
            sparse=False,
            generator=stream(first.config.train.seed, 0),
        )
        named.insert(0, (f"{first.config.model.name}, untrained", fresh.to(first.device), first))
    found: dict[str, torch.Tensor] = {}
    for name, model, fitted in named:
        distinct = name if name not in found else f"{name} ({len(found) + 1})"
        items = encode_items(model, fitted.fields.items)[1]
        found[distinct] = unit(items[torch.from_numpy(shown.items).to(items.device)]).cpu()
    return found


def _panels(embeddings: dict[str, torch.Tensor], method: Method, seed: int) -> list[MapPanel]:
    panels: list[MapPanel] = []
    for name, rows in embeddings.items():
        points, share = plane(rows.double().numpy(), method, seed=seed)
        points = turned_onto(points, panels[0].points) if panels else points
        note = f"uniformity {uniformity(rows):.2f}, effective rank {effective_rank(rows):.1f}"
        if share is not None:
            note += f", {share:.0%} of the spread shown"
        panels.append(MapPanel(name, method, points, note))
    return panels


def _rendered(panels: Sequence[MapPanel], shown: ShownItems, dataset: Dataset, *, columns: int) -> dict[str, bytes]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    lines = len(panels) // columns
    with rc_context(STYLE):
        figure = Figure(figsize=(max(4.2 * columns, 6.5), 4.4 * lines + 1.2), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False)
        colours, legend = _colours(shown)
        for place, panel in enumerate(panels):
            _draw(grid[place // columns][place % columns], panel, shown, colours)
        lines_of = (wrap(line, int(17 * figure.get_figwidth())) for line in caption(panels, shown, dataset))
        figure.legend(
            [_dot(colour) for colour in legend.values()],
            list(legend),
            loc="outside lower center",
            ncols=min(len(legend), 9 if columns > 1 else 5),
            frameon=False,
            fontsize=7.5,
            title="\n".join(part for line in lines_of for part in line),
            title_fontsize=7.5,
        )
        return rendered(figure, NAME)


def caption(panels: Sequence[MapPanel], shown: ShownItems, dataset: Dataset) -> list[str]:
    """What is shown, and what must not be read into it."""
    sample = "all" if len(shown.items) == shown.of else f"an even sample of {len(shown.items):,} of"
    lines = [
        f"{dataset.name}: {sample} {shown.of:,} items with training clicks, embeddings scaled to length 1. "
        "Size: training clicks. Layouts are turned, not stretched, onto the first."
    ]
    if len(shown.links):
        lines[0] += f" Lines: {len(shown.links)} planted links."
    if any(panel.method == "tsne" for panel in panels):
        lines.append(
            "t-SNE keeps neighbours together; distances between groups, their sizes and empty space mean little."
        )
    return lines


def _draw(axis: Any, panel: MapPanel, shown: ShownItems, colours: Sequence[str]) -> None:
    area = 2.0 + 45.0 * np.sqrt(shown.clicks / shown.clicks.max())
    order = np.argsort(-shown.clicks, kind="stable")  # rare items on top
    x, y = panel.points.T
    axis.scatter(x[order], y[order], s=area[order], c=[colours[i] for i in order], alpha=0.7, linewidths=0)
    for a, b in shown.links:
        axis.plot(x[[a, b]], y[[a, b]], color="#1d1f23", linewidth=0.6, alpha=0.55)
    axis.set_title(f"{panel.model}: {'PCA' if panel.method == 'pca' else 't-SNE'}\n{panel.note}", fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_aspect("equal", adjustable="datalim")


def _colours(shown: ShownItems) -> tuple[list[str], dict[str, str]]:
    """A colour per item, and the legend: the largest categories, the others in grey."""
    if shown.category is None:
        return [COLOURS[0]] * len(shown.items), {"items": COLOURS[0]}
    sizes = pl.Series(shown.category, dtype=pl.String).drop_nulls().value_counts(sort=True)
    names = sizes.sort(["count", sizes.columns[0]], descending=[True, False])[sizes.columns[0]].to_list()
    chosen = dict(zip(names[: len(COLOURS)], COLOURS, strict=False))
    legend = dict(chosen)
    if any(name not in chosen for name in shown.category):
        legend["other or none"] = _REST
    return [chosen.get(name or "", _REST) for name in shown.category], legend


def _dot(colour: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], marker="o", linestyle="", color=colour, markersize=5)


def _points(panels: Sequence[MapPanel], shown: ShownItems, dataset: Dataset) -> str:
    columns: dict[str, Any] = {
        "item_id": dataset.items.ids[shown.items],
        "category": pl.Series(shown.category or [None] * len(shown.items), dtype=pl.String),
        "clicks": shown.clicks,
    }
    for panel in panels:
        for axis, values in zip("xy", panel.points.T, strict=True):
            columns[f"{panel.method} {axis}, {panel.model}"] = values
    return pl.DataFrame(columns).write_csv()
