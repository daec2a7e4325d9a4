"""The bases beyond the paper's, as MicRec's base: they learn, repeat themselves, resume, and are served."""

import numpy as np
import pytest
import torch

from micrec.data.split import temporal_split
from micrec.evaluation import evaluation_task
from micrec.experiment import run_baseline
from micrec.fitting import fit
from micrec.progress import NoProgress
from micrec.towers import TOWERS
from tests.micrec.factories import random_dataset
from tests.micrec.resuming import check_same_seed_and_resumed
from tests.micrec.test_training import OFF, config_of, trainer_of

NEW = ("mind", "comirec_dr", "comirec_sa", "sasrec", "bert4rec", "esasrec", "afn", "lightgcn")
MULTI = NEW[:3]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(tmp_path_factory.mktemp("data") / "random", np.random.default_rng(0))


@pytest.mark.parametrize("name", NEW)
def test_all_four_losses_fall(dataset, name):
    trainer = trainer_of(dataset, model={"name": name})
    assert trainer.loss_names == ["matching", "feature", "semantic", "session"]
    first = trainer.epoch(NoProgress()).losses
    for _ in range(7):
        last = trainer.epoch(NoProgress()).losses
    for loss in first:
        assert last[loss] < first[loss], loss


@pytest.mark.parametrize("name", NEW)
def test_same_seed_same_parameters_and_a_resumed_run_ends_alike(dataset, name):
    switches = {"model": {"name": name, "dropout": 0.2}}
    check_same_seed_and_resumed(*(trainer_of(dataset, **switches) for _ in range(3)))


@pytest.mark.parametrize("name", NEW)
def test_trained_models_beat_chance(dataset, name):
    """Clicks are by popularity alone, which every model finds; a scorer that ranked by something else would not."""
    config = config_of(model={"name": name}, contrast=OFF, train={"epochs": 12, "patience": 0})
    fitted = fit(dataset, config)
    task = evaluation_task(dataset, temporal_split(dataset.clicks, config.split), config.evaluation, "test")
    hits = fitted.evaluate(task).metrics["hit@3"]
    floor = run_baseline("popularity", dataset, config).metrics["hit@3"]
    assert hits > 0.75 * floor > 0.3  # three random items of thirty would be clicked a tenth of the time


@pytest.mark.parametrize("name", MULTI)
@pytest.mark.parametrize("negatives", ["uniform", "popularity", "in_batch", "shared", "mixed", "full"])
def test_the_matching_loss_is_that_of_the_interest_that_meets_the_click(dataset, name, negatives):
    """By a loop over the batch: read the target's vector out of K, then Eq. 7 on it as for any model."""
    trainer = trainer_of(dataset, model={"name": name, "init_scale": 0.5}, softmax={"negatives": negatives})
    seen = {}
    matching = trainer.matching

    def spy(user_emb, batch, draw, pool):
        seen.update(user_emb=user_emb, batch=batch, pool=pool)
        return matching(user_emb, batch, draw, pool)

    trainer.matching = spy
    trainer.matching.draw = matching.draw
    positions = torch.arange(40)
    trainer.losses(positions)
    model, pool = trainer.model.eval(), seen["pool"]
    users = trainer.data.fields.users.take(trainer.data.users[positions].long())
    with torch.no_grad():
        interests = model.user_tower(users, pool.history, pool.all_fields)
        targets = pool.embeddings(seen["batch"].targets)
    assert seen["user_emb"].shape == (40, 8)
    existing = model.existing(pool.history)
    for row in range(40):
        real = interests[row] if existing is None else interests[row][existing[row]]
        scores = [float(vector @ targets[row]) for vector in real]
        if name == "mind":
            shares = np.exp(scores) / np.sum(np.exp(scores))
            expected = sum(float(share) * vector for share, vector in zip(shares, real, strict=True))
        else:
            expected = real[int(np.argmax(scores))]
        torch.testing.assert_close(seen["user_emb"][row].detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NEW)
def test_other_switches_go_along(dataset, name):
    """The ones that touch the user tower: skip, unit length, user id, bf16; all of them at once."""
    skip = not TOWERS[name].two_sided
    model = {"linear_skip": skip, "l2_normalize": True, "user_id": True, "output_activation": "linear"}
    trainer = trainer_of(dataset, model={"name": name, **model}, train={"bf16": True}, softmax={"temperature": 0.1})
    losses = [trainer.epoch(NoProgress()).losses["matching"] for _ in range(4)]
    assert losses[-1] < losses[0]


@pytest.mark.filterwarnings("default")  # torch's tracer warns itself
def test_a_compiled_tower_agrees_with_the_eager_one(dataset):
    """The one with most steps of its own; values and gradients."""
    plain, compiled = (trainer_of(dataset, model={"name": "mind"}, contrast=OFF) for _ in range(2))
    compiled.model.encode_user = torch.compile(compiled.model.encode_user, dynamic=True, backend="aot_eager")
    found = {}
    for name, trainer in (("plain", plain), ("compiled", compiled)):
        loss = trainer.losses(torch.arange(300))["matching"]
        parameters = [trainer.model.maps, *trainer.model.user_mlp.parameters()]
        found[name] = [loss.detach(), *torch.autograd.grad(loss, parameters)]
    for ours, theirs in zip(found["plain"], found["compiled"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
