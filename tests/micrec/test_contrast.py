"""The three item losses and the joint loss against loops written from Eq. 2-5 and 8."""

import numpy as np
import pytest
import torch
from torch import Tensor

from micrec.config import ContrastConfig, ModelConfig
from micrec.contrast import STREAMS, ItemContrast
from micrec.data.schema import FieldType
from micrec.item_losses.item_loss import ContrastSources
from micrec.item_losses.item_set import ItemSet
from micrec.models import make_model
from micrec.models.columns import FieldColumns, FieldSpec, Ragged
from micrec.models.pool import ItemIndex, ItemPool

N = 12
PARTNERS = {0: [1, 2], 1: [0], 2: [0, 5], 5: [2], 7: [8], 8: [7]}


class Listed:
    """Positives given as lists; draws the first ones, so that a test knows them."""

    n_items = N

    def has(self, anchors: Tensor) -> Tensor:
        return torch.tensor([int(a) in PARTNERS for a in anchors], dtype=torch.bool)

    def draw(self, anchors: Tensor, num: int, generator: torch.Generator) -> Tensor:
        rows = [(PARTNERS[int(a)] + [-1] * num)[:num] for a in anchors]
        return torch.tensor(rows, dtype=torch.int64).reshape(len(anchors), num)

    def contains(self, rows: Tensor, cols: Tensor) -> Tensor:
        rows, cols = torch.broadcast_tensors(rows, cols)
        flat = [
            a == b or int(b) in PARTNERS.get(int(a), []) for a, b in zip(rows.flatten(), cols.flatten(), strict=True)
        ]
        return torch.tensor(flat, dtype=torch.bool).view(rows.shape)

    def to(self, device: torch.device) -> "Listed":
        return self


def item_columns() -> FieldColumns:
    tags = torch.tensor([1, 2, 3, 1, 2, 3, 4, 4, 1, 2, 3, 1, 2], dtype=torch.int32)
    offsets = torch.tensor([0, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 12, 13])
    return FieldColumns(N, {"item_id": torch.arange(1, N + 1, dtype=torch.int32)}, {"tags": Ragged(tags, offsets)}, {})


def setup(**contrast):
    config = ContrastConfig.model_validate(contrast)
    generator = torch.Generator().manual_seed(0)
    specs = [
        FieldSpec("item_id", FieldType.ID, size=N + 1, own_id=True),
        FieldSpec("tags", FieldType.MULTI_CATEGORICAL, 5),
    ]
    model_config = ModelConfig(embedding_dim=4, hidden=(6, 4), options={"heads": 2}, init_scale=0.5)
    model = make_model(model_config, [], specs, sparse=False, generator=generator)
    sources = ContrastSources(
        n_items=N,
        items=item_columns(),
        negatives=torch.arange(N),
        semantic=Listed(),
        session=Listed(),
        field_information=torch.tensor([[2.0, 1.0], [1.0, 2.0]]),
    )
    plugin = ItemContrast(config, model, sources, generator=generator)
    return model, plugin


def run(model, plugin, targets, *, seed=1):
    streams = {name: torch.Generator().manual_seed(seed) for name in STREAMS}
    draw = plugin.draw(targets, streams)
    empty = Ragged(torch.empty(0, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    pool = ItemPool(model, plugin.sources.items, ItemIndex(N, "cpu"), draw.item_ids(), empty)
    return draw, pool, plugin(draw, pool, model, streams)


def reference(anchors, positives, negatives, tau, with_positive=True):
    """Eq. 3-5 as float64 loops: one positive list and one negative list per anchor, mean over anchors."""
    total = []
    for a, ps, ns in zip(anchors, positives, negatives, strict=True):
        for p in ps:
            s = np.dot(a, p) / tau
            scores = [np.dot(a, n) / tau for n in ns] + ([s] if with_positive else [])
            total.append(-s + np.log(np.sum(np.exp(scores))))
    return np.mean(total)


def vectors(projector, embeddings):
    return projector(embeddings).detach().double().numpy()


TARGETS = torch.tensor([0, 5, 5, 1, 7, 2, 8, 3, 0])


@pytest.mark.parametrize(("level", "group"), [("semantic", 1), ("semantic", 3), ("session", 2), ("session", 64)])
def test_pair_losses_follow_eq_4_and_5(level, group):
    """Positives from the list, negatives the group's draw less self and positives, through tower and projector."""
    off = {name: {"weight": 0.0} for name in ("feature", "semantic", "session") if name != level}
    model, plugin = setup(**off, **{level: {"weight": 0.5, "negatives": 4}}, group_size=group, temperature=0.7)
    draw, _, losses = run(model, plugin, TARGETS)
    pairs = draw.losses[level]
    assert pairs.anchors.tolist() == [0, 1, 2, 5, 7, 8]  # distinct clicked items with a partner; 3 has none
    out = vectors(plugin.losses[level].projector, model.item_tower(model.embed_items(item_columns())))
    negatives = []
    for row, anchor in enumerate(pairs.anchors.tolist()):
        drawn = pairs.negatives[row // group].tolist()
        allowed = [n for n in drawn if n != anchor and n not in PARTNERS[anchor]][:4]
        assert [n for n, ok in zip(drawn, pairs.negative_mask[row], strict=True) if ok] == allowed
        negatives.append(out[allowed])
    positives = [[out[PARTNERS[a][0]]] for a in pairs.anchors.tolist()]
    expected = 0.5 * reference(out[pairs.anchors], positives, negatives, 0.7)
    assert losses[level].item() == pytest.approx(expected, rel=1e-5)


def test_feature_loss_follows_eq_3():
    """Clean anchors against dropped selves, MLP_f on the raw concatenation; dropouts read off a repeated draw."""
    model, plugin = setup(feature={"negatives": "all"}, semantic={"weight": 0}, session={"weight": 0})
    _, pool, losses = run(model, plugin, TARGETS)
    items = ItemSet.distinct(TARGETS, N).exact()
    clean = pool.fields(items)
    generator = torch.Generator().manual_seed(1)
    dropped = plugin.losses["feature"]._dropped(clean, items, model, generator)  # nothing else was drawn before it
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2.0 * clean[kept])  # rescaled by 1 / (1 - 0.5)
    anchors = vectors(plugin.losses["feature"].projector, clean.flatten(1))
    keys = vectors(plugin.losses["feature"].projector, dropped.flatten(1))
    negatives = [[key for j, key in enumerate(keys) if j != i] for i in range(len(items))]
    assert losses["feature"].item() == pytest.approx(reference(anchors, [[k] for k in keys], negatives, 1.0), rel=1e-5)


def test_feature_loss_in_the_literal_reading_leaves_the_tower_alone():
    """Eq. 2 reads f^d: gradient reaches the embeddings and MLP_f, not MLP_d (N7)."""
    model, plugin = setup(semantic={"weight": 0}, session={"weight": 0})
    _, _, losses = run(model, plugin, TARGETS)
    losses["feature"].backward()
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in model.item_mlp.parameters())
    assert model.item_fields.tables["item_id"].weight.grad.abs().sum() > 0
    assert plugin.losses["feature"].projector[0].weight.grad.abs().sum() > 0


def test_feature_loss_on_the_tower_trains_it():
    model, plugin = setup(feature={"apply_on": "tower"}, semantic={"weight": 0}, session={"weight": 0})
    _, _, losses = run(model, plugin, TARGETS)
    losses["feature"].backward()
    assert all(p.grad.abs().sum() > 0 for p in model.item_mlp.parameters())


@pytest.mark.parametrize(
    "feature",
    [
        {"mask": "field"},
        {"mask": "field", "mask_per": "batch"},
        {"mask": "categorical"},
        {"mask": "rfm"},
        {"mask": "rfm", "mask_per": "batch"},
        {"mask": "cfm"},
        {"views": "two"},
        {"rescale": False},
        {"ratio": 0.9},
        {"duplicates": "mask"},
        {"negatives": 2},
        {"weight": 0.3},
        {"apply_on": "tower"},
    ],
)
def test_every_feature_switch_changes_the_loss(feature):
    off = {"semantic": {"weight": 0}, "session": {"weight": 0}}
    base = run(*setup(**off), TARGETS)[2]["feature"]
    changed = run(*setup(**off, feature=feature), TARGETS)[2]["feature"]
    assert torch.isfinite(changed)
    assert abs(base.item() - changed.item()) > 1e-6


@pytest.mark.parametrize(
    "switches",
    [
        {"temperature": 0.2},
        {"denominator": "negatives_only"},
        {"similarity": "cosine"},
        {"projector": "tanh"},
        {"projector": "relu"},
        {"projector": "none"},
        {"projector_dim": 5},
        {"reduction": "sum"},
        {"group_size": 2},
        {"semantic": {"num_positives": 2}},
        {"semantic": {"negatives": 3}},
        {"semantic": {"anchors": "uniform"}},
    ],
)
def test_every_shared_switch_changes_the_semantic_loss(switches):
    base = run(*setup(), TARGETS)[2]["semantic"]
    changed = run(*setup(**switches), TARGETS)[2]["semantic"]
    assert torch.isfinite(changed)
    assert abs(base.item() - changed.item()) > 1e-6


def test_masked_duplicates_are_never_each_others_negatives():
    """With duplicates kept, rows of the same item are masked: an item alone in the batch has no negative, cost 0."""
    model, plugin = setup(feature={"duplicates": "mask"}, semantic={"weight": 0}, session={"weight": 0})
    _, _, losses = run(model, plugin, torch.tensor([4, 4, 4]))
    assert losses["feature"].item() == pytest.approx(0.0, abs=1e-6)


def test_losses_that_are_off_are_absent_and_need_no_parameters():
    _, plugin = setup(feature={"weight": 0}, semantic={"weight": 0}, session={"weight": 0})
    assert not plugin.active
    assert list(plugin.parameters()) == []
    assert run(*setup(feature={"weight": 0}, semantic={"weight": 0}), TARGETS)[2].keys() == {"session"}


def test_the_plug_in_leaves_nothing_in_the_model():
    """Serving cost is the base model's: same parameters and the same outputs with and without the losses."""
    with_losses, _ = setup()
    without, _ = setup(feature={"weight": 0}, semantic={"weight": 0}, session={"weight": 0})
    assert {k: v.shape for k, v in with_losses.state_dict().items()} == {
        k: v.shape for k, v in without.state_dict().items()
    }
    fields = with_losses.embed_items(item_columns())
    torch.testing.assert_close(with_losses.item_tower(fields), without.item_tower(without.embed_items(item_columns())))


def test_switching_a_loss_off_leaves_the_draws_of_the_others_alone():
    """RFM* is MicRec with the feature loss alone (N24): one code path, one stream, the identical loss."""
    off = {"semantic": {"weight": 0}, "session": {"weight": 0}}
    assert run(*setup(), TARGETS)[2]["feature"] != 0
    model, full = setup()
    _, rfm = setup(**off)
    rfm.losses["feature"].projector.load_state_dict(full.losses["feature"].projector.state_dict())
    assert torch.equal(run(model, full, TARGETS)[2]["feature"], run(model, rfm, TARGETS)[2]["feature"])


def test_negatives_come_from_the_pool_that_is_given():
    _, plugin = setup()
    streams = {name: torch.Generator().manual_seed(0) for name in STREAMS}
    draw = plugin.draw(TARGETS, streams, pool=torch.tensor([9, 11]))
    assert set(draw.losses["semantic"].negatives.flatten().tolist()) <= {9, 11}
    assert set(draw.losses["session"].negatives.flatten().tolist()) <= {9, 11}


def test_group_size_does_not_change_the_expected_loss():
    """Sharing negatives within a group correlates anchors; the mean over many draws stays."""
    off = {"feature": {"weight": 0}, "semantic": {"weight": 0}}

    def mean_loss(group):
        model, plugin = setup(**off, session={"weight": 1.0, "negatives": 3}, group_size=group)
        values = [run(model, plugin, TARGETS, seed=seed)[2]["session"].item() for seed in range(300)]
        return np.mean(values), np.std(values) / np.sqrt(len(values))

    (alone, se_alone), (shared, se_shared) = mean_loss(1), mean_loss(6)
    assert abs(alone - shared) < 4 * np.hypot(se_alone, se_shared)


def test_pool_embeds_every_item_once_and_finds_it_again():
    model, plugin = setup()
    index = ItemIndex(N, "cpu")
    history = Ragged(torch.tensor([9, 3, 9]), torch.tensor([0, 2, 3]))
    pool = ItemPool(model, plugin.sources.items, index, [torch.tensor([5, 3, 5])], history)
    assert pool.item_ids.tolist() == [3, 5, 9]  # tower items first, then those only in histories
    assert len(pool.tower_out) == 2
    everything = model.embed_items(item_columns())
    torch.testing.assert_close(pool.fields(torch.tensor([[9, 3]])), everything[torch.tensor([[9, 3]])])
    torch.testing.assert_close(pool.embeddings(torch.tensor([5, 3])), model.item_tower(everything)[[5, 3]])
    assert pool.history.values.tolist() == [2, 0, 2]
    again = ItemPool(
        model, plugin.sources.items, index, [torch.tensor([0])], Ragged(torch.tensor([1]), torch.tensor([0, 1]))
    )
    assert again.item_ids.tolist() == [0, 1]  # no marks left over from the step before
