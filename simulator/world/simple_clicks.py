"""Organic history of the simple world: when users come, what they click, how long they stay, what they like."""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from simulator.world.simple_config import SimpleWorld
from simulator.world.simple_items import DAY_S, START_S, Items
from simulator.world.simple_sampler import GroupSampler
from simulator.world.simple_users import Users, choose_column

SLOT_S = 7_200  # at most one session starts in each two hours, in its first hour: sessions never touch
MAX_SESSION_S = 3_600
NEW_ITEM_S = 2 * DAY_S
TRIES = 8  # draws before a user who has seen them all gives the click up
BROWSE_MIN_S, BROWSE_MEAN_S = 2.0, 8.0  # between two items: a least time, and the mean of what comes on top
LIKE_PER_DWELL_SD = 0.35  # log like rate per sd of log dwell: KuaiRand's .022-.083 over its watch ratios
LIKED_WHEN_FOLLOWED = 0.45  # KuaiRand: like given follow
# Arrivals by two-hour slot, from midnight: an evening peak, and Globo's night low of 1:13 of it.
DIURNAL = np.array([0.35, 0.13, 1 / 13, 0.25, 0.5, 0.6, 0.75, 0.65, 0.65, 0.85, 1.0, 0.75])


class Sessions(NamedTuple):
    """Sessions in order of user and start; a user's sessions start more than an hour apart."""

    user: NDArray[np.int64]  # (S,)
    start_s: NDArray[np.int64]  # (S,) seconds since 1970
    length: NDArray[np.int64]  # (S,) clicks to make, at least 1


class Choices(NamedTuple):
    """Clicks in order of session and position."""

    session: NDArray[np.int64]  # (n,)
    item: NDArray[np.int64]  # (n,)


def make_sessions(config: SimpleWorld, users: Users, rng: np.random.Generator) -> Sessions:
    """Poisson arrivals with the diurnal profile; arrivals of one user in one slot are one session."""
    slots = config.days * len(DIURNAL)
    arrivals = rng.poisson(users.activity * config.sessions_per_user)
    user = np.repeat(np.arange(config.users), arrivals)
    slot_of_day = rng.choice(len(DIURNAL), size=len(user), p=DIURNAL / DIURNAL.sum())
    slot = rng.integers(0, config.days, len(user)) * len(DIURNAL) + slot_of_day
    key = np.unique(user * slots + slot)
    start_s = START_S + key % slots * SLOT_S + rng.integers(0, SLOT_S - MAX_SESSION_S, len(key))
    return Sessions(key // slots, start_s, rng.geometric(1.0 / config.clicks_per_session, len(key)))


def choose_items(
    config: SimpleWorld,
    items: Items,
    partner: NDArray[np.int64],
    users: Users,
    sessions: Sessions,
    rng: np.random.Generator,
) -> Choices:
    """Walk through the clicks of all users at once: step k is the k-th click of everyone who has one.

    Args:
        partner: Target group of each link group, shape (G,), -1 = none.
    """
    walk = _Walk(config, items, partner, users, sessions, rng)
    session = np.repeat(np.arange(len(sessions.user)), sessions.length)  # (n,) of each click, in order
    opens = np.diff(session, prepend=-1) > 0  # (n,) whether it is the first of its session
    clicks = np.bincount(sessions.user[session], minlength=config.users)
    first = np.cumsum(clicks) - clicks
    item = np.full(len(session), -1)
    for step in range(int(clicks.max(initial=0))):
        click = first[clicks > step] + step
        previous = np.where(opens[click], -1, item[click - 1])
        item[click] = walk.next_items(session[click], previous)
    made = item >= 0
    return Choices(session[made], item[made])


class _Walk:
    """Who has seen what, and how the next item is drawn. Holds users x items bits."""

    def __init__(
        self,
        config: SimpleWorld,
        items: Items,
        partner: NDArray[np.int64],
        users: Users,
        sessions: Sessions,
        rng: np.random.Generator,
    ) -> None:
        self._config, self._users, self._sessions, self._rng = config, users, sessions, rng
        self._item_partner = np.append(partner[items.group], -1)  # index -1, no item, finds no partner
        self._by_tag = GroupSampler(items.tag, items.appeal, items.published_s)
        self._by_group = GroupSampler(items.group, items.appeal, items.published_s)
        self._overall = GroupSampler(np.zeros_like(items.tag), items.appeal, items.published_s)
        self._focus = choose_column(users.interest_share[sessions.user], rng.random(len(sessions.user)))
        self._seen = np.zeros((config.users, config.items // 8 + 1), np.uint8)

    def next_items(self, sessions: NDArray[np.int64], previous: NDArray[np.int64]) -> NDArray[np.int64]:
        """The next item of each session (B,), of distinct users, after ``previous`` (B,), -1 at the start.

        A user clicks an item once: one seen before is drawn anew, from the same link at first, where one is followed,
        then from the rest; where every try was seen there is no click, -1.
        """
        follows = self._rng.random(len(sessions)) < self._config.link_strength
        group = np.where(follows, self._item_partner[previous], -1)
        item = np.full(len(sessions), -1)
        open_rows = np.arange(len(sessions))
        for attempt in range(TRIES):
            if attempt == TRIES // 2:
                group = np.full_like(group, -1)
            drawn = self._draw(sessions[open_rows], group[open_rows])
            fresh = self._mark_seen(self._sessions.user[sessions[open_rows]], drawn)
            item[open_rows[fresh]] = drawn[fresh]
            open_rows = open_rows[~fresh]
            if not len(open_rows):
                break
        return item

    def _draw(self, sessions: NDArray[np.int64], group: NDArray[np.int64]) -> NDArray[np.int64]:
        """From the link group if any, else by shares popular, new or taste; what has no item falls to popular."""
        config, now = self._config, self._sessions.start_s[sessions]
        kind, stay, interest, pick = self._rng.random((4, len(sessions)))
        popular_or_new = config.popularity_share + config.novelty
        new = np.where((kind >= config.popularity_share) & (kind < popular_or_new), 0, -1)
        taste = np.where(kind >= popular_or_new, self._tags(sessions, stay, interest), -1)
        item = self._by_group.draw(group, pick, before=now)
        for candidate in (
            self._overall.draw(new, pick, since=now - NEW_ITEM_S, before=now),
            self._by_tag.draw(taste, pick, before=now),
            self._overall.draw(np.zeros_like(sessions), pick, before=now),
        ):
            item = np.where(item >= 0, item, candidate)
        return item

    def _tags(
        self, sessions: NDArray[np.int64], stay: NDArray[np.float64], interest: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """The tag of a taste click: that of the session, or one of the user's interests drawn anew."""
        user = self._sessions.user[sessions]
        anew = choose_column(self._users.interest_share[user], interest)
        column = np.where(stay < self._config.session_focus, self._focus[sessions], anew)
        return self._users.interests[user, column]

    def _mark_seen(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mark items (B,) as seen by distinct users (B,); true where they were not before."""
        byte, bit = items >> 3, np.left_shift(1, items & 7).astype(np.uint8)
        fresh = (self._seen[users, byte] & bit) == 0
        self._seen[users, byte] |= bit
        return fresh


def click_frame(
    config: SimpleWorld, items: Items, sessions: Sessions, choices: Choices, rng: np.random.Generator
) -> pl.DataFrame:
    """Times, dwell, likes and follows of the choices: the click log in time order. A session ends at its hour."""
    n = len(choices.item)
    depth = config.quality_effect * items.quality[choices.item]
    depth += np.sqrt(1.0 - config.quality_effect**2) * rng.standard_normal(n)  # log dwell in units of its sd
    dwell_s = np.exp(config.dwell_log_mean + config.dwell_log_sd * depth)
    browse_s = BROWSE_MIN_S + rng.exponential(BROWSE_MEAN_S, n)
    elapsed_s = _elapsed(dwell_s + browse_s, choices.session)
    like, follow = _reactions(config, depth, rng)
    frame = pl.DataFrame(
        {
            "user_id": sessions.user[choices.session],
            "item_id": choices.item,
            "timestamp": sessions.start_s[choices.session] + np.floor(elapsed_s).astype(np.int64),
            "dwell_s": np.minimum(dwell_s, MAX_SESSION_S - elapsed_s).round(1).astype(np.float32),
            "like": like,
            "follow": follow,
        }
    )
    return frame.filter(pl.Series(elapsed_s < MAX_SESSION_S)).sort("timestamp", "user_id")


def _elapsed(durations_s: NDArray[np.float64], session: NDArray[np.int64]) -> NDArray[np.float64]:
    """Seconds from the start of the session to each click: the sum of the durations before it."""
    total = np.cumsum(durations_s) - durations_s
    first = np.searchsorted(session, session, side="left")
    return np.maximum(total - total[first], 0.0)


def _reactions(
    config: SimpleWorld, depth: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Likes, which rise with depth and keep their mean rate, and follows, nearly half of them with a like."""
    lift = np.exp(LIKE_PER_DWELL_SD * depth - 0.5 * LIKE_PER_DWELL_SD**2)  # mean 1 for standard normal depth
    like = rng.random(len(depth)) < config.like_rate * lift
    both = min(LIKED_WHEN_FOLLOWED * config.follow_rate, config.like_rate)
    given_like = both / config.like_rate if config.like_rate > 0 else 0.0
    given_none = (config.follow_rate - both) / (1.0 - config.like_rate)
    follow = rng.random(len(depth)) < np.where(like, given_like, given_none)
    return like, follow
