"""Before the planned end: is it still worth going on? Conditional power, and a bound below which it is not.

Z at information t behaves as B(t) / sqrt(t) with B(t) a Brownian motion with drift (Lan, Wittes 1988), where the drift
theta is the mean of Z at the planned end. Given z at t, the final Z is normal:

    mean  z sqrt(t) + theta (1 - t),   variance  1 - t.

The futility bound spends the chance of a false stop, beta = 1 - power, by the share of information as alpha is spent
(Pampallona, Tsiatis, Kim 2001; gsDesign's ``test.type = 4``): it is not binding, so that going on below it costs no
false alarms, and a stop at it costs power that is planned for.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy import special

from abtest.stats.spending import RandomWalk, correlations, spent


class ConditionalPower(NamedTuple):
    """Chance that the test will find the effect in its good direction at the planned end.

    Attributes:
        information: Share of the planned information in hand.
        planned: If the true effect is the planned one.
        current: If it is what the data show so far.
        predictive: Averaged over what the data leave open (a flat prior).
    """

    information: float
    planned: float
    current: float
    predictive: float


def conditional_power(z: float, information: float, *, bound: float, drift: float) -> ConditionalPower:
    """Chance of the final Z above its bound, given Z now.

    Args:
        z: Z so far, positive in the good direction.
        information: Share t of the planned information, within (0, 1).
        bound: Critical value at the planned end.
        drift: Mean of Z at the planned end under the planned effect.

    Raises:
        ValueError: If the information is not within (0, 1).
    """
    if not 0.0 < information < 1.0:
        raise ValueError(f"information must lie within (0, 1), got {information}.")
    left = 1.0 - information

    def chance(theta: float) -> float:
        return float(special.ndtr((z * math.sqrt(information) + theta * left - bound) / math.sqrt(left)))

    trend = z / math.sqrt(information)
    predictive = float(special.ndtr((trend - bound) * math.sqrt(information / left)))
    return ConditionalPower(information, chance(drift), chance(trend), predictive)


def futility_bounds(
    information: Sequence[float],
    upper: Sequence[float],
    *,
    drift: float,
    beta: float = 0.2,
    spent_by: Sequence[float] | None = None,
) -> list[float]:
    """Z below which each look may stop for futility, not binding; -inf where nothing is spent yet.

    Args:
        information: Share of the planned information at each look so far, rising, at most 1.
        upper: Bound on Z of each look.
        drift: Mean of Z at the planned end under the planned effect, > 0.
        beta: Chance of a stop that overlooks the planned effect, over all looks.
        spent_by: Part of beta spent up to and with each look; None: by the O'Brien-Fleming function.

    Returns:
        One bound a look; at full information it is the upper bound itself.

    Raises:
        ValueError: If drift or beta is out of range.
    """
    if not drift > 0.0 or not 0.0 < beta < 1.0:
        raise ValueError(f"drift must be > 0 and beta within (0, 1), got {drift} and {beta}.")
    levels = [spent(t, beta) for t in information] if spent_by is None else spent_by
    walk, before, found = RandomWalk(), 0.0, []
    for t, r, top, level in zip(information, correlations(information), upper, levels, strict=True):
        mean = drift * math.sqrt(t)
        if t >= 1.0:
            found.append(top)
            break
        low = walk.lower(r, level - before) + mean
        low = min(low, top)
        found.append(low)
        walk.step(r, top - mean, low - mean)
        before = level
    return found
