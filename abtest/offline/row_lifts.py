"""Lifts of HIT between two models of a table, with intervals over training seeds and test users at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from abtest.offline.row_effects import mean_over_seeds
from abtest.offline.trials import Trial
from abtest.stats.crossed_lift import LiftInterval, MeasuredLift, crossed_intervals, measured_lift


class TrialPair(NamedTuple):
    """Two models on one dataset: trials with the same seeds, or one trial of what no seed changes."""

    control: Sequence[Trial]
    treatment: Sequence[Trial]


def row_lifts(
    pairs: Sequence[TrialPair], metric: str, cutoffs: Sequence[int], *, alpha: float = 0.05
) -> list[LiftInterval]:
    """The lift of each pair, the noise of training pooled over all of them.

    Args:
        pairs: What is compared; all on one dataset.
        metric: HIT at one of ``cutoffs``: ``hit@50``.
        cutoffs: N of each column of the trials' per-user hits.
        alpha: 1 - level of the intervals.
    """
    column = list(cutoffs).index(int(metric.removeprefix("hit@")))
    return crossed_intervals([_measured(pair, metric, column) for pair in pairs], alpha=alpha)


def outcome(interval: Sequence[float] | None) -> str:
    """``gain`` or ``loss`` where an interval lies on one side of 0, else ``open``."""
    if interval is None or interval[0] <= 0.0 <= interval[1]:
        return "open"
    return "gain" if interval[0] > 0.0 else "loss"


def _measured(pair: TrialPair, metric: str, column: int) -> MeasuredLift:
    """One comparison; what no seed changes counts as the same with each of them."""
    seeds = max(len(pair.control), len(pair.treatment))
    values = [np.resize([trial.metrics[metric] for trial in trials], seeds) for trials in pair]
    return measured_lift(*values, *(mean_over_seeds(trials).hits[:, column] for trials in pair))
