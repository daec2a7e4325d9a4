"""The towers against slow references that share no code with them."""

import numpy as np
import pytest
import torch
from torch import nn

from micrec.config import ModelConfig
from micrec.data.schema import FieldType
from micrec.models import make_model
from micrec.models.columns import FieldColumns, FieldSpec, Ragged
from micrec.models.fm import bi_interaction
from micrec.models.layers import AttentionPool, IcanAttention, TransformerBlock, initialise, mean_pool, pad_history
from micrec.towers import TOWERS

N_USERS, N_ITEMS = 5, 9
HISTORY = [[0, 3, 3], [], [8], [1, 2, 4, 5, 6, 7], [0]]


def ragged(rows: list[list[int]]) -> Ragged:
    offsets = np.cumsum([0, *map(len, rows)])
    return Ragged(torch.tensor([x for row in rows for x in row], dtype=torch.int64), torch.tensor(offsets))


def item_specs() -> list[FieldSpec]:
    return [
        FieldSpec("item_id", FieldType.ID, size=N_ITEMS + 1, own_id=True),
        FieldSpec("category", FieldType.CATEGORICAL, size=4),
        FieldSpec("tags", FieldType.MULTI_CATEGORICAL, size=6),
        FieldSpec("price", FieldType.NUMERIC),
    ]


def item_columns() -> FieldColumns:
    rng = np.random.default_rng(0)
    return FieldColumns(
        n=N_ITEMS,
        single={
            "item_id": torch.arange(1, N_ITEMS + 1, dtype=torch.int32),
            "category": torch.tensor(rng.integers(0, 4, N_ITEMS), dtype=torch.int32),
        },
        multi={"tags": ragged([[1, 2], [3], [], [4, 5, 1], [2], [], [5], [1, 3], [4]])},
        numbers={"price": torch.tensor(rng.normal(size=N_ITEMS), dtype=torch.float32)},
    )


def user_specs() -> list[FieldSpec]:
    return [FieldSpec("country", FieldType.CATEGORICAL, size=3)]


def user_columns() -> FieldColumns:
    return FieldColumns(n=N_USERS, single={"country": torch.tensor([1, 2, 0, 1, 2])}, multi={}, numbers={})


def small_config(name="ican", **switches) -> ModelConfig:
    """Eight numbers wide and, where there are heads, two of them; switches of the tower go into its options."""
    own = getattr(TOWERS[name].options, "model_fields", {})
    options = {**({"heads": 2} if "heads" in own else {}), **{key: switches.pop(key) for key in own if key in switches}}
    return ModelConfig(name=name, embedding_dim=8, hidden=(12, 8), options=options, **switches)


def model_of(**switches) -> nn.Module:
    config = small_config(**{"history_length": 6, **switches})
    return make_model(
        config, user_specs(), item_specs(), sparse=False, generator=torch.Generator().manual_seed(0)
    ).eval()


def test_field_vectors_by_hand():
    """Ids and categories are rows, tags the mean of their rows, a number x is x * w + b, nothing is zero."""
    model = model_of()
    fields = model.embed_items(item_columns()).detach().numpy()
    tables = {name: table.weight.detach().numpy() for name, table in model.item_fields.tables.items()}
    slope, intercept = model.item_fields.numeric["price"].detach().numpy()
    columns = item_columns()
    for item in range(N_ITEMS):
        tags = columns.multi["tags"].values[
            columns.multi["tags"].offsets[item] : columns.multi["tags"].offsets[item + 1]
        ]
        expected = [
            tables["item_id"][item + 1],
            tables["category"][columns.single["category"][item]],
            np.mean([tables["tags"][t] for t in tags], axis=0) if len(tags) else np.zeros(8),
            columns.numbers["price"][item].item() * slope + intercept,
        ]
        np.testing.assert_allclose(fields[item], np.stack(expected), rtol=1e-5, atol=1e-7)


def test_unknown_rows_start_at_zero():
    model = model_of()
    for table in model.item_fields.tables.values():
        assert table.weight[0].abs().sum() == 0


def test_ragged_take_repeats_and_reorders_rows():
    taken = ragged(HISTORY).take(torch.tensor([3, 1, 0, 0]))
    rows = [taken.values[a:b].tolist() for a, b in zip(taken.offsets[:-1], taken.offsets[1:], strict=True)]
    assert rows == [HISTORY[3], [], HISTORY[0], HISTORY[0]]


def test_mean_pool_is_the_mean_of_the_clicked_items():
    vectors = torch.randn(N_ITEMS, 3, 4, generator=torch.Generator().manual_seed(1))
    pooled = mean_pool(ragged(HISTORY), vectors)
    for user, clicks in enumerate(HISTORY):
        expected = vectors[clicks].mean(dim=0) if clicks else torch.zeros(3, 4)
        torch.testing.assert_close(pooled[user], expected)


def test_attention_pool_is_a_softmax_over_the_clicks_of_each_field():
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(N_ITEMS, 3, 4, generator=generator)
    pool = AttentionPool(4)
    initialise(pool, generator)
    pooled = pool(ragged(HISTORY), vectors).detach().numpy()
    w, b = pool.hidden.weight.detach().numpy(), pool.hidden.bias.detach().numpy()
    u = pool.score.weight.detach().numpy()[0]
    for user, clicks in enumerate(HISTORY):
        for field in range(3):
            xs = [vectors[c, field].numpy().astype(np.float64) for c in clicks]
            weights = np.exp([np.dot(u, np.tanh(w @ x + b)) for x in xs])
            expected = sum((a * x for a, x in zip(weights / weights.sum(), xs, strict=True)), np.zeros(4))
            np.testing.assert_allclose(pooled[user, field], expected, rtol=1e-4, atol=1e-6)


def test_padded_history_keeps_order_and_ends_with_the_newest():
    vectors = torch.arange(N_ITEMS, dtype=torch.float32)[:, None] + 1.0
    padded, mask = pad_history(ragged(HISTORY), vectors, 6)
    assert padded[0, :, 0].tolist() == [0, 0, 0, 1, 4, 4]
    assert mask[0].tolist() == [False] * 3 + [True] * 3
    assert padded[1].abs().sum() == 0
    assert padded[3, :, 0].tolist() == [2, 3, 5, 6, 7, 8]


def test_transformer_block_is_torchs_encoder_layer():
    block = TransformerBlock(8, 2)
    initialise(block, torch.Generator().manual_seed(3))
    peer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=8, dropout=0.0, batch_first=True)
    peer.self_attn.in_proj_weight.data.copy_(block.qkv.weight.data)
    peer.self_attn.in_proj_bias.data.copy_(block.qkv.bias.data)
    peer.self_attn.out_proj.load_state_dict(block.out.state_dict())
    peer.linear1.load_state_dict(block.feed_forward[0].state_dict())
    peer.linear2.load_state_dict(block.feed_forward[2].state_dict())
    tokens = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(block(tokens), peer(tokens), rtol=1e-4, atol=1e-5)
    mask = torch.tensor([[True, True, True], [True, False, True], [False, True, True], [True, False, False]])
    ours, theirs = block(tokens, mask)[mask], peer(tokens, src_key_padding_mask=~mask)[mask]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_ican_attention_is_unscaled_and_bare():
    block = IcanAttention(4, 2)
    initialise(block, torch.Generator().manual_seed(5))
    tokens = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(6))
    x = tokens[0].double().numpy()
    q, k, v = np.split(x @ block.qkv.weight.detach().double().numpy().T, 3, axis=1)
    heads = []
    for h in (slice(0, 2), slice(2, 4)):
        scores = np.exp(q[:, h] @ k[:, h].T)
        heads.append(scores / scores.sum(axis=1, keepdims=True) @ v[:, h])
    expected = np.concatenate(heads, axis=1) @ block.out.weight.detach().double().numpy().T
    np.testing.assert_allclose(block(tokens)[0].detach().numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(TOWERS))
def test_every_model_gives_finite_vectors_of_one_width(name):
    model = model_of(name=name)
    fields = model.embed_items(item_columns())
    items = model.item_tower(fields)
    users = model.user_tower(user_columns(), ragged(HISTORY), fields)
    interests = () if model.interests is None else (model.interests,)
    assert users.shape == (N_USERS, *interests, model.output_dim)
    assert items.shape == (N_ITEMS, model.output_dim)
    assert torch.isfinite(users).all()
    assert torch.isfinite(items).all()


@pytest.mark.parametrize("name", sorted(TOWERS))
def test_users_without_any_field_are_known_by_their_clicks(name):
    config = small_config(name)
    model = make_model(config, [], item_specs(), sparse=False, generator=torch.Generator().manual_seed(0)).eval()
    fields = model.embed_items(item_columns())
    nobody = FieldColumns(n=N_USERS, single={}, multi={}, numbers={})
    users = model.user_tower(nobody, ragged(HISTORY), fields)
    assert torch.isfinite(users).all()
    assert not torch.allclose(users[0], users[2])


@pytest.mark.parametrize("name", sorted(TOWERS))
def test_a_user_does_not_depend_on_the_rest_of_the_batch(name):
    model = model_of(name=name)
    fields = model.embed_items(item_columns())
    everyone = model.user_tower(user_columns(), ragged(HISTORY), fields)
    for user in range(N_USERS):
        row = torch.tensor([user])
        alone = model.user_tower(user_columns().take(row), ragged(HISTORY).take(row), fields)
        torch.testing.assert_close(alone[0], everyone[user], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "switches",
    [
        {"behaviour_tokens": "sequence"},
        {"behaviour_tokens": "sequence", "positions": True, "layers": 2},
        {"behaviour_pooling": "attention"},
        {"block": "ican_attn"},
        {"linear_skip": True},
        {"item_tower": "linear"},
        {"item_tower": "id"},
        {"activation": "gelu", "output_activation": "linear", "l2_normalize": True},
        {"name": "autoint", "dnn": True},
        {"name": "fm", "item_terms": True},
        {"name": "youtube_dnn", "item_tower": "mlp"},
        {"name": "sasrec", "positions": False},
        {"name": "sasrec", "layers": 1},
        {"name": "bert4rec", "positions": False},
        {"name": "bert4rec", "layers": 1},
        {"name": "esasrec", "positions": False},
        {"name": "esasrec", "layers": 1},
        {"name": "esasrec", "widening": 2},
        {"name": "afn", "neurons": 3},
        {"name": "afn", "batch_norm": False},
        {"name": "afn", "dnn": True},
        {"name": "lightgcn", "layers": 1},
        {"name": "mind", "interests": 2},
        {"name": "mind", "adaptive_interests": False},
        {"name": "mind", "routing_iterations": 1},
        {"name": "comirec_dr", "adaptive_interests": True},
        {"name": "comirec_sa", "interest_hidden": 3},
        {"name": "comirec_sa", "positions": False},
    ],
)
def test_every_switch_changes_the_scores(switches):
    """A switch that did nothing would be a dead key."""
    base = {"name": switches["name"]} if "name" in switches else {}
    if switches.get("positions"):
        base |= {"behaviour_tokens": "sequence", "layers": 2}

    def scores(**config):
        model = model_of(**config)
        if getattr(model, "positions", None) is not None:
            nn.init.constant_(model.positions[:, 0], 0.3)
        fields = model.embed_items(item_columns())
        products = model.user_tower(user_columns(), ragged(HISTORY), fields) @ model.item_tower(fields).T
        return products if products.dim() == 2 else products.amax(dim=1)

    assert not torch.allclose(scores(**base), scores(**switches), atol=1e-6)


def test_normalised_towers_have_unit_length():
    model = model_of(l2_normalize=True)
    fields = model.embed_items(item_columns())
    torch.testing.assert_close(model.item_tower(fields).norm(dim=1), torch.ones(N_ITEMS))


@pytest.mark.parametrize("name", sorted(set(TOWERS) - {"fm", "fism", "lightgcn"}))
def test_with_linear_skip_training_starts_from_an_fm(name):
    """The MLPs' last layers are zero, so every model first scores as the sum of its fields does."""
    switches = {"output_activation": "linear", "bias_init": 0.1}
    deep, plain = model_of(name=name, linear_skip=True, **switches), model_of(name="fm")
    plain.load_state_dict({k: v for k, v in deep.state_dict().items() if k in plain.state_dict()})
    fields = deep.embed_items(item_columns())
    torch.testing.assert_close(deep.item_tower(fields), plain.item_tower(fields))
    users, expected = (m.user_tower(user_columns(), ragged(HISTORY), fields) for m in (deep, plain))
    if deep.interests:  # every interest starts as the one user of the FM
        expected = expected[:, None].expand(-1, deep.interests, -1)
    torch.testing.assert_close(users, expected)


def test_tanh_towers_are_bounded():
    """Bounded outputs are what makes the raw dot at tau = 1 stable (N3)."""
    model = model_of()
    fields = model.embed_items(item_columns()) * 1e4
    assert model.item_tower(fields).abs().max() <= 1


def test_bi_interaction_is_the_sum_over_pairs():
    fields = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    expected = sum(fields[:, i] * fields[:, j] for i in range(4) for j in range(i + 1, 4))
    torch.testing.assert_close(bi_interaction(fields), expected)


def test_fm_with_item_terms_ranks_as_the_full_factorization_machine():
    """Rendle's second-order FM over user fields, clicked fields and item fields, by loops over all pairs."""
    model = model_of(name="fm", item_terms=True)
    fields = model.embed_items(item_columns())
    scores = (model.user_tower(user_columns(), ragged(HISTORY), fields) @ model.item_tower(fields).T).detach().numpy()
    item = fields.detach().double().numpy()
    user_own = model.user_fields(user_columns()).detach().double().numpy()
    for user, clicks in enumerate(HISTORY):
        pooled = item[clicks].mean(axis=0) if clicks else np.zeros(item.shape[1:])
        user_vectors = [*pooled[:, :-1], *user_own[user][:, :-1]]
        full = []
        for target in range(N_ITEMS):
            vectors = [*user_vectors, *item[target][:, :-1]]
            pairs = sum(np.dot(vectors[i], vectors[j]) for i in range(len(vectors)) for j in range(i + 1, len(vectors)))
            full.append(pairs + item[target][:, -1].sum())
        np.testing.assert_allclose(scores[user] - scores[user][0], np.array(full) - full[0], rtol=1e-4, atol=1e-6)


def test_equal_seeds_give_equal_weights():
    first, second = model_of().state_dict(), model_of().state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
