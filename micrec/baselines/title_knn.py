"""Title-kNN: items whose titles share rare words with those of the user's history (``content_knn``)."""

from collections import Counter
from itertools import chain

import numpy as np
import scipy.sparse as sp

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.baselines.content_knn import content_knn, tf_idf
from micrec.data.dataset import Dataset


def title_knn(inputs: BaselineInputs) -> BaselineScores:
    """Title-kNN over the words of the titles."""
    return content_knn(inputs, tf_idf(title_words(inputs.dataset)))


def no_titles(dataset: Dataset) -> str | None:
    """What a dataset without titles lacks."""
    title = dataset.schema.roles.title
    if title is None or title not in dataset.items.frame.columns:
        return "it has no titles (roles.title)"
    return None if dataset.items.frame[title].str.strip_chars().str.len_chars().sum() else "its titles are empty"


def title_words(dataset: Dataset) -> sp.csr_array:
    """How often each title has each word, in lower case, of those that two titles share; shape (N, words)."""
    titles = dataset.items.frame[str(dataset.schema.roles.title)].cast(str).fill_null("").str.to_lowercase()
    words = [title.split() for title in titles.to_list()]
    shared = Counter(chain.from_iterable(map(set, words)))
    codes = {word: code for code, word in enumerate(sorted(word for word, items in shared.items() if items > 1))}
    owners = np.repeat(np.arange(len(words)), [len(title) for title in words])
    found = np.array([codes.get(word, -1) for word in chain.from_iterable(words)], dtype=np.int64)
    owners, found = owners[found >= 0], found[found >= 0]
    return sp.csr_array((np.ones(len(found)), (owners, found)), shape=(len(words), len(codes)))
