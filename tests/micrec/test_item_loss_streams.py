"""Start weights of the item losses: which streams they come from, and which losses can move them."""

import numpy as np
import pytest
import torch

from micrec.item_loss_configs import ItemLossConfig
from micrec.item_loss_kinds import ITEM_LOSSES, ItemLossKind
from micrec.item_losses.item_loss import ItemLoss
from tests.micrec.factories import random_dataset
from tests.micrec.test_training import trainer_of

TOWER = {"feature": {"apply_on": "tower"}}  # all projectors of one shape


class Nothing(ItemLoss):
    """A loss that has a projector like all others and asks for no items."""

    def draw(self, items, pool, generator):
        return self

    def item_ids(self):
        return []

    def forward(self, drawn, pool, model, generator):
        return sum(parameter.sum() for parameter in self.projector.parameters()) * 0.0


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(tmp_path_factory.mktemp("data") / "random", np.random.default_rng(0))


@pytest.fixture
def register():
    """Adds losses by name, and takes them out again."""
    names = []

    def add(name):
        ITEM_LOSSES.register(name, ItemLossKind(ItemLossConfig, Nothing))
        names.append(name)

    yield add
    for name in names:
        ITEM_LOSSES.remove(name)


def start(dataset, **weights) -> dict[str, torch.Tensor]:
    """The projectors' start weights by loss; losses that are not named are off."""
    off = {name: {"weight": 0.0} for name in ITEM_LOSSES}
    contrast = {name: {**off[name], **TOWER.get(name, {})} for name in off}
    for name, weight in weights.items():
        contrast[name]["weight"] = weight
    losses = trainer_of(dataset, contrast=contrast).contrast.losses
    return {name: torch.cat([p.detach().flatten() for p in loss.parameters()]) for name, loss in losses.items()}


def test_others_losses_do_not_move_each_other(dataset, register):
    """With, without, and registered in another order, beside any of the paper's."""
    register("first")
    register("second")
    both = start(dataset, first=1.0, second=1.0, session=1.0)
    assert not torch.equal(both["first"], both["second"])
    assert torch.equal(start(dataset, second=1.0, session=1.0)["second"], both["second"])
    assert torch.equal(start(dataset, second=1.0)["second"], both["second"])
    assert torch.equal(start(dataset, session=1.0)["session"], both["session"])
    ITEM_LOSSES.remove("first")
    ITEM_LOSSES.register("first", ItemLossKind(ItemLossConfig, Nothing))  # behind the second now
    turned = start(dataset, first=1.0, second=1.0, session=1.0)
    assert {name: torch.equal(weights, both[name]) for name, weights in turned.items()} == dict.fromkeys(both, True)


def test_the_papers_three_take_their_turns_at_one_stream(dataset):
    """As the recipe of item losses says: whichever is the first that is on starts from the stream's first values."""
    everything = start(dataset, feature=1.0, semantic=1.0, session=1.0)
    assert torch.equal(start(dataset, semantic=1.0, session=1.0)["semantic"], everything["feature"])
    assert torch.equal(start(dataset, session=1.0)["session"], everything["feature"])
    assert torch.equal(start(dataset, feature=1.0, session=1.0)["session"], everything["semantic"])
