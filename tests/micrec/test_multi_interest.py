"""MIND and ComiRec against float64 loops over clicks and interests that share no code with micrec."""

import math

import numpy as np
import pytest
import torch

from micrec.losses.label_attention import label_attention
from micrec.models.columns import Ragged
from micrec.models.routing import route, squash
from tests.micrec.test_models import HISTORY, N_ITEMS, N_USERS, item_columns, model_of, ragged, user_columns
from tests.micrec.test_towers_reference import mlp3, softmax, weights

NAMES = ("mind", "comirec_dr", "comirec_sa")
LENGTH = 6  # of the models of ``model_of``


def slow_squash(z):
    length = math.sqrt(sum(x * x for x in z))
    return np.zeros_like(z) if length == 0 else z * (length**2 / (1 + length**2) / length)


def slow_capsules(clicks, maps, logits, n_interests, rounds):
    """Algorithm 1 of MIND: every click votes S_j e_i for every interest; logits (interest, click) over real clicks."""
    b = [[float(logits[j][i]) for i in range(len(clicks))] for j in range(n_interests)]
    votes = [[maps[j] @ click for click in clicks] for j in range(n_interests)]
    for done in range(rounds):
        capsules = []
        share = [[0.0] * len(clicks) for _ in range(n_interests)]
        for i in range(len(clicks)):
            total = sum(math.exp(b[j][i]) for j in range(n_interests))
            for j in range(n_interests):
                share[j][i] = math.exp(b[j][i]) / total
        for j in range(n_interests):
            z = np.zeros(len(maps[0]))
            for i in range(len(clicks)):
                z = z + share[j][i] * votes[j][i]
            capsules.append(slow_squash(z))
        if done + 1 < rounds:
            for j in range(n_interests):
                for i in range(len(clicks)):
                    b[j][i] += float(np.dot(capsules[j], votes[j][i]))
    return capsules


def slow_interests(model, w, clicks):
    """Capsules of one user by the equations; ``clicks`` are the tokens of their clicks, oldest first."""
    k, dim = model.interests, model.config.embedding_dim
    if model.config.name == "comirec_sa":
        if not clicks:
            return [np.zeros(dim)] * k
        places = range(LENGTH - len(clicks), LENGTH)
        hidden = [np.tanh(w["hidden.weight"] @ (e + w["positions"][t])) for e, t in zip(clicks, places, strict=True)]
        attention = [softmax(np.array([w["scores.weight"][j] @ h for h in hidden])) for j in range(k)]
        return [sum(a * e for a, e in zip(attention[j], clicks, strict=True)) for j in range(k)]
    maps = [w["maps"][0]] * k if model.config.name == "mind" else list(w["maps"])
    logits = w["logits"][:, LENGTH - len(clicks) :]
    n = max(1, min(k, int(math.log2(len(clicks))) if clicks else 0)) if model.options.adaptive_interests else k
    capsules = slow_capsules(clicks, maps, logits, n, model.options.routing_iterations)
    return capsules + [None] * (k - n)


@pytest.mark.parametrize(
    "switches",
    [{"name": name} for name in NAMES]
    + [
        {"name": "mind", "adaptive_interests": False, "routing_iterations": 1, "interests": 3},
        {"name": "comirec_dr", "routing_iterations": 5, "adaptive_interests": True},
        {"name": "comirec_sa", "interests": 1, "interest_hidden": 5},
    ],
)
def test_user_towers_follow_the_equations(switches):
    model = model_of(init_scale=0.7, **switches)
    w = weights(model)
    fields = model.embed_items(item_columns())
    tokens = fields.detach().double().numpy().mean(axis=1) * math.sqrt(8)
    profiles = model.user_fields(user_columns()).detach().double().numpy()
    found = model.user_tower(user_columns(), ragged(HISTORY), fields).detach().numpy()
    for user, history in enumerate(HISTORY):
        capsules = slow_interests(model, w, [tokens[i] for i in history])
        expected = [mlp3(w, "user_mlp", np.concatenate([c, profiles[user].ravel()])) for c in capsules if c is not None]
        expected += [expected[0]] * (model.interests - len(expected))  # copies of the first change no maximum
        np.testing.assert_allclose(found[user], np.stack(expected), rtol=1e-4, atol=1e-5)


def test_interests_differ():
    """Equal capsules would make K interests one: MIND needs its random logits, ComiRec its maps."""
    for name in NAMES:
        model = model_of(name=name, init_scale=0.7)
        users = model.user_tower(user_columns(), ragged(HISTORY), model.embed_items(item_columns()))
        longest = users[3]
        assert (longest[0] - longest[1]).abs().max() > 1e-3, name
    assert model_of(name="comirec_dr").logits.abs().sum() == 0
    assert torch.equal(model_of(name="mind").logits, model_of(name="mind").logits)  # a seed's, not a request's


def test_short_histories_have_fewer_interests():
    """K' = max(1, min(K, log2 of the clicks)), Eq. 9 of MIND."""
    model = model_of(name="mind")
    lengths = [0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 64]
    existing = model.existing(Ragged(torch.zeros(0), torch.tensor(np.cumsum([0, *lengths]))))
    assert existing.sum(dim=1).tolist() == [max(1, min(4, int(math.log2(n)))) if n else 1 for n in lengths]
    assert existing[:, 0].all()
    assert model_of(name="comirec_dr").existing(ragged(HISTORY)) is None


def test_squash_keeps_the_direction_and_stays_below_one():
    z = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    found = squash(z)
    for vector, short in zip(z.flatten(0, 1).numpy(), found.flatten(0, 1).numpy(), strict=True):
        np.testing.assert_allclose(short, slow_squash(vector), rtol=1e-6)
    zero = torch.zeros(2, 4, requires_grad=True)
    squash(zero).sum().backward()
    assert torch.isfinite(zero.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_padding_never_leaks(name):
    """What stands in the padding of a batch, other users' clicks or other items, changes nobody."""
    model = model_of(name=name, init_scale=0.7)
    fields = model.embed_items(item_columns())
    users = model.user_tower(user_columns(), ragged(HISTORY), fields)
    other = fields.clone()
    unread = [i for i in range(N_ITEMS) if i not in HISTORY[0]]
    other[unread] += 5.0  # item 0 is where padding points to; user 0 reads 0 and 3
    torch.testing.assert_close(model.user_tower(user_columns(), ragged(HISTORY), other)[0], users[0])
    poisoned = fields.clone()
    poisoned[0] += 5.0
    for user in (1, 2, 3):  # none of them clicked item 0
        found = model.user_tower(user_columns(), ragged(HISTORY), poisoned)[user]
        torch.testing.assert_close(found, users[user])


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_everything_that_is_learnt(name):
    """All but MIND's fixed logits, with empty histories in the batch; the routing's rounds give none."""
    model = model_of(name=name, init_scale=0.7)
    fields = model.embed_items(item_columns().take(torch.arange(N_ITEMS)))
    users = model.user_tower(user_columns(), ragged(HISTORY), fields)
    target = model.item_tower(fields)[:N_USERS]
    (model.readout(users, target, ragged(HISTORY)) * target).sum().square().backward()
    for key, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


def test_the_routing_weights_are_constants_to_the_gradient():
    """The published codes stop the gradient at the weights: only the last sum is differentiated."""
    generator = torch.Generator().manual_seed(0)
    clicks = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    maps = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    mask = torch.ones(2, 5, dtype=torch.bool)
    rounds = route(clicks, mask, maps, logits, None, 3)
    rounds.sum().backward()
    b = logits.expand(2, -1, -1).clone()
    with torch.no_grad():
        votes = torch.stack([clicks @ m.T for m in maps], dim=1)  # (B, K, T, D)
        for _ in range(2):
            u = squash((torch.softmax(b, dim=1).unsqueeze(3) * votes).sum(dim=2))
            b += (u.unsqueeze(2) * votes).sum(dim=3)
    fresh_clicks, fresh_maps = (x.detach().clone().requires_grad_() for x in (clicks, maps))
    votes = torch.stack([fresh_clicks @ m.T for m in fresh_maps], dim=1)
    last = squash((torch.softmax(b, dim=1).unsqueeze(3) * votes).sum(dim=2))
    last.sum().backward()
    torch.testing.assert_close(rounds, last)
    torch.testing.assert_close(clicks.grad, fresh_clicks.grad)
    torch.testing.assert_close(maps.grad, fresh_maps.grad)


@pytest.mark.parametrize("power", [1.0, 2.0, 3.5, math.inf])
def test_label_attention_by_loops(power):
    generator = torch.Generator().manual_seed(1)
    interests, target = torch.randn(6, 3, 4, generator=generator), torch.randn(6, 4, generator=generator)
    allowed = torch.tensor([[True, True, True]] * 4 + [[True, False, False], [True, True, False]])
    found = label_attention(interests, target, power=power, allowed=allowed).numpy()
    for row in range(6):
        real = [interests[row, j].double().numpy() for j in range(3) if allowed[row, j]]
        scores = [float(np.dot(v, target[row].double().numpy())) for v in real]
        if math.isinf(power):
            expected = real[int(np.argmax(scores))]
        else:
            shares = softmax(np.array([math.copysign(abs(s) ** power, s) for s in scores]))
            expected = sum(a * v for a, v in zip(shares, real, strict=True))
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-6)


def test_hard_attention_is_the_score_that_serves():
    """With an infinite power the clicked item's logit is the maximum over interests, and only that one learns."""
    interests = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(2), requires_grad=True)
    target = torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
    scores = (label_attention(interests, target, power=math.inf) * target).sum(dim=1)
    torch.testing.assert_close(scores, (interests @ target[:, :, None]).squeeze(2).amax(dim=1))
    scores.sum().backward()
    assert (interests.grad.abs().sum(dim=2) > 0).sum(dim=1).tolist() == [1] * 5


def test_label_attention_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) and target \(2, 5\) must have shapes \(B, K, D\) and"):
        label_attention(torch.zeros(2, 3, 4), torch.zeros(2, 5), power=1.0)
    for power in (0.5, math.nan):
        with pytest.raises(ValueError, match="power must be at least 1"):
            label_attention(torch.zeros(2, 3, 4), torch.zeros(2, 4), power=power)
