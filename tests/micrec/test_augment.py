"""Dropouts of elements, fields and values: what they must never do, and how often they do the rest."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from micrec.losses.augment import (
    drop_tags,
    element_dropout,
    field_dropout,
    keep_fields,
    keep_values,
    random_halves,
)

QUICK = settings(max_examples=40, deadline=None)
RATIO = st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.999])
CHANCE = 1e-4  # seeds are fixed: a p-value below this is a wrong distribution


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def offsets_of(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *itertools.accumulate(lengths)])


def conditional_probability(n: int, ratio: float) -> dict[tuple[bool, ...], float]:
    """Each of n entries kept with probability 1 - ratio on its own, given that one is kept: by enumeration."""
    subsets = {
        keep: np.prod([1 - ratio if kept else ratio for kept in keep])
        for keep in itertools.product([False, True], repeat=n)
        if any(keep)
    }
    total = sum(subsets.values())
    return {keep: float(p / total) for keep, p in subsets.items()}


def assert_conditional(keep: Tensor, ratio: float) -> None:
    """Rows of ``keep`` (n, F) follow ``conditional_probability``, by a chi-square test over all subsets."""
    expected = conditional_probability(keep.shape[1], ratio)
    seen = Counter(tuple(row) for row in keep.tolist())
    assert set(seen) <= set(expected)
    if len(expected) == 1:
        return
    counts = [seen[subset] for subset in expected]
    assert stats.chisquare(counts, [p * len(keep) for p in expected.values()]).pvalue > CHANCE


# Elements


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7, 0.9])
def test_elements_are_dropped_at_the_ratio_and_the_rest_is_rescaled(ratio: float) -> None:
    fields = torch.rand(500, 4, 16, generator=seeded(1)) + 1
    dropped = element_dropout(fields, ratio, generator=seeded())
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], fields[kept] / (1 - ratio))
    assert stats.binomtest(int((~kept).sum()), kept.numel(), ratio).pvalue > CHANCE
    plain = element_dropout(fields, ratio, rescale=False, generator=seeded())
    assert torch.equal(plain, fields * kept)


def test_elements_are_dropped_one_by_one() -> None:
    """Every pattern of eight neighbours is as likely as any other at ratio 0.5: no two share their fate."""
    dropped = element_dropout(torch.ones(40_000, 8), 0.5, generator=seeded())
    patterns = (dropped != 0).long() @ (2 ** torch.arange(8))
    assert stats.chisquare(np.bincount(patterns, minlength=256)).pvalue > CHANCE


def test_ratio_zero_keeps_every_element() -> None:
    fields = torch.randn(3, 2, 5, generator=seeded())
    assert torch.equal(element_dropout(fields, 0.0, generator=seeded()), fields)


@pytest.mark.parametrize("shape", [(0, 3, 4), (1, 1, 1), (3, 3, 3), (7, 5)])
def test_any_shape_works(shape: tuple[int, ...]) -> None:
    fields = torch.ones(shape, dtype=torch.float64)
    dropped = element_dropout(fields, 0.5, generator=seeded())
    assert dropped.shape == shape
    assert dropped.dtype == torch.float64
    assert set(dropped.flatten().tolist()) <= {0.0, 2.0}


def test_gradient_reaches_kept_elements_only() -> None:
    fields = torch.ones(6, 2, 4, requires_grad=True)
    dropped = element_dropout(fields, 0.5, generator=seeded())
    dropped.sum().backward()
    assert fields.grad is not None
    assert torch.equal(fields.grad, dropped.detach())
    assert 0 < int((dropped == 0).sum()) < dropped.numel()


@pytest.mark.parametrize(
    "augment",
    [
        lambda generator: element_dropout(torch.ones(50, 3, 4), 0.5, generator=generator),
        lambda generator: field_dropout(torch.ones(50, 3, 4), 0.5, generator=generator),
        lambda generator: drop_tags(torch.arange(150), offsets_of([3] * 50), 0.5, generator=generator),
    ],
)
def test_the_generator_alone_decides(augment: Any) -> None:
    """Same seed, same bits; a used generator goes on; the global one is left alone."""
    before = torch.random.get_rng_state()
    generator = seeded()
    first, second = augment(generator), augment(generator)
    assert torch.equal(first, augment(seeded()))
    assert not torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)


# Fields


@QUICK
@given(n=st.integers(0, 20), n_fields=st.integers(1, 6), ratio=RATIO, per=st.sampled_from(["item", "batch"]))
def test_fields_stay_whole_and_never_all_go(n: int, n_fields: int, ratio: float, per: Any) -> None:
    fields = torch.rand(n, n_fields, 3, generator=seeded(1)) + 1
    dropped = field_dropout(fields, ratio, per=per, generator=seeded(n))
    kept = (dropped != 0).all(dim=2)  # (n, F)
    assert torch.equal(dropped, torch.where(kept[:, :, None], fields, 0.0))
    assert kept.any(dim=1).all()
    if per == "batch":
        assert (kept == kept[:1]).all()
    if ratio == 0.0:
        assert kept.all()


@pytest.mark.parametrize("n_fields", [1, 2, 4])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_every_set_of_fields_is_as_likely_as_independent_drops_given_one_is_kept(n_fields: int, ratio: float) -> None:
    kept = field_dropout(torch.ones(20_000, n_fields, 1), ratio, generator=seeded())[:, :, 0] != 0
    assert_conditional(kept, ratio)


def test_a_batch_draw_is_as_likely_as_an_item_draw() -> None:
    generator = seeded()
    draws = [field_dropout(torch.ones(1, 3, 1), 0.7, per="batch", generator=generator) for _ in range(3000)]
    assert_conditional(torch.cat(draws)[:, :, 0] != 0, 0.7)


def test_keep_fields_zeroes_the_others() -> None:
    fields = torch.arange(1.0, 13.0).reshape(2, 3, 2)
    same = keep_fields(fields, torch.tensor([True, False, True]))
    assert same.tolist() == [[[1, 2], [0, 0], [5, 6]], [[7, 8], [0, 0], [11, 12]]]
    own = keep_fields(fields, torch.tensor([[True, False, False], [False, False, True]]))
    assert own.tolist() == [[[1, 2], [0, 0], [0, 0]], [[0, 0], [0, 0], [11, 12]]]


@pytest.mark.parametrize("n_fields", [2, 3, 5, 8])
def test_random_halves_share_no_field_and_hide_every_subset_alike(n_fields: int) -> None:
    first, second = random_halves(20_000, n_fields, generator=seeded())
    assert torch.equal(first, ~second)
    assert first.sum(dim=1).eq(n_fields - n_fields // 2).all()
    subsets = [set(hidden) for hidden in itertools.combinations(range(n_fields), n_fields // 2)]
    seen = Counter(tuple(torch.nonzero(~row).flatten().tolist()) for row in first)
    counts = [seen[tuple(sorted(subset))] for subset in subsets]
    assert sum(counts) == 20_000
    assert stats.chisquare(counts).pvalue > CHANCE


def test_one_field_has_no_halves() -> None:
    with pytest.raises(ValueError, match="1 field cannot be split between two views: use element dropout"):
        random_halves(4, 1, generator=seeded())


# Values of a multi-valued field


@QUICK
@given(lengths=st.lists(st.integers(0, 5), max_size=20), ratio=RATIO, seed=st.integers(0, 2**32))
def test_every_row_with_values_keeps_one_and_the_rest_keep_their_order(
    lengths: list[int], ratio: float, seed: int
) -> None:
    offsets = offsets_of(lengths)
    values = torch.arange(100, 100 + sum(lengths))
    keep = drop_tags(values, offsets, ratio, generator=seeded(seed))
    assert keep.dtype == torch.bool
    kept_values, kept_offsets = keep_values(values, offsets, keep)
    position = 0
    for row, length in enumerate(lengths):
        expected = [100 + i for i in range(position, position + length) if keep[i]]
        assert kept_values[kept_offsets[row] : kept_offsets[row + 1]].tolist() == expected
        assert bool(expected) == bool(length)
        assert len(expected) == length or ratio > 0
        position += length
    assert kept_offsets[-1] == len(kept_values)


@pytest.mark.parametrize("ratio", [0.3, 0.9])
def test_every_set_of_values_is_as_likely_as_independent_drops_given_one_is_kept(ratio: float) -> None:
    """Rows of one, two and three values side by side."""
    n = 20_000
    keep = drop_tags(torch.zeros(6 * n), offsets_of([1, 2, 3] * n), ratio, generator=seeded()).view(n, 6)
    assert_conditional(keep[:, :1], ratio)
    assert_conditional(keep[:, 1:3], ratio)
    assert_conditional(keep[:, 3:], ratio)
    together = Counter(zip(keep[:, 1:3].sum(1).tolist(), keep[:, 3:].sum(1).tolist(), strict=True))
    table = np.array([[together[a, b] for b in (1, 2, 3)] for a in (1, 2)])
    assert stats.chi2_contingency(table).pvalue > CHANCE


# Errors


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan")])
def test_a_ratio_that_drops_everything_or_less_than_nothing_is_refused(ratio: float) -> None:
    message = rf"ratio must be in \[0, 1\), got {ratio}: it is the share that is dropped"
    with pytest.raises(ValueError, match=message):
        element_dropout(torch.ones(2, 2, 2), ratio, generator=seeded())
    with pytest.raises(ValueError, match=message):
        field_dropout(torch.ones(2, 2, 2), ratio, generator=seeded())
    with pytest.raises(ValueError, match=message):
        drop_tags(torch.ones(2), torch.tensor([0, 2]), ratio, generator=seeded())


def test_bad_arguments_are_named() -> None:
    per: Any = "field"
    with pytest.raises(ValueError, match="per must be one of item, batch, got 'field'"):
        field_dropout(torch.ones(2, 2, 2), 0.5, per=per, generator=seeded())
    with pytest.raises(ValueError, match=r"fields \(2, 8\) must have shape \(n, F, D\) with at least one field"):
        field_dropout(torch.ones(2, 8), 0.5, generator=seeded())
    with pytest.raises(ValueError, match=r"offsets \(0,\) must have shape \(n \+ 1,\)"):
        drop_tags(torch.ones(0), torch.ones(0), 0.5, generator=seeded())
    with pytest.raises(ValueError, match=r"keep \(3,\) must have the shape of values \(2,\)"):
        keep_values(torch.ones(2), torch.tensor([0, 2]), torch.ones(3, dtype=torch.bool))
