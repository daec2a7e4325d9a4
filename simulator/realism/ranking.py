"""Whether a world puts recommenders in the order that the real log does: what a simulator is for, in the end.

Recommenders without training, FM and a two-tower network are measured on both datasets under one small budget; those
that either dataset cannot have, such as title-kNN where there are no titles, are left out on both sides and named.
Kendall's tau compares the orders of their hit rates; because near ties come in any order, the pairs of recommenders
whose order each dataset decides beyond chance, by users' paired differences, are counted too, and tau between two
samples of the log's own test users says what chance alone leaves of it. A world is one draw of its keys: further ones,
with other seeds, show how far tau spreads.

It is kept cheap: users beyond ``MOST_CLICKS`` clicks are left out, FM and ICAN see ``BUDGET`` clicks, and settings that
take many trials (EASE) are chosen once, on the log's validation clicks, and used on every draw.
"""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.baselines import BASELINES
from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import left_out
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.split import temporal_split
from micrec.errors import MicrecError
from micrec.evaluation import EvalResult, evaluation_task
from micrec.experiment import ModelResult, evaluate_baseline, run_model
from micrec.progress import NoProgress, Progress
from micrec.settings import validate
from simulator.realism.log import keyed_share
from simulator.world.in_memory import draw_world, drawn_dataset
from simulator.world.world_config import WorldConfig

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
REUSED = ("ease",)  # whose settings are chosen on the log and used on every draw
SAMPLES = 200  # pairs of samples of users
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
    self_tau: float  # mean tau of the orders by two samples of the test users, drawn with replacement
    settings: dict[str, Mapping[str, float | str]]  # baseline -> what it chose, where that is used again


class Draw(NamedTuple):
    """One draw of the world beside the log."""

    order: Order
    tau: float  # Kendall's tau-b of the two orders, -1 … 1; NaN if one dataset ties all models
    decided: int  # pairs of models whose order both datasets decide beyond chance
    agreed: int  # of which they decide alike


class Agreement(NamedTuple):
    """Whether two datasets order the models alike."""

    cutoff: int  # N of HIT@N
    real: Order
    draws: list[Draw]  # the given dataset first
    left_out: dict[str, str]  # recommender -> why, as "retail: it has no titles"

    @property
    def tau(self) -> float:
        """Mean over the draws."""
        return float(np.mean([draw.tau for draw in self.draws]))

    @property
    def spread(self) -> float:
        """Standard deviation of tau between draws; NaN of one."""
        return float(np.std([draw.tau for draw in self.draws], ddof=1)) if len(self.draws) > 1 else float("nan")


def ranking_agreement(
    real: Dataset, synthetic: Dataset, progress: Progress | None = None, *, draws: int = 1
) -> Agreement:
    """Measure all models on both datasets.

    Args:
        real: The log.
        synthetic: The world.
        progress: Where to report.
        draws: Draws of the world to compare: the given one, and others with the seeds that follow its own.

    Raises:
        MicrecError: If a dataset is too small to be split into training and test, or further draws are asked of a
            dataset that is no generated world.
    """
    progress = progress or NoProgress()
    config = _world_of(synthetic) if draws > 1 else None
    real, synthetic = _thinned(real), _thinned(synthetic)
    cutoff = CUTOFFS[min(len(real.items), len(synthetic.items)) >= MANY_ITEMS]
    missing = _missing(real, synthetic)
    names = [name for name in SIMPLE if name not in missing]
    log = _order(real, names, cutoff, progress)
    found = [_draw(log, _order(synthetic, names, cutoff, progress, log.settings))]
    for number in range(1, draws):
        assert config is not None
        drawn = drawn_dataset(draw_world(config.model_copy(update={"seed": config.seed + number})))
        other = _thinned(_users_as(drawn, synthetic))
        found.append(_draw(log, _order(other, names, cutoff, progress, log.settings)))
    return Agreement(cutoff, log, found, {BASELINES[name].label: reason for name, reason in missing.items()})


def _draw(real: Order, synthetic: Order) -> Draw:
    sure = [pair for pair in real.z if min(abs(real.z[pair]), abs(synthetic.z[pair])) > _NORMAL_95]
    return Draw(
        order=synthetic,
        tau=_tau(list(real.hit.values()), list(synthetic.hit.values())),
        decided=len(sure),
        agreed=sum(real.z[pair] * synthetic.z[pair] > 0 for pair in sure),
    )


def _tau(first: Sequence[float], second: Sequence[float]) -> float:
    from scipy.stats import kendalltau

    return float(kendalltau(first, second).statistic)


def _world_of(dataset: Dataset) -> WorldConfig:
    """The keys that a dataset was generated from.

    Raises:
        MicrecError: If it was not.
    """
    provenance = dataset.schema.provenance
    if provenance.get("generator") != "micrec world":
        raise MicrecError(
            f"{dataset.name}: is no world of micrec world, so it has no further draws: leave out --draws."
        )
    return WorldConfig.model_validate_json(json.dumps(provenance["config"], default=str))


def _users_as(dataset: Dataset, other: Dataset) -> Dataset:
    """About as large a share of the users as ``other`` has with clicks."""
    share = len(np.unique(other.clicks.user_ids)) / max(len(np.unique(dataset.clicks.user_ids)), 1)
    if share >= 1.0:
        return dataset
    keep = keyed_share(np.arange(len(dataset.users)), "realism sample") < share
    return dataclasses.replace(dataset, clicks=dataset.clicks[keep[dataset.clicks.user_ids]])


def _missing(*datasets: Dataset) -> dict[str, str]:
    """Which of the simple recommenders one of the datasets cannot have, and why."""
    reasons: dict[str, str] = {}
    for dataset in datasets:
        for name, reason in left_out(SIMPLE, dataset).items():
            reasons.setdefault(name, f"{dataset.name}: {reason}")
    return reasons


def _order(
    dataset: Dataset,
    names: list[str],
    cutoff: int,
    progress: Progress,
    settings: Mapping[str, Mapping[str, float | str]] | None = None,
) -> Order:
    """Hits of all models; ``settings`` are those that baselines chose elsewhere."""
    chosen = dict(settings or {})
    results: dict[str, EvalResult | ModelResult] = {}
    progress.start(f"models on {dataset.name}", len(names) + len(TOWERS), "models")
    config = _config("fm", dataset, cutoff)
    split = temporal_split(dataset.clicks, config.split, dataset.schema.days)
    task = evaluation_task(dataset, split, config.evaluation, "test")
    for name in names:
        label = BASELINES[name].label
        inputs = BaselineInputs.of(task, dataset, config, chosen.get(name))
        results[label] = found = evaluate_baseline(name, inputs)
        if name in REUSED:
            chosen[name] = found.settings
        progress.advance(1, label)
    for name, label in TOWERS.items():
        results[label] = run_model(dataset, _config(name, dataset, cutoff))
        progress.advance(1, label)
    progress.finish()
    first = next(iter(results.values()))
    if not first.user_lines.sum():
        raise MicrecError(f"{dataset.name}: no test click of a known user, so no models to compare: --no-ranking.")
    hits = {label: result.user_hits[:, 0].astype(np.float64) for label, result in results.items()}
    shares = evaluated_shares(first)
    return Order(
        name=dataset.name,
        clicks=len(dataset.clicks),
        hit={label: float(result.metrics[f"hit@{cutoff}"]) for label, result in results.items()},
        shares={name: shares[name] for name in ("judged_share", "hittable_share", f"hit_ceiling@{cutoff}")},
        z={pair: _z(hits[pair[0]] - hits[pair[1]]) for pair in itertools.combinations(results, 2)},
        self_tau=_self_tau(np.stack(list(hits.values()), axis=1)),
        settings={name: one for name, one in chosen.items() if name in REUSED},
    )


def evaluated_shares(result: EvalResult | ModelResult) -> dict[str, float]:
    """What is judged and what can be hit, the same for all models of a dataset."""
    return result.metrics if isinstance(result, ModelResult) else result.reach.shares()


def _self_tau(hits: NDArray[np.float64]) -> float:
    """Mean tau between the orders of two samples of users with replacement, given hits (Q, models)."""
    rng = np.random.default_rng([0, 0])
    n = len(hits)
    sums = rng.multinomial(n, np.full(n, 1.0 / n), size=2 * SAMPLES) @ hits
    taus = [_tau(first, second) for first, second in zip(sums[:SAMPLES], sums[SAMPLES:], strict=True)]
    return float(np.nanmean(taus)) if not np.isnan(taus).all() else float("nan")


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
