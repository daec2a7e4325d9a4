"""Whole towers in float64 NumPy, one user and one item at a time, from the equations; no code shared with micrec."""

import numpy as np
import pytest
import torch
from torch import nn

from micrec.models.afn import LogarithmicNeurons
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


def batch_norm(w, name, x):
    """By the running moments, per row of (channels, D)."""
    scale = w[f"{name}.weight"] / np.sqrt(w[f"{name}.running_var"] + 1e-5)
    return (x - w[f"{name}.running_mean"][:, None]) * scale[:, None] + w[f"{name}.bias"][:, None]


def afn_cell(w, side, fields):
    """Products of powers of the fields' sizes, neuron by neuron, then the MLP (Cheng et al. 2020, Eq. 7)."""
    name = f"{side}_cell.neurons"
    sizes = np.exp(batch_norm(w, f"{name}.norm_logs", np.log(np.maximum(np.abs(fields), 1e-4))))
    products = np.stack([np.prod(sizes ** powers[:, None], axis=0) for powers in w[f"{name}.powers.weight"]])
    return mlp3(w, f"{side}_cell.mlp", batch_norm(w, f"{name}.norm_products", products).ravel())


def joined(items, user, clicks):
    return np.concatenate([pooled(items, clicks), user], axis=0)


USERS = {
    "ican": ican_user,
    "youtube_dnn": youtube_user,
    "deepfm": lambda w, items, user, clicks: deepfm_cell(w, "user", joined(items, user, clicks)),
    "autoint": lambda w, items, user, clicks: autoint_cell(w, "user", joined(items, user, clicks)),
    "afn": lambda w, items, user, clicks: afn_cell(w, "user", joined(items, user, clicks)),
    "fm": lambda w, items, user, clicks: joined(items, user, clicks).sum(axis=0),
}
ITEMS = {
    "ican": lambda w, item: mlp3(w, "item_mlp", item.ravel()),
    "youtube_dnn": youtube_item,
    "deepfm": lambda w, item: deepfm_cell(w, "item", item),
    "autoint": lambda w, item: autoint_cell(w, "item", item),
    "afn": lambda w, item: afn_cell(w, "item", item),
    "fm": lambda w, item: item.sum(axis=0),
}


@pytest.mark.parametrize("name", sorted(USERS))
def test_towers_follow_the_equations(name):
    model = model_of(name=name)
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):  # moments as a training may leave them
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
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


def test_a_neuron_takes_in_the_fields_of_weight_one():
    """Weights of 1, 0 and 2 make e_1 e_3^2 out of three fields, whatever their signs."""
    neurons = LogarithmicNeurons(3, 1, normalised=False)
    neurons.powers.weight.data.copy_(torch.tensor([[1.0, 0.0, 2.0]]))
    fields = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(neurons(fields)[:, 0], fields[:, 0].abs() * fields[:, 2].square())


def test_neurons_are_normalised_over_the_batch_in_training():
    neurons = LogarithmicNeurons(3, 6, normalised=True).train()
    found = neurons(torch.randn(50, 3, 4, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(found.mean(dim=(0, 2)), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.var(dim=(0, 2), unbiased=False), torch.ones(6), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("dnn", "further"), [(False, 0), (True, 1)])
def test_afn_has_as_many_parameters_as_the_paper_says(dnn, further):
    """Each tower: F M powers, shift and scale per field and per neuron, the MLP 12, 8, 8 wide; AFN+: another MLP."""
    model = model_of(name="afn", neurons=5, dnn=dnn)

    def mlp(width):
        return (width + 1) * 12 + 13 * 8 + 9 * 8

    for cell, fields in ((model.item_cell, 4), (model.user_cell, 5)):
        expected = 5 * fields + 2 * fields + 2 * 5 + mlp(5 * 8) + further * (mlp(fields * 8) + 17 * 8)
        assert sum(parameter.numel() for parameter in cell.parameters()) == expected


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
