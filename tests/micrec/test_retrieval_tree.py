"""The tree over item vectors: its cuts, its nodes, and its beam search, each against loops over Python lists."""

import math

import numpy as np
import pytest
import torch

from micrec.retrieval.index import build_index, extended, index_from, index_kind, index_tensors, stored_vectors
from micrec.retrieval.tree import BEAM, LEAF_ITEMS, TreeIndex


def random_vectors(n, dim=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def nodes_of(tree):
    """Rows of every node, by level, from the definition of its bounds."""
    total = tree.ntotal
    return [
        [tree.order[j * total // 2**level : (j + 1) * total // 2**level].tolist() for j in range(2**level)]
        for level in range(tree.depth + 1)
    ]


def search_by_hand(vectors, tree, query, k, beam):
    """Score the nodes of a level, keep the best, go to their children; at the end compare the items of the leaves."""
    levels = nodes_of(tree)
    chosen = [0]
    for level in range(1, tree.depth + 1):
        scored = []
        for node in (child for place in chosen for child in (2 * place, 2 * place + 1)):
            inside = vectors[levels[level][node]].astype(np.float64)
            spread = math.sqrt(2 * math.log(len(vectors) / 2**level))
            score = query @ inside.mean(axis=0) + spread * math.sqrt((query**2) @ inside.var(axis=0))
            scored.append((score, node))
        chosen = [node for _, node in sorted(scored, reverse=True)[:beam]]
    items = [row for place in chosen for row in levels[tree.depth][place]]
    return sorted(items, key=lambda row: -(query @ vectors[row].astype(np.float64)))[:k]


@pytest.mark.parametrize("n", [1, 2, 7, 15, 16, 31, 33, 100, 257])
def test_leaves_hold_eight_to_sixteen_items_each_once(n):
    tree = TreeIndex.of(random_vectors(n))
    leaves = nodes_of(tree)[-1]
    assert sorted(row for leaf in leaves for row in leaf) == list(range(n))
    if n >= LEAF_ITEMS:
        assert all(LEAF_ITEMS <= len(leaf) <= 2 * LEAF_ITEMS for leaf in leaves)
    assert len(tree.means) == 2 ** (tree.depth + 1) - 1
    np.testing.assert_array_equal(tree.reconstruct(), random_vectors(n))


def test_nodes_are_the_moments_of_their_items():
    vectors = random_vectors(75)
    tree = TreeIndex.of(vectors)
    node = 0
    for level in nodes_of(tree):
        for rows in level:
            np.testing.assert_allclose(tree.means[node], vectors[rows].mean(axis=0), atol=1e-6)
            np.testing.assert_allclose(tree.variances[node], vectors[rows].var(axis=0), atol=1e-5)
            node += 1
    assert node == len(tree.means)


@pytest.mark.parametrize("beam", [1, 2, 3, 8, 16])
def test_the_beam_search_is_that_of_the_loops(beam):
    vectors, queries = random_vectors(300), random_vectors(12, seed=1)
    tree = TreeIndex.of(vectors)
    scores, rows = tree.search(queries, 10, beam)
    for query, found, products in zip(queries.astype(np.float64), rows.tolist(), scores, strict=True):
        expected = search_by_hand(vectors, tree, query, 10, beam)
        assert [row for row in found if row >= 0] == expected
        np.testing.assert_allclose(products[: len(expected)], vectors[expected] @ query, rtol=1e-4, atol=1e-5)


def test_a_beam_of_all_leaves_is_exact_and_a_wider_one_finds_more():
    vectors, queries = random_vectors(700), random_vectors(30, seed=1)
    tree = TreeIndex.of(vectors)
    best = np.argsort(-(queries.astype(np.float64) @ vectors.T), axis=1)[:, :20]
    found = {beam: tree.search(queries, 20, beam)[1] for beam in (2, 8, 2**tree.depth)}
    recalls = [np.mean([len({*a} & {*b}) / 20 for a, b in zip(rows, best, strict=True)]) for rows in found.values()]
    assert recalls[0] < recalls[1] < recalls[2] == 1.0
    assert tree.beam(10) == min(BEAM, 2**tree.depth)


def test_what_a_leaf_lacks_is_padded():
    tree = TreeIndex.of(random_vectors(40))
    scores, rows = tree.search(random_vectors(3, seed=1), 30, 1)
    assert ((rows >= 0).sum(axis=1) == 10).all()
    assert np.isneginf(scores[rows < 0]).all()


def test_clusters_of_one_size_fall_into_subtrees():
    """Four well separated groups of 32: each is one node of the second level."""
    centres = 30 * random_vectors(4, seed=2)
    group = np.random.default_rng(3).permutation(np.repeat(np.arange(4), 32))
    tree = TreeIndex.of(centres[group] + random_vectors(128))
    assert sorted(len({*group[rows]}) for rows in nodes_of(tree)[2]) == [1, 1, 1, 1]


@pytest.mark.parametrize("dim", [1, 5])
def test_vectors_that_are_all_alike(dim):
    tree = TreeIndex.of(np.ones((50, dim), np.float32))
    scores, rows = tree.search(np.ones((2, dim), np.float32), 50, 2**tree.depth)
    assert [sorted(row) for row in rows.tolist()] == [list(range(50))] * 2
    np.testing.assert_allclose(scores, dim)


def test_it_passes_through_tensors_and_grows():
    vectors = random_vectors(90)
    tree = build_index(vectors, "tree")
    back = index_from({**index_tensors(tree), "candidates": torch.arange(90)})
    assert index_kind(back) == "tree"
    queries = random_vectors(5, seed=1)
    for ours, theirs in zip(back.search(queries, 7), tree.search(queries, 7), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    more = random_vectors(11, seed=4)
    longer = extended(tree, more)
    np.testing.assert_array_equal(stored_vectors(longer), np.concatenate([vectors, more]))
    assert tree.ntotal == 90


@pytest.mark.parametrize(
    ("part", "damage", "told"),
    [
        ("order", lambda order: order.clamp_min(1), "do not hold every item once"),
        ("order", lambda order: order[1:], "do not hold every item once"),
        ("means", lambda means: means[1:], "nodes of the tree do not fit"),
        ("means", lambda means: means[:3], "nodes of the tree do not fit"),
        ("means", lambda means: means[:, 1:], "nodes of the tree do not fit"),
        ("variances", lambda variances: variances[:7], "nodes of the tree do not fit"),
    ],
)
def test_damaged_parts_are_refused(part, damage, told):
    tensors = TreeIndex.of(random_vectors(90)).tensors()
    with pytest.raises(ValueError, match=told):
        TreeIndex.from_tensors({**tensors, part: damage(tensors[part])})
