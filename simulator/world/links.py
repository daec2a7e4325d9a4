"""Planted links: which hidden groups lead to which, drawn without a look at anything a model may see."""

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Draws
from simulator.world.world_config import WorldConfig

_TRIES = 64


def draw_link_targets(config: WorldConfig) -> NDArray[np.int32]:
    """Groups that each group links to, shape (groups, widest), -1 = none; always of another category.

    ``density`` of the groups are sources with ``targets`` links each; ``mutual`` of those links run back as well.
    """
    keys = config.items
    per_category = keys.subcategories * keys.groups
    n = keys.categories * per_category
    groups = np.arange(n)
    order = np.argsort(Draws(config.seed, "link source").uniform(groups), kind="stable")
    sources = np.sort(order[: round(config.links.density * n)])
    if not len(sources):
        return np.full((n, 1), -1, np.int32)
    pairs = {(int(source), int(target)) for source, target in _pairs(config, sources, n - per_category, per_category)}
    back = Draws(config.seed, "link back")
    ordered = sorted(pairs)
    for source, target in ordered:
        if back.uniform(source, target) < config.links.mutual:
            pairs.add((target, source))
    return _padded(sorted(pairs), n)


def _pairs(
    config: WorldConfig, sources: NDArray[np.int64], others: int, per_category: int
) -> list[tuple[np.int64, np.int64]]:
    """Source and target of every link one way; the targets of a source differ."""
    draws = Draws(config.seed, "link target")
    own = sources // per_category * per_category  # first group of the source's category
    chosen: list[NDArray[np.int64]] = []
    for number in range(config.links.targets):
        place = np.full(len(sources), -1)
        for attempt in range(_TRIES):
            open_rows = np.flatnonzero(place < 0)
            drawn = (draws.uniform(sources[open_rows], number * _TRIES + attempt) * others).astype(np.int64)
            taken = np.any([earlier[open_rows] == drawn for earlier in chosen], axis=0) if chosen else False
            place[open_rows] = np.where(taken, -1, drawn)
        for row in np.flatnonzero(place < 0):  # nearly every other group is taken: the next free one
            used = {int(earlier[row]) for earlier in chosen}
            place[row] = next(free for free in range(others) if free not in used)
        chosen.append(place)
    return [
        (source, target)
        for place in chosen
        for source, target in zip(sources, place + np.where(place >= own, per_category, 0), strict=True)
    ]


def _padded(pairs: list[tuple[int, int]], n: int) -> NDArray[np.int32]:
    source = np.array([pair[0] for pair in pairs])
    within = np.arange(len(pairs)) - np.searchsorted(source, source)
    targets = np.full((n, int(within.max()) + 1), -1, np.int32)
    targets[source, within] = [pair[1] for pair in pairs]
    return targets
