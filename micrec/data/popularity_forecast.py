"""How often an item will be clicked, relative to the others: a log-linear model of its clicks so far.

    f_i(day) = sum over h of w_h log x_ih(day)  +  g_i(day) sum over the words of i's title of v_word
    g_i(day) = c / (c + n_i(day))

x_ih is the item's share of clicks that count half after h days, see ``DriftingPopularity``, the longest h being without
end; n_i its clicks so far, so that words speak for items with few of them. w and v are fitted to the training clicks:
on evenly spaced mornings, a softmax over the items known by then is to give those of the following ``horizon`` days. A
log that lists are made for weeks from wants other weights than one whose lists are new every morning.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.data.day_table import DayTable
from micrec.data.recency import TABLE_NUMBERS, Days, DriftingPopularity
from micrec.data.sorting import parts_of
from micrec.shapes import is_fixed

FEW_CLICKS = 10.0  # c
MORNINGS, MOST_NUMBERS = 20, 1 << 24  # that weights are fitted to, and most mornings times items times half-lives
SETTLED = 3  # a third of the log passes before the first of them, so that clicks of late and of old tell apart
WEIGHT_RIDGE, WORD_RIDGE = 1e-4, 1e-2  # of the squared weights, beside the mean loss of a click in nats
ROUNDS = 60


class Forecast(NamedTuple):
    """What is learned of it."""

    weights: Tensor  # (K + 1,) float32, of the half-lives in their order, and of all clicks so far
    word_weights: Tensor  # (V + 1,) float32, by the word's number; 0 at 0


class ForecastPopularity:
    """The forecast of any item on any day, with the interface of ``DriftingPopularity``."""

    def __init__(
        self, parts: Sequence[DriftingPopularity], forecast: Forecast, effects: Tensor | None, *, tabulate: bool = False
    ) -> None:
        """Put a forecast on the popularity of a log.

        Args:
            parts: The popularity under each half-life, the last one without end.
            forecast: Its weights.
            effects: Sum of the weights of each item's title words, shape (N,); None: no words.
            tabulate: Keep the values of all days where they are few.
        """
        self.parts, self.forecast, self.effects = list(parts), forecast, effects
        self.n_items = self.parts[-1].n_items
        self._first = self.parts[-1].first_day
        self._table: DayTable | None = None
        if tabulate and self.parts[-1].n_days * self.n_items <= TABLE_NUMBERS:
            self._table = DayTable(self._whole_table())

    def to(self, device: torch.device | str) -> "ForecastPopularity":
        """The same on a device."""
        moved = object.__new__(ForecastPopularity)
        moved.__dict__.update(vars(self))
        moved.parts = [part.to(device) for part in self.parts]
        moved.forecast = Forecast(*(tensor.to(device) for tensor in self.forecast))
        moved.effects = None if self.effects is None else self.effects.to(device)
        moved._table = None if self._table is None else self._table.to(device)
        return moved

    def grid(
        self, days: Tensor, items: Tensor | None = None, *, within: bool = False, out: Tensor | None = None
    ) -> Tensor:
        """Values as of each of ``days`` (B,) for each of ``items`` (K,), None = all N, float32, shape (B, K).

        ``within`` says that all days are those of clicks of the log, which saves a look at them. The values may be put
        into ``out``, (B, K).
        """
        if self._table is not None and (within or (days < self._first + len(self._table)).all()):
            return self._table.on((days - self._first).clamp_min(0), items, out)
        items = torch.arange(self.n_items, device=days.device) if items is None else items
        if is_fixed(days):
            return self.pairs(days[:, None].expand(-1, len(items)), items.expand(len(days), -1))
        distinct, place = torch.unique(days, return_inverse=True)
        return self.pairs(distinct[:, None].expand(-1, len(items)), items.expand(len(distinct), -1))[place]

    def _whole_table(self) -> Tensor:
        last, items = self.parts[-1], torch.arange(self.n_items)
        days = (torch.arange(last.n_days) + self._first)[:, None].expand(-1, self.n_items)
        places = torch.from_numpy(last.places())
        return torch.stack([self.pairs(day, items, place) for day, place in zip(days, places, strict=True)])

    def pairs(self, days: Tensor, items: Tensor, places: Tensor | None = None) -> Tensor:
        """The value of each item on the day beside it, in the shape of both, float32; ``places`` if they are known."""
        last = self.parts[-1]
        latest = last.latest(days, items, places)
        values = [part.pairs(days, items, latest) for part in self.parts]
        total = sum(weight * value for weight, value in zip(self.forecast.weights, values, strict=True))
        assert isinstance(total, Tensor)
        if self.effects is None:
            return total
        few = FEW_CLICKS / (FEW_CLICKS + last.clicks(days, items, latest))
        return total + self.effects[items] * few.float()


def half_life_parts(
    item_ids: NDArray[np.integer], days: Days, n_items: int, half_lives: Sequence[float]
) -> list[DriftingPopularity]:
    """The popularity under each half-life, and under none."""
    return [DriftingPopularity(item_ids, days, n_items, half_life) for half_life in (*half_lives, np.inf)]


def fit_forecast(
    parts: Sequence[DriftingPopularity],
    item_ids: NDArray[np.integer],
    days: Days,
    *,
    horizon: int,
    words: sp.csr_matrix | None,
) -> Forecast:
    """Weights from a log.

    Args:
        parts: What ``half_life_parts`` made of the clicks.
        item_ids: Their items, shape (n,).
        days: Their days, shape (n,).
        horizon: Days after each morning whose clicks are to be told; of a short log at most a quarter.
        words: Ones where an item's title has a word, (N, V); None: no words.
    """
    n_items, n_words = parts[0].n_items, 0 if words is None else words.shape[1]
    first, n_days = parts[-1].first_day, int(days.max()) - parts[-1].first_day + 1 if len(days) else 0
    horizon = max(1, min(horizon, n_days // 4))
    mornings = _mornings(n_days, horizon, n_items * len(parts)) + first
    fits = [fit for day in mornings if (fit := _Morning.of(parts, item_ids, days, day, horizon)) is not None]
    size = len(parts)
    start = np.zeros(size + n_words)
    start[size - 1] = 1.0  # all clicks so far
    if fits:
        found = scipy.optimize.minimize(
            _loss, start, args=(fits, size, words), jac=True, method="L-BFGS-B", options={"maxiter": ROUNDS}
        ).x
    else:
        found = start
    word_weights = np.append(0.0, found[size:])
    return Forecast(torch.from_numpy(found[:size]).float(), torch.from_numpy(word_weights).float())


def _mornings(n_days: int, horizon: int, numbers: int) -> NDArray[np.int64]:
    """Days, from 0, of the mornings that weights are fitted to, at least one of them where there are two days."""
    last = n_days - horizon
    begin = min(max(1, n_days // SETTLED), last)
    count = max(1, min(MORNINGS, MOST_NUMBERS // max(numbers, 1), last - begin + 1))
    return np.unique(np.linspace(begin, last, count).astype(np.int64)) if last >= 1 else np.empty(0, np.int64)


class _Morning(NamedTuple):
    """What is known of the k items clicked before a morning, and how often they are clicked afterwards."""

    items: NDArray[np.int64]  # (k,)
    features: NDArray[np.float64]  # (k, K + 1)
    gates: NDArray[np.float64]  # (k,)
    clicks: NDArray[np.float64]  # (k,)

    @classmethod
    def of(
        cls,
        parts: Sequence[DriftingPopularity],
        item_ids: NDArray[np.integer],
        days: Days,
        day: int,
        horizon: int,
    ) -> "_Morning | None":
        known, after = np.zeros(parts[0].n_items, np.bool_), np.zeros(parts[0].n_items, np.int64)
        for part in parts_of(len(days)):
            ids, at = item_ids[part], days[part]
            known[ids[at < day]] = True
            after += np.bincount(ids[(at >= day) & (at < day + horizon)], minlength=len(after))
        items = np.flatnonzero(known)
        clicks = after[items].astype(np.float64)
        if not clicks.sum():
            return None
        morning, columns = torch.full((len(items),), day), torch.from_numpy(items)
        features = torch.stack([one.pairs(morning, columns) for one in parts], dim=1).double().numpy()
        so_far = parts[-1].clicks(morning, columns).double().numpy()
        return cls(items, features, FEW_CLICKS / (FEW_CLICKS + so_far), clicks)


def _loss(
    parameters: NDArray[np.float64], mornings: Sequence[_Morning], size: int, words: sp.csr_matrix | None
) -> tuple[float, NDArray[np.float64]]:
    """Mean cross-entropy of the clicks after the mornings, with ridges, and its gradient."""
    weights, word_weights = parameters[:size], parameters[size:]
    effects = None if words is None else words @ word_weights
    total, loss, gradient = 0.0, 0.0, np.zeros_like(parameters)
    by_item = None if effects is None else np.zeros_like(effects)
    for morning in mornings:
        scores = morning.features @ weights
        if effects is not None:
            scores += morning.gates * effects[morning.items]
        scores -= scores.max()
        shares = np.exp(scores)
        n = morning.clicks.sum()
        loss -= morning.clicks @ scores - n * np.log(shares.sum())
        excess = n * shares / shares.sum() - morning.clicks
        gradient[:size] += morning.features.T @ excess
        if by_item is not None:
            by_item[morning.items] += morning.gates * excess
        total += n
    if words is not None:
        gradient[size:] = words.T @ by_item
    ridge = np.concatenate([np.full(size, WEIGHT_RIDGE), np.full(len(word_weights), WORD_RIDGE)])
    return float(loss / total + ridge @ parameters**2), gradient / total + 2 * ridge * parameters
