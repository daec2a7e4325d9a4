"""Statistics of experiments: moments per cell in, estimates with intervals and tails out."""

from abtest.stats.aa import AaCalibration, calibrate
from abtest.stats.bootstrap import Bootstrap, poisson_bootstrap
from abtest.stats.buckets import BucketSums
from abtest.stats.confidence_sequence import AnytimeEstimate, anytime, anytime_difference
from abtest.stats.cuped import Cuped, cuped
from abtest.stats.estimate import Estimate, Group, Interval
from abtest.stats.groups import CellMoments
from abtest.stats.looks import FixedHorizon, SequentialLook, fixed_horizon, group_sequential
from abtest.stats.margins import NonInferiority, non_inferiority
from abtest.stats.moments import Moments
from abtest.stats.multiplicity import benjamini_hochberg, holm
from abtest.stats.power import Baseline, PowerPlan, baseline, detectable_lift, power_of, users_needed
from abtest.stats.quantiles import quantile_difference
from abtest.stats.ranks import MannWhitney, mann_whitney
from abtest.stats.selection import AfterSelection, after_selection
from abtest.stats.shrinkage import Between, Shrunken, between, shrunken
from abtest.stats.spending import Look, bounds, information_fraction
from abtest.stats.srm import Srm, anytime_srm, daily_srm, srm, srm_by
from abtest.stats.strata import post_stratified
from abtest.stats.tails import format_p
from abtest.stats.terms import Term
from abtest.stats.welch import welch
from abtest.stats.winsor import Winsorised, winsorised

__all__ = [
    "AaCalibration",
    "AfterSelection",
    "AnytimeEstimate",
    "Baseline",
    "Between",
    "Bootstrap",
    "BucketSums",
    "CellMoments",
    "Cuped",
    "Estimate",
    "FixedHorizon",
    "Group",
    "Interval",
    "Look",
    "MannWhitney",
    "Moments",
    "NonInferiority",
    "PowerPlan",
    "SequentialLook",
    "Shrunken",
    "Srm",
    "Term",
    "Winsorised",
    "after_selection",
    "anytime",
    "anytime_difference",
    "anytime_srm",
    "baseline",
    "benjamini_hochberg",
    "between",
    "bounds",
    "calibrate",
    "cuped",
    "daily_srm",
    "detectable_lift",
    "fixed_horizon",
    "format_p",
    "group_sequential",
    "holm",
    "information_fraction",
    "mann_whitney",
    "non_inferiority",
    "poisson_bootstrap",
    "post_stratified",
    "power_of",
    "quantile_difference",
    "shrunken",
    "srm",
    "srm_by",
    "users_needed",
    "welch",
    "winsorised",
]
