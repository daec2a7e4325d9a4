"""Look-ups in a step's item vectors, against plain indexing and autograd."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from micrec.models.lookups import mean_rows, row_scores, take_rows

ROWS = torch.tensor([[3, 3, 0], [1, 4, 3], [2, 2, 2], [0, 1, 4]])  # with repeats; row 5 is never read
OFFSETS = torch.tensor([0, 3, 3, 4, 12])  # an empty bag


def vectors(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


def naive_means(table: Tensor) -> Tensor:
    flat = ROWS.reshape(-1)
    bags = [flat[a:b] for a, b in zip(OFFSETS[:-1].tolist(), OFFSETS[1:].tolist(), strict=True)]
    return torch.stack([table[bag].mean(dim=0) if len(bag) else table.new_zeros(table.shape[1]) for bag in bags])


CASES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "take": (lambda _, table: take_rows(table, ROWS), lambda _, table: table[ROWS]),
    "mean": (lambda _, table: mean_rows(table, ROWS.reshape(-1), OFFSETS), lambda _, table: naive_means(table)),
    "scores": (
        lambda users, table: row_scores(users, table, ROWS),
        lambda users, table: (users[:, None] * table[ROWS]).sum(dim=2),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_plain_indexing(case: str) -> None:
    ours, plain = CASES[case]
    results = []
    for function in (ours, plain):
        users, table = vectors(4, 8), vectors(6, 8, seed=1)
        out = function(users, table)
        (out * torch.linspace(-1.0, 2.0, out.numel(), dtype=out.dtype).view(out.shape)).sum().backward()
        results.append((out.detach(), users.grad, table.grad))
    for got, wanted in zip(*results, strict=True):
        assert (got is None) == (wanted is None)
        if wanted is not None:
            torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("case", CASES)
def test_values_without_gradients_are_the_same(case: str) -> None:
    ours, plain = CASES[case]
    users, table = vectors(4, 8).detach(), vectors(6, 8, seed=1).detach()
    torch.testing.assert_close(ours(users, table), plain(users, table))


def test_gradients_have_the_same_bits_in_every_run() -> None:
    grads = []
    for _ in range(2):
        users, table = vectors(512, 16), vectors(40, 16, seed=1)
        rows = torch.randint(40, (512, 20), generator=torch.Generator().manual_seed(2))
        row_scores(users, table, rows).square().sum().backward()
        grads.append((users.grad, table.grad))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
