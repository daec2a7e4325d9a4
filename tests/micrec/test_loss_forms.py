"""The momentum queue and Barlow Twins as forms of the item losses, against loops in float64."""

import collections
import math
import sys

import numpy as np
import pytest
import torch

from micrec.data.split import temporal_split
from micrec.item_losses.key_queue import KeyQueue
from micrec.losses import barlow_twins, key_log_sum
from micrec.progress import NoProgress
from micrec.towers import TOWERS
from tests.micrec.factories import random_dataset
from tests.micrec.resuming import check_same_seed_and_resumed
from tests.micrec.test_training import OFF, trainer_of

LOSSES = ("feature", "semantic", "session")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(tmp_path_factory.mktemp("data") / "random", np.random.default_rng(0))


def one_loss(dataset, name, form, **changes):
    keys = {"weight": 1.0, "form": form, **changes.pop("keys", {})}
    contrast = {**OFF, name: keys, **changes.pop("contrast", {})}
    return trainer_of(dataset, contrast=contrast, **changes)


# -- Barlow Twins --------------------------------------------------------------------------------------------------


def barlow_by_hand(first, second, redundancy):
    """Eq. 1 by loops over pairs of numbers; variances as batch normalisation takes them."""

    def standardised(view):
        return (view - view.mean(axis=0)) / np.sqrt(view.var(axis=0) + 1e-5)

    one, other = standardised(first), standardised(second)
    total = 0.0
    for i in range(one.shape[1]):
        for j in range(one.shape[1]):
            c = sum(one[row, i] * other[row, j] for row in range(len(one))) / len(one)
            total += (1 - c) ** 2 if i == j else redundancy * c**2
    return total


@pytest.mark.parametrize("redundancy", [0.0, 0.005, 1.0])
def test_barlow_twins_is_the_sum_of_eq_1(redundancy):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(12, 5)), rng.normal(size=(12, 5))
    found = barlow_twins(torch.from_numpy(first), torch.from_numpy(second), redundancy=redundancy)
    assert found.item() == pytest.approx(barlow_by_hand(first, second, redundancy), rel=1e-6)


def test_views_that_agree_in_numbers_that_differ_cost_nothing():
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert barlow_twins(corners, 3.0 * corners + 2.0, redundancy=1.0).item() == pytest.approx(0.0, abs=1e-8)
    assert barlow_twins(corners, -corners, redundancy=1.0).item() == pytest.approx(8.0, rel=1e-4)  # (1 + 1)^2 twice
    same = corners[:, :1].expand(-1, 2)
    assert barlow_twins(same, same, redundancy=0.5).item() == pytest.approx(1.0, rel=1e-4)  # two ones beside, halved


def test_one_row_varies_in_nothing():
    row = torch.ones(1, 3, requires_grad=True)
    loss = barlow_twins(row, row, redundancy=0.005)
    loss.backward()
    assert loss.item() == 0.0
    assert row.grad.abs().sum() == 0.0


def test_views_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"first \(4, 2\) and second \(4, 3\) must have the same shape"):
        barlow_twins(torch.ones(4, 2), torch.ones(4, 3), redundancy=0.005)


@pytest.mark.parametrize("name", ["semantic", "session"])
def test_pairs_are_an_item_and_its_positive(dataset, name):
    """From the towers' outputs and the projector, one row per drawn pair."""
    trainer = one_loss(dataset, name, "barlow_twins", keys={"num_positives": 2, "redundancy": 0.3})
    seen, loss = {}, trainer.contrast.losses[name]
    draw = loss.draw
    loss.draw = lambda *given: seen.setdefault("drawn", draw(*given))
    found = trainer.losses(torch.arange(60))[name].item()
    drawn, model = seen["drawn"], trainer.model
    items = trainer.data.fields.items
    with torch.no_grad():
        projected = loss.projector(model.item_tower(model.embed_items(items.take(torch.arange(items.n)))))
    pairs = [
        (anchor, positive)
        for anchor, row, there in zip(*(part.tolist() for part in drawn[:3]), strict=True)
        for positive, real in zip(row, there, strict=True)
        if real
    ]
    assert len(pairs) > 10
    first, second = (projected[list(side)].double().numpy() for side in zip(*pairs, strict=True))
    assert found == pytest.approx(barlow_by_hand(first, second, 0.3), rel=1e-4)


# -- the momentum queue --------------------------------------------------------------------------------------------


def test_the_queue_is_first_in_first_out():
    queue, expected = KeyQueue(5, 2), collections.deque(maxlen=5)
    for start, stop in ((0, 3), (3, 4), (4, 4), (4, 8), (8, 20), (20, 22)):
        items = torch.arange(start, stop)
        queue.push(items[:, None] * torch.ones(2), items)
        expected.extend(range(start, stop))
        held = queue.items[queue.items >= 0].tolist()
        assert sorted(held) == sorted(expected)
        filled = queue.items >= 0
        assert torch.equal(queue.keys[filled], queue.items[filled, None].expand(-1, 2).float())


def test_a_key_is_no_negative_of_its_own_item_and_neither_is_an_empty_place():
    queue = KeyQueue(4, 1)
    queue.push(torch.ones(3, 1), torch.tensor([7, 8, 7]))
    assert queue.unusable(torch.tensor([7, 9])).tolist() == [[True, False, True, True], [False, False, False, True]]


@pytest.mark.parametrize("part_numbers", [1 << 18, 7, 1])
def test_the_log_sum_of_products_is_torchs_own(part_numbers, monkeypatch):
    """Values and gradients, in parts of any size; a query whose keys are all hidden has no gradient."""
    monkeypatch.setattr(sys.modules["micrec.losses.key_log_sum"], "PART_NUMBERS", {"cpu": part_numbers})
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(6, 4, generator=generator).double().requires_grad_()
    keys = torch.randn(5, 4, generator=generator).double()
    hidden = torch.rand(6, 5, generator=generator) < 0.4
    hidden[2] = True
    weights = torch.randn(6, generator=generator).double()
    weights[2] = 0.0
    found = key_log_sum(queries, keys, hidden)
    expected = torch.logsumexp((queries @ keys.T).masked_fill(hidden, -1e300), dim=1)
    rows = torch.arange(6) != 2
    torch.testing.assert_close(found[rows], expected[rows])
    assert found[2] < -1e300
    gradients = [torch.autograd.grad((weights * total)[rows].sum(), queries)[0] for total in (found, expected)]
    torch.testing.assert_close(*gradients)
    assert torch.isfinite(torch.autograd.grad(key_log_sum(queries, keys, hidden)[2], queries)[0]).all()


def log_sum(values):
    return math.log(sum(math.exp(value) for value in values))


@pytest.mark.parametrize("name", ["semantic", "session"])
def test_momentum_is_info_nce_against_the_keys_of_steps_before(dataset, name):
    """Three steps by hand: a copy that moves a tenth of the way, and a queue of everything it has encoded."""
    trainer = one_loss(
        dataset,
        name,
        "momentum",
        keys={"momentum": 0.9, "queue_size": 500},
        contrast={"temperature": 0.5, "similarity": "cosine"},
        optim={"learning_rate": 0.05},
    )
    loss, model = trainer.contrast.losses[name], trainer.model
    copied = {key: tensor.clone().double() for key, tensor in model.state_dict().items() if "user" not in key}
    projector = {key: tensor.clone().double() for key, tensor in loss.projector.state_dict().items()}
    slow = trainer_of(dataset, contrast=OFF).model  # to be given the parameters of the copy
    items, queue = trainer.data.fields.items, []
    everything = items.take(torch.arange(items.n))
    draw, draws = loss.draw, []
    loss.draw = lambda *given: draws.append(draw(*given)) or draws[-1]
    for step in range(3):
        now = dict(model.state_dict())
        copied = {key: 0.9 * tensor + 0.1 * now[key].double() for key, tensor in copied.items()}
        projector = {
            key: 0.9 * tensor + 0.1 * loss.projector.state_dict()[key].double() for key, tensor in projector.items()
        }
        slow.load_state_dict({**slow.state_dict(), **{key: tensor.float() for key, tensor in copied.items()}})
        with torch.no_grad():
            queries = loss.projector(model.item_tower(model.embed_items(everything))).double()
            outputs = slow.item_tower(slow.embed_items(everything)).double()
        keys = outputs @ projector["0.weight"].T + projector["0.bias"]
        queries, keys = (part / part.norm(dim=1, keepdim=True) for part in (queries, keys))
        found = trainer.step(torch.arange(40 * step, 40 * step + 40))[1].item()
        drawn, terms = draws[-1], []
        for anchor, (positive,), (there,) in zip(*(part.tolist() for part in drawn[:3]), strict=True):
            if there:
                score = float(queries[anchor] @ keys[positive]) / 0.5
                others = [float(queries[anchor] @ key) / 0.5 for key, item in queue if item not in (anchor, positive)]
                terms.append(log_sum([score, *others]) - score)
        assert found == pytest.approx(np.mean(terms), rel=1e-3, abs=1e-5)
        new = [positive for (positive,), (there,) in zip(*(part.tolist() for part in drawn[1:3]), strict=True) if there]
        queue += [(keys[positive], positive) for positive in new]
    assert len(queue) > 30


@pytest.mark.parametrize("apply_on", ["input", "tower"])
def test_momentum_of_the_feature_loss_follows_its_mask(dataset, apply_on):
    """With a copy that is the model itself and nothing dropped from sight, query and key of an item agree."""
    trainer = one_loss(
        dataset,
        "feature",
        "momentum",
        keys={"momentum": 0.0, "apply_on": apply_on, "ratio": 1e-6, "rescale": False},
        contrast={"similarity": "cosine", "temperature": 1.0},
    )
    loss = trainer.contrast.losses["feature"]
    seen = {}
    against_queue = loss.against_queue

    def spy(queries, items, keys, positives, mask):
        seen.update(queries=queries, keys=keys, items=items, positives=positives)
        return against_queue(queries, items, keys, positives, mask)

    loss.against_queue = spy
    assert trainer.losses(torch.arange(50))["feature"].item() == 0.0  # there are no keys yet
    assert torch.equal(seen["positives"][:, 0], seen["items"])
    agreement = (seen["queries"] * seen["keys"][:, 0]).sum(dim=1)
    torch.testing.assert_close(agreement, torch.ones_like(agreement), rtol=1e-3, atol=1e-3)
    known, keys = seen["items"], seen["keys"][:, 0]
    found = trainer.losses(torch.arange(50, 100))["feature"].item()
    terms = []
    for item, query, key in zip(seen["items"].tolist(), seen["queries"].detach(), seen["keys"][:, 0], strict=True):
        others = [float(query @ other) for other, its in zip(keys, known.tolist(), strict=True) if its != item]
        terms.append(log_sum([float(query @ key), *others]) - float(query @ key))
    assert found == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("form", ["momentum", "barlow_twins"])
@pytest.mark.parametrize("mask", ["element", "field", "categorical", "rfm", "cfm"])
def test_every_mask_has_every_form(dataset, mask, form):
    trainer = one_loss(dataset, "feature", form, keys={"mask": mask, "apply_on": "tower"})
    for _ in range(2):
        assert math.isfinite(trainer.epoch(NoProgress()).losses["feature"])


def test_the_copy_takes_no_gradient_and_is_no_part_of_the_model(dataset):
    trainer = one_loss(dataset, "semantic", "momentum")
    loss = trainer.contrast.losses["semantic"]
    trainable = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert not any(id(parameter) in trainable for parameter in loss.key_encoder.parameters())
    assert any(id(parameter) in trainable for parameter in loss.projector.parameters())
    before = {name: tensor.clone() for name, tensor in loss.key_encoder.model.named_parameters()}
    assert before
    assert not any(name.startswith("user_") for name in before)
    trainer.step(torch.arange(40))
    trainer.step(torch.arange(40, 80))
    moved = {
        name for name, tensor in loss.key_encoder.model.named_parameters() if not torch.equal(tensor, before[name])
    }
    assert any("item_mlp" in name for name in moved)
    assert any("tables" in name for name in moved)
    assert all(parameter.grad is None for parameter in loss.key_encoder.parameters())


# -- every base, every form ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["momentum", "barlow_twins"])
@pytest.mark.parametrize("base", list(TOWERS))
def test_every_base_trains_with_every_form(dataset, base, form):
    """All three losses reach the item tables, and a base whose items are made anew keeps up in the copy."""
    forms = {name: {"weight": 0.5, "form": form} for name in LOSSES}
    trainer = trainer_of(dataset, model={"name": base, "item_bias": True}, contrast=forms)
    trainer.step(torch.arange(80))  # fills the queue
    for name in LOSSES:
        table = trainer.model.item_fields.tables["item_id"].weight
        (gradient,) = torch.autograd.grad(trainer.losses(torch.arange(80, 160))[name], table)
        assert torch.isfinite(gradient.to_dense()).all()
        assert gradient.to_dense().abs().sum() > 0, name


@pytest.mark.parametrize("form", ["momentum", "barlow_twins"])
def test_same_seed_same_parameters_and_a_resumed_run_ends_alike(dataset, form):
    forms = {name: {"weight": 0.5, "form": form} for name in LOSSES}
    check_same_seed_and_resumed(*(trainer_of(dataset, contrast=forms) for _ in range(3)))


def test_other_losses_keep_their_draws_and_their_start(dataset):
    """One loss in another form leaves what the others draw, and all start weights, as they were."""
    plain, formed = trainer_of(dataset), trainer_of(dataset, contrast={"semantic": {"form": "momentum"}})
    for name in LOSSES:
        theirs = formed.contrast.losses[name].projector.state_dict()
        for key, tensor in plain.contrast.losses[name].projector.state_dict().items():
            assert torch.equal(tensor, theirs[key])
    before, after = (trainer.losses(torch.arange(60)) for trainer in (plain, formed))
    for name in ("matching", "feature", "session"):
        assert before[name].item() == after[name].item()


def test_a_form_falls_where_there_is_something_to_learn(dataset):
    """Barlow Twins is bounded below by 0 and has no queue to fill first."""
    split = temporal_split(dataset.clicks, trainer_of(dataset).config.split)
    assert split.n_train > 300
    for name in LOSSES:
        trainer = one_loss(dataset, name, "barlow_twins")
        losses = [trainer.epoch(NoProgress()).losses[name] for _ in range(6)]
        assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("base", ["fism", "ican"])
def test_anchors_embedded_apart_give_the_loss_and_gradients_of_those_of_the_step(dataset, name, base, monkeypatch):
    def found():
        trainer = one_loss(dataset, name, "pseudo_clicks", model={"name": base, "item_fields": None})
        losses = trainer.losses(trainer.order(1)[:32])
        sum(losses.values()).backward()
        return losses[name].item(), {key: one.grad for key, one in trainer.model.named_parameters()}

    loss, gradients = found()
    assert loss > 0.0
    monkeypatch.setattr("micrec.models.two_tower.TwoTower.embeds_apart", False)
    again, others = found()
    assert loss == pytest.approx(again, rel=1e-6)
    for key, gradient in gradients.items():
        if gradient is not None:
            dense = [one.to_dense() if one.is_sparse else one for one in (gradient, others[key])]
            torch.testing.assert_close(*dense, msg=key)
