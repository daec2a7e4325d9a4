"""What the channels have in common: keys, a version in a folder, and the item table they count over."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from micrec.errors import MicrecError
from simulator.arrays import load_arrays, save_arrays
from simulator.channels.lists import Ids, Lookup
from simulator.model_options import ModelOptions
from simulator.ports import Matcher, MatcherTrainer, ObservedLog, Requests

HOUR_S = 3_600.0


class ChannelConfig(ModelOptions):
    """Keys of every channel of plain arrays."""

    hide_recent: bool = Field(True, description="Whether items among the user's latest clicks are left out.")


K = TypeVar("K", bound=ChannelConfig)


class ChannelTrainer(ABC, Generic[K]):
    """A trainer whose versions are a few plain arrays; each is counted anew from the log, so none needs the last."""

    kind: ClassVar[str]

    def __init__(self, keys: K) -> None:
        self.keys = keys

    @abstractmethod
    def learn(self, log: ObservedLog) -> dict[str, NDArray]:
        """Everything that serving needs."""

    @abstractmethod
    def serve(self, arrays: Mapping[str, NDArray]) -> Matcher:
        """The model that these arrays are."""

    def train(self, log: ObservedLog, *, previous: Path | None, folder: Path, seed: int) -> None:
        """Write the version learnt from ``log``; see :class:`simulator.ports.MatcherTrainer`."""
        facts = {"keys": self.keys.model_dump(mode="json"), "now_s": log.now_s}
        save_arrays(folder, f"{self.kind} channel", self.learn(log), facts)

    def load(self, folder: Path) -> Matcher:
        """The model in ``folder``.

        Raises:
            MicrecError: If the folder is damaged, or of another channel.
        """
        return self.serve(load_arrays(folder, f"{self.kind} channel")[0])

    def hidden(self, requests: Requests) -> Ids:
        """Items that must not be in the lists, -1 as padding, shape (B, H)."""
        return requests.recent_items if self.keys.hide_recent else requests.recent_items[:, :0]


class Channel(NamedTuple):
    """A kind of channel.

    Attributes:
        config: Its keys, written under ``options`` in a pipeline.
        trainer: Makes of these keys a :class:`simulator.ports.MatcherTrainer`, which learns a version from a log and
            serves it; or where that is, ``module:name``, imported only when a version is made.
        serves_arm_model: Whether an experiment's arms fill in its options with their model: ``preset``, ``config`` and
            ``serving``, so that a scenario writes none.
    """

    config: type[ModelOptions]
    trainer: str | Callable[[Any], MatcherTrainer]
    serves_arm_model: bool = False


class ItemStats:
    """The published items of a log in order of their ids, and what is counted of them; n items."""

    def __init__(self, log: ObservedLog) -> None:
        self._log = log
        self._frame = log.items.sort("item_id")
        self.ids: Ids = self._frame["item_id"].cast(pl.Int64).to_numpy()
        self.lookup = Lookup(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def field(self, name: str) -> pl.Series:
        """A column of the item table, in order of the ids.

        Raises:
            MicrecError: If there is none of that name.
        """
        if name not in self._frame.columns:
            others = ", ".join(self._frame.columns)
            raise MicrecError(f"the item table has no column {name}: name one of {others}, or leave the channel out.")
        return self._frame[name]

    @cached_property
    def age_s(self) -> NDArray[np.float64]:
        """Seconds since publication, shape (n,)."""
        moment_s = self._log.start_s + self._log.now_s
        return np.maximum(moment_s - self.field("published").cast(pl.Float64).to_numpy(), 0.0)

    def clicks(self, half_life_h: float = np.inf) -> NDArray[np.float64]:
        """Clicks of each item, one that is ``half_life_h`` old counted half, shape (n,)."""
        clicks = self._log.clicks
        return self._count(clicks["item_id"], _weights(self._log, clicks["timestamp"], half_life_h))

    def impressions(self) -> NDArray[np.float64]:
        """Times that each item was shown, shape (n,)."""
        return self._count(self._log.impressions["item_id"], None)

    def impression_clicks(self) -> NDArray[np.float64]:
        """Times that each item was clicked when it was shown, shape (n,)."""
        impressions = self._log.impressions
        return self._count(impressions["item_id"], impressions["clicked"].cast(pl.Float64).to_numpy())

    def _count(self, items: pl.Series, weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
        rows = self.lookup.rows(items.cast(pl.Int64).to_numpy())
        known = rows >= 0
        if weights is not None:
            weights = weights[known]
        return np.bincount(rows[known], weights, minlength=len(self)).astype(np.float64)


def _weights(log: ObservedLog, timestamps: pl.Series, half_life_h: float) -> NDArray[np.float64]:
    age_h = (log.start_s + log.now_s - timestamps.cast(pl.Float64).to_numpy()) / HOUR_S
    return np.exp2(-np.maximum(age_h, 0.0) / half_life_h)
