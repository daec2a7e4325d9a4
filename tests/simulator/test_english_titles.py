"""English titles against the plain text of the vocabulary: grammar of the shapes, repeats, dials, lies, duplicates."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal
from scipy.stats import mannwhitneyu

from micrec.data.titles import encode_titles
from micrec.errors import MicrecError
from simulator.api import make_world
from simulator.world.english_templates import CHANGES, FIELDS, GOODS, LURES, STYLES
from simulator.world.generate import generate_world
from simulator.world.item_table import ground_truth_items, item_frame
from simulator.world.items import make_catalogue
from simulator.world.world_config import ENGLISH_CATEGORIES, ENGLISH_SUBCATEGORIES, ENGLISH_TOPICS
from tests.simulator.worlds import small_config

FOLDER = Path(__file__).parents[2] / "simulator" / "world" / "english"
WHOLE = (
    "titles.language=english", "items.count=3000", f"items.categories={ENGLISH_CATEGORIES}",
    f"items.subcategories={ENGLISH_SUBCATEGORIES}", f"items.topics={ENGLISH_TOPICS}",
)  # fmt: skip
HONEST = ("items.clickbait_share=0", "items.near_duplicate_share=0")


def read_vocabulary() -> list[tuple[str, list[list[str]]]]:
    """Name and topics of every subcategory, read here by itself."""
    found: list[tuple[str, list[list[str]]]] = []
    for path in sorted(FOLDER.glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            if line[:2] in ("= ", "+ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line.split(", "))
    return found


VOCABULARY = read_vocabulary()


def items(*overrides: str) -> pl.DataFrame:
    """Titles and hidden traits, with the number of the subcategory in the vocabulary."""
    config = small_config(*WHOLE, *overrides)
    catalogue = make_catalogue(config)
    frame = item_frame(config, catalogue).select("item_id", "title")
    return frame.join(ground_truth_items(config, catalogue), on="item_id", maintain_order="left").with_columns(
        place=catalogue.subcategory // config.items.subcategories * ENGLISH_SUBCATEGORIES
        + catalogue.subcategory % config.items.subcategories,
        within=catalogue.topic % config.items.topics,
    )


def mentions(title: str, place: int) -> list[int]:
    """The topics whose phrases a title holds, longest phrases first, one entry per phrase."""
    name, topics = VOCABULARY[place]
    text = re.sub(rf"^{re.escape(name)}: | \| {re.escape(name)}$| \({re.escape(name)}\)$", "", title.lower())
    phrases = sorted(
        ((phrase.lower(), topic) for topic, row in enumerate(topics) for phrase in row), key=lambda one: -len(one[0])
    )
    found = []
    for phrase, topic in phrases:
        pattern = rf"(?<![\w-]){re.escape(phrase)}(?![\w-])"
        if re.search(pattern, text):
            found.append(topic)
            text = re.sub(pattern, " * ", text, count=1)
    return found


class TestVocabulary:
    def test_it_has_the_size_that_is_told(self):
        assert len(list(FOLDER.glob("*.txt"))) == ENGLISH_CATEGORIES == 30
        assert len(VOCABULARY) == ENGLISH_CATEGORIES * ENGLISH_SUBCATEGORIES == 300
        assert {len(topics) for _, topics in VOCABULARY} == {ENGLISH_TOPICS}
        assert {len(phrases) for _, topics in VOCABULARY for phrases in topics} == {5}

    def test_no_phrase_stands_twice_in_a_subcategory_and_every_subcategory_has_its_own_name(self):
        for name, topics in VOCABULARY:
            phrases = [phrase.lower() for row in topics for phrase in row]
            assert sorted(set(phrases)) == sorted(phrases), name
        assert len({name.lower() for name, _ in VOCABULARY}) > 290

    def test_a_topic_is_not_one_word_over_and_over(self):
        """No word in more than three of the five phrases; on average, nearly all words of a topic differ."""
        shares = []
        for name, topics in VOCABULARY:
            for row in topics:
                words = Counter(word.rstrip("s") for phrase in row for word in set(re.findall(r"\w+", phrase.lower())))
                assert max(words.values()) <= 3, (name, row)
                shares.append(len(words) / words.total())
        assert np.mean(shares) > 0.9

    def test_phrases_need_no_article(self):
        """Plurals, substances and names: templates put neither an article nor a verb before them."""
        for _, topics in VOCABULARY:
            for row in topics:
                for phrase in row:
                    assert not re.match(r"(a|an|the|is|are|to|how|why) ", phrase), phrase
                    assert re.fullmatch(r"[\w'’ -]+", phrase), phrase
                    assert not re.match(r"[a-z][A-Z]", phrase), phrase  # it may begin a title


class TestTemplates:
    ALL = tuple(
        (phrases, text)
        for pool in (*STYLES.values(), GOODS, LURES)
        for phrases, texts in pool.items()
        for text in texts
    )

    def test_each_has_its_phrases_and_known_fields(self):
        for phrases, text in self.ALL:
            fields = re.findall(r"\{(\w+)\}", text)
            letters = [name for name in fields if len(name) == 1]
            assert letters == list("abcd")[:phrases], text
            others = [name for name in fields if len(name) > 1]
            assert set(others) <= set(FIELDS), text
            assert len(others) == len(set(others)) <= 3, text

    def test_none_has_a_word_three_times_or_stands_twice(self):
        for _, text in self.ALL:
            words = Counter(re.findall(r"\w+", re.sub(r"\{\w+\}", "", text).lower()))
            assert max(words.values(), default=0) <= 2, text
        for pool in (*STYLES.values(), GOODS, LURES):
            texts = [text for row in pool.values() for text in row]
            assert len(texts) == len(set(texts))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "keys", [("signals.titles=0",), ("signals.titles=0.5",), ("signals.titles=1", "titles.words=30", "titles.filler=0")]
)
def test_no_word_stands_three_times_and_titles_are_well_formed(style, keys):
    found = items(f"titles.style={style}", *keys, "items.near_duplicate_share=0.2", "items.clickbait_share=0.2")
    for title in found["title"]:
        assert max(Counter(re.findall(r"\w+", title.lower())).values()) <= 2, title
        assert re.match(r"[A-Z0-9ÉÎ]", title), title
        assert not re.search(r"[{}]|  | ,|:$|,$|^\W", title), title
    assert found["title"].n_unique() > 0.9 * len(found)


@pytest.mark.parametrize("dial", [0.0, 0.4, 1.0])
def test_the_share_of_phrases_of_the_topic_is_the_dial(dial):
    """A phrase is of the topic with the dial's chance, else any of the five topics': dial + (1 - dial) / 5."""
    found = items(f"signals.titles={dial}", *HONEST)
    told = [mentions(title, place) for title, place in found.select("title", "place").iter_rows()]
    assert all(told)
    own = [topic == within for topics, within in zip(told, found["within"], strict=True) for topic in topics]
    assert np.mean(own) == pytest.approx(dial + (1 - dial) / ENGLISH_TOPICS, abs=0.03)
    assert np.mean([len(topics) for topics in told]) == pytest.approx(7 * 0.6 / 1.5, abs=0.15)


def test_clickbait_tells_of_another_subcategory():
    found = items("items.clickbait_share=0.5", "items.near_duplicate_share=0", "signals.titles=0.5")
    honest = found.filter(~pl.col("clickbait"))
    lies = found.filter("clickbait")
    assert all(mentions(title, place) for title, place in honest.select("title", "place").iter_rows())
    assert np.mean([bool(mentions(title, place)) for title, place in lies.select("title", "place").iter_rows()]) < 0.05


def test_a_near_duplicate_is_the_title_it_copies_and_one_word():
    found = items("items.count=4000", "items.categories=5", "items.near_duplicate_share=0.3", "titles.style=news")
    titles = found["title"]
    copies = found.filter(pl.col("duplicate_of").is_not_null())
    assert len(copies) > 500
    for item, source in copies.select("item_id", "duplicate_of").iter_rows():
        root = titles[source].rsplit(", ", 1)
        original = root[0] if root[-1] in CHANGES["news"] else titles[source]
        start, change = titles[item].rsplit(", ", 1)
        assert start == original
        assert change in CHANGES["news"]


def test_any_number_of_workers_writes_the_same_titles(tmp_path):
    config = small_config("titles.language=english", "signals.titles=0.7", "items.topics=3", "users.count=300")
    frames = []
    for workers in (1, 2):
        generate_world(config, tmp_path / str(workers), workers=workers)
        frames.append(pl.read_parquet(tmp_path / str(workers) / "items.parquet"))
    assert_frame_equal(*frames)


@pytest.mark.parametrize(("key", "most"), [("categories", 30), ("subcategories", 10), ("topics", 5)])
def test_a_world_beyond_the_vocabulary_is_refused_with_the_cure(key, most):
    small_config("titles.language=english", f"items.{key}={most}")
    small_config(f"items.{key}={most + 1}")
    with pytest.raises(
        MicrecError, match=rf"items.{key} is {most + 1}, at most {most} have words.*titles.language to pseudo"
    ):
        small_config("titles.language=english", f"items.{key}={most + 1}")


def separation(style: str, dial: float) -> tuple[float, float]:
    """AUC of the cosine: same topic against same subcategory, and same subcategory against any other."""
    pytest.importorskip("wordllama")
    found = items(f"titles.style={style}", f"signals.titles={dial}", *HONEST)
    vectors = encode_titles(found["title"].to_list(), encoder="static", svd_dim=1)
    topic, place = found["topic"].to_numpy(), found["place"].to_numpy()
    first, second = np.triu_indices(len(vectors), 1)
    cosine = (vectors @ vectors.T)[first, second]
    near = topic[first] == topic[second]
    beside = (place[first] == place[second]) & ~near
    far = np.flatnonzero(place[first] != place[second])[::100]
    pairs = ((cosine[near], cosine[beside]), (cosine[beside], cosine[far]))
    return tuple(mannwhitneyu(a, b).statistic / (len(a) * len(b)) for a, b in pairs)


@pytest.mark.parametrize("style", STYLES)
def test_an_encoder_that_knows_nothing_of_us_sees_topics_and_subcategories(style):
    of_topic, of_subcategory = separation(style, 1.0)
    assert of_topic >= 0.9
    assert of_subcategory >= 0.8


def test_it_sees_no_topics_at_0_and_some_halfway():
    nothing, some = separation("video", 0.0), separation("video", 0.5)
    assert nothing[0] == pytest.approx(0.5, abs=0.02)
    assert nothing[0] + 0.05 < some[0] < 0.9
    assert min(nothing[1], some[1]) >= 0.8


def test_the_titles_in_the_documentation_are_those_of_its_command():
    page = (Path(__file__).parents[2] / "docs" / "worlds.md").read_text(encoding="utf-8")
    section = page.split("## English titles")[1]
    command, printed = re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)[:2]
    keys = dict(one.split("=") for one in re.findall(r"--set (\S+)", command))
    world = make_world("tiny", settings={key: yaml.safe_load(value) for key, value in keys.items()})
    assert printed.splitlines() == world.dataset.items.frame["title"].to_list()[7::150]
