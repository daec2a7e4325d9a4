"""The small experiment on which named packages were run, and what they printed.

Values: scipy 1.17.1, statsmodels 0.15.0, tea-tasting 1.14.0, gbstats (growthbook@8f1db4456), spotify-confidence 4.1.0,
savvi 0.3.1, confseq@70b1ef30, all run by hand in 2026; ``ab_cases.json`` beside the project holds them all.
"""

import numpy as np

from abtest.stats import Moments

CONTROL = {
    "clicks": [0, 1, 2, 0, 3, 5, 1, 0, 2, 4, 1, 7, 0, 2, 3, 1],
    "imps": [10, 12, 20, 8, 25, 30, 15, 9, 18, 28, 14, 40, 7, 19, 22, 13],
    "pre_clicks": [1, 1, 3, 0, 2, 4, 1, 0, 2, 5, 1, 6, 0, 3, 2, 1],
    "pre_imps": [9, 11, 22, 7, 20, 28, 13, 8, 16, 30, 12, 37, 6, 21, 18, 12],
    "cold": [0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1],
}
TREATMENT = {
    "clicks": [1, 2, 2, 0, 4, 6, 3, 1, 2, 5, 2, 9, 1, 3, 3, 0, 4, 2],
    "imps": [11, 15, 18, 9, 26, 31, 22, 12, 17, 30, 16, 42, 10, 21, 20, 8, 27, 19],
    "pre_clicks": [0, 2, 2, 1, 3, 5, 3, 1, 1, 4, 2, 7, 1, 3, 2, 0, 3, 2],
    "pre_imps": [8, 14, 17, 10, 22, 29, 21, 11, 13, 27, 15, 39, 9, 20, 18, 7, 24, 18],
    "cold": [1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0],
}


def arms() -> tuple[Moments, Moments]:
    """Moments of control and treatment."""
    return Moments.of(CONTROL), Moments.of(TREATMENT)


def strata(arm: dict[str, list[int]]) -> dict[int, Moments]:
    """Moments of an arm's warm (0) and cold (1) users."""
    columns = {name: np.array(values) for name, values in arm.items()}
    return {
        cold: Moments.of({name: values[columns["cold"] == cold] for name, values in columns.items()}) for cold in (0, 1)
    }
