"""The vocabulary of English titles: categories, subcategories, topics and their telling phrases, of our own writing.

One file a category in ``english/``: its name, then for each subcategory a line ``= name``, or ``+ name`` where its
phrases are things that a shop sells as such, and one line per topic with its phrases, separated by commas.
"""

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.world.world_config import ENGLISH_CATEGORIES, ENGLISH_SUBCATEGORIES, ENGLISH_TOPICS

PHRASES = 5  # of each topic
OF_SUBCATEGORY = ENGLISH_TOPICS * PHRASES


class EnglishWords(NamedTuple):
    """The whole vocabulary; subcategory s of category c has index ``c * ENGLISH_SUBCATEGORIES + s``."""

    sections: list[str]  # name of each subcategory, capitalised
    phrases: list[str]  # of subcategory i: from i * OF_SUBCATEGORY, its topics one after the other
    sold: NDArray[np.bool_]  # (subcategories,) whether the phrases are goods


@cache
def english_words() -> EnglishWords:
    """The vocabulary, read once per process.

    Raises:
        ValueError: If a file has not its ten subcategories of five topics of five phrases.
    """
    sections: list[str] = []
    phrases: list[str] = []
    sold: list[bool] = []
    categories = 0
    folder = files("simulator.world").joinpath("english")
    for path in sorted((one for one in folder.iterdir() if one.name.endswith(".txt")), key=lambda one: one.name):
        _, *lines = path.read_text(encoding="utf-8").splitlines()
        categories += 1
        if len(lines) != ENGLISH_SUBCATEGORIES * (ENGLISH_TOPICS + 1):
            raise ValueError(f"{path.name}: {len(lines)} lines after the first")
        for number, line in enumerate(lines):
            if number % (ENGLISH_TOPICS + 1) == 0:
                sections.append(_capital(line[2:]))
                sold.append(line.startswith("+ "))
            else:
                found = line.split(", ")
                if line[:2] in ("= ", "+ ") or len(found) != PHRASES:
                    raise ValueError(f"{path.name}, line {number + 2}: not {PHRASES} phrases")
                phrases += found
    if categories != ENGLISH_CATEGORIES:
        raise ValueError(f"{folder}: {categories} categories, not {ENGLISH_CATEGORIES}")
    return EnglishWords(sections, phrases, np.array(sold))


class WordNumbers:
    """Numbers of words, the same for the same word in any case."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, texts: list[str] | tuple[str, ...]) -> NDArray[np.int32]:
        """Words of each text, shape (len(texts), longest), padded with negative numbers that differ in a row."""
        found = [[self._numbers.setdefault(word, len(self._numbers)) for word in words_of(text)] for text in texts]
        width = max(map(len, found), default=0)
        rows = np.tile(-1 - np.arange(width, dtype=np.int32), (len(texts), 1))
        for row, numbers in enumerate(found):
            rows[row, : len(numbers)] = numbers
        return rows


def words_of(text: str) -> list[str]:
    """The words of a text in lower case; fields of a template are none."""
    return re.findall(r"\w+", re.sub(r"\{\w+\}", " ", text).lower())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
