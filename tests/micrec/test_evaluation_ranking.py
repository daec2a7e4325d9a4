"""Counted ranks against a full sort in plain Python, through both sources of scores and every way of counting."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.data.histories import Histories
from micrec.errors import MicrecError
from micrec.evaluation import CoverageCounter, EvalTask, TargetRanks, embedding_scores, rank_targets
from micrec.evaluation.coverage import TopLists


def make_task(
    targets: list[list[int]], n_items: int, *, candidates=None, seen: list[list[int]] | None = None
) -> EvalTask:
    """One query per list of targets; query q is user q."""
    n, sizes = len(targets), [len(items) for items in targets]
    none = np.zeros(0, dtype=np.int64)
    histories = Histories(none.astype(np.int32), none.astype(np.int32), none, np.zeros(n + 1, dtype=np.int64))
    flat = np.array([item for items in targets for item in items], dtype=np.int32)
    filtered = None
    if seen is not None:
        items = np.array([item for of_user in seen for item in of_user], dtype=np.int32)
        offsets = np.cumsum([0] + [len(of_user) for of_user in seen])
        filtered = Histories(items, items, items.astype(np.int64), offsets)
    return EvalTask(
        part="test",
        histories=histories,
        user_ids=np.arange(n, dtype=np.int32),
        begin=np.zeros(n, dtype=np.int64),
        end=np.zeros(n, dtype=np.int64),
        target_offsets=np.cumsum([0, *sizes]),
        target_items=flat,
        target_counts=np.ones(len(flat), dtype=np.int64),
        target_repeats=np.zeros(len(flat), dtype=bool),
        candidates=np.ones(n_items, dtype=bool) if candidates is None else np.asarray(candidates),
        train_clicks=np.ones(n_items, dtype=np.int64),
        user_train_clicks=np.ones(n, dtype=np.int64),
        seen=filtered,
        skipped_users=0,
        skipped_lines=0,
    )


def full_sort(scores: list[list[float]], task: EvalTask) -> list[tuple[int, int]]:
    """(greater, equal) of each target by sorting the candidates of its query."""
    places = []
    for query in range(len(task)):
        allowed = {item for item in range(len(task.candidates)) if task.candidates[item]}
        if task.seen is not None:
            allowed -= set(task.seen.items[task.seen.offsets[query] : task.seen.offsets[query + 1]].tolist())
        for item in task.target_items[task.target_offsets[query] : task.target_offsets[query + 1]].tolist():
            if not task.candidates[item]:
                places.append((int(task.candidates.sum()), 0))
                continue
            ordered = sorted((scores[query][other] for other in allowed | {item}), reverse=True)
            mine = scores[query][item]
            places.append((ordered.index(mine), ordered.count(mine) - 1))
    return places


def as_pairs(ranks: TargetRanks) -> list[tuple[int, int]]:
    return list(zip(ranks.greater.tolist(), ranks.equal.tolist(), strict=True))


@st.composite
def worlds(draw, most_items: int = 30):
    """A task with many ties (small whole embeddings), unknown targets, seen items, and 1 to 20 targets a query."""
    n_items, n_queries = draw(st.integers(1, most_items)), draw(st.integers(1, 6))

    def lists_of_items(least: int) -> st.SearchStrategy[list[list[int]]]:
        items = st.lists(st.integers(0, n_items - 1), unique=True, min_size=least, max_size=min(20, n_items))
        return st.lists(items, min_size=n_queries, max_size=n_queries)

    targets = draw(lists_of_items(1))
    candidates = draw(st.lists(st.booleans(), min_size=n_items, max_size=n_items).filter(any))
    seen = draw(st.none() | lists_of_items(0))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    user_emb = torch.randint(-2, 3, (n_queries, 2), generator=generator).float()
    item_emb = torch.randint(-2, 3, (n_items, 2), generator=generator).float()
    return make_task(targets, n_items, candidates=candidates, seen=seen), user_emb, item_emb


@given(worlds(), st.integers(1, 4096))
@settings(max_examples=150, deadline=None)
def test_any_callable_gives_the_ranks_of_a_full_sort(world, block_bytes):
    task, user_emb, item_emb = world
    scores = user_emb @ item_emb.T
    given_scores = scores.clone()

    ranks = rank_targets(lambda start, stop: scores[start:stop], task, block_bytes=block_bytes)

    assert as_pairs(ranks) == full_sort(given_scores.tolist(), task)
    assert torch.equal(scores, given_scores)  # the caller's scores are left alone


@given(worlds())
@settings(max_examples=100, deadline=None)
def test_embeddings_give_the_ranks_of_a_full_sort(world):
    task, user_emb, item_emb = world
    assert as_pairs(rank_targets(embedding_scores(user_emb, item_emb), task)) == full_sort(
        (user_emb @ item_emb.T).tolist(), task
    )


@given(worlds(), st.integers(1, 4), st.integers(1, 4096))
@settings(max_examples=100, deadline=None)
def test_of_several_interests_the_best_product_ranks(world, n_interests, block_bytes):
    task, _, item_emb = world
    generator = torch.Generator().manual_seed(n_interests)
    user_emb = torch.randint(-2, 3, (len(task), n_interests, 2), generator=generator).float()
    scores = [[max(float(u @ v) for u in interests) for v in item_emb] for interests in user_emb]
    given_scores = embedding_scores(user_emb, item_emb)
    assert as_pairs(rank_targets(given_scores, task, block_bytes=block_bytes)) == full_sort(scores, task)
    assert given_scores(0, len(task)).tolist() == scores


def test_coverage_and_ranks_of_interests_are_those_of_their_best_scores():
    """Many tiles and blocks: 400 items, 70 queries of 3 interests, against whole rows of scores."""
    generator = torch.Generator().manual_seed(0)
    user_emb = torch.randint(-3, 4, (70, 3, 4), generator=generator).float()
    item_emb = torch.randint(-3, 4, (400, 4), generator=generator).float()
    task = make_task([[q, (q * 7 + 1) % 400] for q in range(70)], 400)
    scores = torch.stack([(user @ item_emb.T).max(dim=0).values for user in user_emb])
    for block_bytes in (1, 256 << 20):
        ours, theirs = CoverageCounter((2, 400)), CoverageCounter((2, 400))
        found = rank_targets(embedding_scores(user_emb, item_emb), task, block_bytes=block_bytes, coverage=ours)
        expected = rank_targets(lambda start, stop: scores[start:stop], task, coverage=theirs)
        assert as_pairs(found) == as_pairs(expected)
        assert ours.metrics()["coverage@400"] == theirs.metrics()["coverage@400"] == 1.0


@pytest.mark.parametrize("n_targets", [1, 8, 9, 150])
@pytest.mark.parametrize("seen", [False, True])
def test_many_tiles_and_blocks_give_the_ranks_of_a_full_sort(n_targets, seen, monkeypatch):
    """64-wide tiles over 333 candidates, more queries than a block holds, and distinct targets in several tiles."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # up to 8 targets are compared, more are sorted
    rng = np.random.default_rng(n_targets)
    n_items, n_queries = 400, 70
    candidates = rng.permutation(n_items) < 333
    targets = [rng.choice(n_items, n_targets, replace=False).tolist() for _ in range(n_queries)]
    seen_items = [rng.choice(n_items, 20, replace=False).tolist() for _ in range(n_queries)] if seen else None
    task = make_task(targets, n_items, candidates=candidates, seen=seen_items)
    user_emb = torch.from_numpy(rng.integers(-3, 4, (n_queries, 3))).float()
    item_emb = torch.from_numpy(rng.integers(-3, 4, (n_items, 3))).float()

    small = rank_targets(embedding_scores(user_emb, item_emb), task, block_bytes=1)

    assert as_pairs(small) == full_sort((user_emb @ item_emb.T).tolist(), task)
    assert as_pairs(rank_targets(embedding_scores(user_emb, item_emb), task)) == as_pairs(small)


@pytest.mark.parametrize("n_queries", [1, 3, 70])
@pytest.mark.parametrize(("n_items", "block_bytes"), [(1, 256 << 20), (333, 256 << 20), (333, 1), (20_001, 256 << 20)])
def test_equal_embeddings_tie_exactly_wherever_they_stand(n_items, block_bytes, n_queries):
    """A collapsed model must not look better or worse than chance because products round differently by place."""
    generator = torch.Generator().manual_seed(0)
    user_emb = torch.randn(n_queries, 33, generator=generator)
    item_emb = torch.randn(1, 33, generator=generator).expand(n_items, -1)
    task = make_task([[query % n_items] for query in range(n_queries)], n_items)

    ranks = rank_targets(embedding_scores(user_emb, item_emb), task, block_bytes=block_bytes)

    assert ranks.greater.tolist() == [0] * n_queries
    assert ranks.equal.tolist() == [n_items - 1] * n_queries


def test_no_block_is_larger_than_asked_for():
    asked = []

    def scores(start: int, stop: int) -> torch.Tensor:
        asked.append(stop - start)
        return torch.zeros(stop - start, 50)

    rank_targets(scores, make_task([[0]] * 23, 50), block_bytes=4 * 50 * 5)

    assert asked == [5, 5, 5, 5, 3]


def test_progress_is_told_after_each_block():
    told = []
    rank_targets(
        lambda start, stop: torch.zeros(stop - start, 50),
        make_task([[0]] * 5, 50),
        block_bytes=4 * 50 * 2,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_named(value):
    scores = torch.zeros(3, 4)
    scores[2, 3] = value
    task = make_task([[0], [1], [2]], 4, candidates=[True, False, True, True])

    with pytest.raises(
        MicrecError, match=rf"score of query 2 \(user 2\) for item 3 is {value} .* scores must be finite"
    ):
        rank_targets(lambda start, stop: scores[start:stop], task)


def test_a_diverged_tower_is_named_in_any_tile():
    item_emb = torch.ones(200, 2)
    item_emb[170, 1] = np.nan

    with pytest.raises(MicrecError, match="item 170 is nan"):
        rank_targets(embedding_scores(torch.ones(1, 2), item_emb), make_task([[0]], 200), block_bytes=1)


def test_scores_of_items_that_are_no_candidates_do_not_matter():
    scores = torch.tensor([[0.0, np.nan, 1.0]])
    ranks = rank_targets(lambda start, stop: scores, make_task([[0]], 3, candidates=[True, False, True]))
    assert as_pairs(ranks) == [(1, 0)]


def test_huge_finite_scores_are_fine_though_their_sum_overflows():
    scores = torch.tensor([[3e38, 3e38, 1e38]])
    assert as_pairs(rank_targets(lambda start, stop: scores, make_task([[0, 2]], 3))) == [(0, 1), (2, 0)]


def test_wrong_shapes_are_programming_errors():
    task = make_task([[0], [1]], 3)
    with pytest.raises(ValueError, match=r"score_block\(0, 2\) returned shape \(2, 4\), not \(2, 3\)"):
        rank_targets(lambda start, stop: torch.zeros(stop - start, 4), task)
    with pytest.raises(ValueError, match=r"\(2, 4\) rows, the task has \(2, 3\)"):
        rank_targets(embedding_scores(torch.zeros(2, 5), torch.zeros(4, 5)), task)
    with pytest.raises(ValueError, match=r"must be \(Q, D\) or \(Q, K, D\), and \(N, D\)"):
        embedding_scores(torch.zeros(2, 5), torch.zeros(4, 6))


def test_gradients_are_not_kept():
    user_emb, item_emb = torch.ones(2, 3, requires_grad=True), torch.ones(4, 3, requires_grad=True)
    task = make_task([[0], [1]], 4)
    for scores in (embedding_scores(user_emb, item_emb), lambda start, stop: user_emb[start:stop] @ item_emb.T):
        assert as_pairs(rank_targets(scores, task)) == [(0, 3), (0, 3)]


def test_embedding_scores_is_itself_a_score_block():
    user_emb, item_emb = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), torch.eye(3)
    scores = embedding_scores(user_emb, item_emb)
    assert torch.equal(scores(1, 4), user_emb[1:4])


@given(
    st.integers(1, 40),
    st.integers(1, 60),
    st.lists(st.integers(1, 59), max_size=4),
    st.integers(0, 2**31),
    st.booleans(),
    st.sampled_from([1, 16]),
)
@settings(max_examples=150, deadline=None)
def test_lists_collected_by_tile_hold_the_best_scores(k, n, cuts, seed, ties, threads):
    """With few threads by NumPy, with many by torch."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, n, generator=generator)
    if ties:
        scores = scores.round()
    edges = sorted({0, n, *(cut for cut in cuts if cut < n)})
    lists = TopLists(k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: threads)
        for first, last in itertools.pairwise(edges):
            lists.add(first, scores[:, first:last])
        items, values = lists.sorted()

    best = [sorted(row, reverse=True)[:k] for row in scores.tolist()]
    assert values.tolist() == best
    assert scores.gather(1, items).tolist() == best
    assert all(len(set(row)) == len(row) for row in items.tolist())


def test_long_rows_use_the_other_selection_and_agree():
    scores = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    lists = TopLists(3)
    lists.add(0, scores)
    assert lists.sorted()[0].tolist() == scores.argsort(dim=1, descending=True)[:, :3].tolist()


@pytest.mark.parametrize("block_bytes", [1, 256 << 20])
def test_coverage_counts_distinct_items_of_all_lists(block_bytes):
    generator = torch.Generator().manual_seed(3)
    user_emb, item_emb = torch.randn(90, 4, generator=generator), torch.randn(200, 4, generator=generator)
    candidates = np.arange(200) % 5 != 0
    task = make_task([[0]] * 90, 200, candidates=candidates)
    counter = CoverageCounter((1, 7, 30))

    rank_targets(embedding_scores(user_emb, item_emb), task, block_bytes=block_bytes, coverage=counter)

    rows = (user_emb @ item_emb.T).tolist()
    ordered = [sorted((i for i in range(200) if candidates[i]), key=lambda i, row=row: -row[i]) for row in rows]
    expected = {f"coverage@{n}": len({i for row in ordered for i in row[:n]}) / 160 for n in (1, 7, 30)}
    assert counter.metrics() == pytest.approx(expected)


def test_filtered_items_do_not_count_as_shown():
    """Three items, two of them seen: the list of two holds but one."""
    counter = CoverageCounter((2,))
    task = make_task([[0]], 3, seen=[[1, 2]])
    rank_targets(lambda start, stop: torch.tensor([[0.0, 1.0, 2.0]]), task, coverage=counter)
    assert counter.metrics() == {"coverage@2": pytest.approx(1 / 3)}


def test_coverage_of_nothing_is_a_programming_error():
    with pytest.raises(ValueError, match="no lists were counted"):
        CoverageCounter((1,)).metrics()
    with pytest.raises(ValueError, match="no scores yet"):
        TopLists(1).sorted()
