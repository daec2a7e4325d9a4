"""Statistics of experiments: moments per cell in, estimates with intervals and tails out."""

from abtest.stats.cells import CellMoments
from abtest.stats.estimate import Estimate, Group, Interval
from abtest.stats.moments import Moments
from abtest.stats.tails import format_p
from abtest.stats.terms import Term
from abtest.stats.welch import welch

__all__ = ["CellMoments", "Estimate", "Group", "Interval", "Moments", "Term", "format_p", "welch"]
