"""The popularity that a model reads: under one half-life, or a forecast from several."""

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.config import ModelConfig
from micrec.data.dataset import Clicks
from micrec.data.popularity_forecast import Forecast, ForecastPopularity, fit_forecast, half_life_parts
from micrec.data.recency import ClickDays, Days, DriftingPopularity
from micrec.models.columns import WORDS, FieldColumns, Ragged

Popularity = DriftingPopularity | ForecastPopularity


def learn_popularity(model: ModelConfig, train: Clicks, items: FieldColumns) -> Popularity | None:
    """The popularity by the training clicks, a forecast's weights fitted to them; None where the model reads none.

    Args:
        model: The model's keys.
        train: The clicks.
        items: Encoded fields of all items.
    """
    if model.popularity_half_life_days is None and not model.popularity_half_lives_days:
        return None
    item_ids, days = train.item_ids, ClickDays(train.time_ms)
    if model.popularity_half_life_days is not None:
        return DriftingPopularity(item_ids, days, items.n, model.popularity_half_life_days, tabulate=True)
    parts = half_life_parts(item_ids, days, items.n, model.popularity_half_lives_days)
    words = items.multi[WORDS] if model.popularity_words else None
    matrix = None if words is None else _matrix(words)
    forecast = fit_forecast(parts, item_ids, days, horizon=model.popularity_horizon_days, words=matrix)
    return ForecastPopularity(parts, forecast, word_effects(words, forecast), tabulate=True)


def known_popularity(
    model: ModelConfig,
    forecast: Forecast | None,
    item_ids: NDArray[np.integer],
    days: Days,
    items: FieldColumns,
    *,
    counted: int | None = None,
) -> Popularity | None:
    """The popularity by any clicks, with the weights that a model has learned; None where it reads none.

    Args:
        model: The model's keys.
        forecast: Its weights, of a model with several half-lives.
        item_ids: Items of the clicks, shape (n,).
        days: Their days, shape (n,).
        items: Encoded fields of all items.
        counted: Items among which an item's share is counted; None: all.
    """
    n_items = items.n if counted is None else counted
    if model.popularity_half_life_days is not None:
        return DriftingPopularity(item_ids, days, n_items, model.popularity_half_life_days)
    if not model.popularity_half_lives_days or forecast is None:
        return None
    parts = half_life_parts(item_ids, days, n_items, model.popularity_half_lives_days)
    words = items.multi[WORDS] if model.popularity_words else None
    return ForecastPopularity(parts, forecast, word_effects(words, forecast))


def word_effects(words: Ragged | None, forecast: Forecast) -> Tensor | None:
    """Sum of the weights of each item's title words, shape (N,), float32; None without words."""
    if words is None:
        return None
    weights = forecast.word_weights.cpu()[words.values.cpu().long()].double()
    lengths = words.offsets.cpu().diff()
    return torch.segment_reduce(weights, "sum", lengths=lengths, unsafe=True).float()


def _matrix(words: Ragged) -> sp.csr_matrix:
    """Ones where an item has a word, (N, V)."""
    codes, offsets = words.values.cpu().numpy(), words.offsets.cpu().numpy()
    width = int(codes.max(initial=0))
    return sp.csr_matrix((np.ones(len(codes)), codes - 1, offsets), shape=(len(offsets) - 1, width))
