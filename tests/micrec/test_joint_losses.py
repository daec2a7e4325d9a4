"""Pseudo-clicks of several losses in one softmax: the values and gradients of one softmax each."""

from itertools import combinations

import numpy as np
import pytest
import torch

from micrec.config import Config
from micrec.contrast import ItemContrast
from micrec.item_losses.pair_loss import SessionLoss
from micrec.losses import catalogue_softmax
from micrec.settings import merge
from micrec.training import Trainer
from tests.micrec.factories import random_dataset

LOSSES = ("feature", "semantic", "session")
SUBSETS = [subset for count in (1, 2, 3) for subset in combinations(LOSSES, count)]
WEIGHTS = {"feature": 0.9, "semantic": 0.3, "session": 0.1}
KEYS = {"feature": {"mask": "field"}, "semantic": {"num_positives": 2, "svd_dim": 8, "top_k": 3}, "session": {}}
MODELS = {
    "fism": {"options": {"title_dim": 5}, "history_dropout": 0.3},
    "ican": {"options": {"heads": 2}},
    "mind": {"options": {"interests": 2, "adaptive_interests": False}},
    "afn": {},
    "lightgcn": {},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(
        tmp_path_factory.mktemp("data") / "random", np.random.default_rng(3), n_users=25, n_items=60, n_clicks=300
    )


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def trainer_of(dataset, subset=LOSSES, *, base="fism", **changes):
    """Losses of a subset as pseudo-clicks, the others off."""
    losses = {
        name: {"weight": WEIGHTS[name] if name in subset else 0.0, "form": "pseudo_clicks", **KEYS[name]}
        for name in LOSSES
    }
    config = {
        "model": {"name": base, "embedding_dim": 4, "hidden": [4], "item_bias": True, "init_scale": 0.5} | MODELS[base],
        "softmax": {"negatives": "full", "temperature": 0.5},
        "contrast": losses,
        "train": {"rows": "session", "context": "before_session", "batch_size": 32, "device": "cpu"},
    }
    trainer = Trainer(dataset, dataset.clicks[:200], Config.model_validate(merge(config, changes)))
    trainer.model.train()
    return trainer


def gradients(trainer, loss):
    """Of all parameters, dense, by name; zeros where the loss does not reach."""
    parameters = dict(trainer.model.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
    pairs = zip(parameters.items(), found, strict=True)
    return {name: torch.zeros_like(one) if grad is None else grad.to_dense() for (name, one), grad in pairs}


def never_together(patch):
    patch.setattr(ItemContrast, "_may_join", lambda *_: False)


def check_alike(make, positions):
    """Each loss, its gradients, and those of the sum, together and apart."""
    joint, separate = make(), make()
    losses = joint.losses(positions)
    with pytest.MonkeyPatch.context() as patch:
        never_together(patch)
        expected = separate.losses(positions)
    assert list(losses) == list(expected)
    losses, expected = (found | {"all": sum(found.values())} for found in (losses, expected))
    for which, loss in losses.items():
        assert loss.item() == pytest.approx(expected[which].item(), rel=1e-5)
        ours, theirs = gradients(joint, loss), gradients(separate, expected[which])
        for name, found in ours.items():
            message = f"{which} by {name}"
            torch.testing.assert_close(
                found, theirs[name], rtol=1e-4, atol=1e-6, msg=lambda text, at=message: f"{at}: {text}"
            )


def softmaxes(trainer, positions):
    """How many softmaxes over the catalogue a step of item losses takes."""
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        name = "micrec.item_losses.pseudo_clicks.catalogue_softmax"
        patch.setattr(name, lambda *args, **keys: calls.append(1) or catalogue_softmax(*args, **keys))
        trainer.losses(positions)
    return len(calls)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_every_subset_of_the_losses_has_the_values_and_gradients_of_each_alone(dataset, subset, count, threads):
    threads(count)
    check_alike(lambda: trainer_of(dataset, subset), torch.arange(20))
    assert softmaxes(trainer_of(dataset, subset), torch.arange(20)) == 1


@pytest.mark.parametrize("base", ["ican", "mind", "lightgcn"])
def test_models_of_several_kinds_take_part(dataset, base):
    check_alike(lambda: trainer_of(dataset, base=base), torch.arange(20))
    assert softmaxes(trainer_of(dataset, base=base), torch.arange(20)) == 1


def test_views_that_hide_values_and_fields_counted_beside_them_take_part(dataset):
    changes = {"contrast": {"feature": {"mask": "categorical"}}, "model": {"field_term": "tags"}}
    check_alike(lambda: trainer_of(dataset, **changes), torch.arange(20))


def test_what_cannot_join_stays_apart(dataset):
    """A normalising tower, another form, a loss that drew nothing, and fixed shapes."""
    positions = torch.arange(20)
    assert softmaxes(trainer_of(dataset, base="afn"), positions) == 3
    mixed = trainer_of(dataset, contrast={"semantic": {"form": "contrast"}})
    assert softmaxes(mixed, positions) == 1
    check_alike(lambda: trainer_of(dataset, contrast={"semantic": {"form": "contrast"}}), positions)
    fixed = trainer_of(dataset)
    fixed.fixed = True
    assert softmaxes(fixed, positions) == 3


def test_a_loss_that_drew_nothing_is_zero_beside_the_others(dataset):
    def make():
        trainer = trainer_of(dataset)
        loss = trainer.contrast.losses["semantic"]
        draw = loss.draw

        def drawn_none(*args):
            drawn = draw(*args)
            return drawn._replace(anchors=drawn.anchors[:0], rows=drawn.rows[:0], targets=drawn.targets[:0])

        loss.draw = drawn_none
        return trainer

    check_alike(make, torch.arange(20))
    assert make().losses(torch.arange(20))["semantic"].item() == 0.0


def test_a_loss_with_a_forward_of_its_own_is_asked_for_it(dataset):
    class Doubled(SessionLoss):
        def forward(self, drawn, pool, model, generator):
            return 2.0 * super().forward(drawn, pool, model, generator)

    class Renamed(SessionLoss):
        pass

    assert (Doubled.joins_pseudo_clicks, Renamed.joins_pseudo_clicks) == (False, True)
    plain, doubled = trainer_of(dataset), trainer_of(dataset)
    doubled.contrast.losses["session"].__class__ = Doubled
    one, two = plain.losses(torch.arange(20)), doubled.losses(torch.arange(20))
    assert two["session"].item() == pytest.approx(2.0 * one["session"].item(), rel=1e-5)
    assert two["feature"].item() == pytest.approx(one["feature"].item(), rel=1e-5)


def test_parts_of_several_processes_add_up(dataset):
    """Each computes the pseudo-clicks of all, and as a part of them counts."""
    trainer = trainer_of(dataset)
    whole = trainer.losses(torch.arange(20))
    again = trainer_of(dataset)
    draw = ItemContrast.draw
    again.contrast.draw = lambda *args: again.contrast.part(draw(again.contrast, *args), 1, 4)
    part = again.losses(torch.arange(20))
    for name in LOSSES:
        assert 4.0 * part[name].item() == pytest.approx(whole[name].item(), rel=1e-5)


def test_watched_gradients_are_those_of_each_loss_and_leave_the_step_alone(dataset):
    def one_step(watch):
        trainer = trainer_of(dataset)
        return trainer.step(torch.arange(20), watch=watch), trainer.parameters()

    seen, expected = [], []
    losses, parameters = one_step(seen)
    plain_losses, plain = one_step(None)
    assert torch.equal(losses, plain_losses)
    assert all(torch.equal(tensor, plain[name]) for name, tensor in parameters.items())
    with pytest.MonkeyPatch.context() as patch:
        never_together(patch)
        one_step(expected)
    assert len(seen[0]) == 9
    assert seen[0] == pytest.approx(expected[0], rel=1e-4)
