"""Keys of the catalogue: how many items, which are new, how they fade, how they are categorised and tagged."""

import numpy as np
from numpy.typing import NDArray

from simulator.fit.findings import Findings
from simulator.fit.structure_moments import (
    BINS,
    HEAD,
    SOON,
    drift_at_last,
    drift_later,
    drift_midway,
    drift_soon,
    popularity_drift,
    top_share,
)
from simulator.realism.log import DAY_S, HOUR_S, Log
from simulator.realism.statistics import Missing
from simulator.world.items import CATEGORY_EXPONENT
from simulator.world.world_config import SeasonsConfig

Floats = NDArray[np.float64]

LEAST_SUBCATEGORY, LEAST_GROUP = 20, 10  # mean items, so that one interest or link does not mean one item
MOST_TOPICS = 8  # of a subcategory
YEAR, LEAST_YEAR = 365.0, 300  # days
_LEAST_NEW = 20
_LEAST_CLICKS = 5  # of an item whose start is guessed from its clicks
_RATES = np.geomspace(np.log(2.0) / 8_760.0, np.log(2.0), 80)  # fading per hour: half-lives of a year … an hour


def fit_seasons(log: Log, days: int, findings: Findings) -> None:
    """Set how often seasons come, and where the search for the others starts; call it after :func:`fit_items`.

    The search starts from seasons that explain the drift of popularity, or half of it where items fade as well. Were
    there nothing else, two users would meet on an item less often by a share that grows in proportion to the time
    between them, until it is the length of a season; from there on it is D, which a share s of seasonal items gives if

        D = s (E m^2 - E m m') / ((1 - s) (E m)^2 + s E m^2),

    m being the item's appeal at one moment and m' farther away than a season.
    """
    try:
        soon, midway, later, last = drift_soon(log), drift_midway(log), drift_later(log), drift_at_last(log)
    except Missing as missing:
        findings.keep(str(missing), "items.seasons.every_days")
        findings.set("items.seasons.share", 0.0, str(missing))
        findings.keep(str(missing), "items.seasons.days", "items.seasons.off_season")
        return
    returns = days >= LEAST_YEAR and last < later
    every = YEAR if returns else 2.0 * days
    source = (
        "a year: what was popular is so again at the end of the log" if returns else "twice the log: none comes back"
    )
    findings.set("items.seasons.every_days", every, source)
    off = SeasonsConfig().off_season
    findings.set("items.seasons.off_season", off, "not told from how many items have seasons")
    lag = (sum(SOON) - 1) / 2.0 / BINS * days
    length = float(np.clip(lag * midway / max(soon, 1e-3), 0.02 * every, 0.3 * every))
    findings.set("items.seasons.days", round(length, 3), "where the search for it starts")
    fades = findings.found["items.new_share"].value > 0.0 and not returns
    drift = max(midway, 0.0) / (2.0 if fades else 1.0)
    findings.set(
        "items.seasons.share", round(_seasonal_share(drift, length / every, off), 3), "where the search starts"
    )


def _seasonal_share(drift: float, in_season: float, off: float) -> float:
    """Share of the items that must have seasons, each for a share of the time, for a drift."""
    mean = in_season + (1.0 - in_season) * off
    square = (in_season + (1.0 - in_season) * off**2) / mean**2
    apart = (2.0 * in_season * off + (1.0 - 2.0 * in_season) * off**2) / mean**2
    return float(np.clip(drift / max(square - apart - drift * (square - 1.0), 1e-6), 0.0, 0.95))


def fit_items(log: Log, start_s: float, days: int, findings: Findings) -> None:
    """Set the keys of ``items`` that follow from counts and ages."""
    findings.set("items.count", log.n_items, "items of the item table")
    findings.set("items.clicks_per_item", None, "follows from items.count")
    end_s = start_s + days * DAY_S
    if log.published_s is not None and np.isfinite(log.published_s).mean() > 0.5:
        starts, source = log.published_s, "publication times of the item table"
    else:
        starts, source = _guessed_starts(log), "first clicks: an item starts before its first by its mean gap"
    known = np.isfinite(starts)
    new = known & (starts >= start_s + 0.05 * (end_s - start_s)) & (starts < end_s)
    share = float(new.sum() / max(known.sum(), 1) / 0.95)
    share = 0.0 if new.sum() < _LEAST_NEW else min(share, 0.95)
    findings.set("items.new_share", round(share, 4), f"{source}; {int(new.sum())} items start within the log")
    if share == 0.0:
        findings.set("items.evergreen_share", 1.0, "no item appears within the log, so none is seen to fade")
        findings.keep("no item appears within the log", "items.half_life_h")
        return
    fading = _fading(log, new, starts, end_s)
    if fading is None:
        findings.keep("too few clicks on new items", "items.evergreen_share", "items.half_life_h")
        return
    evergreen, half_life_h = fading
    findings.set(
        "items.evergreen_share",
        round(evergreen, 3),
        "share of the new items whose clicks spread evenly over what is left",
    )
    if evergreen < 0.99:
        findings.set("items.half_life_h", round(half_life_h, 1), "ages of the clicks on the other new items")
    else:
        findings.keep("hardly an item fades", "items.half_life_h")


def _guessed_starts(log: Log) -> Floats:
    """Start of each item of five clicks or more: its first click less its mean gap; NaN for the others."""
    n = log.item_clicks
    first, last = np.full(log.n_items, np.inf), np.full(log.n_items, -np.inf)
    np.minimum.at(first, log.item, log.time_s)
    np.maximum.at(last, log.item, log.time_s)
    enough = n >= _LEAST_CLICKS
    starts = np.full(log.n_items, np.nan)
    starts[enough] = first[enough] - (last - first)[enough] / (n[enough] - 1)
    return starts


def _fading(log: Log, new: NDArray[np.bool_], starts: Floats, end_s: float) -> tuple[float, float] | None:
    """Share of the new items that never fade, and half-life of the others in hours, by maximum likelihood.

    A click on an item that never fades falls evenly on what is left of the log; one on an item that fades has a
    truncated exponential age.
    """
    age_h = (log.time_s - np.where(new, starts, 0.0)[log.item]) / HOUR_S
    counts = new[log.item] & (age_h >= 0.0)
    n = np.bincount(log.item[counts], minlength=log.n_items)
    total_h = np.bincount(log.item[counts], age_h[counts], minlength=log.n_items)
    left_h = np.where(new, (end_s - np.where(new, starts, end_s - 1.0)) / HOUR_S, 1.0)
    use = (n >= 2) & (left_h > 24.0)
    if use.sum() < _LEAST_NEW:
        return None
    n, total_h, left_h = n[use], total_h[use], left_h[use]
    even = -n * np.log(left_h)
    rate = _RATES[:, None]
    fade = n * np.log(rate) - rate * total_h - n * np.log(-np.expm1(-rate * left_h))  # (K, items) nats
    best = (-np.inf, 0.5, 0)
    for row in range(len(_RATES)):
        share = 0.5
        for _ in range(40):
            odds = np.clip(fade[row] - even, -500.0, 500.0)
            evergreen = share / (share + (1.0 - share) * np.exp(odds))
            share = float(np.clip(evergreen.mean(), 1e-3, 1.0 - 1e-3))
        likelihood = float(np.logaddexp(np.log(share) + even, np.log1p(-share) + fade[row]).sum())
        best = max(best, (likelihood, share, row))
    return best[1], float(np.log(2.0) / _RATES[best[2]])


def fit_categories(log: Log, base_groups: tuple[int, int], findings: Findings, *, finer_field: bool = True) -> None:
    """Set the categories; subcategories, hidden groups and topics follow so that each holds items.

    Args:
        log: The log.
        base_groups: Subcategories of a category and groups of a subcategory of the base.
        findings: Where to set the keys.
        finer_field: Whether items have a field that divides the categories: what a world calls a subcategory is seen
            by every model. Without one, hidden topics take its place.
    """
    if log.category is None or not (log.category > 0).any():
        findings.keep("no category in the item table", "items.categories", "items.subcategories", "items.groups")
        return
    counts = np.bincount(log.category[log.category > 0])[1:]
    even = _even_categories(counts[counts > 0] / counts.sum())
    most = max(2, log.n_items // LEAST_SUBCATEGORY)
    categories = int(np.clip(round(even), 2, min(most, 1_000)))
    findings.set(
        "items.categories",
        categories,
        f"entropy of items over their {int((counts > 0).sum())} categories, as a world spreads them; at least "
        f"{LEAST_SUBCATEGORY} items in each",
    )
    source = "the base's, or fewer, so that each holds {} items on average"
    subcategories = 1
    if finer_field:
        subcategories = max(1, min(base_groups[0], log.n_items // (LEAST_SUBCATEGORY * categories)))
        findings.set("items.subcategories", subcategories, source.format(LEAST_SUBCATEGORY))
    else:
        findings.set("items.subcategories", 1, "no field of the item table divides the categories")
    groups = max(1, min(base_groups[1], log.n_items // (LEAST_GROUP * categories * subcategories)))
    findings.set("items.groups", groups, source.format(LEAST_GROUP))
    topics = max(1, min(MOST_TOPICS, log.n_items // (LEAST_GROUP * categories * subcategories)))
    findings.set("items.topics", topics, f"up to {MOST_TOPICS}, so that each holds {LEAST_GROUP} items on average")


def _even_categories(shares: Floats) -> float:
    """Number of categories over which a world, whose items spread by a Zipf law, has the entropy of ``shares``."""
    from scipy.optimize import brentq

    target = float(-(shares * np.log(shares)).sum())

    def short(log_count: float) -> float:
        count = np.exp(log_count)
        ranks = np.arange(1, int(np.ceil(count)) + 1)
        weights = ranks**-CATEGORY_EXPONENT * np.clip(count - ranks + 1.0, 0.0, 1.0)
        weights /= weights.sum()
        return float(-(weights * np.log(weights)).sum()) - target

    return float(np.exp(brentq(short, 0.0, np.log(1e4)))) if 0.0 < target < 9.0 else 1.0


def fit_popularity(log: Log, findings: Findings) -> None:
    """Set where the search for steepness and fading of popularity starts; call it after :func:`fit_items`."""
    exponent = min(power_law_exponent(top_share(log), HEAD), 1.9)
    findings.set("items.popularity_exponent", round(exponent, 3), "share of the clicks on the most clicked items")
    findings.set("items.rare_share", 0.0, "where the search for it starts")
    every = findings.found.get("items.seasons.every_days")
    returns = every is not None and every.value == YEAR
    if findings.found["items.new_share"].value > 0.0 and "items.evergreen_share" in findings.found and not returns:
        try:
            lasting = max(0.0, 1.0 - popularity_drift(log)) / 2.0
        except Missing:
            return
        old = float(findings.found["items.evergreen_share"].value)
        findings.set("items.evergreen_share", round(min(old, lasting), 3), "drift of popularity, half of what lasts")


def power_law_exponent(share: float, head: float) -> float:
    """Exponent a of an appeal u^-a, u uniform, of which the most appealing ``head`` take ``share``: head^(1 - a)."""
    return max(0.0, 1.0 - float(np.log(share) / np.log(head)))
