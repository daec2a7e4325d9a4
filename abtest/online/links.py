"""Do the models that serve place linked items next to each other? Asked after the run, with what only the world knows.

Nothing here reaches a trainer: models are read from the snapshots of the last day, and measured once it is over.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from micrec.evaluation.link_recall import Links, cosine_scores, link_recall
from micrec.inference import encode_items
from micrec.retrieval import load_bundle
from simulator.platform.archive import Archive
from simulator.platform.platform_config import PipelineConfig
from simulator.platform.serving_plan import make_plan
from simulator.world.world import World

CUTOFF = 50


def planted_links(world: World, items: NDArray[np.int64]) -> Links | None:
    """The world's links between given items, shape (n,), also where their strength is 0; None where there are none."""
    catalogue = world.catalogue
    source, slot = np.nonzero(catalogue.link_targets >= 0)
    if not len(source):
        return None
    category = (catalogue.subcategory // world.config.items.subcategories).astype(np.int32)
    pairs = np.stack([source, catalogue.link_targets[source, slot]], axis=1).astype(np.int64)
    return Links(catalogue.group[items].astype(np.int64), np.unique(pairs, axis=0), category[items])


def link_recalls(
    world: World, pipelines: Mapping[str, PipelineConfig], archive: Archive, day: int, *, diverted: bool, kind: str
) -> list[dict[str, Any]]:
    """Link recall among the items of other categories of every model that served on a day.

    Args:
        world: The truth.
        pipelines: By arm.
        archive: Where the days are.
        day: The day.
        diverted: Whether each arm has models of its own.
        kind: Kind of the channels whose models are two-tower bundles.

    Returns:
        Per arm and channel: ``arm, channel, version`` (day of its training), ``recall`` at ``CUTOFF`` and its
        ``chance`` level; empty where there are no links.
    """
    snapshots = pl.read_parquet(archive.day(day) / "snapshots.parquet")
    serving = {
        model: (day, source) for model, day, source in snapshots.select("model", "version", "source").iter_rows()
    }
    known: dict[str, dict[str, Any] | None] = {}
    found = []
    for arm in make_plan(pipelines, diverted=diverted).arms:
        for served in arm.channels:
            version, source = serving.get(served.model, (None, None))
            if pipelines[arm.name].channels[served.name].kind != kind or version is None:
                continue
            if served.model not in known:
                known[served.model] = _recall(world, archive.day(version) / "models" / source)
            figures = known[served.model]
            if figures is not None:
                found.append({"arm": arm.name, "channel": served.name, "version": version, **figures})
    return found


def _recall(world: World, folder: Path) -> dict[str, Any] | None:
    bundle = load_bundle(folder / "serving")
    links = planted_links(world, bundle.item_ids.to_numpy())
    if links is None:
        return None
    _, embeddings = encode_items(bundle.model, bundle.items)
    clicks = np.zeros(len(links.group), np.int64)
    found = link_recall(cosine_scores(embeddings), links, train_clicks=clicks, cutoffs=[CUTOFF], cold_clicks=-1)
    name = f"link_recall_cross@{CUTOFF}"
    return {"recall": found[name], "chance": found[f"{name}_chance"]} if name in found else None
