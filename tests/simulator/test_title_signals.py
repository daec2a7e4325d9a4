"""Titles tell nothing of topics at ``signals.titles`` 0 and much at 1, in both languages; no word stands thrice."""

import functools
import re
from collections import Counter

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest, chi2_contingency
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import cross_val_predict

from simulator.world.item_table import item_frame
from simulator.world.items import make_catalogue
from tests.simulator.worlds import small_config

TOPICS = 4
BASE = (
    "items.count=2400", "items.categories=2", "items.subcategories=2", f"items.topics={TOPICS}", "tags.count=160",
    "items.near_duplicate_share=0", "signals.tags=1", "signals.provider=1",
)  # fmt: skip
LANGUAGES = ("pseudo", "english")


@functools.cache
def world(*overrides: str) -> tuple[pl.Series, np.ndarray, np.ndarray]:
    """Titles, subcategory and topic within it; tags and providers tell all."""
    config = small_config(*BASE, *overrides)
    catalogue = make_catalogue(config)
    return item_frame(config, catalogue)["title"], catalogue.subcategory, catalogue.topic % TOPICS


def found_topics(*overrides: str) -> tuple[int, int]:
    """Items whose topic a linear classifier finds within the subcategory, on titles it has not seen; and all."""
    titles, subcategory, topic = world(*overrides)
    right = 0
    for place in range(4):
        rows = np.flatnonzero(subcategory == place)
        words = TfidfVectorizer(token_pattern=r"\w+").fit_transform(titles[rows].to_list())
        right += int((cross_val_predict(RidgeClassifier(), words, topic[rows], cv=4) == topic[rows]).sum())
    return right, len(titles)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("language", LANGUAGES)
def test_at_0_titles_tell_no_topic_though_tags_and_providers_do(language, seed):
    right, total = found_topics(f"titles.language={language}", f"seed={seed}", "signals.titles=0")
    assert binomtest(right, total, 1 / TOPICS).pvalue > 1e-3
    assert right / total < 1 / TOPICS + 0.03


@pytest.mark.parametrize("language", LANGUAGES)
def test_at_0_no_word_leans_to_a_topic(language):
    """Chi-square of word by topic, over the commonest words of each subcategory."""
    titles, subcategory, topic = world(f"titles.language={language}", "signals.titles=0")
    statistic, freedom = 0.0, 0
    for place in range(4):
        rows = np.flatnonzero(subcategory == place)
        sets = [set(title.lower().split()) for title in titles[rows]]
        for word, _ in Counter(word for words in sets for word in words).most_common(20):
            has = np.array([word in words for words in sets])
            table = np.array([np.bincount(topic[rows][has == one], minlength=TOPICS) for one in (True, False)])
            found = chi2_contingency(table, correction=False)
            statistic, freedom = statistic + found.statistic, freedom + found.dof
    assert abs(statistic - freedom) < 4 * np.sqrt(2 * freedom)


@pytest.mark.parametrize(("language", "least"), [("pseudo", 0.9), ("english", 0.9)])
def test_topics_are_found_more_often_the_further_the_dial(language, least):
    shares = [
        right / total
        for right, total in (
            found_topics(f"titles.language={language}", f"signals.titles={dial}") for dial in (0.2, 0.5, 1)
        )
    ]
    assert shares == sorted(shares)
    assert shares[0] > 1 / TOPICS + 0.05
    assert shares[-1] > least  # clickbait, a twentieth, lies


@pytest.mark.parametrize("language", LANGUAGES)
def test_more_days_only_append_titles(language):
    keys = (
        f"titles.language={language}",
        "signals.titles=0.6",
        "items.new_share=0.3",
        "items.near_duplicate_share=0.2",
    )
    short, long = world(*keys, "days=7")[0], world(*keys, "days=30")[0]
    assert len(long) > len(short)
    assert long.head(len(short)).equals(short)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("dial", [0.0, 0.5, 1.0])
def test_the_dial_moves_telling_words_alone(language, dial):
    """Titles of a subcategory hold no words at the dial that they hold neither at 0 nor at 1."""
    titles, subcategory, _ = world(f"titles.language={language}", f"signals.titles={dial}", "items.clickbait_share=0")
    known = [
        world(f"titles.language={language}", f"signals.titles={end}", "items.clickbait_share=0")[0] for end in (0, 1)
    ]
    for place in range(4):
        rows = np.flatnonzero(subcategory == place)
        vocabulary = {word for end in known for title in end[rows] for word in re.findall(r"\w+", title)}
        strange = [title for title in titles[rows] if not vocabulary.issuperset(re.findall(r"\w+", title))]
        assert len(strange) <= 0.01 * len(rows)


@pytest.mark.parametrize("dial", [0.5, 1.0])
def test_pseudo_titles_repeat_no_word_of_a_topic(dial):
    """Words of topics, which are the longer ones, do not repeat in titles of up to eight words."""
    titles, _, _ = world("titles.language=pseudo", f"signals.titles={dial}", "titles.filler=0")
    for title in titles:
        words = [word for word in title.split() if len(word) == 7]
        if len(title.split()) <= 8:
            assert len(words) == len(set(words))
