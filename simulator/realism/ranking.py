"""Whether a world puts recommenders in the order that the real log does: what a simulator is for, in the end.

Recommenders without training, FM and a two-tower network are measured on both datasets under one small budget; those
that either dataset cannot have, such as title-kNN where there are no titles, are left out on both sides and named.
Kendall's tau compares the orders of their hit rates; because near ties come in any order, the pairs of recommenders
whose order each dataset decides beyond chance, by users' paired differences, are counted too.
"""

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.baselines import BASELINES
from micrec.baselines.baseline_scores import left_out
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.experiment import ModelResult, run_baseline, run_model
from micrec.progress import NoProgress, Progress
from micrec.settings import validate
from simulator.realism.log import keyed_share

SIMPLE = (
    "popularity",
    "recent_popularity",
    "item_knn",
    "item_knn_bm25",
    "ease",
    "transitions",
    "title_knn",
    "tag_knn",
    "field_counts",
)
TOWERS = {"fm": "FM", "ican": "ICAN"}
CUTOFFS = (20, 50)
MANY_ITEMS = 1_000  # from here on the deeper cutoff
MOST_CLICKS = 60_000  # of a dataset; of larger ones, users are drawn by a key
BUDGET = 120_000  # training clicks seen by a model
MOST_EPOCHS = 10
_NORMAL_95 = 1.959964


class Order(NamedTuple):
    """How the models did on one dataset."""

    name: str
    clicks: int
    hit: dict[str, float]  # model -> HIT@N over test clicks
    shares: dict[str, float]  # what is judged and what can be hit, as in ``micrec.evaluation.reach``
    z: dict[tuple[str, str], float]  # pair of models -> z of the difference of their hits, over users


class Agreement(NamedTuple):
    """Whether two datasets order the models alike."""

    cutoff: int  # N of HIT@N
    real: Order
    synthetic: Order
    tau: float  # Kendall's tau-b of the two orders, -1 … 1; NaN if one dataset ties all models
    decided: int  # pairs of models whose order both datasets decide beyond chance
    agreed: int  # of which they decide alike
    left_out: dict[str, str]  # recommender -> why, as "retail: it has no titles"


def ranking_agreement(real: Dataset, synthetic: Dataset, progress: Progress | None = None) -> Agreement:
    """Measure all models on both datasets.

    Raises:
        MicrecError: If a dataset is too small to be split into training and test.
    """
    from scipy.stats import kendalltau

    progress = progress or NoProgress()
    real, synthetic = _thinned(real), _thinned(synthetic)
    cutoff = CUTOFFS[min(len(real.items), len(synthetic.items)) >= MANY_ITEMS]
    missing = _missing(real, synthetic)
    names = [name for name in SIMPLE if name not in missing]
    first, second = (_order(data, names, cutoff, progress) for data in (real, synthetic))
    tau = float(kendalltau(list(first.hit.values()), list(second.hit.values())).statistic)
    sure = [pair for pair in first.z if min(abs(first.z[pair]), abs(second.z[pair])) > _NORMAL_95]
    return Agreement(
        cutoff=cutoff,
        real=first,
        synthetic=second,
        tau=tau,
        decided=len(sure),
        agreed=sum(first.z[pair] * second.z[pair] > 0 for pair in sure),
        left_out={BASELINES[name].label: reason for name, reason in missing.items()},
    )


def _missing(*datasets: Dataset) -> dict[str, str]:
    """Which of the simple recommenders one of the datasets cannot have, and why."""
    reasons: dict[str, str] = {}
    for dataset in datasets:
        for name, reason in left_out(SIMPLE, dataset).items():
            reasons.setdefault(name, f"{dataset.name}: {reason}")
    return reasons


def _order(dataset: Dataset, names: list[str], cutoff: int, progress: Progress) -> Order:
    results: dict[str, ModelResult] = {}
    progress.start(f"models on {dataset.name}", len(names) + len(TOWERS), "models")
    for name in names:
        label = BASELINES[name].label
        results[label] = run_baseline(name, dataset, _config("fm", dataset, cutoff))
        progress.advance(1, label)
    for name, label in TOWERS.items():
        results[label] = run_model(dataset, _config(name, dataset, cutoff))
        progress.advance(1, label)
    progress.finish()
    lines = next(iter(results.values())).user_lines.sum()
    if not lines:
        raise MicrecError(f"{dataset.name}: no test click of a known user, so no models to compare: --no-ranking.")
    hits = {label: result.user_hits[:, 0] for label, result in results.items()}
    alike = next(iter(results.values())).metrics  # the same for all models
    return Order(
        name=dataset.name,
        clicks=len(dataset.clicks),
        hit={label: float(result.metrics[f"hit@{cutoff}"]) for label, result in results.items()},
        shares={name: alike[name] for name in ("judged_share", "hittable_share", f"hit_ceiling@{cutoff}")},
        z={pair: _z(hits[pair[0]] - hits[pair[1]]) for pair in itertools.combinations(results, 2)},
    )


def _thinned(dataset: Dataset) -> Dataset:
    """The clicks of as many users as make about ``MOST_CLICKS``."""
    share = MOST_CLICKS / len(dataset.clicks)
    if share >= 1.0:
        return dataset
    keep = keyed_share(np.arange(len(dataset.users)), "realism ranking") < share
    return dataclasses.replace(dataset, clicks=dataset.clicks[keep[dataset.clicks.user_ids]])


def _config(name: str, dataset: Dataset, cutoff: int) -> Config:
    """A small training run without item-contrastive losses."""
    epochs = int(np.clip(BUDGET // max(len(dataset.clicks), 1), 1, MOST_EPOCHS))
    off = {"weight": 0.0}
    keys = {
        "model": {"name": name, "embedding_dim": 32, "hidden": [64, 32]},
        "contrast": {"feature": off, "semantic": off, "session": off},
        "softmax": {"negatives": "shared", "num_negatives": 256},
        "optim": {"learning_rate": 0.003},
        "train": {"epochs": epochs, "batch_size": 1024, "patience": 0, "refit": False, "metric": f"hit@{cutoff}"},
        "evaluation": {"cutoffs": [cutoff]},
    }
    return validate(Config, keys, where="ranking")


def _z(difference: NDArray[np.float64]) -> float:
    """z of the sum of the users' differences; 0 if they never differ."""
    spread = float(np.sqrt((difference**2).sum()))
    return float(difference.sum()) / spread if spread > 0 else 0.0
