"""All that the platform asks of matching and ranking models, and all that it lets them see.

The platform knows only these shapes; a scenario wires real models behind them. Whatever a trainer learns from comes
through :class:`ObservedLog`: tables that a platform could have logged, never the hidden truth of the world.

Shape letters: B requests, K candidates of a channel, C candidates to rank, H history, N items.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

HISTORY = 20  # latest clicks that a request carries, as in the paper
NO_FOLLOWS: NDArray[np.int64] = np.empty((0, 0), np.int64)


class Requests(NamedTuple):
    """A batch of requests, as a model may see them."""

    user_ids: NDArray[np.int64]  # (B,) ids of the world
    recent_items: NDArray[np.int64]  # (B, H) latest clicks, newest first, -1 as padding
    now_s: NDArray[np.float64]  # (B,) seconds since the start of the log
    keys: NDArray[np.uint64]  # (B,) key of every draw a model makes for the request, such as exploration
    follows: NDArray[np.int64] = NO_FOLLOWS  # (B, H) latest items whose provider was followed, newest first; or (0, 0)


class Candidates(NamedTuple):
    """Lists of items, best first."""

    items: NDArray[np.int64]  # (B, K), -1 as padding at the end of a row
    scores: NDArray[np.float32]  # (B, K), never rising along a row; -inf beside padding


class Matcher(Protocol):
    """A matching channel's model."""

    def retrieve(self, requests: Requests, k: int) -> Candidates:
        """The ``k`` best items for each request; rows are padded where there are fewer."""


class Announced(NamedTuple):
    """Items that are published by the end of a day, n of them."""

    items: NDArray[np.int64]  # (n,) ids
    at_s: NDArray[np.float64]  # (n,) moment of publication, seconds since the start of the log


@runtime_checkable
class LiveMatcher(Matcher, Protocol):
    """A matching channel's model that also offers what has been published since it was trained."""

    def announce(self, announced: Announced) -> None:
        """Called each morning, before the day's first request; no item may be offered before its moment."""


class Nominations(NamedTuple):
    """Which channel brought each candidate, and how highly it ranked it."""

    names: tuple[str, ...]  # of the channels
    channel: NDArray[np.int8]  # (B, C) number in ``names``; below 0: none, or the fallback list
    place: NDArray[np.int16]  # (B, C) place in that channel's list, from 0


class Ranker(Protocol):
    """The ranking model."""

    def score(self, requests: Requests, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores of candidates, shape (B, C); -inf where ``items`` (B, C) is -1."""


@runtime_checkable
class NominationRanker(Ranker, Protocol):
    """A ranking model that also reads what matching thought of the candidates."""

    def score_nominated(
        self, requests: Requests, items: NDArray[np.int64], nominations: Nominations
    ) -> NDArray[np.float32]:
        """Scores of candidates, shape (B, C); -inf where ``items`` (B, C) is -1."""


@dataclass(frozen=True)
class ObservedLog:
    """What the platform has logged up to a moment: the only thing that trainers see.

    Attributes:
        users: ``user_id`` and the fields of the user table.
        items: ``item_id`` and the fields of the item table, of the items published by then.
        clicks: ``user_id, item_id, timestamp`` (s), ``dwell_s, like, follow``; in time order.
        impressions: Slates shown: ``user_id, item_id, timestamp`` (s), ``position``, ``channel`` that brought the item,
            ``channel_place`` in its list (from 0), ``clicked``; in time order.
        now_s: The moment, seconds since the start of the log.
        start_s: Start of the log, seconds since 1970-01-01 UTC: ``timestamp - start_s`` compares with ``now_s``.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    clicks: pl.DataFrame
    impressions: pl.DataFrame
    now_s: float
    start_s: int


class MatcherTrainer(Protocol):
    """Makes one version of a matching model after another."""

    def train(self, log: ObservedLog, *, previous: Path | None, folder: Path, seed: int) -> None:
        """Write the model learnt from ``log`` to ``folder`` (new), warm-started from the one in ``previous``."""

    def load(self, folder: Path) -> Matcher:
        """The model in ``folder``.

        Raises:
            MicrecError: If the folder is damaged.
        """


class RankerTrainer(Protocol):
    """Makes one version of the ranking model after another."""

    def train(self, log: ObservedLog, *, previous: Path | None, folder: Path, seed: int) -> None:
        """Write the model learnt from ``log`` to ``folder`` (new), warm-started from the one in ``previous``."""

    def load(self, folder: Path) -> Ranker:
        """The model in ``folder``.

        Raises:
            MicrecError: If the folder is damaged.
        """
