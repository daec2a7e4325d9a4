"""The truth of methods: intervals over trainings and users, against a simulation of both kinds of luck."""

import numpy as np
import polars as pl
import pytest

from abtest.online.methods import method_lifts, methods_section

TRAININGS, USERS = 3, 400


def worlds(rng, mean, training_sd):
    """User-days of the worlds of an arm's trainings, whose quality differs by ``training_sd``."""
    shared = rng.gamma(2.0, 0.5, USERS)  # what a user is like in every world
    found = []
    for _ in range(TRAININGS):
        clicks = mean * (1.0 + training_sd * rng.standard_normal()) * shared + 0.3 * rng.standard_normal(USERS)
        found.append(pl.DataFrame({"user_id": np.arange(USERS), "day": 1, "clicks": clicks, "dwell_s": clicks}))
    return found


@pytest.mark.parametrize("training_sd", [0.0, 0.05])
def test_interval_holds_the_lift_of_the_methods(training_sd):
    """19 times in 20, whether trainings differ or not; two models alone would miss it where they do."""
    rng, hits, runs = np.random.default_rng(0), 0, 400
    for _ in range(runs):
        state = rng.bit_generator.state
        control = worlds(rng, 1.0, training_sd)
        rng_users = np.random.default_rng()
        rng_users.bit_generator.state = state  # the same users in both arms
        treatment = worlds(rng_users, 1.1, training_sd) if training_sd == 0.0 else worlds(rng, 1.1, training_sd)
        low, high = method_lifts(control, treatment, "T", users=None, alpha=0.05)[0].ci
        hits += low <= 0.1 <= high
    assert 0.92 * runs <= hits <= runs


def test_hand_made_lift():
    """Two trainings of 1 and 3 clicks against 2 and 4: means 2 and 3, a lift of 1/2."""

    def world(*clicks):
        return pl.DataFrame({"user_id": np.arange(len(clicks)), "clicks": clicks, "dwell_s": clicks})

    found = method_lifts(
        [world(1.0, 1.0), world(3.0, 3.0)], [world(2.0, 2.0), world(4.0, 4.0)], "T", users=None, alpha=0.05
    )[0]
    assert found.lift == pytest.approx(0.5)
    assert found.pairs == pytest.approx((1.0, 1 / 3))
    assert found.user_se == 0.0
    assert found.training_se == pytest.approx(np.sqrt(0.5 / 2) / 2)  # pairs differ from 1.5 times control by ±.5


def test_luck_that_both_arms_share_is_no_noise():
    """Trainings that are good or bad in both arms alike leave the lift as it is."""
    rng, shared = np.random.default_rng(2), np.random.default_rng(3).gamma(2.0, 0.5, USERS)

    def world(mean, luck):
        clicks = mean * luck * shared
        return pl.DataFrame({"user_id": np.arange(USERS), "clicks": clicks, "dwell_s": clicks})

    lucks = 1.0 + 0.2 * rng.standard_normal(TRAININGS)
    control, treatment = ([world(mean, luck) for luck in lucks] for mean in (1.0, 1.1))
    found = method_lifts(control, treatment, "T", users=None, alpha=0.05)[0]
    assert found.lift == pytest.approx(0.1)
    assert found.training_se == pytest.approx(0.0, abs=1e-9)


def test_only_users_of_every_world_count():
    def world(users):
        return pl.DataFrame({"user_id": np.arange(users), "clicks": np.arange(users) + 1.0, "dwell_s": np.ones(users)})

    whole = method_lifts([world(10), world(5)], [world(10), world(5)], "T", users=5, alpha=0.05)[0]
    assert whole.lift == pytest.approx(0.0)
    assert whole.training_se == pytest.approx(0.0)


def test_report_keeps_models_and_methods_apart():
    rng = np.random.default_rng(1)
    lifts = method_lifts(worlds(rng, 1.0, 0.05), worlds(rng, 1.1, 0.05), "MicRec", users=None, alpha=0.05)
    section = methods_section(lifts, {("ACC", "MicRec"): (0.02, (0.01, 0.03))}, 0.05)
    assert {"these two models [95 %]", "the two methods [95 %]"} <= set(section.tables[0].header)
    assert "+2.00 % [+1.00, +3.00]" in section.tables[0].rows[0]
