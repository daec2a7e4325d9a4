"""A mean over few independent runs, and the slope of runs over a dose."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def mean_interval(values: Sequence[float], alpha: float) -> tuple[float, float] | None:
    """t interval of a mean; None for fewer than two values."""
    from scipy.special import stdtrit

    if len(values) < 2:
        return None
    half = -float(stdtrit(len(values) - 1, alpha / 2)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def slopes_over(doses: ArrayLike, values: ArrayLike) -> list[float]:
    """Slope of each run over the doses, by least squares.

    Runs with worlds and trainings of their own are the independent observations; a t interval of their slopes holds all
    that differs between them (summary measures; Matthews et al. 1990, BMJ 300:230).

    Args:
        doses: Shape (D,), D >= 2, not all alike.
        values: Shape (D, R), a column per run.
    """
    x = np.asarray(doses, float)
    x = x - x.mean()
    found: list[float] = (x @ np.asarray(values, float) / (x @ x)).tolist()
    return found
