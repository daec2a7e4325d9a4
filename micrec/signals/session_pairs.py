"""Whether sessions tell more than users: are items of one session nearer than those of the user's next session?

For each later click an anchor is drawn from its session, and as the other an item of the user's session before or
after, of the same coarser level as the click. Nearness is that of others' earlier clicks (``co_clicks``). Where a
session is a random part of what its user clicks, both are exchangeable and the share is .5 in expectation.
"""

import numpy as np
from numpy.typing import NDArray

from micrec.config import SessionsConfig
from micrec.data.dataset import Clicks
from micrec.data.sessions import assign_sessions
from micrec.signals.matched_pairs import MOST_CLICKS, MOST_USERS


def session_pairs(
    test: Clicks, groups: NDArray[np.int64], sessions: SessionsConfig, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Users (n,) and triples (n, 3): anchor, item of the same session, item of a neighbouring session."""
    users = np.unique(test.user_ids)
    if len(users) > MOST_USERS:
        users = np.sort(rng.choice(users, MOST_USERS, replace=False))
    clicks = test[np.isin(test.user_ids, users)]
    numbers = assign_sessions(clicks.user_ids, clicks.time_ms, sessions)
    owners: list[int] = []
    triples: list[tuple[int, int, int]] = []
    for user, parts in _sessions_of(clicks, numbers).items():
        found = _triples(parts, groups, rng)
        owners += [user] * len(found)
        triples += found
    return np.array(owners, dtype=np.int64), np.array(triples, dtype=np.int64).reshape(-1, 3)


def _sessions_of(clicks: Clicks, numbers: NDArray[np.int64]) -> dict[int, list[NDArray[np.int64]]]:
    """Distinct items of each session of each user, in the order of time."""
    found: dict[int, list[NDArray[np.int64]]] = {}
    order = np.lexsort((clicks.time_ms, numbers))
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    parts = [rows for rows in np.split(order, starts[1:]) if len(rows)]
    for rows in sorted(parts, key=lambda rows: int(clicks.time_ms[rows[0]])):
        found.setdefault(int(clicks.user_ids[rows[0]]), []).append(np.unique(clicks.item_ids[rows]).astype(np.int64))
    return found


def _triples(
    parts: list[NDArray[np.int64]], groups: NDArray[np.int64], rng: np.random.Generator
) -> list[tuple[int, int, int]]:
    """Items that the user clicked in several sessions take no part, so that both sides are drawn alike."""
    items, held = np.unique(np.concatenate(parts), return_counts=True)
    single = [part[np.isin(part, items[held == 1])] for part in parts]
    found = []
    for place, mine in enumerate(single):
        beside = np.concatenate([mine[:0], *single[max(place - 1, 0) : place], *single[place + 1 : place + 2]])
        for item in mine:
            alike, anchors = beside[groups[beside] == groups[item]], mine[mine != item]
            if len(anchors) and len(alike) and groups[item] > 0:
                found.append((int(rng.choice(anchors)), int(item), int(rng.choice(alike))))
    if len(found) > MOST_CLICKS:
        found = [found[place] for place in rng.choice(len(found), MOST_CLICKS, replace=False)]
    return found
