"""Temporal splits: the former clicks train, the latter test (paper 5.1)."""

from typing import NamedTuple

from micrec.config import SplitConfig
from micrec.data.dataset import Clicks
from micrec.data.times import LogDays
from micrec.errors import MicrecError

UTC_DAYS = LogDays()


class Split(NamedTuple):
    """Row boundaries in the time-ordered click log: train [0, n_train), validation [n_train, n_fit), test [n_fit, n).

    ``n_fit`` is where the test period starts; a model refitted after tuning trains on [0, n_fit).
    """

    n_train: int
    n_fit: int
    n: int

    @property
    def train(self) -> slice:
        return slice(0, self.n_train)

    @property
    def valid(self) -> slice:
        return slice(self.n_train, self.n_fit)

    @property
    def fit(self) -> slice:
        return slice(0, self.n_fit)

    @property
    def test(self) -> slice:
        return slice(self.n_fit, self.n)


def temporal_split(clicks: Clicks, config: SplitConfig, days: LogDays = UTC_DAYS) -> Split:
    """Cut the log by time order.

    With ``test_days`` the last days of the log are the test, as ``days`` cuts them, whether or not the last is whole;
    otherwise the last ``test_fraction`` of the clicks. The validation slice is the last ``valid_fraction`` of what
    precedes the test.

    Raises:
        MicrecError: If the train, validation or test part would be empty.
    """
    n = len(clicks)
    if config.test_days is not None:
        last = int(days.numbers(clicks.time_ms[-1:])[0]) if n else 0
        start_ms = days.start_ms(last - config.test_days + 1)
        n_fit = int(clicks.time_ms.searchsorted(start_ms, side="left"))
    else:
        n_fit = int(n * (1.0 - config.test_fraction) + 1e-9)
    n_train = int(n_fit * (1.0 - config.valid_fraction) + 1e-9)
    split = Split(n_train=n_train, n_fit=n_fit, n=n)
    parts = {"train": n_train, "test": n - n_fit}
    if config.valid_fraction > 0:
        parts["validation"] = n_fit - n_train
    for part, size in parts.items():
        if size <= 0:
            raise MicrecError(
                f"split: the {part} part is empty ({n:,} clicks; {n_train:,} train, {n_fit - n_train:,} validation, "
                f"{n - n_fit:,} test): lower split.test_days, split.test_fraction or split.valid_fraction."
            )
    return split
