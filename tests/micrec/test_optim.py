"""RowSparseAdam against torch.optim.Adam on dense gradients, and against loops."""

import gc
import math
import subprocess
import sys
import weakref
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from micrec.config import OptimConfig
from micrec.models.table import EmbeddingTable
from micrec.optim import RowSparseAdam
from micrec.optim.skipped import TOLERANCE

BETAS = [(0.9, 0.999), (0.9, 0.99), (0.5, 0.999), (0.0, 0.999), (0.5, 0.9), (0.9, 0.81), (0.99, 0.9)]
USUAL = BETAS[0]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sparse_table(size: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> EmbeddingTable:
    return EmbeddingTable(size, dim, sparse=True, generator=rng(seed)).to(dtype)


def row_sparse(*tables: EmbeddingTable, **kwargs: object) -> RowSparseAdam:
    return RowSparseAdam([], tables, dense_numbers=0, **kwargs)  # type: ignore[arg-type]


class Twins:
    """One table trained by RowSparseAdam, and a copy trained by dense Adam, on the same gradients."""

    def __init__(self, table: EmbeddingTable, betas: tuple[float, float], dtype: torch.dtype = torch.float64) -> None:
        self.table = table
        self.dense = nn.Parameter(table.weight.detach().clone().to(dtype))
        self.sparse_adam = row_sparse(table, betas=betas)
        self.dense_adam = torch.optim.Adam([self.dense], lr=0.001, betas=betas, eps=1e-8, foreach=False)
        self.movement = torch.zeros_like(self.dense)  # sum of the absolute moves of every number
        self.worst_read = 0.0

    def step(self, rows: Tensor, grad: Tensor, read_only: Tensor | None = None) -> None:
        """Rows may repeat; ``read_only`` rows are read and get no gradient."""
        self.sparse_adam.zero_grad()
        self.dense_adam.zero_grad()
        if read_only is not None:
            self.table(read_only)
        read = self.table(rows)
        self.worst_read = max(self.worst_read, (read.detach() - self.dense.detach()[rows]).abs().max().item())
        (read * grad.to(read.dtype)).sum().backward()
        (self.dense[rows] * grad.to(self.dense.dtype)).sum().backward()
        before = self.dense.detach().clone()
        self.sparse_adam.step()
        self.dense_adam.step()
        self.movement += (self.dense.detach() - before).abs()

    def difference(self) -> Tensor:
        self.sparse_adam.flush()
        return (self.table.weight.detach().double() - self.dense.detach().double()).abs()


def touches(size: int, steps: int, seed: int) -> list[Tensor]:
    """Rows of each step, with repeats: the first row in nearly every step, the last in one of 300."""
    generator = rng(seed)
    chance = torch.logspace(math.log10(1 / 300), 0, size).flip(0)
    picked = [(torch.rand(size, generator=generator) < chance).nonzero().squeeze(1) for _ in range(steps)]
    return [torch.cat([rows, rows[:2], torch.tensor([0])]) for rows in picked]


SCALES = torch.logspace(-10, -1, 10, dtype=torch.float64)  # gradients per column: far below eps = 1e-8 and far above


@pytest.mark.parametrize("betas", BETAS)
def test_catchup_equals_dense_adam(betas: tuple[float, float]) -> None:
    """Gaps of 1 to over 300 steps, from the first step on, whatever the gradient's size beside eps."""
    twins = Twins(sparse_table(60, 10), betas)
    generator = rng(1)
    for rows in touches(60, 450, seed=2):
        grad = torch.randn(len(rows), 10, generator=generator, dtype=torch.float64) * SCALES
        read_only = torch.randint(0, 60, (3,), generator=generator)
        twins.step(rows, grad, read_only)
    assert (twins.movement > 0).double().mean() > 0.9
    assert (twins.difference() <= 2 * TOLERANCE * twins.movement).all()
    assert twins.worst_read < 2 * TOLERANCE * twins.movement.max()


def test_catchup_in_float32_stays_as_near_to_dense_adam_as_float32_can() -> None:
    twins = Twins(sparse_table(60, 10, dtype=torch.float32), USUAL)
    generator = rng(1)
    for rows in touches(60, 450, seed=2):
        twins.step(rows, torch.randn(len(rows), 10, generator=generator, dtype=torch.float64) * SCALES)
    ulp = torch.finfo(torch.float32).eps * 0.05
    assert (twins.difference() <= 1e-5 * twins.movement + 20 * ulp).all()


def test_one_long_gap_is_made_up_when_the_row_is_read_again() -> None:
    """Row 1 gets one gradient, then none for 500 steps; dense Adam lets it coast on its momentum."""
    twins = Twins(sparse_table(2, 3), USUAL)
    start = twins.dense.detach()[1].clone()
    twins.step(torch.tensor([1]), torch.tensor([[1.0, -2.0, 1e-8]], dtype=torch.float64))
    for _ in range(500):
        twins.step(torch.tensor([0]), torch.ones(1, 3, dtype=torch.float64))
    coasted = twins.dense.detach()[1] - start
    assert (coasted.abs() > torch.tensor([0.005, 0.005, 0.001])).all()  # several learning rates of 0.001
    torch.testing.assert_close(twins.table(torch.tensor([1]))[0] - start, coasted, rtol=1e-6, atol=0.0)


def test_rows_never_touched_do_not_move() -> None:
    table = sparse_table(5, 4)
    start = table.weight.detach().clone()
    optimizer = row_sparse(table)
    for _ in range(30):
        optimizer.zero_grad()
        table(torch.tensor([2])).sum().backward()
        table(torch.tensor([4]))
        optimizer.step()
    optimizer.flush()
    kept = [0, 1, 3, 4]
    assert torch.equal(table.weight[kept], start[kept])
    assert not torch.equal(table.weight[2], start[2])


def test_zero_gradients_leave_zeros_not_nan() -> None:
    table = sparse_table(3, 2)
    start = table.weight.detach().clone()
    optimizer = row_sparse(table)
    for _ in range(3):
        optimizer.zero_grad()
        (table(torch.tensor([1])) * 0.0).sum().backward()
        optimizer.step()
    optimizer.step()
    optimizer.flush()
    assert torch.equal(table.weight, start)


def test_reading_and_flushing_twice_change_nothing_more() -> None:
    table = sparse_table(6, 4)
    optimizer = row_sparse(table)
    for step in range(12):
        optimizer.zero_grad()
        table(torch.tensor([step % 5, 5])).square().sum().backward()
        optimizer.step()
    once = table(torch.tensor([0, 1, 0])).detach().clone()
    assert torch.equal(table(torch.tensor([0, 1, 0])), once)
    optimizer.flush()
    flushed = table.weight.detach().clone()
    assert torch.equal(flushed[[0, 1, 0]], once)
    optimizer.flush()
    assert torch.equal(table.weight, flushed)


def test_a_dense_gradient_of_a_sparse_table_touches_all_rows() -> None:
    twins = Twins(sparse_table(7, 3), USUAL)
    twins.step(torch.tensor([1, 2]), torch.ones(2, 3))
    twins.step(torch.tensor([3]), torch.ones(1, 3))
    twins.sparse_adam.zero_grad()
    twins.dense_adam.zero_grad()
    twins.sparse_adam.flush()
    for weight in (twins.table.weight, twins.dense):
        weight.square().sum().backward()
    twins.sparse_adam.step()
    twins.dense_adam.step()
    assert twins.difference().max() < 1e-12


def test_learning_rate_schedules_reach_skipped_steps() -> None:
    twins = Twins(sparse_table(20, 4), USUAL)
    generator = rng(3)
    for step, rows in enumerate(touches(20, 200, seed=4)):
        for group in (*twins.sparse_adam.param_groups, *twins.dense_adam.param_groups):
            group["lr"] = 0.0 if step < 3 else 0.001 / (1 + step)
        twins.step(rows, torch.randn(len(rows), 4, generator=generator, dtype=torch.float64))
    assert (twins.difference() <= 2 * TOLERANCE * twins.movement).all()


class TinyTowers(nn.Module):
    """User id table, item id table, multi-valued tag table, one linear map."""

    def __init__(self, *, sparse: bool) -> None:
        super().__init__()
        generator = rng(5)
        self.users, self.items, self.tags = (
            EmbeddingTable(size, 4, sparse=sparse, generator=generator) for size in (30, 40, 9)
        )
        self.map = nn.Linear(4, 4)
        nn.init.uniform_(self.map.weight, -0.5, 0.5, generator=generator)
        nn.init.zeros_(self.map.bias)
        self.double()

    def forward(self, users: Tensor, items: Tensor, tags: Tensor, offsets: Tensor) -> Tensor:
        item_emb = self.items(items) + self.tags.bag(tags, offsets)  # (B, D)
        return (self.map(self.users(users)) * item_emb).sum(-1)


def train_towers(steps: int, config: OptimConfig) -> tuple[list[float], Tensor]:
    model = TinyTowers(sparse=config.embedding_update != "dense")
    tables = [model.users, model.items, model.tags]
    optimizer = RowSparseAdam(
        model.map.parameters(),
        tables,
        learning_rate=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        embedding_update=config.embedding_update,
        dense_numbers=0,
    )
    generator, losses = rng(6), []
    for _ in range(steps):
        users, items = torch.randint(1, 30, (4,), generator=generator), torch.randint(1, 40, (4,), generator=generator)
        tags = torch.randint(1, 9, (5,), generator=generator)
        optimizer.zero_grad()
        scores = model(users, items, tags, torch.tensor([0, 2, 2, 4, 5]))
        loss = (scores - (users % 2).double()).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    optimizer.flush()
    model.eval()
    every = torch.arange(1, 30)
    return losses, model(every, every, every % 9, torch.arange(30)).detach()


def test_a_model_trains_alike_with_dense_and_caught_up_tables() -> None:
    dense_losses, dense_scores = train_towers(200, OptimConfig(learning_rate=0.01, embedding_update="dense"))
    losses, scores = train_towers(200, OptimConfig(learning_rate=0.01, embedding_update="catchup"))
    assert np.mean(losses[-20:]) < 0.7 * np.mean(losses[:20])
    np.testing.assert_allclose(losses, dense_losses, rtol=1e-6)
    torch.testing.assert_close(scores, dense_scores, rtol=1e-5, atol=1e-8)


def test_lazy_adam_equals_loops_over_touched_rows() -> None:
    """Moments of a row fade only in the steps that touch it; the bias correction counts all steps."""
    table = sparse_table(8, 3)
    weight, m, v = table.weight.detach().numpy().copy(), np.zeros((8, 3)), np.zeros((8, 3))
    optimizer = row_sparse(table, learning_rate=0.01, embedding_update="lazy")
    generator = rng(7)
    for t, rows in enumerate(touches(8, 40, seed=8), start=1):
        grad = torch.randn(len(rows), 3, generator=generator, dtype=torch.float64)
        optimizer.zero_grad()
        (table(rows) * grad).sum().backward()
        optimizer.step()
        for row in set(rows.tolist()):
            g = sum(grad[i].numpy() for i in range(len(rows)) if rows[i] == row)
            m[row] = 0.9 * m[row] + 0.1 * g
            v[row] = 0.999 * v[row] + 0.001 * g * g
            weight[row] -= 0.01 * (m[row] / (1 - 0.9**t)) / (np.sqrt(v[row] / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(table.weight.detach().numpy(), weight, rtol=1e-10)
    optimizer.flush()
    np.testing.assert_allclose(table.weight.detach().numpy(), weight, rtol=1e-10)


@pytest.mark.parametrize("embedding_update", ["dense", "lazy", "catchup"])
def test_saved_and_loaded_state_goes_on_bit_for_bit(embedding_update: Literal["dense", "lazy", "catchup"]) -> None:
    def make() -> tuple[EmbeddingTable, nn.Linear, RowSparseAdam]:
        table = EmbeddingTable(12, 4, sparse=embedding_update != "dense", generator=rng(1))
        linear = nn.Linear(4, 1)
        nn.init.ones_(linear.weight)
        nn.init.zeros_(linear.bias)
        adam = RowSparseAdam(
            linear.parameters(),
            [table],
            embedding_update=embedding_update,
            dense_numbers=0,
        )
        return table, linear, adam

    def train(table: EmbeddingTable, linear: nn.Linear, adam: RowSparseAdam, seed: int) -> None:
        for rows in touches(12, 25, seed):
            adam.zero_grad()
            linear(table(rows)).square().sum().backward()
            adam.step()

    table, linear, adam = make()
    train(table, linear, adam, seed=1)
    state = {name: tensor.clone() for name, tensor in adam.state_dict().items()}
    weights = [module.state_dict() for module in (table, linear)]
    other_table, other_linear, other_adam = make()
    for module, saved in zip((other_table, other_linear), weights, strict=True):
        module.load_state_dict({name: tensor.clone() for name, tensor in saved.items()})
    other_adam.load_state_dict(state)
    train(table, linear, adam, seed=2)
    train(other_table, other_linear, other_adam, seed=2)
    adam.flush()
    other_adam.flush()
    assert torch.equal(table.weight, other_table.weight)
    assert torch.equal(linear.weight, other_linear.weight)
    for name, tensor in adam.state_dict().items():
        assert torch.equal(tensor, other_adam.state_dict()[name]), name


def test_state_of_another_model_is_refused() -> None:
    state = row_sparse(sparse_table(5, 4)).state_dict()
    with pytest.raises(ValueError, match="state of table 0 is missing or has another shape"):
        row_sparse(sparse_table(6, 4)).load_state_dict(state)
    with pytest.raises(ValueError, match="state of table 1 is missing or has another shape"):
        row_sparse(sparse_table(5, 4), sparse_table(5, 4)).load_state_dict(state)


def test_for_modules_finds_the_tables_and_shares_nothing_twice() -> None:
    model = TinyTowers(sparse=True)
    around = nn.ModuleDict({"model": model, "head": nn.Linear(4, 2)})
    optimizer = RowSparseAdam.for_modules(model, around, config=OptimConfig(embedding_update="lazy"))
    dense, rows = optimizer.param_groups
    assert len(dense["params"]) == 4
    assert [id(weight) for weight in rows["params"]] == [id(t.weight) for t in (model.users, model.items, model.tags)]
    assert dense["lr"] == rows["lr"] == 0.001


def test_catchup_sweeps_small_tables_whole() -> None:
    small, large = sparse_table(10, 4), sparse_table(11, 4)
    optimizer = RowSparseAdam([], [small, large], dense_numbers=40)
    assert not small.sparse
    assert small.before_read is None
    assert large.sparse
    assert large.before_read is not None
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1]
    default = RowSparseAdam([], [sparse_table(11, 4)])
    assert [len(group["params"]) for group in default.param_groups] == [1, 0]


def test_a_trained_table_outlives_its_optimiser() -> None:
    table = sparse_table(4, 2)
    optimizer = row_sparse(table)
    moments = weakref.ref(optimizer.state_dict()["tables.0.exp_avg"])
    del optimizer
    gc.collect()
    assert moments() is None
    assert table(torch.tensor([1])).shape == (1, 2)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="make the embedding tables with sparse=False"):
        RowSparseAdam([], [sparse_table(4, 2)], embedding_update="dense")
    with pytest.raises(ValueError, match=r"0 < beta2 < 1, got 0\.9 and 0\.0"):
        row_sparse(sparse_table(4, 2), betas=(0.9, 0.0))
    table = sparse_table(4, 2)
    with pytest.raises(ValueError, match="a parameter is twice among the tables and the rest"):
        RowSparseAdam([table.weight], [table], dense_numbers=0)


def test_a_step_does_not_import_the_compiler() -> None:
    """It takes two seconds of every process that trains."""
    program = (
        "import sys, torch\n"
        "from micrec.optim import RowSparseAdam\n"
        "layer = torch.nn.Linear(2, 1)\n"
        "adam = RowSparseAdam(layer.parameters(), [])\n"
        "layer(torch.ones(1, 2)).sum().backward()\n"
        "adam.step()\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
