"""Keys of titles: what the topic adds to them, their language and their style; no other column moves."""

import re

import pytest

from tests.simulator.effects import Effect, items_of
from tests.simulator.test_metamorphic_topics import TOPICS, chance_of_two

ENGLISH = (*TOPICS, "titles.language=english")


def agreement_of_words(*overrides: str) -> float:
    """How much likelier a word of a title is to stand in another title of the topic than in one of the subcategory."""
    items = items_of(*overrides).select("topic", "subcategory", value="title")
    items = items.with_columns(items["value"].str.split(" ")).explode("value")
    return chance_of_two("value", ("topic",), items) / chance_of_two("value", ("subcategory",), items)


def plain_english(*overrides: str) -> float:
    """Share of titles with one of the commonest words of English."""
    return float(items_of(*overrides)["title"].str.contains(r"(?i)\b(and|for|the|from|of|with|to|in|or)\b").mean())


def what_is_sold(*overrides: str) -> float:
    """Share of titles that tell of a size, a number of pieces or pages, or a binding."""
    sold = re.compile(r"pack|box|set|pages|A[345]|hardback|paperback|edition|cm|kit|poster|bundle", re.IGNORECASE)
    return sum(bool(sold.search(title)) for title in items_of(*overrides)["title"]) / len(items_of(*overrides))


EFFECTS = {
    "signals.titles": Effect(0, 1, agreement_of_words, 0.5, "item.title", TOPICS),
    "titles.language": Effect("pseudo", "english", plain_english, 0.6, "item.title", TOPICS),
    "titles.style": Effect("news", "shop", what_is_sold, 0.4, "item.title", ENGLISH),
}


@pytest.mark.parametrize("key", EFFECTS)
def test_the_key_moves_its_statistic_and_nothing_else(key):
    EFFECTS[key].check(key)


def test_topics_show_in_english_titles_and_in_no_other_column():
    Effect(0, 1, agreement_of_words, 0.15, "item.title", ENGLISH).check("signals.titles")


def test_more_words_and_fewer_small_ones_make_more_phrases_of_english_titles():
    """Titles of four phrases have three more than those of one; moving either key leaves all else as it is."""

    def commas_and_ands(*overrides: str) -> float:
        return float(items_of(*overrides)["title"].str.count_matches(r",| and ").mean())

    Effect(2, 12, commas_and_ands, 1.0, "item.title", ENGLISH).check("titles.words")
    Effect(0.8, 0.1, commas_and_ands, 0.8, "item.title", ENGLISH).check("titles.filler")
