"""The fixed statistics of a click log: when people come, how much they click, on what, and what follows.

A statistic is a sample whose distribution is compared (clicks per session), a sample of times on a clock (hour of the
day), or a curve of numbers (share of users seen again after 1 … 7 days). What a log cannot show raises ``Missing``,
and is reported as missing, never as 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from simulator.realism.log import Log

Floats = NDArray[np.float64]


class Missing(Exception):
    """A log cannot show a statistic; the message says why."""


class Kind(StrEnum):
    """How two values of a statistic are compared."""

    DISTRIBUTION = "distribution"
    CLOCK = "clock"
    CURVE = "curve"


@dataclass(frozen=True)
class Statistic:
    """One fixed statistic.

    Attributes:
        name: What it is called in every table and file.
        group: What it belongs to; ``--without`` leaves out a whole group.
        kind: How it is compared.
        of: From a log to the sample (n,) or the curve (P,); NaN = this point of the curve is not to be had.
        unit: Unit of the values, for the axis of a plot.
        points: Names of the points of a curve.
        log_scale: Distances and plots are of log(1 + value), so that they have no unit and outliers no power.
        period: Length of the clock.
        shares: Whether a curve holds shares, whose largest difference is a KS distance of its own.
        meaning: One sentence.
    """

    name: str
    group: str
    kind: Kind
    of: Callable[[Log], Floats]
    unit: str
    meaning: str
    points: tuple[str, ...] = ()
    log_scale: bool = False
    period: float | None = None
    shares: bool = True

    def values(self, log: Log) -> Floats:
        """The sample or curve of a log.

        Raises:
            Missing: If the log has none.
        """
        values = np.asarray(self.of(log), np.float64)
        if not len(values) or np.isnan(values).all():
            raise Missing("too few events of the kind")
        return values


def require(column: NDArray | None, name: str) -> NDArray:
    """A column of the log, or Missing."""
    if column is None:
        raise Missing(f"no {name}")
    return column
