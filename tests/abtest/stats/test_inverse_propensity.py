"""Off-policy estimators against loops, against what they promise, and by simulation of a bandit of known truth."""

import numpy as np
import pytest
from scipy import stats

from abtest.stats.inverse_propensity import off_policy_values, overlap

ACTIONS = 5


def bandit(rng, users, *, explore=0.5, per_user=6):
    """Choices of users with tastes of their own: reward, weight, user, and the true value of the policy in question.

    The logging policy takes action 0 with 1 - explore and each other with explore / 4; the policy in question takes
    action 1 + context. The truth is the mean over an infinite population, by the law that draws the rewards.
    """
    user = np.repeat(np.arange(users), per_user)
    context = rng.integers(0, 2, len(user))
    liking = rng.beta(2.0, 6.0, users)[user]
    action = np.where(rng.random(len(user)) < explore, rng.integers(1, ACTIONS, len(user)), 0)
    chance = np.where(action == 0, 1.0 - explore, explore / (ACTIONS - 1))
    wanted = 1 + context
    click = (rng.random(len(user)) < liking * (0.5 + 0.25 * action)).astype(float)
    weight = (action == wanted) / chance
    truth = 0.25 * np.mean([0.75, 1.0])
    model = 0.2 + 0.05 * action, 0.2 + 0.05 * wanted  # a wrong one, which DR must survive
    return click, weight, user, truth, model


def test_against_loops():
    """Values and errors by the definitions, written as loops over users."""
    rng = np.random.default_rng(0)
    reward, weight, user, _, (q, m) = bandit(rng, 30)
    found = {
        one.method: one for one in off_policy_values(reward, weight, user, model_logged=q, model_policy=m, alpha=0.1)
    }
    n, users = len(reward), 30
    ips = sum(w * r for w, r in zip(weight, reward, strict=True)) / n
    snips = sum(w * r for w, r in zip(weight, reward, strict=True)) / sum(weight)
    dr = sum(b + w * (r - a) for a, b, w, r in zip(q, m, weight, reward, strict=True)) / n
    assert found["IPS"].value == pytest.approx(ips)
    assert found["SNIPS"].value == pytest.approx(snips)
    assert found["DR"].value == pytest.approx(dr)
    squares = 0.0
    for one in range(users):
        rows = user == one
        squares += sum(weight[rows] * (reward[rows] - snips)) ** 2
    se = np.sqrt(users / (users - 1) * squares) / sum(weight)
    assert found["SNIPS"].se == pytest.approx(se)
    half = stats.t.ppf(0.95, users - 1) * se
    assert found["SNIPS"].ci == pytest.approx((snips - half, snips + half))


def test_one_choice_per_user_is_the_plain_standard_error():
    rng = np.random.default_rng(1)
    reward, weight, user, *_ = bandit(rng, 500, per_user=1)
    found = off_policy_values(reward, weight, user)[0]
    assert found.se == pytest.approx(stats.sem(weight * reward))


def test_intervals_hold_the_truth():
    """400 logs of 300 users: each 95 % interval holds the true value about 95 times in 100."""
    rng, runs = np.random.default_rng(2), 400
    hits, values = {"IPS": 0, "SNIPS": 0, "DR": 0}, {"IPS": [], "SNIPS": [], "DR": []}
    for _ in range(runs):
        reward, weight, user, truth, (q, m) = bandit(rng, 300)
        for one in off_policy_values(reward, weight, user, model_logged=q, model_policy=m):
            hits[one.method] += one.ci[0] <= truth <= one.ci[1]
            values[one.method].append(one.value)
    low, high = stats.binom.ppf([0.001, 0.999], runs, 0.95)
    for method, count in hits.items():
        assert low <= count <= high, method
        assert np.mean(values[method]) == pytest.approx(truth, abs=4 * np.std(values[method]) / np.sqrt(runs))
    assert np.std(values["SNIPS"]) < np.std(values["IPS"])


def test_users_taken_as_independent_choices_would_promise_too_much():
    """The reason for intervals over users: six choices of one user are not six users."""
    rng = np.random.default_rng(3)
    wide = narrow = 0.0
    for _ in range(20):
        liking = np.repeat(rng.beta(0.5, 0.5, 200), 20)
        reward = (rng.random(4000) < liking).astype(float)
        user = np.repeat(np.arange(200), 20)
        wide += off_policy_values(reward, np.ones(4000), user)[0].se
        narrow += off_policy_values(reward, np.ones(4000), np.arange(4000))[0].se
    assert wide > 2.5 * narrow


def test_snips_moves_with_the_rewards_and_ips_does_not():
    """Equivariance: a reward that is 10 higher everywhere makes SNIPS 10 higher (Swaminathan & Joachims 2015)."""
    reward, weight, user, *_ = bandit(np.random.default_rng(4), 100)
    before, after = off_policy_values(reward, weight, user), off_policy_values(reward + 10, weight, user)
    assert after[1].value == pytest.approx(before[1].value + 10)
    assert after[0].value != pytest.approx(before[0].value + 10, abs=0.01)


def test_a_right_model_makes_dr_less_noisy():
    rng = np.random.default_rng(5)
    reward, weight, user, *_ = bandit(rng, 2000)
    plain = off_policy_values(reward, weight, user)[0]
    same = off_policy_values(reward, weight, user, model_logged=np.zeros(12000), model_policy=np.zeros(12000))[2]
    assert same.value == pytest.approx(plain.value)
    perfect = off_policy_values(reward, weight, user, model_logged=reward, model_policy=np.full(12000, 0.2))[2]
    assert perfect.value == pytest.approx(0.2)
    assert perfect.se < 0.01 * plain.se


def test_warnings_where_the_log_says_little():
    weight, user = np.zeros(1000), np.arange(1000)
    weight[:3] = 50.0
    found = overlap(weight, user, np.full(1000, 0.4))
    assert found.effective == pytest.approx(3.0)
    assert found.matched == 3
    assert [text.split()[0] for text in found.warnings] == ["the", "60.0%", "one"]
    assert overlap(np.ones(1000), user, np.ones(1000)).warnings == ()


def test_nothing_shared_has_no_value():
    found = {one.method: one for one in off_policy_values(np.ones(4), np.zeros(4), np.arange(4))}
    assert found["SNIPS"].value is None
    assert found["SNIPS"].ci is None
    assert found["IPS"].value == 0.0


@pytest.mark.parametrize(
    ("reward", "weight", "users", "text"),
    [([], [], [], "one reward"), ([1.0], [1.0, 2.0], [0], "one reward"), ([1.0], [np.inf], [0], "finite")],
)
def test_bad_input(reward, weight, users, text):
    with pytest.raises(ValueError, match=text):
        off_policy_values(reward, weight, users)
