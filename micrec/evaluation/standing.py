"""Whether a model's HIT is above that of the simple baselines, with intervals over the test users, and the verdict."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from micrec.baselines import BASELINES
from micrec.evaluation.metrics import EvalResult

Outcome = Literal["above", "below", "not distinguishable from"]
ALPHA = 0.05
LABELS = {"title_knn": "title-kNN", "ease": "EASE", "ials": "iALS"}  # of results that hold more than our baselines


class Standing(NamedTuple):
    """The model's HIT@N against one baseline's on the same users.

    Attributes:
        baseline: Name of the baseline.
        cutoff: N.
        difference: hit@N of the model - hit@N of the baseline.
        interval: Its 95 % interval over users; None with fewer than two users.
        outcome: On which side of 0 the interval lies.
    """

    baseline: str
    cutoff: int
    difference: float
    interval: tuple[float, float] | None
    outcome: Outcome


def standings(results: Mapping[str, EvalResult]) -> list[Standing]:
    """Every baseline at every cutoff below the number of candidates; the first of ``results`` is the model.

    Ceilings are no baselines. Where a list holds the whole catalogue, all models are alike and none is compared.
    """
    model, *others = (name for name in results if name not in BASELINES or not BASELINES[name].is_ceiling)
    candidates = results[model].candidates
    columns = [column for column, n in enumerate(results[model].cutoffs) if n < candidates]
    return [_standing(results[model], results[name], name, column) for name in others for column in columns]


def verdict(found: Sequence[Standing], model: EvalResult) -> str:
    """The outcomes in one sentence, the baselines that the model does not pass first."""
    by_baseline: dict[str, list[Standing]] = {}
    for one in found:
        by_baseline.setdefault(one.baseline, []).append(one)
    passed = [name for name, of in by_baseline.items() if all(one.outcome == "above" for one in of)]
    if not by_baseline:
        return "none, as there is no baseline, or every list holds the whole catalogue"
    depths = sorted({one.cutoff for one in found})
    every = "every N" if depths == sorted(set(model.cutoffs)) else _listed([str(n) for n in depths])
    parts = [_outcomes(label(name), of, every) for name, of in by_baseline.items() if name not in passed]
    if passed:
        parts.append(f"above {_listed([label(name) for name in passed])} at {every}")
    missed = [label(name) for name in by_baseline if name not in passed]
    head = f"it does not pass {_listed(missed)}: " if missed else ""
    return f"{head}{'; '.join(parts)} (each at 95 % over {model.users:,} users)"


def label(baseline: str) -> str:
    """A baseline's name in prose."""
    if baseline in BASELINES:
        return BASELINES[baseline].label
    return LABELS.get(baseline, baseline.replace("_", " "))


def _outcomes(baseline: str, found: Sequence[Standing], every: str) -> str:
    """``below item-kNN at 50 and 100, above it at 500``, or ``below item-kNN at every N``."""
    groups: dict[str, list[str]] = {}
    for one in found:
        groups.setdefault(one.outcome, []).append(str(one.cutoff))
    names = [baseline, *["it"] * (len(groups) - 1)]
    where = [_listed(cutoffs) for cutoffs in groups.values()] if len(groups) > 1 else [every]
    return ", ".join(f"{outcome} {name} at {at}" for outcome, name, at in zip(groups, names, where, strict=True))


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _standing(model: EvalResult, baseline: EvalResult, name: str, column: int) -> Standing:
    gained = (model.user_hits[:, column] - baseline.user_hits[:, column]).astype(np.float64)
    difference, half = _ratio(gained, model.user_lines.astype(np.float64))
    interval = None if half is None else (difference - half, difference + half)
    outcome: Outcome = "not distinguishable from"
    if interval is not None and interval[0] > 0:
        outcome = "above"
    elif interval is not None and interval[1] < 0:
        outcome = "below"
    return Standing(name, model.cutoffs[column], difference, interval, outcome)


def _ratio(gained: NDArray[np.float64], lines: NDArray[np.float64]) -> tuple[float, float | None]:
    """Sum of ``gained`` over sum of ``lines``, both (V,) by user, and half its interval's width by linearisation."""
    n, total = len(lines), lines.sum()
    ratio = float(gained.sum() / total)
    if n < 2:
        return ratio, None
    residuals = gained - ratio * lines
    error = np.sqrt(n / (n - 1) * (residuals**2).sum()) / total
    return ratio, float(student.ppf(1 - ALPHA / 2, n - 1) * error)
