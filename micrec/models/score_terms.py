"""What a score has beside the dot product of the towers: a prior of the item, and a term for the user's own items.

    score(u, i) = <u, d_i> + prior_i(day) + [i in the history of u] (a log(1 + c_ui) + b)

c_ui counts the user's clicks on the item, which fade if ``model.half_life_days`` says so. A prior is one more dimension
of the item vectors, which users meet with a 1; serving refreshes it. The personal term touches the user's own items
alone: serving adds them to what the index finds, and the list is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from micrec.data.popularity_forecast import Forecast, ForecastPopularity
from micrec.data.recency import DriftingPopularity
from micrec.models.columns import Ragged
from micrec.models.counted import place_of, weight_of
from micrec.models.padded import PaddedRows
from micrec.models.table import EmbeddingTable

COUNT_START, ONCE_START, DRIFT_START = 2.0, 0.5, 0.5  # in units of the softmax temperature
FORECAST_START = 1.0  # of a forecast's weight, which says itself how often an item is clicked
BIAS_START = 0.3  # of log(1 + clicks), in the same unit


class PersonalTerm(nn.Module):
    """a log(1 + c) + b for an item that the user has clicked c times; a and b are learned."""

    def __init__(self) -> None:
        super().__init__()
        self.by_count = nn.Parameter(torch.tensor(COUNT_START))
        self.once = nn.Parameter(torch.tensor(ONCE_START))

    def forward(self, counts: Tensor) -> Tensor:
        """The term for counts of any shape."""
        return self.by_count * torch.log1p(counts) + self.once

    @torch.no_grad()
    def start(self, temperature: float) -> None:
        """Start values for scores that are divided by ``temperature``."""
        self.by_count.fill_(COUNT_START * temperature)
        self.once.fill_(ONCE_START * temperature)


class ItemPrior(nn.Module):
    """A learned bias for each item, and a learned weight of its popularity of late; either may be missing.

    Args:
        ids: Rows of the bias, one per item and row 0 for items without training clicks; None: no bias.
        drifts: Whether there is a weight of the popularity.
        half_lives: Half-lives that a forecast of the popularity reads; 0: it is no forecast.
        words: Whether the forecast reads the words of titles.
        sparse: Whether the bias gives row-sparse gradients.
    """

    half_life_weights: Tensor | None
    word_weights: Tensor | None

    def __init__(
        self, ids: int | None, *, drifts: bool, half_lives: int = 0, words: bool = False, sparse: bool = False
    ) -> None:
        super().__init__()
        nothing = torch.Generator().manual_seed(0)
        self.bias = None if ids is None else EmbeddingTable(ids, 1, sparse=sparse, init_scale=0.0, generator=nothing)
        self.drift = nn.Parameter(torch.tensor(DRIFT_START)) if drifts else None
        self.register_buffer("half_life_weights", torch.zeros(half_lives + 1) if half_lives else None)
        self.register_buffer("word_weights", torch.zeros(1) if words else None)

    @property
    def forecast(self) -> Forecast | None:
        """What the model knows of the popularity to come; None where its popularity is no forecast."""
        if self.half_life_weights is None:
            return None
        words = self.half_life_weights.new_zeros(1) if self.word_weights is None else self.word_weights
        return Forecast(self.half_life_weights, words)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """There are as many weights of words as the stored model has."""
        stored = state_dict.get(f"{prefix}word_weights")
        if stored is not None and self.word_weights is not None:
            self.word_weights = torch.zeros_like(stored, device=self.word_weights.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def biases(self, codes: Tensor | None) -> Tensor | None:
        """Biases of n items, shape (n,), by the codes of their ids (n,), int64; None if there are none."""
        return None if self.bias is None or codes is None else self.bias(codes).squeeze(1)

    def forward(self, codes: Tensor | None, popularity: Tensor) -> Tensor:
        """Priors on m days, shape (n, m), by the codes of the items' ids (n,) and their popularity (n, m)."""
        prior = torch.zeros_like(popularity) if self.drift is None else self.drift * popularity
        biases = self.biases(codes)
        return prior if biases is None else prior + biases[:, None]

    @torch.no_grad()
    def start(self, clicks: Tensor, temperature: float, forecast: Forecast | None = None) -> None:
        """Start values from the training clicks of every item, shape (N,), and the forecast that these gave."""
        if forecast is not None and self.half_life_weights is not None and self.drift is not None:
            self.half_life_weights.copy_(forecast.weights)
            if self.word_weights is not None:
                self.word_weights = forecast.word_weights.to(self.word_weights)
            self.drift.fill_(FORECAST_START * temperature)
            return  # a bias begins at 0: what it would say is in the forecast
        if self.bias is not None:
            logs = torch.log1p(torch.cat([clicks.new_zeros(1), clicks]).float())
            self.bias.weight.copy_((BIAS_START * temperature * (logs - logs[1:].mean()))[:, None])
        if self.drift is not None:
            self.drift.fill_(DRIFT_START * temperature)


@dataclass(frozen=True)
class ScoreTerms:
    """The terms of B users in one training step, asked for by item ids.

    Attributes:
        counted: Distinct items of each user's history, with the personal term as weights; None: no such term.
        biases: Biases of items by their ids, in any shape; None: no bias.
        drift: The weight of the popularity; None: no such term.
        popularity: Popularity of the items on any day.
        days: The day of each user, shape (B,).
        n_items: N.
    """

    n_items: int
    counted: Ragged | PaddedRows | None = None
    biases: Callable[[Tensor], Tensor] | None = None
    drift: Tensor | None = None
    popularity: DriftingPopularity | ForecastPopularity | None = None
    days: Tensor | None = None

    def add(self, scores: Tensor, items: Tensor) -> Tensor:
        """``scores`` (B, K) of every user with the same items (K,), repeats allowed, plus the terms."""
        if self.drift is not None and self.popularity is not None and self.days is not None:
            scores = torch.addcmul(scores, self.drift, self.popularity.grid(self.days, items, within=True))
        if self.biases is not None:
            scores = scores + self.biases(items)
        if self.counted is None or len(self.counted.values) == 0:
            return scores
        if isinstance(self.counted, PaddedRows):
            return scores + self._own_of_columns(self.counted, items)
        distinct, place = torch.unique(items, return_inverse=True)
        column = torch.searchsorted(distinct, self.counted.values).clamp_max(len(distinct) - 1)
        met = distinct[column] == self.counted.values
        where, terms = (self.counted.rows[met], column[met]), self._own[met]
        if len(distinct) == len(items) and torch.equal(distinct, items):
            return scores.index_put(where, terms, accumulate=True)
        return scores + scores.new_zeros(len(scores), len(distinct)).index_put(where, terms)[:, place]

    def pairs(self, rows: Tensor, items: Tensor) -> Tensor:
        """The terms of each user, by row, and the item beside it, in the shape of both."""
        total = torch.zeros(items.shape, device=items.device)
        if self.drift is not None and self.popularity is not None and self.days is not None:
            total = total + self.drift * self.popularity.pairs(self.days[rows], items)
        if self.biases is not None:
            total = total + self.biases(items)
        if self.counted is None or len(self.counted.values) == 0:
            return total
        if isinstance(self.counted, PaddedRows):
            return total + weight_of(self.counted, rows if rows.dim() == 1 else rows[:, 0], items)
        place = place_of(self.counted, rows, items, self.n_items)
        return total + torch.where(place >= 0, self._own[place.clamp_min(0)], 0.0)

    def of_all(self, items: Tensor, place: Tensor) -> dict[str, Any]:
        """The terms with distinct, ascending items (K,), as ``catalogue_softmax`` takes them.

        ``place`` says where every item stands among them, (N,), int64, -1 where it does not.
        """
        found: dict[str, Any] = {}
        if self.biases is not None:
            found["bias"] = self.biases(items)
        if self.drift is not None and self.popularity is not None and self.days is not None:
            popularity, days = self.popularity, self.days
            chosen = None if len(items) == self.n_items else items  # ascending: the whole catalogue
            found["drift"] = self.drift
            found["popularity"] = lambda rows, out: popularity.grid(days[rows], chosen, within=True, out=out)
        if isinstance(self.counted, PaddedRows):
            found["own"] = self._own_of_all(self.counted, place)
        elif self.counted is not None and len(self.counted.values):
            column = place[self.counted.values]
            met = column >= 0
            rows, terms = self.counted.rows, self._own
            found["own"] = (rows, column, terms) if bool(met.all()) else (rows[met], column[met], terms[met])
        return found

    def _own_of_columns(self, counted: PaddedRows, items: Tensor) -> Tensor:
        """The personal terms with the same items (K,), repeats allowed, shape (B, K); each by one of its columns."""
        n = len(items)
        places = torch.arange(n, device=items.device)
        chosen = items.new_full((self.n_items,), n).scatter_(0, items, places)
        column = chosen[torch.where(counted.mask, counted.ids, 0)].masked_fill(~counted.mask, n)
        found = counted.shares.new_zeros(len(column), n + 1).scatter_add(1, column, counted.shares)
        return found[:, chosen[items]]  # the last column is nobody's

    @staticmethod
    def _own_of_all(counted: PaddedRows, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, columns and personal terms, a term of 0 where a place of a row holds none of the items."""
        column = place[torch.where(counted.mask, counted.ids, 0)]
        met = counted.mask & (column >= 0)
        column = column.clamp_min(0)
        rows = torch.arange(len(column), device=column.device)[:, None].expand_as(column)
        return rows.flatten(), column.flatten(), torch.where(met, counted.shares, 0.0).flatten()

    @property
    def _own(self) -> Tensor:
        assert self.counted is not None
        assert self.counted.weights is not None
        return self.counted.weights

    def expanded(self, rows: Tensor) -> "ScoreTerms":
        """The same for users that stand for the given rows, repeats allowed."""
        counted = None if self.counted is None else self.counted.take(rows)
        return replace(self, counted=counted, days=None if self.days is None else self.days[rows])
