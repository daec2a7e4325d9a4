"""Titles in English: a template of the style, telling phrases of the item's topic or subcategory, small words between.

Every draw is keyed by the item. A title whose words would repeat is drawn again, so that none holds a word three times
or a phrase twice.
"""

import re
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from simulator.draws import Draws
from simulator.world.english_templates import CHANGES, FIELDS, GOODS, LURES, STYLES
from simulator.world.english_words import OF_SUBCATEGORY, PHRASES, WordNumbers, english_words
from simulator.world.world_config import ENGLISH_SUBCATEGORIES, WorldConfig

MOST_PHRASES = 4
WORDS_PER_PHRASE = 1.5
SECTION_SHARE = 0.6  # of titles that name their subcategory as a channel or a column would
LURE_SHARE = 0.7  # of clickbait titles, whose template is a lure
_ATTEMPTS = 6
_FORMS = ("{section}: {title}", "{title} | {section}", "{title} ({section})")
_LETTERS = "abcd"
_PLACES = re.compile(r"\{(\w+)\}")
_FIELDS = 3  # of small words, in a template


class TitleSubjects(NamedTuple):
    """What each title tells of; arrays of shape (N,)."""

    item: NDArray[np.int64]  # whose draws make the title: for a near-duplicate, those of the item that it copies
    subcategory: NDArray[np.int64]  # of the world: category * config.items.subcategories + …
    topic: NDArray[np.int64]  # within the subcategory
    lies: NDArray[np.bool_]


def english_titles(config: WorldConfig, subjects: TitleSubjects) -> pl.Series:
    """The title of every item.

    Args:
        config: The world's keys; within the limits of the vocabulary.
        subjects: What the titles tell of.
    """
    shapes = _Shapes(config)
    chosen = _Chosen.draw(config, shapes, subjects)
    bodies = shapes.fill(chosen)
    return _with_section_and_change(config, subjects, chosen, bodies)


class _Shapes:
    """Templates of a style as one list, each with its number of phrases."""

    def __init__(self, config: WorldConfig) -> None:
        self.words = english_words()
        style = config.titles.style
        pools = (
            STYLES[style],
            GOODS if style == "shop" else STYLES[style],
            LURES if style != "shop" else STYLES[style],
        )
        self.texts: list[str] = []
        self.first = np.zeros((len(pools), MOST_PHRASES + 1), np.int64)  # of pool and number of phrases
        self.count = np.zeros_like(self.first)
        for pool, templates in enumerate(pools):
            for phrases, texts in templates.items():
                self.first[pool, phrases], self.count[pool, phrases] = len(self.texts), len(texts)
                self.texts += texts
        numbers = WordNumbers()
        self.of_phrases = numbers.of(self.words.phrases)
        self.of_sections = numbers.of(self.words.sections)
        self.of_templates = numbers.of(self.texts)
        self.fields = [[name for name in _PLACES.findall(text) if name not in _LETTERS] for text in self.texts]
        self.of_fields = {name: numbers.of(values) for name, values in FIELDS.items()}

    def fill(self, chosen: "_Chosen") -> pl.Series:
        """The titles proper, one template after the other, then in order of the items."""
        order = np.argsort(chosen.template, kind="stable")
        ends = np.searchsorted(chosen.template[order], np.arange(len(self.texts) + 1))
        phrases = pl.Series(self.words.phrases)
        parts = []
        for template, text in enumerate(self.texts):
            rows = order[ends[template] : ends[template + 1]]
            if len(rows):
                parts.append(self._filled(text, self.fields[template], phrases, chosen, rows))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        return pl.concat(parts).gather(place)

    def _filled(
        self, text: str, fields: list[str], phrases: pl.Series, chosen: "_Chosen", rows: NDArray[np.int64]
    ) -> pl.Series:
        pieces: list[pl.Expr] = []
        columns: dict[str, pl.Series] = {}
        for number, piece in enumerate(_PLACES.split(text)):
            if number % 2 == 0:
                pieces += [pl.lit(piece)] if piece else []
                continue
            if piece in _LETTERS:
                values = phrases.gather(chosen.phrases[rows, _LETTERS.index(piece)])
            else:
                options = FIELDS[piece]
                which = (chosen.small[rows, fields.index(piece)] * len(options)).astype(np.int64)
                values = pl.Series(options).gather(which)
                if piece in ("number", "expert") and not text.startswith(f"{{{piece}}}"):
                    values = values.str.to_lowercase()
            columns[piece] = values
            pieces.append(pl.col(piece))
        filled = pl.DataFrame(columns).select(pl.concat_str(pieces).alias("title"))["title"]
        if not text.startswith("{"):
            return filled
        return pl.select(filled.str.head(1).str.to_uppercase() + filled.str.slice(1)).to_series()


class _Chosen(NamedTuple):
    """What was drawn for each title."""

    template: NDArray[np.int64]  # (N,)
    phrases: NDArray[np.int64]  # (N, 4), of the vocabulary; those behind the template's number are unused
    small: NDArray[np.float64]  # (N, 3) uniforms of the small words
    section: NDArray[np.int64]  # (N,) of the vocabulary
    form: NDArray[np.int64]  # (N,) of _FORMS; len(_FORMS) = none

    @classmethod
    def draw(cls, config: WorldConfig, shapes: _Shapes, subjects: TitleSubjects) -> "_Chosen":
        """All draws, those of titles that repeat themselves until they do not; at last with a single phrase."""
        ids, per_category = subjects.item, config.items.subcategories
        category = subjects.subcategory // per_category
        section = category * ENGLISH_SUBCATEGORIES + subjects.subcategory % per_category
        kind, which = Draws(config.seed, "English section").two_uniforms(ids)
        first = 1 if config.titles.style == "shop" else 0  # a shop puts the section behind
        shape = first + (which * (len(_FORMS) - first)).astype(np.int64)
        form = np.where(kind < SECTION_SHARE, shape, len(_FORMS))
        small = Draws(config.seed, "English small word").uniform(ids[:, None], np.arange(_FIELDS))
        lured = Draws(config.seed, "English lure").uniform(ids) < LURE_SHARE
        pool = np.where(subjects.lies & lured, 2, np.where(shapes.words.sold[section], 1, 0))
        chosen = cls(np.zeros(len(ids), np.int64), np.zeros((len(ids), MOST_PHRASES), np.int64), small, section, form)
        rows = np.arange(len(ids))
        for attempt in range(_ATTEMPTS + 1):
            phrases = _phrases_in(config, ids[rows], attempt) if attempt < _ATTEMPTS else np.ones(len(rows), np.int64)
            place = Draws(config.seed, "English template").uniform(ids[rows], attempt)
            count = shapes.count[pool[rows], phrases]
            chosen.template[rows] = shapes.first[pool[rows], phrases] + (place * count).astype(np.int64)
            chosen.phrases[rows] = _draw_phrases(config, ids[rows], section[rows], subjects.topic[rows], attempt)
            rows = rows[_repeats(shapes, chosen, rows, phrases)]
            if not len(rows):
                break
        return chosen


def _phrases_in(config: WorldConfig, ids: NDArray[np.int64], attempt: int) -> NDArray[np.int64]:
    """Telling phrases of each title, 1 … 4, in the mean as many as ``titles.words`` and ``titles.filler`` ask for."""
    mean = config.titles.words * (1.0 - config.titles.filler) / WORDS_PER_PHRASE
    about = mean - 0.5 + 2.0 * Draws(config.seed, "English phrases").uniform(ids, attempt)
    return np.clip(about.astype(np.int64), 1, MOST_PHRASES)


def _draw_phrases(
    config: WorldConfig, ids: NDArray[np.int64], section: NDArray[np.int64], topic: NDArray[np.int64], attempt: int
) -> NDArray[np.int64]:
    """Phrases (B, 4): each of the topic with probability ``signals.titles``, else any of the subcategory.

    Those of one kind differ: they are steps around a circle of 5 or 25.
    """
    slot = np.arange(MOST_PHRASES)
    topical = Draws(config.seed, "English topic phrase").uniform(ids[:, None], slot, attempt) < config.signals.titles
    start, step = Draws(config.seed, "English phrase of topic").two_uniforms(ids, attempt)
    within = _around(start, step, slot, PHRASES, np.arange(1, PHRASES))
    start, step = Draws(config.seed, "English phrase of subcategory").two_uniforms(ids, attempt)
    coprime = np.array([one for one in range(1, OF_SUBCATEGORY) if one % PHRASES])
    anywhere = _around(start, step, slot, OF_SUBCATEGORY, coprime)
    return section[:, None] * OF_SUBCATEGORY + np.where(topical, topic[:, None] * PHRASES + within, anywhere)


def _around(
    start: NDArray[np.float64], step: NDArray[np.float64], slot: NDArray[np.int64], size: int, steps: NDArray[np.int64]
) -> NDArray[np.int64]:
    first = (start * size).astype(np.int64)
    stride = steps[(step * len(steps)).astype(np.int64)]
    return (first[:, None] + stride[:, None] * slot) % size


def _repeats(
    shapes: _Shapes, chosen: _Chosen, rows: NDArray[np.int64], phrases: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether the titles of ``rows`` (B,) hold a phrase twice or a word three times; any order of words will do."""
    found = np.zeros(len(rows), bool)
    for start in range(0, len(rows), 100_000):
        block = slice(start, start + 100_000)
        found[block] = _repeats_in(shapes, chosen, rows[block], phrases[block])
    return found


def _repeats_in(
    shapes: _Shapes, chosen: _Chosen, rows: NDArray[np.int64], phrases: NDArray[np.int64]
) -> NDArray[np.bool_]:
    used = np.arange(MOST_PHRASES) < phrases[:, None]
    held = np.where(used, chosen.phrases[rows], -1 - np.arange(MOST_PHRASES))
    held.sort(axis=1)
    twice = (held[:, 1:] == held[:, :-1]).any(axis=1)
    template = chosen.template[rows]
    words = [np.where(used[:, :, None], shapes.of_phrases[chosen.phrases[rows]], -1).reshape(len(rows), -1)]
    words.append(np.where((chosen.form[rows] < len(_FORMS))[:, None], shapes.of_sections[chosen.section[rows]], -1))
    words.append(shapes.of_templates[template])
    words += _small_words(shapes, chosen, rows, template)
    every = np.sort(np.concatenate(words, axis=1), axis=1)
    thrice = ((every[:, 2:] == every[:, :-2]) & (every[:, 2:] >= 0)).any(axis=1)
    result: NDArray[np.bool_] = twice | thrice
    return result


def _small_words(
    shapes: _Shapes, chosen: _Chosen, rows: NDArray[np.int64], template: NDArray[np.int64]
) -> list[NDArray[np.int32]]:
    """Words of the fields of the templates, one array per field."""
    width = max(numbers.shape[1] for numbers in shapes.of_fields.values())
    words = [np.full((len(rows), width), -1, np.int32) for _ in range(_FIELDS)]
    order = np.argsort(template, kind="stable")
    ends = np.searchsorted(template[order], np.arange(len(shapes.texts) + 1))
    for number, fields in enumerate(shapes.fields):
        of_template = order[ends[number] : ends[number + 1]]
        for place, name in enumerate(fields if len(of_template) else ()):
            numbers = shapes.of_fields[name]
            which = (chosen.small[rows[of_template], place] * len(numbers)).astype(np.int64)
            words[place][of_template, : numbers.shape[1]] = numbers[which]
    return words


def _with_section_and_change(
    config: WorldConfig, subjects: TitleSubjects, chosen: _Chosen, bodies: pl.Series
) -> pl.Series:
    """The titles with the name of their subcategory, and with the word that a near-duplicate adds."""
    ids = np.arange(len(bodies))
    changes = CHANGES[config.titles.style]
    which = (Draws(config.seed, "English change").uniform(ids) * len(changes)).astype(np.int64)
    frame = pl.DataFrame(
        {
            "title": bodies,
            "section": pl.Series(english_words().sections).gather(chosen.section),
            "form": chosen.form,
            "change": pl.Series(changes).gather(which),
            "copy": subjects.item != ids,
        }
    )
    title, section = pl.col("title"), pl.col("section")
    told = title
    for number, form in enumerate(_FORMS):
        before, middle, after = re.split(r"\{\w+\}", form)
        first, second = (section, title) if form.startswith("{section}") else (title, section)
        shaped = pl.concat_str([pl.lit(before), first, pl.lit(middle), second, pl.lit(after)])
        told = pl.when(pl.col("form") == number).then(shaped).otherwise(told)
    changed = pl.when(pl.col("copy")).then(pl.concat_str([told, pl.lit(", "), pl.col("change")])).otherwise(told)
    return frame.select(changed.alias("title"))["title"]
