"""Tags of items: one that its hidden group is known by (``signals.groups``), more of its subcategory, and strays.

``signals.tags`` of the tags that are no strays are of the item's topic instead: of the part of the subcategory's tags
that is the topic's. A vocabulary of fewer tags than topics lets neighbouring topics share theirs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Draws
from simulator.world.catalogue import Catalogue
from simulator.world.items import zipf_rank
from simulator.world.world_config import WorldConfig, with_signals


@dataclass(frozen=True)
class ItemTags:
    """Distinct tags of items 0 … N - 1, the rows of one item next to each other, in order of the tag."""

    item: NDArray[np.int64]  # (n,)
    tag: NDArray[np.int64]  # (n,)
    first: NDArray[np.int64]  # (N,) the tag of the group


def draw_tags(config: WorldConfig, catalogue: Catalogue) -> ItemTags:
    """Tags of every item, as the column ``tags`` has them. One that is drawn twice for an item counts once."""
    keys, ids = config.tags, np.arange(len(catalogue))
    start, end = _block(config, catalogue.subcategory.astype(np.int64))
    topical = _TopicTags(config, catalogue, start, end)
    first = topical(ids, 0, _first_tag(config, catalogue, ids, start, end))
    items, tags = [ids], [first]
    more = _poisson(Draws(config.seed, "tag count").uniform(ids), keys.per_item - 1.0)
    strays, draws = Draws(config.seed, "stray tag"), Draws(config.seed, "tag")
    for number in range(1, int(more.max(initial=0)) + 1):
        rows = ids[more >= number]
        stray, place = strays.two_uniforms(rows, number)
        own = start[rows] + zipf_rank(draws.uniform(rows, number), end[rows] - start[rows], keys.exponent)
        anywhere = (place * keys.count).astype(np.int64)
        items.append(rows)
        tags.append(np.where(stray < keys.stray, anywhere, topical(rows, number, own)))
    key = np.sort(np.concatenate(items) * keys.count + np.concatenate(tags))
    key = key[np.diff(key, prepend=-1) > 0]
    return ItemTags(item=key // keys.count, tag=key % keys.count, first=first)


def subcategory_tags(config: WorldConfig, catalogue: Catalogue) -> ItemTags:
    """The tags that items would have at ``signals.tags`` 0, which tell of subcategory and group but of no topic.

    Rule for whatever else follows from tags, such as titles and content vectors: draw it from these and never from
    :func:`draw_tags`. Else ``signals.tags`` would show in two columns, and titles would tell topics at
    ``signals.titles`` 0.
    """
    return draw_tags(with_signals(config, tags=0.0), catalogue)


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


class _TopicTags:
    """Replaces tags by tags of the topic: ``signals.tags`` of them."""

    def __init__(
        self, config: WorldConfig, catalogue: Catalogue, start: NDArray[np.int64], end: NDArray[np.int64]
    ) -> None:
        topics, within = config.items.topics, catalogue.topic.astype(np.int64) % config.items.topics
        self._low = start + within * (end - start) // topics
        self._size = np.maximum(start + (within + 1) * (end - start) // topics - self._low, 1)
        self._share, self._exponent = config.signals.tags, config.tags.exponent
        self._draws = Draws(config.seed, "topic tag")

    def __call__(self, rows: NDArray[np.int64], number: int, tags: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tags (B,), the ``number``-th of items (B,), some of them replaced."""
        if self._share == 0.0:
            return tags
        replaced, place = self._draws.two_uniforms(rows, number)
        of_topic = self._low[rows] + zipf_rank(place, self._size[rows], self._exponent)
        return np.where(replaced < self._share, of_topic, tags)


def _first_tag(
    config: WorldConfig,
    catalogue: Catalogue,
    ids: NDArray[np.int64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
) -> NDArray[np.int64]:
    """A tag of the group's part of the block, for ``signals.groups`` of the items; else of the whole block."""
    groups = config.items.groups
    within = catalogue.group % groups
    low = start + within * (end - start) // groups
    high = np.maximum(start + (within + 1) * (end - start) // groups, low + 1)
    if config.signals.groups < 1.0:
        told = Draws(config.seed, "first tag of group").uniform(ids) < config.signals.groups
        low, high = np.where(told, low, start), np.where(told, high, end)
    uniform = Draws(config.seed, "first tag").uniform(ids)
    return low + zipf_rank(uniform, high - low, config.tags.exponent)


def _poisson(uniform: NDArray[np.float64], mean: float) -> NDArray[np.int64]:
    """Poisson counts by inversion."""
    from scipy.special import pdtr

    return np.searchsorted(pdtr(np.arange(200), mean), uniform)
