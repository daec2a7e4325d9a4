"""Serving worse costs clicks and visits, serving better brings them; the whole table is bench_handicaps.py."""

import numpy as np
import pytest

from tests.benchmarks.bench_handicaps import lifts, study

WORSE = ("random ranking", "ranking always late", "half of the requests abandoned", "no answer at all")
BETTER = ("a channel that knows tastes", "ranking by true worth")


@pytest.fixture(scope="module")
def found():
    return study(3, ["control", *WORSE, *BETTER], 300, 400)


def clear(change: np.ndarray) -> float:
    """Mean over worlds in its own standard errors."""
    return float(change.mean() / max(change.std(ddof=1) / np.sqrt(len(change)), 1e-9))


@pytest.mark.parametrize("variant", WORSE)
def test_serving_worse_costs_clicks_visits_and_satisfaction(found, variant):
    assert clear(lifts(found, variant, "clicks")) < -2
    for figure in ("visits", "stay", "satisfaction"):
        assert lifts(found, variant, figure).mean() < 0, figure


def test_failures_cost_much_and_in_order(found):
    visits = {variant: lifts(found, variant, "visits").mean() for variant in WORSE}
    assert visits["no answer at all"] < visits["half of the requests abandoned"] < visits["random ranking"]
    assert visits["no answer at all"] < -0.15


@pytest.mark.parametrize("variant", BETTER)
def test_serving_better_brings_dwell_visits_and_satisfaction(found, variant):
    for figure in ("dwell", "visits", "stay", "satisfaction"):
        assert lifts(found, variant, figure).mean() > 0, figure
