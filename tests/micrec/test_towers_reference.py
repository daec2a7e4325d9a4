"""Whole towers in float64 NumPy, one user and one item at a time, from the equations; no code shared with micrec."""

import numpy as np
import pytest
import torch

from tests.micrec.test_models import HISTORY, N_ITEMS, item_columns, model_of, ragged, user_columns


def weights(model) -> dict[str, np.ndarray]:
    return {name: tensor.detach().double().numpy() for name, tensor in model.state_dict().items()}


def dense(w, name, x, activation=lambda z: z):
    return activation(x @ w[f"{name}.weight"].T + w[f"{name}.bias"])


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layer_norm(w, name, x):
    mean, var = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def mlp3(w, name, x):
    """The 3-layer MLP of paper 5.3, tanh on every layer."""
    for layer in (0, 2, 4):
        x = dense(w, f"{name}.{layer}", x, np.tanh)
    return x


def attention(q, k, v, heads, scale):
    d = q.shape[1] // heads
    out = []
    for h in range(heads):
        part = slice(h * d, (h + 1) * d)
        out.append(softmax(q[:, part] @ k[:, part].T * scale) @ v[:, part])
    return np.concatenate(out, axis=1)


def pooled(items, clicks):
    return items[clicks].mean(axis=0) if clicks else np.zeros(items.shape[1:])


def ican_user(w, items, user, clicks):
    """Eq. 6: MLP(Concat(Flatten(Transformer(F^b)), other fields)), standard block, field tokens (N5, N6)."""
    tokens = pooled(items, clicks)  # (F, D)
    q, k, v = np.split(dense(w, "blocks.0.qkv", tokens), 3, axis=1)
    attended = dense(w, "blocks.0.out", attention(q, k, v, 2, (q.shape[1] / 2) ** -0.5))
    tokens = layer_norm(w, "blocks.0.norm_attention", tokens + attended)
    hidden = dense(w, "blocks.0.feed_forward.0", tokens, lambda z: np.maximum(z, 0))
    tokens = layer_norm(w, "blocks.0.norm_feed_forward", tokens + dense(w, "blocks.0.feed_forward.2", hidden))
    return mlp3(w, "user_mlp", np.concatenate([tokens.ravel(), user.ravel()]))


def youtube_user(w, items, user, clicks):
    return mlp3(w, "user_mlp", np.concatenate([pooled(items, clicks).ravel(), user.ravel()]))


def youtube_item(w, item):
    """A linear map of the field concat; its output activation is the towers' tanh (N3, N21)."""
    return dense(w, "item_mlp.0", item.ravel(), np.tanh)


def deepfm_cell(w, side, fields):
    """FM interaction by a double loop, beside the MLP, then one linear map (N23)."""
    pairs = sum(fields[i] * fields[j] for i in range(len(fields)) for j in range(i + 1, len(fields)))
    deep = mlp3(w, f"{side}_cell.deep", fields.ravel())
    return dense(w, f"{side}_cell.out", np.concatenate([pairs, deep]))


def autoint_cell(w, side, fields):
    """The official cell: ReLU on Q, K, V and residual, scaled, + residual, ReLU, LayerNorm; twice; linear (N23)."""
    relu = lambda z: np.maximum(z, 0)  # noqa: E731
    for layer in range(2):
        name = f"{side}_cell.layers.{layer}"
        q, k, v = np.split(dense(w, f"{name}.qkv", fields, relu), 3, axis=1)
        attended = attention(q, k, v, 2, (q.shape[1] / 2) ** -0.5)
        fields = layer_norm(w, f"{name}.norm", relu(attended + dense(w, f"{name}.residual", fields, relu)))
    return dense(w, f"{side}_cell.out", fields.ravel())


def joined(items, user, clicks):
    return np.concatenate([pooled(items, clicks), user], axis=0)


USERS = {
    "ican": ican_user,
    "youtube_dnn": youtube_user,
    "deepfm": lambda w, items, user, clicks: deepfm_cell(w, "user", joined(items, user, clicks)),
    "autoint": lambda w, items, user, clicks: autoint_cell(w, "user", joined(items, user, clicks)),
    "fm": lambda w, items, user, clicks: joined(items, user, clicks).sum(axis=0),
}
ITEMS = {
    "ican": lambda w, item: mlp3(w, "item_mlp", item.ravel()),
    "youtube_dnn": youtube_item,
    "deepfm": lambda w, item: deepfm_cell(w, "item", item),
    "autoint": lambda w, item: autoint_cell(w, "item", item),
    "fm": lambda w, item: item.sum(axis=0),
}


@pytest.mark.parametrize("name", sorted(USERS))
def test_towers_follow_the_equations(name):
    model = model_of(name=name)
    w = weights(model)
    fields = model.embed_items(item_columns())
    items = fields.detach().double().numpy()
    users = model.user_fields(user_columns()).detach().double().numpy()
    item_emb = model.item_tower(fields).detach().numpy()
    user_emb = model.user_tower(user_columns(), ragged(HISTORY), fields).detach().numpy()
    for item in range(N_ITEMS):
        np.testing.assert_allclose(item_emb[item], ITEMS[name](w, items[item]), rtol=1e-4, atol=1e-5)
    for user, clicks in enumerate(HISTORY):
        np.testing.assert_allclose(user_emb[user], USERS[name](w, items, users[user], clicks), rtol=1e-4, atol=1e-5)


def test_initial_weights_are_those_of_icans_code():
    """Tables uniform in +-0.05, dense layers Xavier with bias 0.1, attention N(0, 0.02) with bias 0."""
    from micrec.config import ModelConfig
    from micrec.models import make_model
    from tests.micrec.test_models import item_specs, user_specs

    model = make_model(
        ModelConfig(), user_specs(), item_specs(), sparse=False, generator=torch.Generator().manual_seed(0)
    )
    tables = torch.cat([t.weight[1:].flatten() for t in model.item_fields.tables.values()])
    assert tables.abs().max() <= 0.05
    assert tables.std().item() == pytest.approx(0.05 / np.sqrt(3), rel=0.05)
    assert model.blocks[0].qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.blocks[0].qkv.bias.abs().sum() == 0
    first = model.user_mlp[0]
    bound = np.sqrt(6 / sum(first.weight.shape))
    assert first.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert (first.bias == 0.1).all()
