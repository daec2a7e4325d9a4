"""Calibration on reference slates: what an intercept must be for the configured click rate, and what a slate is worth.

The pilot's users are in no world; each sees one slate at the start of a visit, at a moment within the log. A place of a
reference slate holds, with even chance, an item from one of the user's interests or one from the whole catalogue, drawn
by appeal. Users who click more readily than others get more of the same slate, so that each is measured against what a
reference slate is worth to somebody like them: satisfaction tells slates apart, not users.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.errors import MicrecError
from simulator.draws import Draws, halves, mixed, to_uniform
from simulator.population.attraction import Attraction
from simulator.population.examination import Examination, Noise
from simulator.population.population_config import PopulationConfig
from simulator.population.responses import DayVisits
from simulator.population.satisfaction import SatisfactionModel
from simulator.population.traits import Traits
from simulator.population.visit_state import CarryOverState, VisitState
from simulator.world.taste import TasteShelf
from simulator.world.users import interest_cumulative
from simulator.world.visits import DAY_S, pilot_users
from simulator.world.world import World

PILOT_SLATES = 16_384
_WIDEST = 25.0  # log odds
_PRECISION = 1e-4
_GRID = np.linspace(-4.0, 4.0, 17)  # standard deviations of readiness


class SlateCalibration(NamedTuple):
    """What the pilot found."""

    intercept: float  # log odds, added to every utility
    worth: float  # mean worth of a reference slate
    worth_sd: float  # among users of the same readiness to click
    readiness: NDArray[np.float64]  # (G,) log odds, rising
    worth_above: NDArray[np.float64]  # (G,) mean worth to users of each readiness, above ``worth``

    def worth_to(self, readiness: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean worth of a reference slate to users of a readiness (n,) in log odds."""
        return self.worth + np.interp(readiness, self.readiness, self.worth_above)


def calibrate(
    world: World, keys: PopulationConfig, attraction: Attraction, examination: Examination, pleasure: SatisfactionModel
) -> SlateCalibration:
    """Intercept by bisection, then the worth of the slates.

    Raises:
        MicrecError: If no intercept gives the click rate.
    """
    users = np.arange(PILOT_SLATES)
    traits = Traits.of(world, pilot_users(PILOT_SLATES))
    key = Draws(keys.seed, f"pilot of world {world.config.seed}").bits(users)
    now_s = to_uniform(key) * world.config.days * DAY_S
    visiting = VisitState(traits, keys, DayVisits(users, now_s, 0 * users, key), CarryOverState.nothing(PILOT_SLATES))
    items = reference_slates(world, keys, visiting.topic, now_s, key)
    own = (keys.utility.click_propensity_sd * traits.readiness).astype(np.float32)
    utility = attraction(items, visiting.situation(users, now_s)).utility
    start = mixed(key, np.asarray(0))
    bits = mixed(start, items)
    noise, real = Noise(*halves(bits), start), items >= 0

    def clicked(intercept: float, readiness: NDArray[np.float32] | np.float32 = own) -> NDArray[np.bool_]:
        return examination(utility + (np.float32(intercept) + readiness), real, noise)[1]

    def rate(intercept: float) -> float:
        return float(clicked(intercept).sum() / real.sum())

    low, high = -_WIDEST, _WIDEST
    least, most = rate(low), rate(high)
    if not least <= keys.click_rate <= most:
        raise MicrecError(
            f"population.click_rate: {keys.click_rate:g} cannot be reached: with examination.kind "
            f"{keys.examination.kind} and slates of {keys.slate_size} it lies between {least:.3g} and {most:.3g}; "
            "lower it, or let more of the slate be looked at (examination.decay, after_click, after_skip, again)."
        )
    while high - low > _PRECISION:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if rate(middle) < keys.click_rate else (low, middle)
    intercept = 0.5 * (low + high)
    place, column = np.nonzero(clicked(intercept))
    aftermath = pleasure(bits[place, column], items[place, column], *visiting.habits[:, column])
    worth = np.bincount(column, aftermath.worth, minlength=PILOT_SLATES)
    if keys.utility.click_propensity_sd == 0.0:
        return SlateCalibration(intercept, float(worth.mean()), max(float(worth.std()), 1e-9), np.zeros(1), np.zeros(1))
    grid = keys.utility.click_propensity_sd * _GRID
    clicks = np.array([clicked(intercept, np.float32(readiness)).sum() for readiness in grid])
    to_like = clicks * (aftermath.worth.mean() / PILOT_SLATES)
    to_each = np.interp(own, grid, to_like)
    spread = max(float((worth - to_each).std()), 1e-9)
    return SlateCalibration(intercept, float(worth.mean()), spread, grid, to_like - to_each.mean())


def reference_slates(
    world: World,
    keys: PopulationConfig,
    topic: NDArray[np.int32],
    now_s: NDArray[np.float64],
    key: NDArray[np.uint64],
) -> NDArray[np.int64]:
    """Distinct items (K, B) for users whose topics (S, B) at times (B,) are known; -1 where one came twice.

    An interest is acted out as deep as in the history, but for favourites, for which any item of the topic stands.
    """
    config, shelf = world.config, world.shelf
    taste = TasteShelf(config, shelf)
    start = mixed(mixed(key, np.asarray(-4)), np.arange(keys.slate_size)[:, None])
    kind, which = halves(start)
    slot = np.searchsorted(interest_cumulative(config), which)
    own = taste.segment(taste.depth(np.minimum(2.0 * kind, 1.0)), np.take_along_axis(topic, slot, axis=0))
    segment = np.where(kind < 0.5, own, taste.numbers.everything)
    bucket = np.broadcast_to((now_s // shelf.bucket_s).astype(np.int64), segment.shape)
    uniform = to_uniform(mixed(start, np.asarray(1))).ravel()
    picked = taste.pick_known(segment.ravel(), bucket.ravel(), uniform)
    picked = taste.in_season(picked, segment.ravel(), bucket.ravel(), uniform)
    items = picked.reshape(segment.shape).astype(np.int64)
    order = np.argsort(items, axis=0, kind="stable")
    ranked = np.take_along_axis(items, order, axis=0)
    ranked[1:][ranked[1:] == ranked[:-1]] = -1
    np.put_along_axis(items, order, ranked, axis=0)
    return items
