"""Tags of items: a first one that its hidden group is known by, more of its subcategory, and strays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Draws
from simulator.world.catalogue import Catalogue
from simulator.world.items import zipf_rank
from simulator.world.world_config import WorldConfig


@dataclass(frozen=True)
class ItemTags:
    """Distinct tags of items 0 … N - 1, the rows of one item next to each other, in order of the tag."""

    item: NDArray[np.int64]  # (n,)
    tag: NDArray[np.int64]  # (n,)
    first: NDArray[np.int64]  # (N,) the tag of the group


def draw_tags(config: WorldConfig, catalogue: Catalogue) -> ItemTags:
    """Tags of every item. One that is drawn twice for an item counts once."""
    ids = np.arange(len(catalogue))
    start, end = _block(config, catalogue.subcategory.astype(np.int64))
    first = _first_tag(config, catalogue, ids, start, end)
    items, tags = [ids], [first]
    more = _poisson(Draws(config.seed, "tag count").uniform(ids), config.tags.per_item - 1.0)
    strays, draws = Draws(config.seed, "stray tag"), Draws(config.seed, "tag")
    for number in range(1, int(more.max(initial=0)) + 1):
        rows = ids[more >= number]
        stray, place = strays.two_uniforms(rows, number)
        own = start[rows] + zipf_rank(draws.uniform(rows, number), end[rows] - start[rows], config.tags.exponent)
        anywhere = (place * config.tags.count).astype(np.int64)
        items.append(rows)
        tags.append(np.where(stray < config.tags.stray, anywhere, own))
    key = np.sort(np.concatenate(items) * config.tags.count + np.concatenate(tags))
    key = key[np.diff(key, prepend=-1) > 0]
    return ItemTags(item=key // config.tags.count, tag=key % config.tags.count, first=first)


def tag_of_subcategory(
    config: WorldConfig, subcategory: NDArray[np.int64], uniform: NDArray[np.float64]
) -> NDArray[np.int64]:
    """A tag of each subcategory (B,)."""
    start, end = _block(config, subcategory)
    return start + zipf_rank(uniform, end - start, config.tags.exponent)


def _block(config: WorldConfig, subcategory: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First tag, and one past the last, of each subcategory; shared where there are fewer tags than subcategories."""
    blocks = config.items.categories * config.items.subcategories
    start = subcategory * config.tags.count // blocks
    return start, np.maximum((subcategory + 1) * config.tags.count // blocks, start + 1)


def _first_tag(
    config: WorldConfig,
    catalogue: Catalogue,
    ids: NDArray[np.int64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
) -> NDArray[np.int64]:
    """A tag of the group's part of the block."""
    groups = config.items.groups
    within = catalogue.group % groups
    low = start + within * (end - start) // groups
    high = np.maximum(start + (within + 1) * (end - start) // groups, low + 1)
    uniform = Draws(config.seed, "first tag").uniform(ids)
    return low + zipf_rank(uniform, high - low, config.tags.exponent)


def _poisson(uniform: NDArray[np.float64], mean: float) -> NDArray[np.int64]:
    """Poisson counts by inversion."""
    from scipy.special import pdtr

    return np.searchsorted(pdtr(np.arange(200), mean), uniform)
