"""Statistics of experiments: moments per cell in, estimates with intervals and tails out."""

from abtest.stats.cells import CellMoments
from abtest.stats.confidence_sequence import AnytimeEstimate, anytime, anytime_difference
from abtest.stats.cuped import Cuped, cuped
from abtest.stats.estimate import Estimate, Group, Interval
from abtest.stats.looks import FixedHorizon, SequentialLook, fixed_horizon, group_sequential
from abtest.stats.margins import NonInferiority, non_inferiority
from abtest.stats.moments import Moments
from abtest.stats.multiplicity import benjamini_hochberg, holm
from abtest.stats.spending import Look, bounds, information_fraction
from abtest.stats.srm import Srm, anytime_srm, daily_srm, srm, srm_by
from abtest.stats.strata import post_stratified
from abtest.stats.tails import format_p
from abtest.stats.terms import Term
from abtest.stats.welch import welch

__all__ = [
    "AnytimeEstimate",
    "CellMoments",
    "Cuped",
    "Estimate",
    "FixedHorizon",
    "Group",
    "Interval",
    "Look",
    "Moments",
    "NonInferiority",
    "SequentialLook",
    "Srm",
    "Term",
    "anytime",
    "anytime_difference",
    "anytime_srm",
    "benjamini_hochberg",
    "bounds",
    "cuped",
    "daily_srm",
    "fixed_horizon",
    "format_p",
    "group_sequential",
    "holm",
    "information_fraction",
    "non_inferiority",
    "post_stratified",
    "srm",
    "srm_by",
    "welch",
]
