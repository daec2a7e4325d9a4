"""Every metric against plain Python loops over a click log, by hand on small cases, and its laws."""

import math
from collections import Counter

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.config import EvalConfig
from micrec.data.dataset import Clicks, Dataset, EntityTable
from micrec.data.schema import DatasetSchema
from micrec.data.split import Split
from micrec.evaluation import EvalTask, TargetRanks, embedding_scores, evaluate, evaluation_task, hit_metrics

Pair = tuple[int, int]


def dataset(log: list[Pair], n_users: int, n_items: int) -> Dataset:
    users, items = np.array(log, dtype=np.int32).reshape(-1, 2).T
    return Dataset(
        schema=DatasetSchema(name="tiny"),
        users=EntityTable(pl.Series(range(n_users)), {}, pl.DataFrame()),
        items=EntityTable(pl.Series(range(n_items)), {}, pl.DataFrame()),
        clicks=Clicks(users, items, np.arange(len(log), dtype=np.int64)),
    )


def log_scores(task: EvalTask, matrix: np.ndarray, history: str) -> torch.Tensor:
    """Row of the matrix per query: the user's if frozen, that of the click's place in the log if rolling."""
    rows = task.user_ids if history == "frozen" else task.histories.rows[task.end]
    return torch.from_numpy(matrix[rows])


# --- a slow reference that shares no code -----------------------------------------------------------------------


def reference_rank(scores: list[float], item: int, allowed: set[int], ties: str) -> float:
    if item not in allowed:
        return math.inf
    ordered = sorted((scores[other] for other in allowed), reverse=True)
    places = [place for place, score in enumerate(ordered, start=1) if score == scores[item]]
    return {"optimistic": places[0], "mean": (places[0] + places[-1]) / 2, "pessimistic": places[-1]}[ties]


def reference_targets(log: list[Pair], n_train: int, n_items: int, config: EvalConfig, matrix: list) -> list[dict]:
    """One entry per target: user, query, item, lines and rank."""
    train = log[:n_train]
    known = set(range(n_items)) if config.candidates == "all" else {item for _, item in train}
    queries: dict[object, Counter] = {}
    for place, (user, item) in enumerate(log[n_train:], start=n_train):
        if config.users == "all" or any(user == other for other, _ in train):
            queries.setdefault(user if config.history == "frozen" else (user, place), Counter())[item] += 1
    targets = []
    for query, items in queries.items():
        user, row = (query, query) if config.history == "frozen" else query
        seen = {item for other, item in train if other == user} if config.seen == "filter" else set()
        targets += [
            {
                "user": user,
                "query": query,
                "item": item,
                "lines": lines,
                "rank": reference_rank(matrix[row], item, known - seen, config.ties),
            }
            for item, lines in items.items()
        ]
    return targets


def reference_metrics(targets: list[dict], cutoffs: tuple[int, ...]) -> dict[str, float]:
    by_user: dict[object, list] = {}
    by_query: dict[object, list] = {}
    for target in targets:
        by_user.setdefault(target["user"], []).append(target["rank"])
        by_query.setdefault(target["query"], []).append(target["rank"])
    lines = sum(target["lines"] for target in targets)
    metrics = {"mrr": sum(1 / min(ranks) for ranks in by_query.values()) / len(by_query)}
    for n in cutoffs:
        metrics[f"hit@{n}"] = sum(target["lines"] for target in targets if target["rank"] <= n) / lines
        metrics[f"hit_pairs@{n}"] = sum(target["rank"] <= n for target in targets) / len(targets)
        metrics[f"user_hit@{n}"] = sum(min(ranks) <= n for ranks in by_user.values()) / len(by_user)
        shares = [sum(rank <= n for rank in ranks) / len(ranks) for ranks in by_user.values()]
        metrics[f"recall@{n}"] = sum(shares) / len(by_user)
        ndcg = 0.0
        for ranks in by_query.values():
            dcg = sum(1 / math.log2(1 + rank) for rank in ranks if rank <= n)
            ndcg += min(1.0, dcg / sum(1 / math.log2(1 + place) for place in range(1, min(n, len(ranks)) + 1)))
        metrics[f"ndcg@{n}"] = ndcg / len(by_query)
    return metrics


def reference_slices(log: list[Pair], n_train: int, config: EvalConfig, targets: list[dict]) -> dict[str, list]:
    train = log[:n_train]
    item_clicks, user_clicks = Counter(item for _, item in train), Counter(user for user, _ in train)
    ascending = sorted(item_clicks, key=lambda item: (item_clicks[item], item))
    tail = set(ascending[: math.floor(len(ascending) * config.tail_fraction + 1e-9)])
    tests = {
        "head": lambda t: t["item"] in item_clicks and t["item"] not in tail,
        "tail": lambda t: t["item"] in tail,
        "cold_items": lambda t: 0 < item_clicks[t["item"]] <= config.cold_clicks,
        "new_items": lambda t: t["item"] not in item_clicks,
        "repeats": lambda t: (t["user"], t["item"]) in train,
        "discoveries": lambda t: (t["user"], t["item"]) not in train,
        "cold_users": lambda t: user_clicks[t["user"]] <= config.cold_clicks,
        "warm_users": lambda t: user_clicks[t["user"]] > config.cold_clicks,
        "new_users": lambda t: user_clicks[t["user"]] == 0,
    }
    return {name: [target for target in targets if test(target)] for name, test in tests.items()}


@st.composite
def logs(draw):
    """A log in which at least one test click is by a user with train clicks, a config and whole-number scores."""
    n_users, n_items = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    pairs = st.tuples(st.integers(0, n_users - 1), st.integers(0, n_items - 1))
    train, test = draw(st.lists(pairs, min_size=1, max_size=25)), draw(st.lists(pairs, max_size=20))
    test.append((train[0][0], draw(st.integers(0, n_items - 1))))
    config = EvalConfig(
        cutoffs=draw(st.sampled_from([(1, 2, 3), (2, 5, 20), (1,)])),
        history=draw(st.sampled_from(["frozen", "rolling"])),
        users=draw(st.sampled_from(["known", "all"])),
        candidates=draw(st.sampled_from(["train", "all"])),
        ties=draw(st.sampled_from(["mean", "optimistic", "pessimistic"])),
        seen=draw(st.sampled_from(["keep", "filter"])),
        tail_fraction=draw(st.sampled_from([0.0, 0.5, 0.8])),
        cold_clicks=draw(st.integers(0, 6)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    n_rows = n_users if config.history == "frozen" else len(train) + len(test)
    return train + test, len(train), n_users, n_items, config, rng.integers(0, 4, (n_rows, n_items)).astype(np.float32)


@given(logs())
@settings(max_examples=300, deadline=None)
def test_metrics_and_slices_equal_loops_over_the_log(world):
    log, n_train, n_users, n_items, config, matrix = world
    task = evaluation_task(dataset(log, n_users, n_items), Split(n_train, n_train, len(log)), config, "test")
    scores = log_scores(task, matrix, config.history)

    result = evaluate(lambda start, stop: scores[start:stop], task, config)

    targets = reference_targets(log, n_train, n_items, config, matrix.tolist())
    plain = {name: value for name, value in result.metrics.items() if "_optim" not in name and "_pessim" not in name}
    lists = ("coverage", "gini", "popularity_percentile", "tail_", "seen_places")  # test_evaluation_coverage
    shown = {name: plain.pop(name) for name in list(plain) if name.startswith(lists)}
    coverage = [name for name in shown if name.startswith("coverage")]
    assert plain == pytest.approx(reference_metrics(targets, config.cutoffs))
    assert coverage == [f"coverage@{n}" for n in config.cutoffs]
    for name, chosen in reference_slices(log, n_train, config, targets).items():
        part = result.slices[name]
        assert (part.pairs, part.lines) == (len(chosen), sum(target["lines"] for target in chosen))
        assert part.users == len({target["user"] for target in chosen})
        assert part.metrics == pytest.approx(reference_metrics(chosen, config.cutoffs) if chosen else {})


@given(logs())
@settings(max_examples=150, deadline=None)
def test_laws(world):
    """Every metric is in [0, 1], grows with N, and tie policies are ordered; numerators and denominators agree."""
    log, n_train, n_users, n_items, config, matrix = world
    task = evaluation_task(dataset(log, n_users, n_items), Split(n_train, n_train, len(log)), config, "test")
    scores = log_scores(task, matrix, config.history)
    result = evaluate(lambda start, stop: scores[start:stop], task, config)
    metrics = result.metrics

    assert all(0.0 <= value <= 1.0 for value in metrics.values())
    for name in ("hit", "hit_pairs", "user_hit", "recall", "coverage"):
        values = [metrics[f"{name}@{n}"] for n in config.cutoffs]
        assert values == sorted(values)
    for column, n in enumerate(config.cutoffs):
        assert result.user_hits[:, column].sum() / result.user_lines.sum() == pytest.approx(metrics[f"hit@{n}"])
        if f"hit@{n}_optimistic" in metrics:
            assert metrics[f"hit@{n}_pessimistic"] <= metrics[f"hit@{n}"] <= metrics[f"hit@{n}_optimistic"]
            assert metrics[f"hit@{n}_pessimistic"] < metrics[f"hit@{n}_optimistic"]
    assert result.user_lines.sum() == result.lines
    assert result.lines + task.skipped_lines == len(log) - n_train
    assert result.slices["repeats"].lines + result.slices["discoveries"].lines == result.lines
    assert sum(result.slices[name].lines for name in ("head", "tail", "new_items")) == result.lines


# --- by hand ----------------------------------------------------------------------------------------------------


def hand_task() -> EvalTask:
    """User 0 tests items 1 (twice) and 2, user 1 item 0; items 0 .. 3 are known, item 4 is not."""
    log = [(0, 0), (0, 3), (1, 1), (1, 2), (0, 1), (0, 2), (0, 1), (1, 0), (1, 4)]
    return evaluation_task(dataset(log, 2, 5), Split(4, 4, 9), EvalConfig(), "test")


def test_a_case_worked_by_hand():
    """User 0 ranks item 1 first and item 2 third; user 1 ranks item 0 second and cannot find item 4."""
    task = hand_task()
    assert task.target_items.tolist() == [1, 2, 0, 4]
    ranks = TargetRanks(np.array([0, 2, 1, 4]), np.zeros(4, dtype=np.int64))

    result = hit_metrics(ranks, task, EvalConfig(cutoffs=(1, 2, 10)))

    ideal = 1 + 1 / math.log2(3)
    expected = {
        "hit@1": 2 / 5,
        "hit@2": 3 / 5,
        "hit@10": 4 / 5,  # item 4 is a miss at any N
        "hit_pairs@1": 1 / 4,
        "hit_pairs@2": 2 / 4,
        "hit_pairs@10": 3 / 4,
        "user_hit@1": 1 / 2,
        "user_hit@2": 1.0,
        "user_hit@10": 1.0,
        "recall@1": (1 / 2 + 0) / 2,
        "recall@2": (1 / 2 + 1 / 2) / 2,
        "recall@10": (1 + 1 / 2) / 2,
        "ndcg@1": (1 + 0) / 2,
        "ndcg@2": (1 / ideal + (1 / math.log2(3)) / ideal) / 2,
        "ndcg@10": ((1 + 1 / 2) / ideal + (1 / math.log2(3)) / ideal) / 2,
        "mrr": (1 + 1 / 2) / 2,
    }
    assert result.metrics == pytest.approx(expected)
    assert (result.users, result.queries, result.lines, result.pairs) == (2, 2, 5, 4)
    assert (result.unknown_lines, result.candidates) == (1, 4)
    assert result.user_ids.tolist() == [0, 1]
    assert result.user_hits.tolist() == [[2, 2, 3], [0, 1, 1]]
    assert result.user_lines.tolist() == [3, 2]


def test_ties_are_halved_won_or_lost():
    """Item 1 ties with two others for places 1 to 3: rank 1, 2 or 3. Both bounds are shown where they differ."""
    ranks = TargetRanks(np.array([0, 3, 3, 4]), np.array([2, 0, 0, 0]))
    for ties, first in (("optimistic", 1), ("mean", 2), ("pessimistic", 3)):
        metrics = hit_metrics(ranks, hand_task(), EvalConfig(cutoffs=(1, 2, 3, 4), ties=ties)).metrics
        assert [metrics[f"hit@{n}"] for n in (1, 2, 3)] == [2 / 5 * (n >= first) for n in (1, 2, 3)]
        bounds = {name: value for name, value in metrics.items() if name.endswith("istic")}
        assert bounds == {
            "hit@1_optimistic": 2 / 5,
            "hit@1_pessimistic": 0.0,
            "hit@2_optimistic": 2 / 5,
            "hit@2_pessimistic": 0.0,
        }


def test_a_collapsed_model_is_no_better_than_chance():
    """All scores equal: the mean rank is the middle of the catalogue, and HIT@N jumps there."""
    log = [(0, item) for item in range(9)] + [(0, 4)]
    config = EvalConfig(cutoffs=(4, 5))
    task = evaluation_task(dataset(log, 1, 9), Split(9, 9, 10), config, "test")

    metrics = evaluate(embedding_scores(torch.ones(1, 3), torch.ones(9, 3)), task, config).metrics

    assert (metrics["hit@4"], metrics["hit@5"]) == (0.0, 1.0)
    assert (metrics["hit@4_optimistic"], metrics["hit@4_pessimistic"]) == (1.0, 0.0)
    assert metrics["coverage@4"] == pytest.approx(4 / 9)


def test_rolling_users_pool_their_clicks():
    """Two clicks of one user at ranks 1 and 5 are two queries of one user."""
    log = [(0, 0), (0, 1), (0, 0), (0, 1)]
    task = evaluation_task(dataset(log, 1, 2), Split(2, 2, 4), EvalConfig(history="rolling"), "test")

    result = hit_metrics(TargetRanks(np.array([0, 4]), np.zeros(2, dtype=np.int64)), task, EvalConfig(cutoffs=(1,)))

    assert result.metrics == pytest.approx(
        {"hit@1": 0.5, "hit_pairs@1": 0.5, "user_hit@1": 1.0, "recall@1": 0.5, "ndcg@1": 0.5, "mrr": (1 + 1 / 5) / 2}
    )
    assert (result.users, result.queries) == (1, 2)
    assert (result.user_hits.tolist(), result.user_lines.tolist()) == ([[1]], [2])


def test_coverage_is_left_out_on_request():
    scores = embedding_scores(torch.ones(2, 3), torch.ones(5, 3))
    metrics = evaluate(scores, hand_task(), EvalConfig(), coverage=False).metrics
    assert not any(name.startswith("coverage") for name in metrics)
