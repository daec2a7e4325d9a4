"""Group-sequential bounds for looks that were planned: Lan-DeMets alpha spending, two-sided and symmetric.

At look k the test may have spent ``alpha(t_k)`` of its level, t being the share of the planned information in hand.
Each side spends half: the upper bound z_k solves P(no upper bound was crossed before, Z_k >= z_k) = half of
``alpha(t_k) - alpha(t_{k-1})`` by the recursion of Armitage, McPherson, Rowe (1969) on Gauss-Legendre nodes, and the
lower bound mirrors it. So a false "better" has a chance of alpha / 2, and so has a false "worse", whatever the other
side did before. A bound is used as a nominal level: test look k at ``Look.alpha``, and the intervals of that level are
repeated confidence intervals (Jennison, Turnbull 1989).
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from abtest.stats.contrast import check_alpha

Spending = Literal["obrien-fleming", "pocock", "power"]
Floats = NDArray[np.float64]

_REACH = 9.0  # standard deviations beyond which a density is nothing beside any level in use
_NODES = 12  # per two standard deviations of the step from one look to the next: enough for 1e-12


class Look(NamedTuple):
    """One look of a plan.

    Attributes:
        information: Share of the planned information, in (0, 1].
        spent: Level spent up to and with this look, both sides together.
        z: Bound: |Z| beyond it stops the test; inf where nothing may be spent.
        alpha: Nominal two-sided level of this look: 2 P(Z > z).
    """

    information: float
    spent: float
    z: float
    alpha: float


def spent(information: float, alpha: float = 0.05, spending: Spending = "obrien-fleming", *, rho: float = 3.0) -> float:
    """Two-sided level that may be spent by this information; each side spends half by its own function.

    Args:
        information: Share of the planned information; all is spent from 1 on.
        alpha: Level of the whole test.
        spending: ``obrien-fleming`` 2 - 2 Phi(z_{alpha/2} / sqrt t), ``pocock`` alpha ln(1 + (e - 1) t) (Lan, DeMets
            1983), or ``power`` alpha t^rho (Kim, DeMets 1987).
        rho: Power, > 0.
    """
    t = min(information, 1.0)
    if t <= 0.0:
        return 0.0
    if t == 1.0:
        return alpha
    side = alpha / 2.0
    if spending == "obrien-fleming":
        return 4.0 * float(special.ndtr(special.ndtri(side / 2.0) / math.sqrt(t)))
    if spending == "pocock":
        return alpha * math.log1p(math.expm1(1.0) * t)
    if spending == "power":
        return alpha * t**rho
    raise ValueError(f"spending must be obrien-fleming, pocock or power, got {spending}.")


def bounds(
    information: Sequence[float], *, alpha: float = 0.05, spending: Spending = "obrien-fleming", rho: float = 3.0
) -> list[Look]:
    """Bounds of all looks up to now; later looks do not change earlier ones.

    Args:
        information: Share of the planned information at each look, rising, > 0; the last one of the plan is 1.
        alpha: Two-sided level of the whole test, within (0, 1).
        spending: How the level is spent, see ``spent``.
        rho: Power of the ``power`` family.

    Raises:
        ValueError: If the information does not rise within (0, 1], or alpha or the spending is not valid.
    """
    check_alpha(alpha)
    if not rho > 0.0:
        raise ValueError(f"rho must be > 0, got {rho}.")
    shares = [float(t) for t in information]
    rises = all(before < after for before, after in itertools.pairwise([0.0, *shares]))
    if not shares or not rises or shares[-1] > 1.0:
        raise ValueError(f"information must rise within (0, 1], got {shares}: users of each look over those planned.")
    walk = _Walk()
    looks: list[Look] = []
    before = 0.0
    for t in shares:
        now = max(spent(t, alpha, spending, rho=rho), before)
        z, nominal = walk.bound(t, (now - before) / 2.0)
        looks.append(Look(t, now, z, nominal))
        walk.step(t, z)
        before = now
    return looks


def information_fraction(n_control: int, n_treatment: int, planned_control: int, planned_treatment: int) -> float:
    """Share of the planned information: 1 / (1/n_C + 1/n_T) in hand over planned, at most 1; 0 with an empty arm."""
    if min(planned_control, planned_treatment) < 1:
        raise ValueError(f"planned users must be >= 1 per arm, got {planned_control} and {planned_treatment}.")
    if min(n_control, n_treatment) < 1:
        return 0.0
    planned = 1.0 / (1.0 / planned_control + 1.0 / planned_treatment)
    return min(1.0 / (1.0 / n_control + 1.0 / n_treatment) / planned, 1.0)


def stagewise_p(looks: Sequence[Look], z: float) -> float:
    """p of a test that stopped at the last of these looks with this Z: earlier stops are stronger evidence.

    Twice the chance, under "no difference", that this side stopped before or stands at or beyond \\|z\\| now
    (Fairbanks, Madsen 1982).
    """
    walk = _Walk()
    for look in looks[:-1]:
        walk.step(look.information, look.z)
    before = looks[-2].spent if len(looks) > 1 else 0.0
    return min(before + 2.0 * walk.beyond(looks[-1].information, abs(z)), 1.0)


class _Walk:
    """Density of the score sqrt(t) Z over the paths that have not crossed the upper bound, on Gauss-Legendre nodes."""

    def __init__(self) -> None:
        self._t = 0.0
        self._nodes: Floats = np.zeros(1)
        self._mass: Floats = np.ones(1)  # density times quadrature weight

    def beyond(self, t: float, z: float) -> float:
        """P(no crossing before, Z > z at t)."""
        step = math.sqrt(t - self._t)
        return float(self._mass @ special.ndtr((self._nodes - z * math.sqrt(t)) / step))

    def bound(self, t: float, level: float) -> tuple[float, float]:
        """z with ``beyond(t, z)`` = level, and its nominal two-sided level."""
        if level <= 0.0:
            return math.inf, 0.0
        if self._t == 0.0:
            return -float(special.ndtri(level)), 2.0 * level
        from scipy.optimize import brentq

        low, high = 0.0, 40.0

        def gap(z: float) -> float:
            here = self.beyond(t, z)
            return math.log(here / level) if here > 0.0 else -math.inf

        if gap(low) <= 0.0:
            return 0.0, 1.0
        while not math.isfinite(gap(high)):
            high *= 0.9
        z = float(brentq(gap, low, high, xtol=1e-14, rtol=1e-14)) if gap(high) < 0.0 else high
        return z, 2.0 * float(special.ndtr(-z))

    def step(self, t: float, z: float) -> None:
        """Go on to t with the paths that stay within the bound z there."""
        step = math.sqrt(t - self._t)
        low, high = -_REACH * math.sqrt(t), min(z, _REACH) * math.sqrt(t)
        nodes, weights = _panels(low, high, math.ceil((high - low) / (2.0 * step)))
        kernel = np.exp(-0.5 * ((nodes[:, None] - self._nodes) / step) ** 2) / (step * math.sqrt(2.0 * math.pi))
        self._t, self._nodes, self._mass = t, nodes, (kernel @ self._mass) * weights


def _panels(low: float, high: float, panels: int) -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes and weights on (low, high) in equal panels."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    half = (high - low) / (2.0 * panels)
    centres = low + half * (2.0 * np.arange(panels) + 1.0)
    return (centres[:, None] + half * nodes).ravel(), np.tile(half * weights, panels)
