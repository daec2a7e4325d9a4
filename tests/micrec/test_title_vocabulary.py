"""Words of titles against scikit-learn, and new titles placed among known ones."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from micrec.data import title_kernel
from micrec.data.title_kernel import kernel_vectors, placed_vectors, title_vectors
from micrec.data.title_vocabulary import TitleWords

TITLES = ["Red mug", "red MUG tea", "tea  green", None, "green lamp lamp", "lamp red", "", "alone"]


def test_rows_are_scikit_learn_s():
    """Unit TF-IDF rows of words that two titles hold; a word counts once in a title."""
    words = TitleWords.of(TITLES)
    rows = words.rows(*words.codes(TITLES))
    theirs = TfidfVectorizer(min_df=2, token_pattern=r"\S+", binary=True).fit([title or "" for title in TITLES])
    assert list(words.words) == theirs.get_feature_names_out().tolist()
    np.testing.assert_allclose(rows.toarray(), theirs.transform([t or "" for t in TITLES]).toarray(), atol=1e-6)


def test_words_survive_a_file_and_unknown_ones_are_passed_over():
    words = TitleWords.of(TITLES)
    again = TitleWords.from_json(words.as_json())
    new = ["mug mug", "nothing known", "GREEN tea red"]
    for found, expected in zip(again.codes(new), words.codes(new), strict=True):
        assert found.tolist() == expected.tolist()
    codes, offsets = words.codes(new)
    assert offsets.tolist() == [0, 1, 1, 4]
    assert [words.words[code - 1] for code in codes] == ["mug", "green", "red", "tea"]


def topics(rng, n, n_topics):
    """Titles of three words of a topic's six and two of anywhere."""
    topic = rng.integers(n_topics, size=n)
    own = [[f"t{t}w{j}" for j in rng.choice(6, 3, replace=False)] for t in topic]
    return topic, [" ".join([*words, *(f"any{x}" for x in rng.integers(40, size=2))]) for words in own]


@pytest.fixture(scope="module")
def world():
    return topics(np.random.default_rng(0), 400, 40)


def test_titles_of_a_topic_are_nearest_even_with_fewer_numbers_than_topics(world):
    topic, titles = world
    vectors = title_vectors(titles, 24)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(400), abs=1e-5)
    near = vectors @ vectors.T
    np.fill_diagonal(near, -1)
    assert (topic[near.argmax(axis=1)] == topic).mean() > 0.97


def test_descent_brings_the_products_nearer_to_the_kernel(world, monkeypatch):
    words = TitleWords.of(world[1])
    rows = words.rows(*words.codes(world[1]))
    kernel = (rows @ rows.T).power(2).toarray()

    def error(vectors):
        return ((vectors @ vectors.T - kernel) ** 2).sum()

    moved = error(kernel_vectors(rows, 24))
    monkeypatch.setattr(title_kernel, "STEPS", 0)
    title_kernel._LATEST.clear()
    assert moved < 0.9 * error(kernel_vectors(rows, 24))


def test_what_is_kept_is_found_for_the_same_titles_and_width_alone(world, monkeypatch):
    title_kernel._LATEST.clear()
    fresh = title_vectors(world[1], 8)
    title_vectors(world[1], 8)[:] = 0.0  # the caller's own
    monkeypatch.setattr(title_kernel, "_kernel_vectors", lambda rows, dim: pytest.fail("was computed again"))
    assert np.array_equal(title_vectors(world[1], 8), fresh)
    monkeypatch.undo()
    other = title_vectors([world[1][1], *world[1][1:]], 8)
    assert np.array_equal(other[0], other[1])
    assert title_vectors(world[1], 9).shape == (400, 9)
    monkeypatch.setattr(title_kernel, "MOST_KEPT", 0)
    title_vectors(world[1], 8)
    assert not title_kernel._LATEST


def test_new_titles_are_placed_among_their_topic(world):
    topic, titles = world
    known, new = titles[:300], titles[300:]
    words = TitleWords.of(known)
    basis = words.rows(*words.codes(known))
    vectors = kernel_vectors(basis, 24)
    placed = placed_vectors(words.rows(*words.codes(new)), basis, vectors)
    assert (topic[:300][(placed @ vectors.T).argmax(axis=1)] == topic[300:]).mean() > 0.9
    again = placed_vectors(basis[:20], basis, vectors)
    assert ((again * vectors[:20]).sum(axis=1) > 0.9).all()
    assert not placed_vectors(words.rows(*words.codes(["nothing", None])), basis, vectors).any()
