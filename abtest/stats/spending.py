"""Group-sequential bounds for looks that were planned: Lan-DeMets alpha spending, two-sided and symmetric.

Two things are kept apart. How much of the level may be spent by look k, ``alpha(t_k)``: t is the share of the planned
information, or of another clock that was fixed before the test, such as its planned days (Lan, DeMets 1989, calendar
time). And how alike the looks are: the correlation of Z_j and Z_k is sqrt(I_j / I_k), which is a matter of information
alone, whatever the clock. Bounds that take the correlation from the calendar do not hold their level.

Each side spends half: the upper bound z_k solves P(no upper bound was crossed before, Z_k >= z_k) = half of
``alpha(t_k) - alpha(t_{k-1})`` by the recursion of Armitage, McPherson, Rowe (1969) on Gauss-Legendre nodes, and the
lower bound mirrors it. So a false "better" has a chance of alpha / 2, and so has a false "worse", whatever the other
side did before. A bound is used as a nominal level: test look k at ``Look.alpha``, and the intervals of that level are
repeated confidence intervals (Jennison, Turnbull 1989).

Where the information of the planned end is not known before it, ``Schedule`` spends by what is expected at each look,
and never rewrites the past: what a look has spent stays spent, its bound stays in the recursion, and the last planned
look spends all that is left. So the level is exact however wrong the expectations were, as long as they do not depend
on the effect; they only decide when the level is spent.
"""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from abtest.stats.contrast import check_alpha

Spending = Literal["obrien-fleming", "pocock", "power"]
Floats = NDArray[np.float64]

_REACH = 9.0  # standard deviations beyond which a density is nothing beside any level in use
_MOST_ALIKE = 0.9975  # correlation of two looks; more alike ones count as this, which errs on the safe side and ends
_NODES = 12  # per two standard deviations of the step from one look to the next: enough for 1e-12


class Look(NamedTuple):
    """One look of a plan.

    Attributes:
        information: Of this look; share of the planned information unless the spending has a clock of its own.
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
    information: Sequence[float],
    *,
    alpha: float = 0.05,
    spending: Spending = "obrien-fleming",
    rho: float = 3.0,
    clock: Sequence[float] | None = None,
) -> list[Look]:
    """Bounds of all looks up to now; later looks do not change earlier ones.

    Args:
        information: Share of the planned information at each look, rising, > 0; the last one of the plan is 1. With a
            ``clock`` only the ratios count, in any unit.
        alpha: Two-sided level of the whole test, within (0, 1).
        spending: How the level is spent, see ``spent``.
        rho: Power of the ``power`` family.
        clock: Share of the plan that has gone at each look, within (0, 1] and never falling, by which the level is
            spent; the information if None. It must not depend on what the data say of the effect.

    Raises:
        ValueError: If the information does not rise within (0, 1], or the clock, alpha or the spending is not valid.
    """
    check_alpha(alpha)
    if not rho > 0.0:
        raise ValueError(f"rho must be > 0, got {rho}.")
    shares = [float(t) for t in information]
    rises = all(before < after for before, after in itertools.pairwise([0.0, *shares]))
    if not shares or not rises or (clock is None and shares[-1] > 1.0) or not math.isfinite(shares[-1]):
        raise ValueError(f"information must rise within (0, 1], got {shares}: users of each look over those planned.")
    times = shares if clock is None else [float(t) for t in clock]
    steady = all(before <= after for before, after in itertools.pairwise([0.0, *times]))
    if len(times) != len(shares) or not steady or not 0.0 < times[0] <= times[-1] <= 1.0:
        raise ValueError(f"clock must be one share within (0, 1] per look and never fall, got {times}.")
    levels: list[float] = []
    for t in times:
        levels.append(max(spent(t, alpha, spending, rho=rho), levels[-1] if levels else 0.0))
    pairs = bounds_of(levels, correlations(shares))
    return [Look(t, level, z, nominal) for t, level, (z, nominal) in zip(shares, levels, pairs, strict=True)]


class Schedule(NamedTuple):
    """Looks so far of a test whose information at the planned end is expected and not known.

    Attributes:
        in_hand: Information at each look, rising, > 0, in any unit.
        expected: Information of the planned end as it was expected at each look, at least that in hand; at the last
            planned look that in hand. It must not depend on what the data say of the effect.
    """

    in_hand: tuple[float, ...]
    expected: tuple[float, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the expected information in hand at each look; 1 at the last look of the plan."""
        return tuple(now / whole for now, whole in zip(self.in_hand, self.expected, strict=True))

    def spent(self, alpha: float = 0.05, spending: Spending = "obrien-fleming") -> list[float]:
        """Two-sided level spent up to and with each look, never falling.

        It is what the spending function grants the share in hand. Where earlier looks spent more than that, since less
        was expected then, the look may still spend of the rest what the function grants its share of the information
        that was missing.
        """
        levels, before, spent_before = [], 0.0, 0.0
        for now, whole in zip(self.in_hand, self.expected, strict=True):
            of_rest = spent((now - before) / (whole - before), alpha, spending) / alpha
            level = max(spent(now / whole, alpha, spending), spent_before + (alpha - spent_before) * of_rest)
            levels.append(min(level, alpha))
            before, spent_before = now, levels[-1]
        return levels

    def bounds(self, alpha: float = 0.05, spending: Spending = "obrien-fleming") -> list[Look]:
        """Bounds of all looks so far; those of earlier looks are what they were then.

        Raises:
            ValueError: If alpha is not within (0, 1), or the information does not rise up to what is expected.
        """
        check_alpha(alpha)
        rises = all(before < now for before, now in itertools.pairwise([0.0, *self.in_hand]))
        if not rises or any(now > whole for now, whole in zip(self.in_hand, self.expected, strict=True)):
            raise ValueError(f"information must rise and stay within the expected {self.expected}, got {self.in_hand}.")
        levels = self.spent(alpha, spending)
        pairs = bounds_of(levels, correlations(self.in_hand))
        return [Look(t, level, *pair) for t, level, pair in zip(self.shares, levels, pairs, strict=True)]

    def growth(self, alpha: float = 0.05, power: float = 0.8) -> float:
        """How many times the users of a fixed test these looks need for the same power; the last is the plan's last.

        Args:
            alpha: Two-sided level of the whole test.
            power: Chance that some look finds the effect in its direction, within (alpha, 1).
        """
        likeness = correlations(self.in_hand)
        return _growth([look.z for look in self.bounds(alpha)], likeness, alpha=alpha, power=power)


def correlations(information: Sequence[float]) -> list[float]:
    """Correlation of Z at each look with Z at the look before, sqrt(I_{k-1} / I_k); 0 at the first."""
    return [math.sqrt(before / now) for before, now in itertools.pairwise([0.0, *information])]


def bounds_of(spent_by: Sequence[float], likeness: Sequence[float]) -> list[tuple[float, float]]:
    """z and nominal two-sided level of every look.

    Args:
        spent_by: Two-sided level spent up to and with each look, never falling.
        likeness: Correlation of each look's Z with that of the look before, within [0, 1); the first is not read.
            Looks further apart are taken to correlate by the product, as those of independent increments do.
    """
    walk, before, found = RandomWalk(), 0.0, []
    for level, r in zip(spent_by, likeness, strict=True):
        z, nominal = walk.bound(r, (level - before) / 2.0)
        found.append((z, nominal))
        walk.step(r, z)
        before = level
    return found


def crossing_chance(bounds_z: Sequence[float], likeness: Sequence[float], drift: Sequence[float]) -> float:
    """Chance that some Z crosses its upper bound, where Z_k has mean ``drift[k]`` and variance 1.

    Args:
        bounds_z: Bound of each look.
        likeness: As in ``bounds_of``.
        drift: Mean of Z at each look.
    """
    walk = RandomWalk()
    for z, r, mean in zip(bounds_z, likeness, drift, strict=True):
        walk.step(r, z - mean)  # Z minus its mean stays below the bound minus the mean
    return 1.0 - walk.mass


def information_fraction(n_control: int, n_treatment: int, planned_control: int, planned_treatment: int) -> float:
    """Share of the planned information: 1 / (1/n_C + 1/n_T) in hand over planned, at most 1; 0 with an empty arm."""
    return min(information_ratio(n_control, n_treatment, planned_control, planned_treatment), 1.0)


def information_ratio(n_control: int, n_treatment: int, planned_control: int, planned_treatment: int) -> float:
    """The same without a limit: above 1 where more users came than were planned."""
    if min(planned_control, planned_treatment) < 1:
        raise ValueError(f"planned users must be >= 1 per arm, got {planned_control} and {planned_treatment}.")
    if min(n_control, n_treatment) < 1:
        return 0.0
    planned = 1.0 / (1.0 / planned_control + 1.0 / planned_treatment)
    return 1.0 / (1.0 / n_control + 1.0 / n_treatment) / planned


def stagewise_p(looks: Sequence[Look], z: float) -> float:
    """p of a test that stopped at the last of these looks with this Z: earlier stops are stronger evidence.

    Twice the chance, under "no difference", that this side stopped before or stands at or beyond \\|z\\| now
    (Fairbanks, Madsen 1982).
    """
    walk, likeness = RandomWalk(), correlations([look.information for look in looks])
    for look, r in zip(looks[:-1], likeness[:-1], strict=True):
        walk.step(r, look.z)
    before = looks[-2].spent if len(looks) > 1 else 0.0
    return min(before + 2.0 * walk.beyond(likeness[-1], abs(z)), 1.0)


@lru_cache(maxsize=64)
def sample_growth(
    information: tuple[float, ...], *, alpha: float = 0.05, power: float = 0.8, spending: Spending = "obrien-fleming"
) -> float:
    """How many times the users of a fixed test the looks need for the same power; 1 for one look.

    Args:
        information: Share of the planned information at each look; the last is 1.
        alpha: Two-sided level of the whole test.
        power: Chance that some look finds the effect in its direction, within (alpha, 1).
        spending: As in ``bounds``.
    """
    looks = bounds(information, alpha=alpha, spending=spending)
    return _growth([look.z for look in looks], correlations(information), alpha=alpha, power=power)


def _growth(bounds_z: Sequence[float], likeness: Sequence[float], *, alpha: float, power: float) -> float:
    """The same for any bounds. Z of a look has the last one's mean times its correlation with the last."""
    from scipy.optimize import brentq

    if len(bounds_z) == 1:
        return 1.0
    to_last = [math.prod(likeness[look + 1 :]) for look in range(len(likeness))]
    fixed = -float(special.ndtri(alpha / 2.0)) + float(special.ndtri(power))

    def gap(drift: float) -> float:
        return crossing_chance(bounds_z, likeness, [drift * r for r in to_last]) - power

    return float(brentq(gap, 0.9 * fixed, 1.5 * fixed, xtol=1e-8) / fixed) ** 2


class RandomWalk:
    """Density of Z over the paths that have not crossed the upper bound, on Gauss-Legendre nodes."""

    def __init__(self) -> None:
        self._nodes: Floats = np.zeros(1)
        self._mass: Floats = np.ones(1)  # density times quadrature weight
        self._begun = False

    @property
    def mass(self) -> float:
        """Chance of not having crossed."""
        return float(self._mass.sum())

    def beyond(self, r: float, z: float) -> float:
        """P(no crossing before, Z > z) at a look whose Z correlates by r with the one before."""
        r, noise = self._step_of(r)
        return float(self._mass @ special.ndtr((r * self._nodes - z) / noise))

    def bound(self, r: float, level: float) -> tuple[float, float]:
        """z with ``beyond(r, z)`` = level, and its nominal two-sided level."""
        if level <= 0.0:
            return math.inf, 0.0
        if not self._begun:
            return -float(special.ndtri(level)), 2.0 * level
        from scipy.optimize import brentq

        low, high = 0.0, 40.0

        def gap(z: float) -> float:
            here = self.beyond(r, z)
            return math.log(here / level) if here > 0.0 else -math.inf

        if gap(low) <= 0.0:
            return 0.0, 1.0
        while not math.isfinite(gap(high)):
            high *= 0.9
        z = float(brentq(gap, low, high, xtol=1e-14, rtol=1e-14)) if gap(high) < 0.0 else high
        return z, 2.0 * float(special.ndtr(-z))

    def lower(self, r: float, level: float) -> float:
        """z with P(no crossing before, Z < z) = level; -inf for a level of 0, inf where the paths left are fewer."""
        r, noise = self._step_of(r)
        if level <= 1e-14 or level >= self.mass:
            return -math.inf if level <= 1e-14 else math.inf
        from scipy.optimize import brentq

        def gap(z: float) -> float:
            return float(self._mass @ special.ndtr((z - r * self._nodes) / noise)) - level

        return float(brentq(gap, -_REACH, _REACH, xtol=1e-12))

    def step(self, r: float, z: float, low: float = -_REACH) -> None:
        """Go on to the next look with the paths that stay between ``low`` and the bound z there."""
        r, noise = self._step_of(r)
        low = min(max(low, -_REACH), _REACH - 1e-9)
        high = min(max(z, low + 1e-9), _REACH)
        nodes, weights = _panels(low, high, math.ceil((high - low) / (2.0 * noise)))
        kernel = np.exp(-0.5 * ((nodes[:, None] - r * self._nodes) / noise) ** 2) / (noise * math.sqrt(2.0 * math.pi))
        self._nodes, self._mass, self._begun = nodes, (kernel @ self._mass) * weights, True

    def _step_of(self, r: float) -> tuple[float, float]:
        """Correlation with the look before, and what is new: standard deviation of Z given the one before."""
        r = min(r, _MOST_ALIKE) if self._begun else 0.0
        return r, math.sqrt((1.0 - r) * (1.0 + r))


def _panels(low: float, high: float, panels: int) -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes and weights on (low, high) in equal panels."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    half = (high - low) / (2.0 * panels)
    centres = low + half * (2.0 * np.arange(panels) + 1.0)
    return (centres[:, None] + half * nodes).ravel(), np.tile(half * weights, panels)
