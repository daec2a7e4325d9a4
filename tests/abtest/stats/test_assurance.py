"""What a test will bring, against draws of tests and their true lifts."""

import numpy as np
import pytest

from abtest.stats.assurance import assurance


@pytest.mark.parametrize(("mean", "sd", "se"), [(0.0, 0.02, 0.01), (0.005, 0.01, 0.02), (-0.01, 0.005, 0.004)])
def test_against_draws(mean, sd, se):
    rng = np.random.default_rng(1)
    true = rng.normal(mean, sd, 2_000_000)
    found = rng.normal(true, se)
    ships = found > 1.959964 * se
    expected = assurance(mean, sd, se)
    assert expected.ships == pytest.approx(ships.mean(), abs=0.002)
    assert expected.stops == pytest.approx((found < -1.959964 * se).mean(), abs=0.002)
    assert expected.mean_shipped == pytest.approx(true[ships].mean(), abs=3 * true[ships].std() / ships.sum() ** 0.5)
    wrongly = (true[ships] < 0).mean()
    assert expected.wrongly_shipped == pytest.approx(wrongly, abs=3 * (wrongly / ships.sum()) ** 0.5 + 1e-6)


def test_limits():
    assert assurance(0.0, 0.0, 0.01).ships == pytest.approx(0.025)
    assert assurance(0.0, 0.0, 0.01).mean_shipped == 0.0
    assert assurance(1.0, 0.1, 0.001).ships == pytest.approx(1.0)
    with pytest.raises(ValueError, match="se > 0"):
        assurance(0.0, 0.1, 0.0)
