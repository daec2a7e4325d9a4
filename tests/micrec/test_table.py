"""EmbeddingTable against indexing, loops and finite differences."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from micrec.models.table import EmbeddingTable, sum_by_code


def table(*, sparse: bool = False, size: int = 6, dim: int = 3) -> EmbeddingTable:
    return EmbeddingTable(size, dim, sparse=sparse, generator=torch.Generator().manual_seed(0)).double()


VALUES = torch.tensor([1, 4, 4, 2, 5, 1])
OFFSETS = torch.tensor([0, 3, 3, 4, 6])  # bags of 3, 0, 1, 2 values


def pooled_by_loop(weight: Tensor, keep: list[float], mode: str) -> Tensor:
    rows = []
    for begin, end in zip(OFFSETS[:-1].tolist(), OFFSETS[1:].tolist(), strict=True):
        total = torch.zeros(weight.shape[1], dtype=weight.dtype)
        for i in range(begin, end):
            total = total + keep[i] * weight[VALUES[i]]
        mass = sum(keep[begin:end])
        rows.append(total / mass if mode == "mean" and mass else total)
    return torch.stack(rows)


def test_start_is_uniform_and_fixed_by_the_generator() -> None:
    first, second = (EmbeddingTable(500, 8, init_scale=0.2, generator=torch.Generator().manual_seed(3)) for _ in "ab")
    assert torch.equal(first.weight, second.weight)
    assert 0.19 < first.weight.abs().max() <= 0.2
    assert first.weight.mean().abs() < 0.01


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("codes", [[[1, 0], [5, 1]], [4, 2, 1], [1, 2, 5], []])
def test_lookup_and_its_gradient_equal_indexing(sparse: bool, codes: list[int]) -> None:
    ours, index = table(sparse=sparse), torch.tensor(codes, dtype=torch.int64)
    weight = ours.weight.detach().clone().requires_grad_()
    factor = torch.arange(1.0, index.numel() * 3 + 1, dtype=torch.float64).view(*index.shape, 3)
    assert torch.equal(ours(index), weight[index])
    (ours(index) * factor).sum().backward()
    (weight[index] * factor).sum().backward()
    assert ours.weight.grad is not None
    assert ours.weight.grad.is_sparse == sparse
    torch.testing.assert_close(ours.weight.grad.to_dense(), weight.grad)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("mode", ["mean", "sum"])
@pytest.mark.parametrize("keep", [None, [1.0, 0.0, 1.0, 1.0, 0.0, 0.0], [0.5, 2.0, 1.0, 3.0, 1.0, 0.25]])
def test_bags_and_their_gradients_equal_loops(sparse: bool, mode: str, keep: list[float] | None) -> None:
    ours = table(sparse=sparse)
    weight = ours.weight.detach().clone().requires_grad_()
    weights = None if keep is None else torch.tensor(keep)
    pooled = ours.bag(VALUES, OFFSETS, weights=weights, mode=mode)  # type: ignore[arg-type]
    expected = pooled_by_loop(weight, keep or [1.0] * 6, mode)
    torch.testing.assert_close(pooled, expected)
    factor = torch.arange(1.0, 13.0, dtype=torch.float64).view(4, 3)
    (pooled * factor).sum().backward()
    (expected * factor).sum().backward()
    assert ours.weight.grad is not None
    torch.testing.assert_close(ours.weight.grad.to_dense(), weight.grad)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("bags", [0, 1, 3])
def test_bags_without_any_value_are_zero(sparse: bool, bags: int) -> None:
    ours = table(sparse=sparse)
    pooled = ours.bag(torch.empty(0, dtype=torch.int64), torch.zeros(bags + 1, dtype=torch.int64))
    assert torch.equal(pooled, torch.zeros(bags, 3, dtype=torch.float64))
    pooled.sum().backward()
    assert ours.weight.grad is not None
    assert ours.weight.grad.to_dense().abs().sum() == 0


def test_gradients_of_several_lookups_add_up() -> None:
    ours = table(sparse=True)
    (ours(torch.tensor([1, 2])).sum() + 2 * ours(torch.tensor([2])).sum() + ours.bag(VALUES, OFFSETS).sum()).backward()
    assert ours.weight.grad is not None
    expected = torch.tensor([0.0, 1 + 1 / 3 + 1 / 2, 1 + 2 + 1, 0.0, 2 / 3, 1 / 2], dtype=torch.float64)
    torch.testing.assert_close(ours.weight.grad.to_dense(), expected.unsqueeze(1).expand(6, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lookups_keep_the_table_dtype_under_autocast(dtype: torch.dtype) -> None:
    ours = table(sparse=True).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        read, pooled = ours(VALUES), ours.bag(VALUES, OFFSETS)
        score = (read[:4] @ pooled.T).sum()
    assert read.dtype == pooled.dtype == dtype
    score.backward()
    assert ours.weight.grad is not None
    assert ours.weight.grad.dtype == dtype


def test_the_hook_sees_all_codes_in_training_and_none_otherwise() -> None:
    ours, seen = table(), []
    ours.before_read = lambda codes: seen.append(codes.tolist())
    ours(torch.tensor([[3, 1], [1, 1]]))
    ours.bag(VALUES, OFFSETS)
    assert seen == [[3, 1, 1, 1], VALUES.tolist()]
    ours.eval()
    ours(torch.tensor([2]))
    assert len(seen) == 2


def test_the_hook_may_change_rows_between_a_read_and_its_backward() -> None:
    """A second read in a step brings more rows up to date; gradients of the first do not mind."""
    ours = table(sparse=True)

    def nudge(codes: Tensor) -> None:
        ours.weight.data[codes] += 1.0

    ours.before_read = nudge
    loss = ours(torch.tensor([1])).sum() + ours.bag(VALUES, OFFSETS, weights=torch.rand(6)).sum()
    (loss + ours(torch.tensor([2])).sum()).backward()
    assert ours.weight.grad is not None


def test_copies_leave_the_hook_behind() -> None:
    ours = table(sparse=True)
    ours.before_read = lambda codes: None
    twin = copy.deepcopy(ours)
    assert twin.before_read is None
    assert torch.equal(twin.weight, ours.weight)
    assert twin.sparse
    assert ours.before_read is not None


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row and one column, got size 0, dim 3"):
        EmbeddingTable(0, 3, generator=torch.Generator())


@settings(max_examples=60, deadline=None)
@given(
    codes=st.lists(st.integers(0, 12), max_size=30),
    picked=st.booleans(),
    shared=st.booleans(),
    seed=st.integers(0, 100),
)
def test_sums_by_code_equal_a_loop(codes: list[int], picked: bool, shared: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    n = len(codes)
    values = torch.randn(max(n, 1), 2, generator=generator, dtype=torch.float64)[: n or (1 if picked else 0)]
    picks = torch.randint(0, max(n, 1), (n,), generator=generator) if picked else None
    shares = torch.rand(n, generator=generator, dtype=torch.float64) if shared else None
    expected: dict[int, Tensor] = {}
    for i, code in enumerate(codes):
        summand = values[picks[i] if picks is not None else i] * (shares[i] if shares is not None else 1.0)
        expected[code] = expected.get(code, torch.zeros(2, dtype=torch.float64)) + summand
    rows, sums = sum_by_code(torch.tensor(codes, dtype=torch.int64), values, picks, shares)
    assert sorted(rows.tolist()) == sorted(expected)
    for row, total in zip(rows.tolist(), sums, strict=True):
        torch.testing.assert_close(total, expected[row])
