"""Keys of tags: the vocabulary is counted; how tags are used is found by drawing them for a range of keys."""

import itertools

import numpy as np
from numpy.typing import NDArray

from micrec.settings import merge, validate
from simulator.fit.findings import Findings
from simulator.realism.distances import distance
from simulator.realism.log import Log
from simulator.world.items import make_catalogue
from simulator.world.tags import draw_tags
from simulator.world.world_config import WorldConfig

Floats = NDArray[np.float64]

MOST_ITEMS = 20_000  # of a trial
_EXPONENTS, _STRAYS, _FACTORS = (0.0, 0.5, 1.0, 1.5, 2.0), (0.05, 0.15, 0.3, 0.6, 0.9), (1.0, 1.25, 1.6, 2.2)
_MOST_PER_ITEM = 20.0
_TOLD_WEIGHT = 4.0  # of what tags tell of categories, beside two distances in standard deviations


def fit_tags(log: Log, config: WorldConfig, findings: Findings) -> None:
    """Set the keys of ``tags``, given the categories of ``config``."""
    if log.tags is None or not len(log.tags.values):
        findings.keep("no tags in the item table", "tags.count", "tags.per_item", "tags.exponent", "tags.stray")
        return
    uses, per_item = np.bincount(log.tags.values)[1:], np.diff(log.tags.offsets)
    uses, per_item = uses[uses > 0], per_item[per_item > 0]
    findings.set("tags.count", len(uses), "distinct tags of the item table")
    mean = float(np.clip(per_item.mean(), 1.0, _MOST_PER_ITEM))
    trial = {"items": {"count": min(log.n_items, MOST_ITEMS)}, "tags": {"count": len(uses)}, "days": 1}
    config = validate(WorldConfig, merge(config.model_dump(mode="json"), trial), where="fit")
    catalogue = make_catalogue(config)
    category = catalogue.subcategory.astype(np.int64) // config.items.subcategories
    told = None
    if log.category is not None and (log.category > 0).any():
        known = log.category[np.repeat(np.arange(log.n_items), np.diff(log.tags.offsets))]
        told = _category_told(log.tags.values[known > 0], known[known > 0])
    best = (float("inf"), config.tags)
    for exponent, stray, factor in itertools.product(_EXPONENTS, _STRAYS, _FACTORS):
        keys = config.tags.model_copy(
            update={
                "exponent": exponent,
                "stray": stray,
                "per_item": min(1.0 + (mean - 1.0) * factor, _MOST_PER_ITEM),  # a tag drawn twice counts once
            }
        )
        tags = draw_tags(config.model_copy(update={"tags": keys}), catalogue)
        drawn_uses, drawn = np.bincount(tags.tag), np.bincount(tags.item)
        error = _apart(per_item, drawn) + _apart(uses / uses.mean(), drawn_uses[drawn_uses > 0] / uses.mean())
        if told is not None:
            error += _TOLD_WEIGHT * abs(told - _category_told(tags.tag, category[tags.item]))
        if error < best[0] - 1e-9:
            best = (error, keys)
    source = "distributions of tags per item and of items per tag, by drawing tags for a grid of keys"
    source += "" if told is None else f"; two items of one tag are of one category {told:.3f} more often than any two"
    for name in ("per_item", "exponent", "stray"):
        findings.set(f"tags.{name}", round(getattr(best[1], name), 3), source)


def _category_told(tag: NDArray[np.integer], category: NDArray[np.integer]) -> float:
    """How much more often two uses of one tag are of one category than any two uses."""
    cells = np.unique(tag.astype(np.int64) * (int(category.max()) + 1) + category, return_counts=True)[1]
    uses, sizes = np.bincount(tag).astype(np.float64), np.bincount(category).astype(np.float64)
    alike = (cells * (cells - 1.0)).sum() / max((uses * (uses - 1.0)).sum(), 1.0)
    return float(alike - (sizes * (sizes - 1.0)).sum() / max(len(tag) * (len(tag) - 1.0), 1.0))


def _apart(real: NDArray, drawn: NDArray) -> float:
    scaled = np.log1p(real.astype(np.float64))
    return distance(scaled, np.log1p(drawn.astype(np.float64))).wasserstein / max(float(scaled.std()), 0.1)
