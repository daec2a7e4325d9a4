"""The words of titles: which of them an item has, and how much each tells one title from another."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

LEAST_TITLES = 2  # a word of a single title tells of no other


def words_of(title: str | None) -> list[str]:
    """Distinct words of a title in their order: what stands between spaces, in lower case."""
    return list(dict.fromkeys((title or "").lower().split()))


@dataclass(frozen=True)
class TitleWords:
    """Words that at least two of the titles hold it was made from, in alphabetical order, numbered from 1.

    Attributes:
        words: The words.
        weights: Inverse document frequency of each, log((1 + N) / (1 + titles with it)) + 1, float32.
    """

    words: tuple[str, ...]
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, titles: Sequence[str | None]) -> "TitleWords":
        """Those of a catalogue's titles."""
        counts = Counter(word for title in titles for word in words_of(title))
        words = tuple(sorted(word for word, count in counts.items() if count >= LEAST_TITLES))
        found = np.array([counts[word] for word in words], dtype=np.float64)
        return cls(words, (np.log((1 + len(titles)) / (1 + found)) + 1).astype(np.float32))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, start=1)}

    def codes(self, titles: Sequence[str | None]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Numbers of the known words of each title, ascending, in a row, and where each title's begin, (n + 1,)."""
        rows = [
            sorted(number for word in words_of(title) if (number := self._numbers.get(word)) is not None)
            for title in titles
        ]
        offsets = np.append(0, np.cumsum([len(row) for row in rows], dtype=np.int64))
        return np.array([number for row in rows for number in row], dtype=np.int32), offsets

    def rows(self, codes: NDArray[np.integer], offsets: NDArray[np.integer]) -> sp.csr_matrix:
        """What ``codes`` gave as TF-IDF rows of unit length, (n, words); a title without a known word has none."""
        weights = self.weights[codes - 1]
        shape = (len(offsets) - 1, len(self.words))
        found = sp.csr_matrix((weights, codes - 1, offsets), shape=shape, dtype=np.float32)
        lengths = np.sqrt(np.asarray(found.multiply(found).sum(axis=1)).ravel())
        found.data /= np.repeat(np.maximum(lengths, 1e-12), np.diff(offsets)).astype(np.float32)
        return found

    def as_json(self) -> dict[str, Any]:
        """For a file; ``from_json`` puts it together again."""
        return {"words": list(self.words), "weights": [float(weight) for weight in self.weights]}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "TitleWords":
        """What ``as_json`` gave."""
        return cls(tuple(map(str, stored["words"])), np.array(stored["weights"], dtype=np.float32))
