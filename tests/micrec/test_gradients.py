"""How hard the item losses pull: against gradients taken one by one; a training that is watched stays the same."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from micrec.config import Config, TrainConfig
from micrec.errors import MicrecError
from micrec.experiment import run_model
from micrec.gradients import early_and_late, gradient_stats, mean_of
from micrec.models.table import EmbeddingTable
from micrec.settings import merge, validate
from micrec.training import watched_steps
from tests.micrec.factories import random_dataset
from tests.micrec.serving import SMALL

LOSSES = {"contrast": {"semantic": {"weight": 0.5}, "session": {"weight": 0.2}, "feature": {"weight": 1.0}}}


def tables(sparse: bool) -> list[EmbeddingTable]:
    generator = torch.Generator().manual_seed(0)
    return [EmbeddingTable(size, 3, sparse=sparse, init_scale=1.0, generator=generator) for size in (6, 4)]


def make_losses(found: list[EmbeddingTable]) -> dict[str, torch.Tensor]:
    """Matching reads rows 0, 1, 2 of both tables; near rows 2, 3 of the first; far nothing."""
    first, second = found
    matching = first(torch.tensor([0, 1, 2, 2])).square().sum() + second(torch.tensor([0, 1, 2])).sum()
    near = 3.0 * first(torch.tensor([2, 3])).sum()
    return {"matching": matching, "near": near, "far": torch.zeros((), requires_grad=True) * 2.0}


@pytest.mark.parametrize("sparse", [False, True])
def test_figures_equal_dense_gradients(sparse):
    found = tables(sparse)
    figures = gradient_stats(make_losses(found), [table.weight for table in found])

    dense = tables(False)
    gradients = {}
    for name in ("matching", "near"):
        for table in dense:
            table.weight.grad = None
        make_losses(dense)[name].backward()
        parts = [t.weight.grad if t.weight.grad is not None else torch.zeros_like(t.weight) for t in dense]
        gradients[name] = torch.cat(parts).double().numpy()
    near, matching = gradients["near"], gradients["matching"]
    lengths = [np.linalg.norm(g, axis=1) for g in (near, matching)]
    assert figures["near_pull"] == pytest.approx(np.linalg.norm(near) / np.linalg.norm(matching))
    agreement = (near * matching).sum() / np.linalg.norm(near) / np.linalg.norm(matching)
    assert figures["near_agreement"] == pytest.approx(agreement)
    touched = lengths[0] + lengths[1] > 0
    assert touched.sum() == 7
    assert figures["near_row_share"] == pytest.approx(
        (lengths[0] / (lengths[0] + lengths[1] + ~touched))[touched].mean()
    )
    assert (figures["far_pull"], figures["far_row_share"]) == (0.0, 0.0)
    assert "far_agreement" not in figures  # nothing has no direction


def test_the_graph_is_kept():
    found = tables(False)
    losses = make_losses(found)
    gradient_stats(losses, [table.weight for table in found])
    sum(losses.values()).backward()
    assert found[0].weight.grad is not None


def test_a_loss_twice_the_matching_loss_agrees_wholly():
    weight = nn.Parameter(torch.ones(4, 2))
    matching = weight[:3].sum()
    figures = gradient_stats({"matching": matching, "twin": 2 * matching}, [weight])
    assert figures == pytest.approx({"twin_pull": 2.0, "twin_agreement": 1.0, "twin_row_share": 2 / 3})


def test_watched_steps_are_evenly_spaced():
    assert watched_steps(100, 0) == set()
    assert watched_steps(100, 1) == {0}
    assert watched_steps(100, 3) == {0, 49, 99}
    assert watched_steps(2, 5) == {0, 1}


def test_early_and_late_are_of_the_last_phase():
    log = [
        {"phase": "search", "gradients": {"a_pull": 9.0}},
        {"phase": "refit", "gradients": {"a_pull": 1.0}},
        {"phase": "refit", "gradients": None},
        {"phase": "refit", "gradients": {"a_pull": 3.0}},
    ]
    assert early_and_late(log) == {"a_pull_early": 1.0, "a_pull_late": 3.0}
    assert early_and_late([{"phase": "refit"}]) == {}
    assert mean_of([{"a": 1.0}, {"a": 3.0, "b": 5.0}]) == {"a": 2.0, "b": 5.0}


def test_watching_changes_nothing_but_the_log(tmp_path):
    data = random_dataset(tmp_path / "data", np.random.default_rng(0), n_items=60, n_clicks=900)
    config = merge(Config().model_dump(), SMALL, LOSSES, {"train": {"epochs": 2}})
    plain = run_model(data, Config.model_validate(config))
    watched = run_model(data, Config.model_validate(merge(config, {"train": {"watch_gradients": 2}})))
    assert watched.metrics == plain.metrics
    names = [f"{loss}_{figure}_{when}" for loss in ("feature", "semantic", "session")
             for figure in ("pull", "agreement", "row_share") for when in ("early", "late")]  # fmt: skip
    assert all(math.isfinite(watched.info[name]) for name in names)
    assert not any("pull" in name for name in plain.info)


def test_watching_compiled_towers_is_refused():
    with pytest.raises(MicrecError, match="watch_gradients needs compile false"):
        validate(TrainConfig, {"watch_gradients": 1, "compile": True}, where="config")
