"""A world's days run from four to four, and ``test_days`` counts them."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from micrec.config import SessionsConfig, SplitConfig
from micrec.data.describe import describe
from micrec.data.split import temporal_split
from micrec.data.store import read_dataset
from simulator.world.generate import generate_world
from tests.simulator.worlds import small_config


@pytest.mark.parametrize("n_days", [1, 2, 5])
def test_test_days_of_a_world_are_whole_days(tmp_path: Path, n_days: int) -> None:
    """Against a clock four hours back: the last days are whole, none a stub of the four hours after midnight."""
    generate_world(small_config(), tmp_path / "w")
    dataset = read_dataset(tmp_path / "w")
    assert dataset.schema.day_starts_at == "04:00"
    epoch = datetime(1970, 1, 1)
    shifted = [(epoch + timedelta(milliseconds=int(t), hours=-4)).date() for t in dataset.clicks.time_ms]
    days, counts = np.unique(shifted, return_counts=True)
    split = temporal_split(dataset.clicks, SplitConfig(test_days=n_days), dataset.schema.days)
    assert split.n - split.n_fit == counts[-n_days:].sum()
    assert counts[-1] > 0.5 * counts[:-1].mean()
    assert len(days) == 14
    statistics = describe(dataset, SplitConfig(test_days=n_days), SessionsConfig())
    assert (statistics.test, statistics.notes) == (counts[-n_days:].sum(), ())
