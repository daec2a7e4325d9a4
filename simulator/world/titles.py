"""Titles: words of the item's tags, subcategory and topic between filler; near-duplicates, and clickbait that lies.

Those of ``titles.language: english`` are made in :mod:`simulator.world.english_titles`; what they tell of is decided
here for both languages.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from simulator.draws import Draws
from simulator.world.catalogue import Catalogue
from simulator.world.english_titles import TitleSubjects, english_titles
from simulator.world.tags import ItemTags, tag_of_subcategory
from simulator.world.world_config import WorldConfig

FILLERS, LURES, SUBCATEGORY_WORDS, TOPIC_WORDS = 200, 40, 20, 8
MOST_WORDS = 40
_TAG_SHARE = 0.6  # of the words that tell of the item, those of its tags; the others are of its subcategory
_LURE_SHARE = 0.5  # of the filler of a clickbait title
_FIRST_LURE, _FIRST_SUBCATEGORY, _FIRST_TAG, _FIRST_TOPIC = FILLERS, 1_000, 500_000, 1_000_000
_SPELT = 1_000_000  # words of three syllables


def title_series(config: WorldConfig, catalogue: Catalogue, tags: ItemTags) -> pl.Series:
    """The title of every item.

    Args:
        config: The world's keys.
        catalogue: All items.
        tags: Those of :func:`simulator.world.tags.subcategory_tags`, so that they tell nothing of topics; unused by
            English titles.
    """
    if config.titles.language == "english":
        return english_titles(config, _english_subjects(config, catalogue))
    words = title_words(config, catalogue, tags)
    used = np.flatnonzero(np.bincount(words[words >= 0]))
    texts = pl.Series([_spell(int(word)) for word in used])
    place = np.zeros(int(used.max()) + 1, np.int32)
    place[used] = np.arange(len(used))
    columns = [
        texts.gather(pl.Series(place[column]).set(pl.Series(column < 0), None)).alias(str(slot))
        for slot, column in enumerate(words.T)
    ]
    joined = pl.concat_str([pl.col(column.name) for column in columns], separator=" ", ignore_nulls=True)
    return pl.DataFrame(columns).select(joined.alias("title"))["title"]


def title_words(config: WorldConfig, catalogue: Catalogue, tags: ItemTags) -> NDArray[np.int32]:
    """Words of every title, shape (N, longest), -1 after the last."""
    ids = np.arange(len(catalogue))
    length = _lengths(config, ids)
    subcategory, told = _told_subcategory(config, catalogue, ids)
    first_row = np.searchsorted(tags.item, ids)
    n_tags = np.searchsorted(tags.item, ids, side="right") - first_row
    words = np.full((len(ids), int(length.max())), -1, np.int32)
    kinds, places = Draws(config.seed, "title kind"), Draws(config.seed, "title word")
    topical = _TopicWords(config, catalogue, ids, told)
    for slot in range(words.shape[1]):
        rows = ids[length > slot]
        kind, inner = kinds.two_uniforms(rows, slot)
        place = places.uniform(rows, slot)
        filler = kind < (config.titles.filler if slot else 0.0)  # the first word tells of the item
        own_tag = tags.tag[first_row[rows] + (place * n_tags[rows]).astype(np.int64)]
        lie = told[rows] != subcategory[rows]
        tag = np.where(lie, tag_of_subcategory(config, told[rows], place), own_tag)
        by_tag = _FIRST_TAG + tag % (_FIRST_TOPIC - _FIRST_TAG)
        by_subcategory = told[rows] * SUBCATEGORY_WORDS + (place * SUBCATEGORY_WORDS).astype(np.int64)
        by_subcategory = _FIRST_SUBCATEGORY + by_subcategory % (_FIRST_TAG - _FIRST_SUBCATEGORY)
        empty = np.where(
            lie & (inner < _LURE_SHARE), _FIRST_LURE + (place * LURES).astype(np.int64), (place * FILLERS).astype(int)
        )
        telling = topical(rows, slot, np.where((inner < _TAG_SHARE) | (slot == 0), by_tag, by_subcategory))
        words[rows, slot] = np.where(filler, empty, telling)
    return _copy_duplicates(config, catalogue, words, length)


def duplicate_of(config: WorldConfig, catalogue: Catalogue) -> NDArray[np.int64]:
    """The item whose title each near-duplicate copies, the one before it in its group; -1 = none. Shape (N,)."""
    ids = np.arange(len(catalogue))
    copies = Draws(config.seed, "near duplicate").uniform(ids) < config.items.near_duplicate_share
    order = np.lexsort((ids, catalogue.group))
    before = np.full(len(ids), -1)
    same = catalogue.group[order][1:] == catalogue.group[order][:-1]
    before[order[1:]] = np.where(same, order[:-1], -1)
    return np.where(copies, before, -1)


def _lengths(config: WorldConfig, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    from scipy.special import pdtr

    more = np.searchsorted(
        pdtr(np.arange(MOST_WORDS), config.titles.words - 2.0), Draws(config.seed, "title length").uniform(ids)
    )
    return np.minimum(2 + more, MOST_WORDS)


def _told_subcategory(
    config: WorldConfig, catalogue: Catalogue, ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The subcategory of each item, and the one that its title tells of: another for clickbait, where there is one."""
    n = config.items.categories * config.items.subcategories
    subcategory = catalogue.subcategory.astype(np.int64)
    shift = 1 + (Draws(config.seed, "title lie").uniform(ids) * max(n - 1, 0)).astype(np.int64)
    return subcategory, np.where(catalogue.clickbait, (subcategory + shift) % n, subcategory)


def _told_topic(
    config: WorldConfig, catalogue: Catalogue, ids: NDArray[np.int64], lies: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The topic, within its subcategory, that each title tells of: any of the other subcategory's for clickbait."""
    topics = config.items.topics
    anything = (Draws(config.seed, "title topic").uniform(ids) * topics).astype(np.int64)
    return np.where(lies, anything, catalogue.topic.astype(np.int64) % topics)


class _TopicWords:
    """Replaces telling words by words of the topic: ``signals.titles`` of them, different ones while there are any."""

    def __init__(
        self, config: WorldConfig, catalogue: Catalogue, ids: NDArray[np.int64], told: NDArray[np.int64]
    ) -> None:
        self._share, self._draws = config.signals.titles, Draws(config.seed, "topic word")
        if self._share > 0.0:
            topic = _told_topic(config, catalogue, ids, told != catalogue.subcategory)
            self._first = (told * config.items.topics + topic) * TOPIC_WORDS
            start, step = Draws(config.seed, "order of topic words").two_uniforms(ids)
            self._start = (start * TOPIC_WORDS).astype(np.int64)
            self._step = 2 * (step * TOPIC_WORDS / 2).astype(np.int64) + 1  # odd: all words of the topic in turn

    def __call__(self, rows: NDArray[np.int64], slot: int, words: NDArray[np.int64]) -> NDArray[np.int64]:
        """Telling words (B,) of titles (B,) at ``slot``, some of them replaced."""
        if self._share == 0.0:
            return words
        replaced = self._draws.uniform(rows, slot) < self._share
        of_topic = self._first[rows] + (self._start[rows] + self._step[rows] * slot) % TOPIC_WORDS
        return np.where(replaced, _FIRST_TOPIC + of_topic % _SPELT, words)


def _english_subjects(config: WorldConfig, catalogue: Catalogue) -> TitleSubjects:
    """What English titles tell of: a near-duplicate of all that the title it copies does."""
    ids = np.arange(len(catalogue))
    subcategory, told = _told_subcategory(config, catalogue, ids)
    lies = told != subcategory
    topic = _told_topic(config, catalogue, ids, lies)
    root = _first_copied(config, catalogue)
    return TitleSubjects(item=root, subcategory=told[root], topic=topic[root], lies=lies[root])


def _first_copied(config: WorldConfig, catalogue: Catalogue) -> NDArray[np.int64]:
    """The item at the end of each chain of near-duplicates; an item that copies none is its own. Shape (N,)."""
    root = duplicate_of(config, catalogue)
    root = np.where(root < 0, np.arange(len(root)), root)
    while (root[root] != root).any():
        root = root[root]
    return root


def _copy_duplicates(
    config: WorldConfig, catalogue: Catalogue, words: NDArray[np.int32], length: NDArray[np.int64]
) -> NDArray[np.int32]:
    root = _first_copied(config, catalogue)
    copies = np.flatnonzero(root != np.arange(len(root)))
    words[copies] = words[root[copies]]
    place, word = Draws(config.seed, "changed word").two_uniforms(copies)
    words[copies, (place * length[root[copies]]).astype(np.int64)] = (word * FILLERS).astype(np.int32)
    return words


def _spell(word: int) -> str:
    """A word of three syllables, and an n for words of topics; different numbers are spelt differently."""
    topical, word = divmod(word, _SPELT)
    shuffled = (word * 387_420_489 + 12_345) % _SPELT
    syllables = ((shuffled // 100**place) % 100 for place in range(3))
    return "".join("bdfgjklmnprstvwzchqx"[s // 5] + "aeiou"[s % 5] for s in syllables) + "n" * topical
