"""Baselines that read histories, titles, tags, fields, transitions, against loops that share no code with them."""

import dataclasses
import itertools
import math
from collections import Counter

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from micrec.baselines import BASELINES
from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.ease import EaseSettings, item_gram
from micrec.baselines.field_counts import counted, field_counts
from micrec.baselines.held_out import best, held_out
from micrec.baselines.ials import GRID, not_installed
from micrec.baselines.item_knn_bm25 import item_knn_bm25
from micrec.baselines.neighbours import strongest
from micrec.baselines.tag_knn import no_tags, tag_knn
from micrec.baselines.title_knn import no_titles, title_knn
from micrec.baselines.transitions import next_clicks, transitions
from micrec.config import Config, EvalConfig, SessionsConfig, SplitConfig
from micrec.data.dataset import Clicks, Dataset, EntityTable
from micrec.data.encoding import encode_table
from micrec.data.schema import DatasetSchema, FieldType
from micrec.data.split import Split
from micrec.evaluation import evaluation_task

N = 9
TITLES = ["red mug", "red  Mug big", "blue mug", "tea green", "green tea red", None, "", "lamp", "lamp lamp oak"]
TAGS = [["a", "b"], ["a"], ["b", "c"], [], None, ["c"], ["c", "a"], ["b"], ["a", "b", "c"]]
KINDS = ["x", "x", "y", "y", "z", None, "z", "x", "y"]
FIELDS = {"kind": FieldType.CATEGORICAL, "tags": FieldType.MULTI_CATEGORICAL, "title": FieldType.TEXT}
HOUR_MS = 3_600_000


def shop(seed: int = 0, n: int = 160, *, roles: dict[str, str] | None = None) -> BaselineInputs:
    """Clicks of 12 users on the first eight of nine items, an hour apart or less; the last twenty are judged."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, 12, n), rng.integers(0, N - 1, n)
    users[:12] = np.arange(12)
    time_ms = np.cumsum(rng.integers(0, HOUR_MS, n)) + 10**12
    frame = pl.DataFrame({"item_id": range(N), "kind": KINDS, "tags": TAGS, "title": TITLES})
    table = encode_table(frame, "item_id", FIELDS)
    schema = DatasetSchema(name="shop", items=FIELDS, roles={"title": "title", **(roles or {})})
    people = EntityTable(pl.Series(range(12)), {}, pl.DataFrame())
    clicks = Clicks(users.astype(np.int32), items.astype(np.int32), time_ms.astype(np.int64))
    dataset = Dataset(schema, people, table, clicks)
    config = Config(evaluation=EvalConfig(cutoffs=(1, 3)))
    task = evaluation_task(dataset, Split(n - 40, n - 20, n), config.evaluation, "test")
    return BaselineInputs.of(task, dataset, config)


def histories(inputs: BaselineInputs) -> dict[int, list[int]]:
    """Items of each user of the task before it, oldest first."""
    found: dict[int, list[int]] = {}
    for user, item in zip(inputs.train.user_ids.tolist(), inputs.train.item_ids.tolist(), strict=True):
        found.setdefault(user, []).append(item)
    return found


def all_scores(found, inputs: BaselineInputs) -> np.ndarray:
    return found.users(0, len(inputs.task)).numpy()


def test_bm25_is_the_formula_in_loops():
    inputs = shop()
    clicks = Counter(zip(inputs.train.user_ids.tolist(), inputs.train.item_ids.tolist(), strict=True))
    length = Counter(inputs.train.item_ids.tolist())
    mean = sum(length.values()) / len(length)
    distinct = Counter(user for user, _ in clicks)
    weight = {
        (u, i): x
        * 2.2
        / (x + 1.2 * (0.25 + 0.75 * length[i] / mean))
        * max(math.log(len(length) / (1 + distinct[u])), 0)
        for (u, i), x in clicks.items()
    }
    near = np.zeros((N, N))
    for i, j in itertools.product(range(N), repeat=2):
        near[i, j] = sum(weight.get((u, i), 0.0) * weight.get((u, j), 0.0) for u in range(12))
    assert near.any()
    past = histories(inputs)
    expected = [near[past[user]].sum(axis=0) for user in inputs.task.user_ids.tolist()]
    assert all_scores(item_knn_bm25(inputs), inputs) == pytest.approx(np.array(expected), rel=1e-5)


def squared_cosines(documents: list[list[str]]) -> np.ndarray:
    """cos² of (1 + log tf) (1 + log((1 + N) / (1 + df))) vectors, by dictionaries."""
    spread = Counter(word for words in documents for word in set(words))
    vectors = []
    for words in documents:
        row = {w: (1 + math.log(c)) * (1 + math.log((1 + N) / (1 + spread[w]))) for w, c in Counter(words).items()}
        size = math.sqrt(sum(value**2 for value in row.values()))
        vectors.append({word: value / size for word, value in row.items()})
    return np.array([[sum(v * b.get(w, 0.0) for w, v in a.items()) ** 2 for b in vectors] for a in vectors])


def kernel_scores(near: np.ndarray, inputs: BaselineInputs) -> np.ndarray:
    past, popular = histories(inputs), np.bincount(inputs.train.item_ids, minlength=N)
    rows = [near[past[user]].sum(axis=0) * np.sqrt(popular) + 1e-9 * popular for user in inputs.task.user_ids.tolist()]
    return np.array(rows)


def test_title_knn_counts_the_words_that_titles_share():
    inputs = shop()
    words = [(title or "").lower().split() for title in TITLES]
    spread = Counter(word for title in words for word in set(title))
    near = squared_cosines([[word for word in title if spread[word] > 1] for title in words])
    assert near[7, 8] > 0.9  # "lamp" is all that is left of both
    assert all_scores(title_knn(inputs), inputs) == pytest.approx(kernel_scores(near, inputs), rel=1e-5)


def test_tag_knn_counts_tags():
    inputs = shop()
    near = squared_cosines([tags or [] for tags in TAGS])
    found = tag_knn(inputs)
    assert all_scores(found, inputs) == pytest.approx(kernel_scores(near, inputs), rel=1e-5)
    assert found.settings == {"field": "tags"}


def test_counts_of_a_field_in_loops():
    inputs = shop()
    past, popular = histories(inputs), Counter(inputs.train.item_ids.tolist())
    n, by_kind = sum(popular.values()), Counter()
    for item, count in popular.items():
        by_kind[KINDS[item]] += count
    scores = all_scores(field_counts(inputs), inputs)
    for row, user in enumerate(inputs.task.user_ids.tolist()):
        seen = Counter(KINDS[item] for item in past[user])
        more = {kind: max(seen[kind] - len(past[user]) * by_kind[kind] / n, 0) ** 1.5 for kind in by_kind}
        for item in range(N):
            kind = KINDS[item]
            own = more.get(kind, 0.0) / sum(more.values()) * popular[item] / by_kind[kind] if by_kind[kind] else 0.0
            if kind is None:
                own = 0.0
            assert scores[row, item] == pytest.approx(0.8 * own + 0.2 * popular[item] / n, rel=1e-5)


def test_transitions_are_clicks_right_after_within_a_session():
    """Two users: A clicks 0 1 0, then 2 after two hours; B clicks 0 and 2."""
    times = np.array([0, 1, 2, 3, 4, 2 * 60]) * 60_000
    clicks = Clicks(
        np.array([0, 1, 0, 1, 0, 0], np.int32), np.array([0, 0, 1, 2, 0, 2], np.int32), times.astype(np.int64)
    )
    after = next_clicks(clicks, 3, SessionsConfig()).toarray()
    assert after.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_the_last_click_asks_the_chain_and_popularity_breaks_ties():
    inputs = shop()
    after = next_clicks(inputs.train, N, SessionsConfig()).toarray()
    popular = np.bincount(inputs.train.item_ids, minlength=N)
    scores, past = all_scores(transitions(inputs), inputs), histories(inputs)
    for row, user in enumerate(inputs.task.user_ids.tolist()):
        last = past[user][-1]
        wanted = sorted(range(N), key=lambda item: (after[last, item], popular[item]))
        assert [(after[last, i], popular[i]) for i in np.argsort(scores[row], kind="stable")] == [
            (after[last, i], popular[i]) for i in wanted
        ]


class TestEaseBeyondItsLimit:
    def test_the_others_are_predicted_by_ridge_regression_on_those_solved(self):
        rng = np.random.default_rng(1)
        x = rng.poisson([3.0, 2.5, 2.0, 0.5, 0.3], (60, 5)).astype(np.float64)
        weights = item_gram(sp.csr_array(x), 3).solve(2.0)
        assert (weights.solved.tolist(), weights.others.tolist()) == ([0, 1, 2], [3, 4])
        rows = weights.rows(np.arange(5), 0.7)
        for j in (3, 4):
            a = x[:, :3]
            assert rows[:3, j] == pytest.approx(np.linalg.solve(a.T @ a + 2.0 * np.eye(3), a.T @ x[:, j]), rel=1e-4)
            assert rows[3:, j] == pytest.approx([0.7 * (i == j) for i in (3, 4)])
        for j in range(3):
            others = [i for i in range(3) if i != j]
            a = x[:, others]
            solved = np.linalg.solve(a.T @ a + 2.0 * np.eye(2), a.T @ x[:, j])
            assert rows[others, j] == pytest.approx(solved, rel=1e-4)
            assert rows[j, j] == pytest.approx(0.7)

    def test_one_gram_serves_every_ridge(self):
        x = sp.csr_array(np.random.default_rng(2).poisson(1.0, (30, 4)).astype(np.float64))
        gram = item_gram(x, 4)
        first = gram.solve(5.0).among
        gram.solve(50.0)
        assert gram.solve(5.0, keep=False).among == pytest.approx(first)


class TestHeldOut:
    def test_the_slice_is_the_last_tenth_of_what_the_baseline_sees(self):
        inputs = shop()
        part = held_out(inputs)
        assert len(part.train) == int(140 * 0.9)
        later = inputs.train.item_ids[len(part.train) :]
        assert sorted(part.task.target_items.repeat(part.task.target_counts)) == sorted(later)

    def test_without_validation_clicks_the_slice_is_of_its_own(self):
        inputs = shop()
        config = inputs.config.model_copy(
            update={"split": inputs.config.split.model_copy(update={"valid_fraction": 0.0})}
        )
        part = held_out(BaselineInputs(inputs.task, inputs.dataset, config))
        assert len(part.train) == int(140 * 0.9)
        assert max(part.train.time_ms) <= min(inputs.train.time_ms[len(part.train) :])

    def test_a_single_click_leaves_nothing_to_choose_on(self):
        inputs = shop()
        few = dataclasses.replace(inputs.dataset, clicks=inputs.dataset.clicks[:1])
        assert held_out(BaselineInputs(inputs.task, few, inputs.config)) is None

    def test_the_default_stays_unless_another_is_clearly_ahead(self):
        """Scores that put the targets of every user first win; those that do for one user do not."""
        part = held_out(shop())
        clicked = np.zeros((len(part.task), N), np.float32)
        clicked[part.task.target_queries, part.task.target_items] = 1.0
        ties = np.arange(N, dtype=np.float32)[::-1] / 100
        one = np.zeros_like(clicked)
        one[0] = clicked[0]

        def scores(which):
            import torch

            return lambda start, stop: torch.from_numpy(which[start:stop] + ties)

        none = np.zeros_like(clicked)
        assert best([none, clicked], scores, part) is not none
        assert best([none, none.copy()], scores, part) is none
        assert best([none, one], scores, part, errors=2.0) is none

    @pytest.mark.parametrize("valid_fraction", [0.1, 0.0])
    def test_the_field_that_tells_is_chosen(self, valid_fraction):
        """Users stay with one brand; the kind says nothing. A split without a validation slice does not hide that."""
        rng = np.random.default_rng(5)
        brand, kind = np.repeat(np.arange(6), 10), rng.integers(0, 6, 60)
        frame = pl.DataFrame({"item_id": range(60), "kind": [f"k{k}" for k in kind], "brand": [f"b{b}" for b in brand]})
        fields = {"kind": FieldType.CATEGORICAL, "brand": FieldType.CATEGORICAL}
        users = rng.integers(0, 30, 900)
        items = (users % 6) * 10 + rng.integers(0, 10, 900)
        clicks = Clicks(users.astype(np.int32), items.astype(np.int32), np.arange(900) * 1000)
        schema = DatasetSchema(name="brands", items=fields, roles={"category": "kind"})
        people = EntityTable(pl.Series(range(30)), {}, pl.DataFrame())
        dataset = Dataset(schema, people, encode_table(frame, "item_id", fields), clicks)
        split = SplitConfig(valid_fraction=valid_fraction)
        config = Config(evaluation=EvalConfig(cutoffs=(10,)), split=split)
        task = evaluation_task(dataset, Split(700, 800, 900), config.evaluation, "test")
        inputs = BaselineInputs.of(task, dataset, config)
        found = field_counts(inputs)
        assert found.settings == {"field": "brand"}
        assert all_scores(found, inputs) == pytest.approx(counted(inputs, "brand")(0, len(task)).numpy())


def test_only_the_strongest_neighbours_stay():
    rng = np.random.default_rng(0)
    left = sp.csr_array(rng.integers(0, 3, (7, 4)).astype(float))
    whole = (left @ left.T).toarray()
    found = strongest(left, sp.csr_array(left.T), 3).toarray()
    for row, kept in zip(whole, found, strict=True):
        order = sorted(range(7), key=lambda column: (-row[column], column))[:3]
        assert kept.tolist() == [value if column in order else 0 for column, value in enumerate(row.tolist())]


def test_ials_solves_each_user_by_the_normal_equations():
    """For the factors Y it found: (Y'Y + Y'(C - I)Y + ridge I) x = Y'C 1, with C the clicks of the user's items."""
    pytest.importorskip("implicit")
    from micrec.baselines.ials import _factors, _fitted, _products

    inputs = shop()
    settings = GRID[0]
    y = np.asarray(_fitted(inputs, settings, 3).item_factors, dtype=np.float64)
    scores = _products(*_factors(inputs, settings, 3))(0, len(inputs.task)).numpy()
    past = histories(inputs)
    for row, user in enumerate(inputs.task.user_ids.tolist()):
        c = np.bincount(past[user], minlength=N).astype(float) * settings.alpha
        extra = np.where(c > 0, c - 1, 0)
        a = y.T @ y + (y * extra[:, None]).T @ y + settings.ridge * np.eye(y.shape[1])
        assert scores[row] == pytest.approx(y @ np.linalg.solve(a, y.T @ c), abs=1e-3)


def test_neighbours_by_ials_are_those_of_the_smallest_angle():
    pytest.importorskip("implicit")
    from micrec.baselines.ials import ITERATIONS, AlsSettings, _fitted, ials

    inputs = shop()
    found = ials(inputs)
    settings = AlsSettings(float(found.settings["alpha"]), float(found.settings["ridge"]))
    y = np.asarray(_fitted(inputs, settings, ITERATIONS).item_factors, dtype=np.float64)
    lengths = np.linalg.norm(y, axis=1)
    near = found.neighbours(np.array([2, 5])).numpy()
    for row, item in enumerate((2, 5)):
        for other in range(N - 1):
            assert near[row, other] == pytest.approx(y[item] @ y[other] / lengths[item] / lengths[other], abs=1e-4)
    assert near[:, N - 1] == pytest.approx(0.0)  # nobody has clicked it


def test_neighbours_by_a_field_are_items_of_the_value_by_clicks_and_then_the_others():
    inputs = shop()
    popular = Counter(inputs.train.item_ids.tolist())
    near = field_counts(inputs).neighbours(np.arange(N)).numpy()
    for item in range(N):
        alike = [KINDS[item] is not None and KINDS[other] == KINDS[item] for other in range(N)]
        expected = sorted(range(N), key=lambda other: (-alike[other], -popular[other], other))
        order = np.argsort(-near[item], kind="stable").tolist()
        assert [(alike[i], popular[i]) for i in order] == [(alike[i], popular[i]) for i in expected]


def test_what_a_dataset_lacks_is_told(monkeypatch):
    bare = shop()
    table = encode_table(pl.DataFrame({"item_id": range(N)}), "item_id", {})
    dataset = Dataset(DatasetSchema(name="bare"), bare.dataset.users, table, bare.train)
    assert no_titles(dataset) == "it has no titles (roles.title)"
    assert no_tags(dataset) == "it has no multi-valued item field"
    assert BASELINES["field_counts"].lacks(dataset) == "it has no categorical item field"
    assert no_titles(bare.dataset) is None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not_installed(dataset) == 'the package implicit is not installed: pip install "micrec[baselines]"'


def test_the_settings_without_a_slice_are_those_of_the_docs():
    assert EaseSettings() == (500.0, 0.3, 90.0, 2e-4)
