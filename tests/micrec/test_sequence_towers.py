"""SASRec and BERT4Rec against float64 NumPy, one user at a time, and against torch's own encoder layer."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from micrec.models.esasrec import LigrBlock
from micrec.models.layers import initialise
from micrec.models.sequence import SequenceBlock, causal_mask
from tests.micrec.test_models import HISTORY, N_ITEMS, N_USERS, item_columns, model_of, ragged, user_columns
from tests.micrec.test_towers_reference import attention, dense, layer_norm, mlp3, softmax, weights

NAMES = ("sasrec", "bert4rec", "esasrec")
LENGTH = 6  # of the models of ``model_of``
HEADS = 2


def slow_gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def causal_attention(q, k, v):
    d, out = q.shape[1] // HEADS, np.zeros_like(q)
    for h in range(HEADS):
        part = slice(h * d, (h + 1) * d)
        for i in range(len(q)):
            out[i, part] = softmax(q[i, part] @ k[: i + 1, part].T / math.sqrt(d)) @ v[: i + 1, part]
    return out


def sasrec_state(w, clicks):
    """x + Attention(LN(x)), x + FFN(LN(x)), twice, LN; the newest row. The sequence holds real clicks only."""
    if not clicks:
        return np.zeros(8)
    x = np.stack(clicks) + w["positions"][LENGTH - len(clicks) :]
    for layer in range(2):
        name = f"blocks.{layer}"
        q, k, v = np.split(dense(w, f"{name}.qkv", layer_norm(w, f"{name}.norm_attention", x)), 3, axis=1)
        x = x + dense(w, f"{name}.out", causal_attention(q, k, v))
        inner = dense(w, f"{name}.feed_forward.0", layer_norm(w, f"{name}.norm_feed_forward", x))
        x = x + dense(w, f"{name}.feed_forward.2", np.maximum(inner, 0))
    return layer_norm(w, "norm", x)[-1]


def bert_state(w, clicks):
    """LN(x + Attention(x)), LN(x + FFN(x)), twice, over the clicks and [mask]; the row of [mask]."""
    x = np.stack([*clicks, w["mask_token"]]) + w["positions"][LENGTH - len(clicks) :]
    for layer in range(2):
        name = f"blocks.{layer}"
        q, k, v = np.split(dense(w, f"{name}.qkv", x), 3, axis=1)
        attended = dense(w, f"{name}.out", attention(q, k, v, HEADS, (8 / HEADS) ** -0.5))
        x = layer_norm(w, f"{name}.norm_attention", x + attended)
        inner = dense(w, f"{name}.feed_forward.0", x, slow_gelu)
        assert inner.shape[1] == 4 * 8
        x = layer_norm(w, f"{name}.norm_feed_forward", x + dense(w, f"{name}.feed_forward.2", inner))
    return x[-1]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def ligr_state(w, clicks):
    """x + sigmoid(W x) Attention(LN(x)), x + sigmoid(V x) SwiGLU(LN(x)), four times; the newest row."""
    if not clicks:
        return np.zeros(8)
    x = np.stack(clicks) + w["positions"][LENGTH - len(clicks) :]
    for layer in range(4):
        name = f"blocks.{layer}"
        q, k, v = np.split(dense(w, f"{name}.qkv", layer_norm(w, f"{name}.norm_attention", x)), 3, axis=1)
        attended = dense(w, f"{name}.out", causal_attention(q, k, v))
        x = x + dense(w, f"{name}.gate_attention", x, sigmoid) * attended
        read = layer_norm(w, f"{name}.norm_feed_forward", x)
        gate, up = (read @ w[f"{name}.feed_forward.{part}.weight"].T for part in ("gate", "up"))
        assert gate.shape[1] == 4 * 8
        fed = (gate * sigmoid(gate) * up) @ w[f"{name}.feed_forward.down.weight"].T
        x = x + dense(w, f"{name}.gate_feed_forward", x, sigmoid) * fed
    return x[-1]


STATES = {"sasrec": sasrec_state, "bert4rec": bert_state, "esasrec": ligr_state}


@pytest.mark.parametrize(("name", "state"), STATES.items())
def test_user_towers_follow_the_equations(name, state):
    model = model_of(name=name, init_scale=0.7)
    w = weights(model)
    assert np.abs(w["positions"]).min() > 0
    fields = model.embed_items(item_columns())
    tokens = fields.detach().double().numpy().mean(axis=1) * math.sqrt(8)
    profiles = model.user_fields(user_columns()).detach().double().numpy()
    found = model.user_tower(user_columns(), ragged(HISTORY), fields).detach().numpy()
    for user, history in enumerate(HISTORY):
        expected = mlp3(w, "user_mlp", np.concatenate([state(w, [tokens[i] for i in history]), profiles[user].ravel()]))
        np.testing.assert_allclose(found[user], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_block_is_torchs_encoder_layer(norm_first):
    block = SequenceBlock(8, 2, norm_first=norm_first, inner=12, activation="gelu")
    initialise(block, torch.Generator().manual_seed(3))
    peer = nn.TransformerEncoderLayer(
        8, 2, dim_feedforward=12, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first
    )
    peer.self_attn.in_proj_weight.data.copy_(block.qkv.weight.data)
    peer.self_attn.in_proj_bias.data.copy_(block.qkv.bias.data)
    peer.self_attn.out_proj.load_state_dict(block.out.state_dict())
    peer.linear1.load_state_dict(block.feed_forward[0].state_dict())
    peer.linear2.load_state_dict(block.feed_forward[2].state_dict())
    tokens = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(4))
    everything = torch.ones(1, 1, 5, dtype=torch.bool)
    torch.testing.assert_close(block(tokens, everything), peer(tokens), rtol=1e-4, atol=1e-5)
    causal = causal_mask(torch.ones(4, 5, dtype=torch.bool))
    torch.testing.assert_close(block(tokens, causal), peer(tokens, ~causal[0]), rtol=1e-4, atol=1e-5)


def test_esasrec_has_as_many_parameters_as_its_blocks_say():
    """Attention 4 (D^2 + D), two LayerNorms 2 D each, three maps to or from 4 D without bias, two gates D^2 + D."""
    model = model_of(name="esasrec", layers=3)
    found = sum(parameter.numel() for block in model.blocks for parameter in block.parameters())
    assert found == 3 * (4 * (64 + 8) + 2 * 16 + 3 * 4 * 64 + 2 * (64 + 8))


@pytest.mark.parametrize(
    "block",
    [
        SequenceBlock(8, 2, norm_first=True),
        SequenceBlock(8, 2, norm_first=False),
        LigrBlock(8, 2, inner=32),
    ],
)
def test_the_newest_position_alone_is_that_of_all(block):
    initialise(block, torch.Generator().manual_seed(3))
    tokens = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(4))
    mask = torch.tensor([[True] * 5, [False] * 2 + [True] * 3, [False] * 4 + [True], [False] * 5])
    allowed = causal_mask(mask)
    torch.testing.assert_close(block(tokens, allowed, newest_only=True), block(tokens, allowed)[:, -1:])


def test_causal_mask_by_loops():
    mask = torch.tensor([[True, True, True], [False, True, True], [False, False, False]])
    allowed = causal_mask(mask)
    for row in range(3):
        for i in range(3):
            for j in range(3):
                assert allowed[row, i, j] == ((j <= i and bool(mask[row, j])) or i == j)


def test_only_bert4rec_reads_the_future():
    """The state of an earlier click, before the last block, hears of a later click in BERT4Rec alone."""
    for name, hears in (("sasrec", False), ("esasrec", False), ("bert4rec", True)):
        model = model_of(name=name, init_scale=0.7)
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randn(1, 4, 8, generator=generator)
        changed = tokens.clone()
        changed[:, 3] += torch.randn(8, generator=generator)  # a constant would vanish in the LayerNorm
        mask = torch.ones(1, 4, dtype=torch.bool)
        allowed = mask[:, None, :] if hears else causal_mask(mask)
        before, after = (model.blocks[0](x, allowed)[:, :3] for x in (tokens, changed))
        assert torch.allclose(before, after) != hears


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_clicks_counts_through_positions(name):
    history = [[1, 2, 3]] * N_USERS
    turned = [[3, 1, 2]] * N_USERS
    for positions in (True, False):
        model = model_of(name=name, init_scale=0.7, layers=1, positions=positions)
        fields = model.embed_items(item_columns())
        first, second = (model.user_tower(user_columns(), ragged(clicks), fields) for clicks in (history, turned))
        # a single block of BERT4Rec without positions reads a set; SASRec still knows which click is the newest
        assert torch.allclose(first, second, atol=1e-6) == (name == "bert4rec" and not positions)


@pytest.mark.parametrize("name", NAMES)
def test_padding_never_leaks(name):
    """Padding looks at item 0; a user who did not click it must not change with it."""
    model = model_of(name=name, init_scale=0.7)
    fields = model.embed_items(item_columns())
    users = model.user_tower(user_columns(), ragged(HISTORY), fields)
    poisoned = fields.clone()
    poisoned[0] += torch.randn(8, generator=torch.Generator().manual_seed(0)) * 5
    found = model.user_tower(user_columns(), ragged(HISTORY), poisoned)
    torch.testing.assert_close(found[1:4], users[1:4])
    assert not torch.allclose(found[4], users[4])


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_everything_that_is_learnt(name):
    model = model_of(name=name, init_scale=0.7)
    fields = model.embed_items(item_columns().take(torch.arange(N_ITEMS)))
    users = model.user_tower(user_columns(), ragged(HISTORY), fields)
    read = model.readout(users, model.item_tower(fields)[:N_USERS], ragged(HISTORY))
    assert read is users
    (read.square().sum() + model.item_tower(fields).sum()).backward()
    for key, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_nobody_has_clicked(name):
    model = model_of(name=name)
    fields = model.embed_items(item_columns())
    users = model.user_tower(user_columns(), ragged([[]] * N_USERS), fields)
    assert torch.isfinite(users).all()
    torch.testing.assert_close(users[1], users[4])  # both of country 2
    assert fields.shape[0] == N_ITEMS


@pytest.mark.parametrize("name", NAMES)
def test_dropout_needs_training_and_a_generator(name):
    model = model_of(name=name, dropout=0.5)
    fields = model.embed_items(item_columns())

    def users():
        return model.user_tower(user_columns(), ragged(HISTORY), fields)

    plain = users()
    model.train()
    for module in model.modules():
        if hasattr(module, "ratio"):
            module.generator = torch.Generator().manual_seed(0)
    assert not torch.allclose(users(), plain)
    model.eval()
    torch.testing.assert_close(users(), plain)
