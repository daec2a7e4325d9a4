"""One cell of an experiment: train one model with one seed and measure it on the test period."""

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.baselines import BASELINES
from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.split import temporal_split
from micrec.evaluation import EvalResult, EvalTask, evaluate, evaluation_task
from micrec.evaluation.geometry import geometry
from micrec.evaluation.link_recall import Links, NeighbourScores, cosine_scores, link_recall, read_links
from micrec.evaluation.pairs import Pairs, positive_pairs
from micrec.evaluation.task import Part
from micrec.fitting import Fitted, fit
from micrec.gradients import early_and_late
from micrec.progress import Progress


class ModelResult(NamedTuple):
    """What one trained model, or one baseline, did on the test period."""

    metrics: dict[str, float]  # by full name, e.g. hit@50, coverage@500, and what can be hit at all, hit_ceiling@50
    slices: dict[str, dict[str, float]]  # slice -> metrics
    user_hits: NDArray[np.float64]  # (Q, n_cutoffs) hits among each user's test clicks
    user_lines: NDArray[np.float64]  # (Q,) test clicks of each user
    info: dict[str, Any]  # epochs, seconds, samples per second, parameters …


def run_model(
    dataset: Dataset,
    config: Config,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
    part: Part = "test",
) -> ModelResult:
    """Train as ``config`` says and evaluate once on the test period.

    Args:
        dataset: The data.
        config: The model, its losses, its seed.
        folder: Where the run keeps its checkpoint; an interrupted run found there is resumed.
        progress: Where to report.
        part: ``valid`` evaluates on the validation slice instead, for a choice between settings.

    Raises:
        ValueError: If ``part`` is valid and ``train.refit`` trains on the validation slice.
    """
    if part == "valid" and (config.train.refit or config.split.valid_fraction == 0):
        raise ValueError("part valid needs train.refit false and a validation slice that the model has not seen.")
    fitted = fit(dataset, config, folder=folder, progress=progress)
    split = temporal_split(dataset.clicks, config.split, dataset.schema.days)
    task = evaluation_task(dataset, split, config.evaluation, part)
    links, rows = read_links(dataset), split.valid if part == "valid" else split.test
    pairs = positive_pairs(dataset, task, dataset.clicks[rows], config.sessions, links, rng=_rng(0))
    return _result(evaluate_model(fitted, task, links, pairs), training_info(fitted))


def run_baseline(name: str, dataset: Dataset, config: Config) -> ModelResult:
    """Evaluate a model that needs no training, one of ``micrec.baselines.BASELINES``, on the same task.

    Raises:
        MicrecError: If there is no such baseline.
    """
    split = temporal_split(dataset.clicks, config.split, dataset.schema.days)
    task = evaluation_task(dataset, split, config.evaluation, "test")
    links = read_links(dataset)
    evaluated = evaluate_baseline(name, BaselineInputs.of(task, dataset, config), links=links)
    return _result(evaluated, {"settings": told_settings(evaluated.settings)} if evaluated.settings else {})


def told_settings(settings: Mapping[str, float | str]) -> str:
    """Settings that a baseline chose, in words: ``ridge 500, drift 0.0002``."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in settings.items()
    )


def optional_metrics(cutoffs: Sequence[int]) -> set[str]:
    """Metrics that not every dataset and model has: no titles, categories, sessions or known links, equal lengths."""
    kinds = ("sessions", "titles", "categories", "links")
    names = {f"{figure}_{kind}" for figure in ("alignment", "nearer") for kind in kinds} | {"norm_popularity"}
    recalls = {f"link_recall{view}@{k}" for view in ("", "_cross", "_cold") for k in cutoffs}
    return names | recalls | {f"{name}_chance" for name in recalls}


def evaluate_model(
    fitted: Fitted, task: EvalTask, links: Links | None, pairs: Mapping[str, Pairs] | None = None
) -> EvalResult:
    """Metrics of a trained model on a task.

    Args:
        fitted: The model.
        task: What is asked.
        links: The links of the world, where they are known: link recall is included.
        pairs: Items that belong together, from ``positive_pairs``: the geometry of the embeddings is included.
    """
    user_emb, item_emb = fitted.embed(task)
    result = evaluate(fitted.scores(task, (user_emb, item_emb)), task, fitted.config.evaluation)
    if links is not None:
        _add_link_recall(result, cosine_scores(item_emb), links, task, fitted.config)
    if pairs is not None:
        result.metrics.update(geometry(user_emb, item_emb, task, pairs, rng=_rng(1)))
    return result


def evaluate_baseline(name: str, inputs: BaselineInputs, *, links: Links | None = None) -> EvalResult:
    """Metrics of a baseline on the task of its inputs, with its time and settings."""
    task, config, started_s = inputs.task, inputs.config, time.perf_counter()
    scores = BASELINES.get_named(name, where="baselines").load()(inputs)
    result = evaluate(scores.users, task, config.evaluation)
    result = replace(result, seconds=time.perf_counter() - started_s, settings=dict(scores.settings))
    if links is not None and scores.neighbours is not None:
        _add_link_recall(result, scores.neighbours, links, task, config)
    return result


def _add_link_recall(result: EvalResult, scores: NeighbourScores, links: Links, task: EvalTask, config: Config) -> None:
    result.metrics.update(
        link_recall(
            scores,
            links,
            train_clicks=task.train_clicks,
            cutoffs=config.evaluation.cutoffs,
            cold_clicks=config.evaluation.cold_clicks,
        )
    )


def _rng(purpose: int) -> np.random.Generator:
    """A stream that is the same for every model and seed, so that all are measured on the same pairs."""
    return np.random.default_rng([0, purpose])


def training_info(fitted: Fitted) -> dict[str, Any]:
    """Epochs, speed and size of a run, for the tables."""
    log = fitted.state.log
    seconds = sum(entry["seconds"] for entry in log)
    timed = [entry for entry in log if entry["epoch"] > 1] or log
    timed_s = sum(entry["seconds"] for entry in timed)
    return {
        "best_epoch": fitted.state.best_epoch,
        "epochs_run": len(log),
        "train_s": round(seconds, 3),
        "train_samples_per_s": round(sum(entry["samples"] for entry in timed) / timed_s, 1) if timed_s else None,
        "parameters": sum(p.numel() for p in fitted.model.parameters()),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "validation_metric": fitted.state.best_metric if fitted.state.best_metric > float("-inf") else None,
        **{f"estimated_{name}": value for name, value in fitted.state.estimate.items()},
        **early_and_late(log),
        "log": log,
    }


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def _result(evaluated: EvalResult, info: dict[str, Any]) -> ModelResult:
    return ModelResult(
        metrics={**evaluated.metrics, **evaluated.reach.shares()},
        slices={
            name: {**part.metrics, "users": part.users, "lines": part.lines} for name, part in evaluated.slices.items()
        },
        user_hits=evaluated.user_hits.astype(np.float64),
        user_lines=evaluated.user_lines.astype(np.float64),
        info=info,
    )
