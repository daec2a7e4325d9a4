"""The catalogue: what is published when, how much it pulls, how good it is; every trait keyed by the item's id."""

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Draws
from simulator.world.catalogue import Catalogue
from simulator.world.links import draw_link_targets
from simulator.world.seasons import Seasons, season_appeal
from simulator.world.visits import DAY_S
from simulator.world.world_config import WorldConfig

BACK_DAYS = 365  # the evergreen items of the start were published over the year before
BACK_HALF_LIVES = 8  # and those that fade over this time before, at most a year
MORNING_S, PUBLISHING_S = 2 * 3_600, 16 * 3_600  # new items appear from six to ten in the evening; days start at four
CLICKBAIT_APPEAL, CLICKBAIT_QUALITY = 3.0, -1.5
HOMES = 2  # providers at home in a topic
RARE_APPEAL = 0.02  # factor on the appeal of items that are rarely shown
CATEGORY_EXPONENT = 0.5  # Zipf exponent of how items spread over categories


def make_catalogue(config: WorldConfig) -> Catalogue:
    """All items published before the end of the log, those of the start first, then day by day.

    The first items fill the hidden groups one by one, so that none is empty while there are enough.

    Raises:
        ValueError: If no item is there at the start.
    """
    n_start, n_daily = counts(config)
    if n_start < 1:
        raise ValueError("items.new_share: leaves no item at the start of the log: lower it or raise items.count")
    ids = np.arange(n_start + n_daily * config.days)
    subcategory, group = _places(config, ids, n_start)
    topic = _topics(config, ids, subcategory)
    rank = Draws(config.seed, "item appeal").uniform(ids)
    clickbait = Draws(config.seed, "clickbait").uniform(ids) < config.items.clickbait_share
    evergreen = Draws(config.seed, "evergreen").uniform(ids) < config.items.evergreen_share
    rare = Draws(config.seed, "rarely shown").uniform(ids) < config.items.rare_share
    appeal = rank ** -float(config.items.popularity_exponent) * np.where(clickbait, CLICKBAIT_APPEAL, 1.0)
    appeal *= np.where(rare, RARE_APPEAL, 1.0)
    seasons = Seasons(config)
    if seasons.any:
        appeal *= np.where(seasons.seasonal(ids), season_appeal(config.items.seasons), 1.0)
    return Catalogue(
        subcategory=subcategory.astype(np.int32),
        group=group.astype(np.int32),
        topic=topic.astype(np.int32),
        published_s=_published(config, ids, n_start, n_daily, evergreen),
        appeal=appeal,
        evergreen=evergreen,
        quality=(_quality(config, ids, rank) + np.where(clickbait, CLICKBAIT_QUALITY, 0.0)).astype(np.float32),
        provider=_providers(config, ids, subcategory, topic).astype(np.int32),
        clickbait=clickbait,
        link_targets=draw_link_targets(config),
    )


def counts(config: WorldConfig) -> tuple[int, int]:
    """Items at the start, and items published each day; by the end of the window they make ``items.count``."""
    daily = round(config.items.count * config.items.new_share / config.window_days)
    return config.items.count - daily * config.window_days, daily


def zipf_rank(uniform: NDArray[np.float64], sizes: NDArray[np.int64] | int, exponent: float) -> NDArray[np.int64]:
    """Rank 0 … size - 1 with density falling as rank^-exponent, by inversion of the continuous power law."""
    top = np.asarray(sizes) + 1.0
    if abs(exponent - 1.0) < 1e-9:
        value = top**uniform
    else:
        power = 1.0 - exponent
        value = (1.0 + uniform * (top**power - 1.0)) ** (1.0 / power)
    return np.clip(value.astype(np.int64) - 1, 0, np.asarray(sizes) - 1)


def _places(config: WorldConfig, ids: NDArray[np.int64], n_start: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Subcategory and group of each item."""
    keys = config.items
    weights = np.arange(1, keys.categories + 1) ** -CATEGORY_EXPONENT
    cumulative = np.cumsum(weights) / weights.sum()
    which, within = Draws(config.seed, "item category").two_uniforms(ids)
    category = np.minimum(np.searchsorted(cumulative, which), keys.categories - 1)
    subcategory = category * keys.subcategories + (within * keys.subcategories).astype(np.int64)
    group = subcategory * keys.groups + (Draws(config.seed, "item group").uniform(ids) * keys.groups).astype(np.int64)
    filled = min(n_start, keys.categories * keys.subcategories * keys.groups)
    group[:filled] = ids[:filled]
    return group // keys.groups, group


def _topics(config: WorldConfig, ids: NDArray[np.int64], subcategory: NDArray[np.int64]) -> NDArray[np.int64]:
    """Topic of each item, evenly among those of its subcategory, whatever its group."""
    topics = config.items.topics
    return subcategory * topics + (Draws(config.seed, "item topic").uniform(ids) * topics).astype(np.int64)


def _published(
    config: WorldConfig, ids: NDArray[np.int64], n_start: int, n_daily: int, evergreen: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """When each item appears; those of the start that fade did so of late, as faded ones have left the catalogue."""
    when = Draws(config.seed, "published").uniform(ids)
    day = (ids - n_start) // max(n_daily, 1)
    back_s = np.where(evergreen, BACK_DAYS, min(BACK_DAYS, BACK_HALF_LIVES * config.items.half_life_h / 24)) * DAY_S
    return np.where(ids < n_start, -when * back_s, day * DAY_S + MORNING_S + when * PUBLISHING_S)


def _quality(config: WorldConfig, ids: NDArray[np.int64], rank: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import ndtri

    rho = config.items.quality_appeal
    noise = Draws(config.seed, "quality").normal(ids)
    quality: NDArray[np.float64] = rho * -ndtri(rank) + np.sqrt(1.0 - rho**2) * noise
    return quality


def _providers(
    config: WorldConfig, ids: NDArray[np.int64], subcategory: NDArray[np.int64], topic: NDArray[np.int64]
) -> NDArray[np.int64]:
    """A provider at home in the item's category, few of them publish much; or one at home in its topic.

    The homes of a category's topics are its providers in turn, so that few topics share one while there are enough.
    """
    keys = config.items
    category = subcategory // keys.subcategories
    at_home = np.maximum((keys.providers - 1 - category) // keys.categories + 1, 1)  # providers of the category
    rank = zipf_rank(Draws(config.seed, "provider").uniform(ids), at_home, 1.0)
    if config.signals.provider > 0.0:
        topical, which = Draws(config.seed, "topic provider").two_uniforms(ids)
        home = topic % (keys.subcategories * keys.topics) * HOMES + (which * HOMES).astype(np.int64)
        rank = np.where(topical < config.signals.provider, home % at_home, rank)
    return (rank * keys.categories + category) % keys.providers
