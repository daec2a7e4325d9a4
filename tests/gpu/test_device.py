"""Training and evaluation on a GPU beside a CPU: ``python -m pytest tests/gpu`` on a machine with CUDA.

The draws of both come from the CPU, so that all numbers must agree up to rounding. With ``MICREC_TEST_DEVICE=cpu``
the tests run without a GPU and compare a CPU with itself: a dry run that shows that they run, and nothing of a GPU.
"""

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch

from micrec.data.split import temporal_split
from micrec.evaluation import evaluation_task
from micrec.evaluation.coverage import CoverageCounter
from micrec.evaluation.ranking import rank_targets
from micrec.evaluation.scores import embedding_scores
from micrec.fitting import fit
from micrec.models.table import EmbeddingTable
from micrec.optim import RowSparseAdam, adam
from micrec.progress import NoProgress
from tests.gpu.twins import (
    FORMS,
    LOSSES,
    OFF,
    assert_close,
    bases,
    batches,
    config_of,
    preset_of,
    steps,
    trainer_of,
    waits,
)

pytestmark = pytest.mark.gpu
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # of losses, float32
CLOSE_WEIGHTS = {"rtol": 1e-3, "atol": 5e-4}  # of steps of .01
STEPS = 4
BF16 = 0.02  # of a loss: three digits of bfloat16, as on a CPU


def twins(dataset, device, config):
    """The same model on the CPU and on the device, both with shapes known beforehand where the model allows it."""
    other = trainer_of(dataset, config, device=device)
    return trainer_of(dataset, config, fixed=other.fixed), other


class TestTheSameAsOnACpu:
    @pytest.mark.parametrize("base", bases())
    def test_losses_and_weights_of_every_base_model(self, dataset, device, base):
        cpu, gpu = twins(dataset, device, config_of(base))
        torch.testing.assert_close(torch.tensor(steps(gpu, STEPS)), torch.tensor(steps(cpu, STEPS)), **CLOSE)
        assert_close(gpu, cpu, **CLOSE_WEIGHTS)

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("name", LOSSES)
    def test_losses_and_weights_with_every_item_loss(self, dataset, device, name, form):
        config = config_of(contrast={**OFF, name: {"weight": 1.0, "form": form}})
        cpu, gpu = twins(dataset, device, config)
        torch.testing.assert_close(torch.tensor(steps(gpu, STEPS)), torch.tensor(steps(cpu, STEPS)), **CLOSE)
        assert_close(gpu, cpu, **CLOSE_WEIGHTS)

    @pytest.mark.parametrize("rows", ["click", "session"])
    def test_row_sparse_tables(self, dataset, device, rows, monkeypatch):
        monkeypatch.setattr(adam, "DENSE_NUMBERS", {})
        config = config_of(train={"rows": rows, "context": "before_session"})
        cpu, gpu = twins(dataset, device, config)
        torch.testing.assert_close(torch.tensor(steps(gpu, STEPS)), torch.tensor(steps(cpu, STEPS)), **CLOSE)
        assert_close(gpu, cpu, **CLOSE_WEIGHTS)

    @pytest.mark.parametrize("base", ["ican", "fm", "sasrec", "mind"])
    def test_bf16_is_close_to_float32(self, dataset, device, base):
        exact, rough = (
            trainer_of(dataset, config_of(base, train={"bf16": flag}), device=device) for flag in (False, True)
        )
        batch = batches(exact, 1)[0]
        found = rough.losses(*batch)
        for name, loss in exact.losses(*batch).items():
            assert found[name].item() == pytest.approx(loss.item(), rel=BF16), name

    def test_catchup_is_dense_adam(self, device):
        """600 steps on some rows of a table at a time, which meets every part of the closed form."""
        generator = torch.Generator().manual_seed(0)
        sparse, dense = (
            EmbeddingTable(60, 10, sparse=flag, generator=torch.Generator().manual_seed(1)).to(device).train()
            for flag in (True, False)
        )
        optimizers = [RowSparseAdam([], [table], learning_rate=0.01, dense_numbers=0) for table in (sparse, dense)]
        for _ in range(600):
            rows = torch.randperm(60, generator=generator)[:5].to(device)
            target = torch.randn(5, 10, generator=generator).to(device)
            for table, optimizer in zip((sparse, dense), optimizers, strict=True):
                optimizer.zero_grad()
                (table(rows) * target).sum().backward()
                optimizer.step()
        optimizers[0].flush()
        torch.testing.assert_close(sparse.weight, dense.weight, rtol=1e-4, atol=1e-4)

    def test_one_seed_gives_one_result(self, dataset, device):
        """Up to the order in which a GPU adds numbers."""
        config = config_of(train={"device": device, "epochs": 1}, split={"valid_fraction": 0.0})
        first, second = (fit(dataset, config) for _ in range(2))
        for name, weight in first.model.state_dict().items():
            torch.testing.assert_close(weight, second.model.state_dict()[name], rtol=1e-3, atol=1e-4)


class TestEvaluationIsThatOfACpu:
    @pytest.mark.parametrize("n_targets", [1, 40])
    def test_ranks_to_the_last_one(self, device, n_targets):
        """Scores that are whole numbers, with many ties, in blocks of any size."""
        from tests.micrec.test_evaluation_ranking import as_pairs, make_task

        rng = np.random.default_rng(0)
        task = make_task([rng.choice(3000, n_targets, replace=False).tolist() for _ in range(50)], 3000)
        task = replace(task, candidates=rng.random(3000) < 0.9)
        user_emb = torch.from_numpy(rng.integers(-3, 4, (50, 8))).float()
        item_emb = torch.from_numpy(rng.integers(-3, 4, (3000, 8))).float()
        cpu, gpu = CoverageCounter((10,)), CoverageCounter((10,))
        expected = rank_targets(embedding_scores(user_emb, item_emb), task, coverage=cpu)
        for block_bytes in (1, 256 << 20):
            moved = embedding_scores(user_emb.to(device), item_emb.to(device))
            found = rank_targets(moved, task, block_bytes=block_bytes, coverage=gpu)
            assert as_pairs(found) == as_pairs(expected)
        assert gpu.metrics().keys() == cpu.metrics().keys()

    @pytest.mark.parametrize("preset", ["paper", "modern", "best"])
    def test_metrics_of_a_trained_model(self, dataset, device, preset):
        """Of one set of weights; a tie that rounding breaks may move a click by a rank."""
        config = preset_of(preset, train={"device": "cpu", "epochs": 1}, evaluation={"cutoffs": [10, 100]})
        fitted = fit(dataset, config)
        task = evaluation_task(dataset, temporal_split(dataset.clicks, config.split), config.evaluation, "test")
        expected = fitted.evaluate(task).metrics
        fields = replace(fitted.fields, users=fitted.fields.users.to(device), items=fitted.fields.items.to(device))
        found = replace(fitted, model=fitted.model.to(device), fields=fields).evaluate(task).metrics
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=0.005), name


class TestAStepGoesOnByItself:
    @pytest.mark.parametrize("base", [name for name in bases() if name != "afn"])
    def test_no_base_model_waits(self, dataset, device, base):
        """AFN does: its normalisation counts the items of a step, which must be an exact list."""
        assert waits(trainer_of(dataset, config_of(base), device=device, fixed=True)) == []

    @pytest.mark.parametrize("form", FORMS)
    def test_no_item_loss_waits(self, dataset, device, form):
        contrast = {name: {"weight": 1.0, "form": form} for name in LOSSES}
        assert waits(trainer_of(dataset, config_of(contrast=contrast), device=device, fixed=True)) == []

    def test_row_sparse_tables_do_not_wait(self, dataset, device, monkeypatch):
        monkeypatch.setattr(adam, "DENSE_NUMBERS", {})
        found = waits(trainer_of(dataset, config_of(), device=device, fixed=True))
        assert [name for name in found if name != "lift_fresh"] == []  # on a CPU, what NumPy hands over

    def test_memory_does_not_grow_over_steps(self, dataset, device):
        if device == "cpu":
            pytest.skip("memory of a GPU is counted on a GPU")
        trainer = trainer_of(dataset, config_of(), device=device)
        seen = []
        for _ in range(3):
            for batch in batches(trainer, 10):
                trainer.step(*batch)
            gc.collect()
            torch.cuda.synchronize()
            seen.append(torch.cuda.memory_allocated())
        assert max(seen[1:]) <= seen[0] + (1 << 20)

    def test_compiled_towers_give_the_same_losses(self, dataset, device):
        if device == "cpu":
            pytest.skip("tests/micrec/test_training.py compiles the towers on a CPU")
        plain, compiled = (
            trainer_of(dataset, config_of(train={"compile": flag}), device=device) for flag in (False, True)
        )
        torch.testing.assert_close(torch.tensor(steps(compiled, STEPS)), torch.tensor(steps(plain, STEPS)), **CLOSE)


def test_a_small_video_world_is_made_trained_and_evaluated(device, tmp_path):
    """From the generator to metrics: an epoch of MicRec at the paper's dimensions learns more than nothing."""
    from micrec.config import Config
    from simulator import make_world

    world = make_world("video", settings={"users.count": 400, "items.count": 500, "items.providers": 40, "days": 6})
    settings = {"train": {"device": device, "epochs": 2, "batch_size": 512}, "evaluation": {"cutoffs": [50]}}
    config = Config.model_validate({**settings, "split": {"valid_fraction": 0.0}})
    fitted = fit(world.dataset, config, progress=NoProgress())
    first, last = fitted.state.log[0]["losses"], fitted.state.log[-1]["losses"]
    assert set(first) == {"matching", *LOSSES}
    assert last["matching"] < first["matching"]
    task = evaluation_task(world.dataset, temporal_split(world.dataset.clicks, config.split), config.evaluation, "test")
    metrics = fitted.evaluate(task).metrics
    assert metrics["hit@50"] > 50 / len(world.dataset.items)  # better than a list at random
