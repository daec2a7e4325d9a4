"""Correlated feature masking: mutual information against loops and scikit-learn, and which fields are hidden."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import mutual_info_score

from micrec.data.dataset import Column
from micrec.data.schema import FieldType
from micrec.losses.correlated_masking import (
    correlated_masks,
    field_codes,
    field_mutual_information,
    mutual_information,
)

QUICK = settings(max_examples=40, deadline=None)
CODES = hnp.arrays(np.int32, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=st.integers(0, 5))


def reference_mutual_information(a: list[int], b: list[int], weights: list[float]) -> float:
    """Yao et al., Eq. 4, as loops over all value pairs."""
    total = sum(weights)
    information = 0.0
    for x in set(a):
        for y in set(b):
            p_xy = sum(w for i, j, w in zip(a, b, weights, strict=True) if (i, j) == (x, y)) / total
            p_x = sum(w for i, w in zip(a, weights, strict=True) if i == x) / total
            p_y = sum(w for j, w in zip(b, weights, strict=True) if j == y) / total
            if p_xy > 0:
                information += p_xy * math.log(p_xy / (p_x * p_y))
    return information


def reference_mask(information: NDArray, seed: int, num_masked: int) -> frozenset[int]:
    others = sorted((j for j in range(len(information)) if j != seed), key=lambda j: (-information[seed, j], j))
    return frozenset([seed, *others[: num_masked - 1]])


def masked_fields(keep: torch.Tensor) -> frozenset[int]:
    return frozenset((~keep).nonzero().flatten().tolist())


# Mutual information


@QUICK
@given(codes=CODES, data=st.data())
def test_equals_the_loops_of_the_paper(codes: NDArray, data: st.DataObject) -> None:
    weights = data.draw(hnp.arrays(np.float64, len(codes), elements=st.sampled_from([0.0, 0.5, 1.0, 7.0])))
    weights[0] = 1.0
    information = field_mutual_information(codes, weights)
    for i in range(codes.shape[1]):
        for j in range(codes.shape[1]):
            expected = reference_mutual_information(codes[:, i].tolist(), codes[:, j].tolist(), weights.tolist())
            assert information[i, j] == pytest.approx(expected, abs=1e-12)
            assert mutual_information(codes[:, i], codes[:, j], weights) == pytest.approx(expected, abs=1e-12)


@QUICK
@given(codes=CODES)
def test_equals_scikit_learn_and_is_bounded_by_the_entropies(codes: NDArray) -> None:
    information = field_mutual_information(codes)
    assert np.array_equal(information, information.T)
    assert (information >= 0).all()
    entropy = np.diag(information)
    assert (information <= np.minimum(entropy[:, None], entropy) + 1e-12).all()
    first, last = codes[:, 0], codes[:, -1]
    assert information[0, -1] == pytest.approx(mutual_info_score(first, last), abs=1e-12)
    assert entropy[0] == pytest.approx(stats.entropy(np.bincount(first)), abs=1e-12)


def test_a_copy_tells_all_and_an_independent_field_nothing() -> None:
    a = np.array([1, 1, 2, 2])
    assert mutual_information(a, a + 40) == pytest.approx(math.log(2))
    assert mutual_information(a, np.array([1, 2, 1, 2])) == 0.0


def test_a_weight_is_a_number_of_copies() -> None:
    a, b, clicks = np.array([1, 2, 2, 3]), np.array([1, 1, 2, 2]), np.array([5, 0, 2, 1])
    repeated = mutual_information(np.repeat(a, clicks), np.repeat(b, clicks))
    assert mutual_information(a, b, clicks) == pytest.approx(repeated, abs=1e-12)
    assert mutual_information(a, b) != pytest.approx(repeated, abs=1e-3)


def test_large_vocabularies_do_not_overflow() -> None:
    """A billion times a billion code pairs; both fields are one-to-one."""
    a = np.array([0, 2**30, 2**31 - 1], dtype=np.int32)
    assert mutual_information(a, a[::-1]) == pytest.approx(math.log(3))


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [1.0, math.nan]])
def test_bad_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights must be finite and >= 0, with at least one > 0"):
        mutual_information(np.array([1, 2]), np.array([1, 2]), np.array(weights))


def test_bad_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"codes_a \(2,\) and codes_b \(3,\) must have the same shape"):
        mutual_information(np.zeros(2, int), np.zeros(3, int))
    with pytest.raises(ValueError, match=r"weights \(3,\) must have shape \(2,\): one weight per item"):
        mutual_information(np.zeros(2, int), np.zeros(2, int), np.ones(3))
    with pytest.raises(ValueError, match=r"codes \(2,\) must have shape \(n, F\)"):
        field_mutual_information(np.zeros(2, int))


# Masks


@pytest.mark.parametrize(
    ("n_fields", "num_masked"), [(2, None), (3, None), (5, None), (6, None), (5, 1), (5, 3), (5, 4)]
)
def test_masks_are_those_of_the_loops_and_every_seed_is_as_likely(n_fields: int, num_masked: int | None) -> None:
    information = np.random.default_rng(n_fields).random((n_fields, n_fields))
    information += information.T
    size = n_fields // 2 if num_masked is None else num_masked
    expected = Counter(reference_mask(information, seed, size) for seed in range(n_fields))
    generator = torch.Generator().manual_seed(0)
    seen: Counter[frozenset[int]] = Counter()
    for _ in range(600):
        first, second = correlated_masks(torch.from_numpy(information), generator=generator, num_masked=num_masked)
        assert torch.equal(first, ~second)
        seen[masked_fields(first)] += 1
    assert set(seen) == set(expected)
    if len(expected) > 1:
        shares = [600 * count / n_fields for count in expected.values()]
        assert stats.chisquare([seen[mask] for mask in expected], shares).pvalue > 1e-4


def test_a_planted_pair_is_hidden_together() -> None:
    """Fields 0 and 2 tell the same thing, and so do 1 and 3; nothing else is related."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 2000), rng.integers(0, 9, 2000)
    information = torch.from_numpy(field_mutual_information(np.stack([a, b, (a * 7) % 9, 8 - b], axis=1)))
    generator = torch.Generator().manual_seed(0)
    seen = {masked_fields(correlated_masks(information, generator=generator)[0]) for _ in range(50)}
    assert seen == {frozenset({0, 2}), frozenset({1, 3})}


def test_the_seed_is_hidden_even_if_its_own_entropy_is_lowest() -> None:
    """A constant field shares nothing with anyone, itself included; ties go to the earlier field."""
    information = torch.zeros(4, 4)
    generator = torch.Generator().manual_seed(0)
    seen = {masked_fields(correlated_masks(information, generator=generator)[0]) for _ in range(100)}
    assert seen == {frozenset({0, 1}), frozenset({0, 2}), frozenset({0, 3})}


def test_same_seed_same_masks() -> None:
    information = torch.rand(7, 7, generator=torch.Generator().manual_seed(1))
    runs = []
    for _ in range(2):
        generator = torch.Generator().manual_seed(5)
        runs.append([correlated_masks(information, generator=generator)[0].tolist() for _ in range(10)])
    assert runs[0] == runs[1]


def test_what_cannot_be_split_is_refused() -> None:
    generator = torch.Generator()
    with pytest.raises(ValueError, match="one field cannot be split between two views, use element dropout"):
        correlated_masks(torch.zeros(1, 1), generator=generator)
    with pytest.raises(ValueError, match=r"information \(2, 3\) must have shape \(F, F\)"):
        correlated_masks(torch.zeros(2, 3), generator=generator)
    for num_masked in (0, 4):
        with pytest.raises(ValueError, match=rf"num_masked must be in \[1, 3\], got {num_masked}"):
            correlated_masks(torch.zeros(4, 4), generator=generator, num_masked=num_masked)


# Codes


def test_each_kind_of_field_becomes_one_code_per_item() -> None:
    numbers = np.array([np.nan, *range(20)], dtype=np.float32)
    codes = np.arange(21, dtype=np.int32)
    offsets = np.minimum(np.arange(22), 20) * 2  # two values each, the last item none
    values = np.arange(1, 41, dtype=np.int32)
    columns = [
        Column("brand", FieldType.CATEGORICAL, size=22, codes=codes),
        Column("tags", FieldType.MULTI_CATEGORICAL, size=41, values=values, offsets=offsets),
        Column("price", FieldType.NUMERIC, numbers=numbers),
    ]
    result = field_codes(columns)
    assert result.shape == (21, 3)
    assert result[:, 0].tolist() == list(range(21))
    assert result[:, 1].tolist() == [*range(1, 41, 2), 0]
    assert result[:, 2].tolist() == [0, *[bin for bin in range(1, 11) for _ in range(2)]]


def test_equal_numbers_share_a_bin_and_missing_ones_have_their_own() -> None:
    numbers = np.array([1, 1, 1, 1, 1, 1, 5, np.nan, np.nan], dtype=np.float32)
    codes = field_codes([Column("price", FieldType.NUMERIC, numbers=numbers)])[:, 0]
    assert len(set(codes[:6])) == 1
    assert codes[6] != codes[0]
    assert codes[7:].tolist() == [0, 0]
    nothing = field_codes([Column("price", FieldType.NUMERIC, numbers=np.full(3, np.nan, dtype=np.float32))])
    assert nothing.tolist() == [[0], [0], [0]]
