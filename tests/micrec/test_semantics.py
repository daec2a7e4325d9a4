"""Title encoders, exact nearest neighbours, and the semantic positive sets."""

import sys
from types import ModuleType

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.config import SemanticConfig
from micrec.data.dataset import Column, EntityTable
from micrec.data.schema import FieldType, Roles
from micrec.data.semantics import nearest_items, semantic_positives
from micrec.data.static_titles import load_static
from micrec.data.titles import encode_titles
from micrec.errors import MicrecError

TITLES = ["red tea cup", "blue tea cup", "red tea cup", None, "garden spade", "garden fork", "  ", "?!"]


def make_items(frame, columns=None):
    return EntityTable(ids=pl.Series("item_id", range(len(frame))), columns=columns or {}, frame=frame)


def positives_of(positives, item, draws=400):
    """Every item drawn as a positive of ``item``; -1 means none."""
    return set(positives.draw(torch.tensor([item]), draws, torch.Generator().manual_seed(0)).flatten().tolist())


class TestTitles:
    @pytest.mark.parametrize("svd_dim", [3, 128])
    def test_tfidf_rows_have_length_one_and_missing_titles_none(self, svd_dim):
        """At 3 dimensions the SVD is taken; at 128 the vocabulary of 12 words and pairs is kept whole."""
        found = encode_titles(TITLES, encoder="tfidf", svd_dim=svd_dim)
        assert found.dtype == np.float32
        assert found.shape == (8, min(svd_dim, 12))
        assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1, 1, 0, 1, 1, 0, 0], abs=1e-6)

    def test_equal_titles_have_equal_embeddings_and_runs_repeat(self):
        first, again = (encode_titles(TITLES, encoder="tfidf", svd_dim=3) for _ in range(2))
        assert np.array_equal(first, again)
        assert np.array_equal(first[0], first[2])
        assert first[0] @ first[1] > first[0] @ first[4]

    def test_small_vocabularies_keep_the_cosine_of_tfidf(self):
        """By hand: two titles of two words share one. A shared word weighs 1, a word or pair of one title alone
        1 + log(3 / 2), so that the cosine is 1 / (1 + 2 (1 + log 1.5) ** 2)."""
        found = encode_titles(["tea cup", "tea pot"], encoder="tfidf", svd_dim=9)
        assert found[0] @ found[1] == pytest.approx(1 / (1 + 2 * (1 + np.log(1.5)) ** 2), rel=1e-6)

    @pytest.mark.parametrize("titles", [[None, ""], ["?!", "..."]])
    def test_no_words_no_embeddings(self, titles):
        assert not encode_titles(titles, encoder="tfidf", svd_dim=4).any()

    def test_a_file_is_normalised(self, tmp_path):
        np.save(tmp_path / "e.npy", np.array([[3.0, 4.0], [0.0, 0.0]]))
        found = encode_titles(["a", "b"], encoder=str(tmp_path / "e.npy"), svd_dim=4)
        assert found == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "no such file"),
            (b"not an array", "not a readable array"),
            (np.array([{"a": 1}], dtype=object), "not a readable array"),
            (np.ones((2, 3), dtype=np.int64), "holds int64: it must hold floats"),
            (np.ones((3, 3)), r"shape \(3, 3\) does not fit 2 items: it must be \(2, D\)"),
            (np.ones(2), r"shape \(2,\) does not fit 2 items"),
            (np.array([[1.0, 2.0], [np.nan, 1.0]]), "1 of 2 rows hold NaN or infinity, first rows 1"),
        ],
    )
    def test_unfit_files_are_refused(self, tmp_path, content, message):
        path = tmp_path / "e.npy"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            np.save(path, content, allow_pickle=True)
        with pytest.raises(MicrecError, match=rf"contrast\.semantic\.encoder: .*e\.npy: .*{message}"):
            encode_titles(["a", "b"], encoder=str(path), svd_dim=4)

    def test_a_model_needs_its_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sentence_transformers", None)
        with pytest.raises(MicrecError, match=r"'some-model' .* pip install \"micrec\[bert\]\""):
            encode_titles(["a"], encoder="some-model", svd_dim=4)

    def test_a_model_encodes_each_distinct_title_once(self, monkeypatch):
        seen = []

        class FakeModel:
            def __init__(self, name, **options):
                seen.append((name, options))

            def encode(self, texts, **_):
                seen.append(texts)
                return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)

        module = ModuleType("sentence_transformers")
        module.SentenceTransformer = FakeModel
        monkeypatch.setitem(sys.modules, "sentence_transformers", module)
        found = encode_titles(["ccc", None, "a", " ccc"], encoder="some-model", svd_dim=4)
        assert seen == [("some-model", {"model_kwargs": {"use_safetensors": True}}), ["a", "ccc"]]
        expected = np.array([[3, 1], [0, 0], [1, 1], [3, 1]]) / np.sqrt([[10], [1], [2], [10]])
        assert found == pytest.approx(expected)

    def test_a_model_that_cannot_be_loaded(self, monkeypatch):
        def fail(name, **_):
            raise OSError(f"{name} is not a valid model identifier")

        module = ModuleType("sentence_transformers")
        module.SentenceTransformer = fail
        monkeypatch.setitem(sys.modules, "sentence_transformers", module)
        with pytest.raises(MicrecError, match=r"cannot load the sentence-transformers model 'tf-idf' .*check the name"):
            encode_titles(["a"], encoder="tf-idf", svd_dim=4)


class TestStaticTitles:
    TEXTS = ("Ten slow braises for a rainy Sunday", "Café ☂ déjà vu", "cast-iron Dutch oven, 5 litres", "Oven")

    def test_rows_are_what_the_package_itself_pools(self):
        """Against the mean over tokens of whole texts by the package's own code."""
        inference = pytest.importorskip("wordllama.inference")
        vectors, tokenizer = load_static()
        theirs = inference.WordLlamaInference(vectors, type(tokenizer).from_str(tokenizer.to_str()))
        expected = theirs.embed(list(self.TEXTS), norm=True)
        found = encode_titles([self.TEXTS[0], None, *self.TEXTS[1:], " "], encoder="static", svd_dim=4)
        assert found.shape == (6, 256)
        assert not found[[1, 5]].any()
        assert found[[0, 2, 3, 4]] == pytest.approx(expected, abs=1e-5)

    def test_it_knows_what_words_mean(self):
        """Titles without a common word: those of one theme are nearer, which TF-IDF cannot see."""
        pytest.importorskip("wordllama")
        titles = [
            "pasta with tomato sauce",
            "Italian spaghetti recipes",
            "tennis racket strings",
            "badminton shuttlecocks",
        ]
        found = encode_titles(titles, encoder="static", svd_dim=4)
        cosine = found @ found.T
        assert min(cosine[0, 1], cosine[2, 3]) > max(cosine[0, 2], cosine[0, 3], cosine[1, 2], cosine[1, 3])
        tfidf = encode_titles(titles, encoder="tfidf", svd_dim=64)
        assert not np.triu(tfidf @ tfidf.T, 1).any()

    def test_equal_titles_have_equal_rows_whatever_stands_beside_them(self):
        pytest.importorskip("wordllama")
        one = encode_titles(["garden spade"], encoder="static", svd_dim=4)
        many = encode_titles(["tea", "garden  spade ", "cup", "garden spade"], encoder="static", svd_dim=4)
        assert np.array_equal(many[1], many[3])
        assert np.array_equal(many[3], one[0])

    def test_it_needs_its_package(self, monkeypatch):
        load_static.cache_clear()
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(
            MicrecError, match=r"encoder: static .* wordllama, which is not installed: pip install \"micrec"
        ):
            encode_titles(["a"], encoder="static", svd_dim=4)

    def test_files_of_another_version_are_told(self, monkeypatch, tmp_path):
        load_static.cache_clear()
        monkeypatch.delitem(sys.modules, "wordllama", raising=False)
        (tmp_path / "wordllama").mkdir()
        (tmp_path / "wordllama" / "__init__.py").write_text("raise RuntimeError('must not be imported')")
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(MicrecError, match=r"static cannot read weights/.*: reinstall it"):
            encode_titles(["a"], encoder="static", svd_dim=4)
        load_static.cache_clear()


def full_sort(embeddings, k, groups):
    """Every similarity in float64, every row sorted whole: ids and similarities, -1 and 0 where there are fewer."""
    ids, similarities = np.full((len(embeddings), k), -1), np.zeros((len(embeddings), k))
    for i, a in enumerate(embeddings.astype(np.float64)):
        scored = []
        for j, b in enumerate(embeddings.astype(np.float64)):
            norms = np.linalg.norm(a) * np.linalg.norm(b)
            if i != j and norms > 0 and (groups is None or groups[i] != groups[j]):
                scored.append((-round(a @ b / norms, 5), j))
        for place, (negated, j) in enumerate(sorted(scored)[:k]):
            ids[i, place], similarities[i, place] = j, -negated
    return ids, similarities


class TestNearestItems:
    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.lists(st.integers(-1, 1), min_size=2, max_size=2), min_size=1, max_size=12),
        st.integers(1, 5),
        st.booleans(),
        st.sampled_from([1, 4, 100]),
    )
    def test_equals_a_full_sort_with_ties_by_id(self, rows, k, grouped, block):
        """Few directions, so that most similarities tie, and some zero vectors."""
        embeddings = np.array(rows, dtype=np.float32)
        groups = np.arange(len(rows)) % 3 if grouped else None
        ids, similarities = nearest_items(embeddings, k, groups=groups, block=block)
        expected_ids, expected_similarities = full_sort(embeddings, k, groups)
        assert ids.tolist() == expected_ids.tolist()
        assert similarities == pytest.approx(expected_similarities, abs=1e-5)

    def test_equals_a_full_sort_on_random_vectors(self):
        embeddings = np.random.default_rng(0).normal(size=(150, 16)).astype(np.float32)
        ids, similarities = nearest_items(embeddings, 7, block=64)
        exact = embeddings.astype(np.float64) / np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
        cosine = exact @ exact.T
        np.fill_diagonal(cosine, -np.inf)
        assert np.array_equal(ids, np.argsort(-cosine, axis=1)[:, :7])
        assert similarities == pytest.approx(-np.sort(-cosine, axis=1)[:, :7], abs=2e-6)
        assert (ids.dtype, similarities.dtype) == (np.int32, np.float32)

    def test_values_must_be_finite(self):
        with pytest.raises(ValueError, match="NaN or infinity"):
            nearest_items(np.array([[np.nan]], dtype=np.float32), 1)


class TestSemanticPositives:
    ITEMS = make_items(pl.DataFrame({"name": TITLES}))
    ROLES = Roles(title="name")

    def test_titles(self):
        """Item 0's positives share a word with it; one without a title has none."""
        positives = semantic_positives(self.ITEMS, self.ROLES, SemanticConfig(top_k=5))
        assert positives_of(positives, 0) == {1, 2}
        assert positives_of(positives, 4) == {5}
        assert positives_of(positives, 3) == {-1}
        assert positives.has(torch.arange(8)).tolist() == [True, True, True, False, True, True, False, False]
        assert positives.contains(torch.tensor([0, 0, 0]), torch.tensor([0, 2, 4])).tolist() == [True, True, False]

    def test_top_k_is_the_nearest(self):
        positives = semantic_positives(self.ITEMS, self.ROLES, SemanticConfig(top_k=1))
        assert positives_of(positives, 0) == {2}

    def test_the_same_title_can_be_excluded(self):
        positives = semantic_positives(self.ITEMS, self.ROLES, SemanticConfig(same_title="exclude"))
        assert positives_of(positives, 0) == {1}
        assert positives_of(positives, 1) == {0, 2}

    def test_an_embedding_file_needs_no_titles(self, tmp_path):
        np.save(tmp_path / "e.npy", np.array([[1, 0], [1, 0.1], [-1, 0]], dtype=np.float32))
        config = SemanticConfig(encoder=str(tmp_path / "e.npy"))
        positives = semantic_positives(make_items(pl.DataFrame({"x": [0, 0, 0]})), Roles(), config)
        assert [positives_of(positives, item) for item in range(3)] == [{1}, {0}, {-1}]

    @pytest.mark.parametrize("dtype", [pl.List(pl.Float64), pl.Array(pl.Float32, 2)])
    def test_content(self, dtype):
        vectors = pl.Series("v", [[1.0, 0.0], [2.0, 0.1], None, [0.0, 3.0]], dtype=dtype)
        items = make_items(pl.DataFrame([vectors, pl.Series("name", ["a", "a", None, None])]))
        config = SemanticConfig(source="content")
        positives = semantic_positives(items, Roles(content="v", title="name"), config)
        assert [positives_of(positives, item) for item in range(4)] == [{1}, {0, 3}, {-1}, {1}]
        distinct = semantic_positives(
            items, Roles(content="v", title="name"), config.model_copy(update={"same_title": "exclude"})
        )
        assert [positives_of(distinct, item) for item in range(4)] == [{-1}, {3}, {-1}, {1}]

    @pytest.mark.parametrize(
        ("vectors", "message"),
        [
            (pl.Series([1.0, 2.0]), "holds Float64: content embeddings must be lists of numbers"),
            (pl.Series([["a"], ["b"]]), r"holds List\(String\): content"),
            (pl.Series([[1.0], [1.0, 2.0]]), r"vectors of lengths \[1, 2\]: all must have the same length"),
            (pl.Series([None, None], dtype=pl.List(pl.Float32)), r"vectors of lengths \[\]"),
            (pl.Series([None, [1.0, None]]), "1 rows hold null, NaN or infinity, first rows 1"),
        ],
    )
    def test_unfit_content_is_refused(self, vectors, message):
        items = make_items(pl.DataFrame([vectors.alias("v")]))
        with pytest.raises(MicrecError, match=f"items.parquet, column 'v': .*{message}"):
            semantic_positives(items, Roles(content="v"), SemanticConfig(source="content"))

    def test_taxonomy_of_one_category(self):
        codes = np.array([1, 1, 2, 0, 1, 0], dtype=np.int32)
        column = Column("cat", FieldType.CATEGORICAL, size=3, codes=codes)
        items = make_items(pl.DataFrame({"cat": codes}), {"cat": column})
        positives = semantic_positives(items, Roles(taxonomy="cat"), SemanticConfig(source="taxonomy"))
        assert [positives_of(positives, item) for item in (0, 2, 3)] == [{1, 4}, {-1}, {-1}]

    def test_taxonomy_of_several_tags(self):
        """Item 0 has tags 1 and 2, item 1 tag 2, item 2 tag 3."""
        column = Column(
            "tags",
            FieldType.MULTI_CATEGORICAL,
            size=4,
            values=np.array([1, 2, 2, 3], dtype=np.int32),
            offsets=np.array([0, 2, 3, 4]),
        )
        items = make_items(pl.DataFrame({"tags": [[1, 2], [2], [3]]}), {"tags": column})
        positives = semantic_positives(items, Roles(taxonomy="tags"), SemanticConfig(source="taxonomy"))
        assert [positives_of(positives, item) for item in range(3)] == [{1}, {0}, {-1}]

    def test_a_numeric_taxonomy_is_refused(self):
        column = Column("price", FieldType.NUMERIC, numbers=np.ones(2, dtype=np.float32))
        items = make_items(pl.DataFrame({"price": [1.0, 1.0]}), {"price": column})
        with pytest.raises(MicrecError, match=r"roles.taxonomy: 'price' is numeric: name a categorical"):
            semantic_positives(items, Roles(taxonomy="price"), SemanticConfig(source="taxonomy"))

    @pytest.mark.parametrize("source", ["title", "taxonomy", "content"])
    def test_a_missing_role_is_named(self, source):
        with pytest.raises(MicrecError, match=rf"source: {source} needs roles\.{source}, which dataset.yaml leaves"):
            semantic_positives(self.ITEMS, Roles(), SemanticConfig(source=source))

    def test_all_faults_are_told_at_once(self):
        config = SemanticConfig(source="taxonomy", same_title="exclude")
        with pytest.raises(MicrecError, match="2 errors") as caught:
            semantic_positives(self.ITEMS, Roles(taxonomy="nmae"), config)
        assert "roles.taxonomy: 'nmae' is not a column of items.parquet (name)" in str(caught.value)
        assert "exclude has no effect on source taxonomy" in str(caught.value)

    def test_excluding_titles_needs_titles(self):
        items = make_items(pl.DataFrame({"v": [[1.0], [1.0]]}))
        config = SemanticConfig(source="content", same_title="exclude")
        with pytest.raises(MicrecError, match=r"same_title: exclude needs roles\.title"):
            semantic_positives(items, Roles(content="v"), config)

    def test_no_positives_at_all(self):
        items = make_items(pl.DataFrame({"name": ["tea", None]}))
        with pytest.raises(MicrecError, match=r"no item has one by contrast\.semantic\.source title: fill in"):
            semantic_positives(items, self.ROLES, SemanticConfig())
