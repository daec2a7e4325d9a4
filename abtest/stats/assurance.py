"""What a test of a given size will bring, where the true lift is not known but a draw from what lifts have been.

With true lifts N(mean, sd^2) and an estimate N(lift, se^2), the estimate alone is N(mean, sd^2 + se^2): how often it
passes the bound, and what the true lifts of those that passed are on average, need no simulation (O'Hagan, Stevens,
Campbell 2005 call the first assurance).
"""

import math
from typing import NamedTuple

from scipy import special


class Assurance(NamedTuple):
    """A test that ships what is significantly better.

    Attributes:
        ships: Chance that the estimate is significantly above 0.
        stops: Chance that it is significantly below 0.
        mean_shipped: Mean true lift of what ships; None where nothing does.
        wrongly_shipped: Share of what ships whose true lift is below 0; None where nothing does.
    """

    ships: float
    stops: float
    mean_shipped: float | None
    wrongly_shipped: float | None


def assurance(mean: float, sd: float, se: float, *, alpha: float = 0.05) -> Assurance:
    """What a test with this standard error will bring.

    Args:
        mean: Mean true lift, more is better.
        sd: Standard deviation of the true lifts, >= 0.
        se: Standard error of the test's lift, > 0.
        alpha: Two-sided level.

    Raises:
        ValueError: If a number is out of range.
    """
    if not (math.isfinite(mean) and 0.0 <= sd < math.inf and 0.0 < se < math.inf and 0.0 < alpha < 1.0):
        raise ValueError(f"mean must be finite, sd >= 0, se > 0 and alpha within (0, 1), got {mean, sd, se, alpha}.")
    bound, spread = -float(special.ndtri(alpha / 2)) * se, math.hypot(sd, se)
    start = (bound - mean) / spread
    ships, stops = float(special.ndtr(-start)), float(special.ndtr((-bound - mean) / spread))
    if ships < 1e-300:
        return Assurance(ships, stops, None, None)
    density = math.exp(-0.5 * start**2) / math.sqrt(2 * math.pi)
    shipped = mean + sd**2 / spread * density / ships
    return Assurance(ships, stops, shipped, _below(mean, sd, spread, start) / ships)


def _below(mean: float, sd: float, spread: float, start: float) -> float:
    """P(true lift < 0 and estimate above its bound), by integrating over the estimate."""
    if sd == 0.0:
        return float(special.ndtr(-start)) if mean < 0 else 0.0
    points, weights = special.roots_legendre(200)
    z = start + 0.5 * (points + 1.0) * max(12.0 - start, 1.0)  # estimates in units of their spread
    centre = mean + sd**2 / spread * z
    rest = sd * math.sqrt(max(1.0 - (sd / spread) ** 2, 1e-300))
    density = special.ndtr(-centre / rest) * math.sqrt(1 / (2 * math.pi)) * special.exp2(-0.5 * z**2 / math.log(2))
    return float(weights @ density) * 0.5 * max(12.0 - start, 1.0)
