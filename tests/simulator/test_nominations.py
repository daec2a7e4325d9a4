"""What ranking reads of matching: the same numbers in training and in service, and a channel that knows is heard."""

import numpy as np
import polars as pl
import pytest

from simulator.ports import Nominations
from simulator.ranking.nominations import NominationTable, nomination_columns, nomination_names

CHANNELS = ("a", "b")


def test_service_scores_what_training_saw():
    """The table gives the weighted sum of the features, for every channel and place, known or not."""
    shown = pl.DataFrame({"channel": ["a", "b", "a", "fallback", "new"], "channel_place": [0, 7, 5_000, -1, 3]})
    weights = dict(zip(nomination_names(CHANNELS), (0.3, 0.9, -0.2, 0.4), strict=True))
    expected = nomination_columns(shown, CHANNELS) @ np.array(list(weights.values()))
    names = ("new", "b", "a")
    number = {"new": 0, "b": 1, "a": 2, "fallback": -2}
    nominations = Nominations(
        names,
        np.array([[number[name] for name in shown["channel"]]], np.int8),
        shown["channel_place"].to_numpy()[None].astype(np.int16),
    )
    found = NominationTable(weights, CHANNELS).score(nominations)
    assert found[0] == pytest.approx(expected, abs=1e-6)


def test_a_higher_place_counts_more():
    columns = nomination_columns(pl.DataFrame({"channel": ["a"] * 3, "channel_place": [0, 1, 9]}), CHANNELS)
    assert columns[:, 0].tolist() == [1.0, 1.0, 1.0]
    assert columns[0, 1] == 1.0
    assert np.all(np.diff(columns[:, 1]) < 0)
    assert not columns[:, 2:].any()
