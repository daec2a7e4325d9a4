"""Which items are clicked: step k makes the k-th click of every session that has one, all at once.

Exact: the shares of the causes, the weights of the items that are out, who links to whom. Approximate: what is out, and
how far it has faded, is that of the bucket of hours the session starts in (:func:`build_shelf`); a session avoids
items it has seen by 64 classes of items, so a few that it has not seen as well, and after three tries it takes what it
draws; sessions longer than a thousand clicks are cut. Where users click an item once at most in a session or the log
(``choice.once``), what they have clicked before is drawn anew from its segment, then from the whole catalogue, and left
out if that does not help either; the click after it was drawn beside the first draw.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Draws, halves, mixed, to_uniform
from simulator.world.catalogue import Catalogue
from simulator.world.item_sampler import WeightedItemSampler
from simulator.world.taste import ITEM, TasteShelf, divisions
from simulator.world.users import Habits, UserDraws, capped_mean, interest_cumulative
from simulator.world.visits import DAY_S, Visits
from simulator.world.world_config import WorldConfig

HOUR_S = 3_600
_MOST_BUCKETS = 400  # of the window
ONCE_TRIES = 6  # further draws of an item that the user has clicked, from its segment and then from everything
_TRIES = 3  # draws of an item the session has not seen; the last is kept
_MOST_CLICKS = 1_000  # of one session
_PICK, _SLOT, _STAPLE, _DEPTH, _RETRY, _ONCE = (
    np.asarray(word) for word in (1, 2, 3, 4, 8, 16)
)  # a click's bits are mixed with


class Cause(IntEnum):
    """Why an item was clicked: the truth behind the log."""

    TASTE = 0
    POPULAR = 1
    FRESH = 2
    SIMILAR = 3
    REPEAT = 4
    LINK = 5


class Sessions(NamedTuple):
    """Sessions in order of user and time, with all that decides their clicks."""

    visits: Visits
    length: NDArray[np.int64]  # (S,) clicks
    bits: NDArray[np.uint64]  # (S,) key of every draw in the session
    slot: NDArray[np.int64]  # (S,) interest the session opened with
    topic: NDArray[np.int32]  # (S, K) of each interest at the time; subcategories where there are no topics
    epoch: NDArray[np.int64]  # (S, K) of each interest at the time
    opening_topic: NDArray[np.int64]  # (S,) topic that taste clicks stay in; empty if they do not
    opening_own: NDArray[np.bool_]  # (S,) whether they stay with the favourites of the opening interest; or empty


class ClickList(NamedTuple):
    """Clicks in order of session and position."""

    session: NDArray[np.int64]  # (n,)
    item: NDArray[np.int64]  # (n,)
    cause: NDArray[np.uint8]  # (n,) of :class:`Cause`
    bits: NDArray[np.uint64]  # (n,) key of every further draw of the click


def build_shelf(config: WorldConfig, catalogue: Catalogue, days: int) -> WeightedItemSampler:
    """The segments clicks are drawn from (:func:`simulator.world.taste.divisions`)."""
    bucket_s = float(HOUR_S * max(1, -(-config.window_days * 24 // _MOST_BUCKETS)))
    return WeightedItemSampler.build(
        divisions(config, catalogue),
        catalogue.appeal,
        catalogue.published_s,
        half_life_s=config.items.half_life_h * HOUR_S,
        bucket_s=bucket_s,
        buckets=int((days + 1) * DAY_S // bucket_s) + 1,
    )


class ClickDraws:
    """Draws the clicks of any sessions of a world."""

    def __init__(self, config: WorldConfig, catalogue: Catalogue, shelf: WeightedItemSampler, users: UserDraws) -> None:
        self._config, self._catalogue, self._shelf, self._users = config, catalogue, shelf, users
        self._session = Draws(config.seed, "session")
        self._staple = Draws(config.seed, "staple")
        self._weights = interest_cumulative(config)
        self._n_targets = (catalogue.link_targets >= 0).sum(axis=1)
        self._taste = TasteShelf(config, shelf)
        self._segments = self._taste.numbers
        self._seasonal = config.items.seasons.share > 0.0

    def sessions(self, users: NDArray[np.int64], visits: Visits, habits: Habits, days: int) -> Sessions:
        """Length and intent of each visit of users (B,)."""
        config, user = self._config, users[visits.row]
        day = (visits.start_s // DAY_S).astype(np.int64)
        bits = self._session.bits(user, day * 64 + visits.ordinal)
        more = (config.sessions.clicks - 1.0) * habits.patience[visits.row]  # mean clicks after the first, geometric
        uniform = to_uniform(mixed(bits, np.asarray(-1)))
        length = 1 + np.floor(np.log(uniform) / np.log(more / (1.0 + more))).astype(np.int64)
        slot = np.searchsorted(self._weights, to_uniform(mixed(bits, np.asarray(-2))))
        slots = np.arange(config.taste.interests)
        interests = self._users.interests(users, self._users.epochs(days))
        topics = self._users.topics(users, interests)
        topic = np.empty((len(user), len(slots)), np.int32)
        epoch = np.empty(topic.shape, np.int64)
        for k in slots:
            epoch[:, k] = self._users.epoch_at(user, np.full(len(user), k), visits.start_s)
            topic[:, k] = topics[visits.row, epoch[:, k], k]
        opening = self._opening(visits, bits, topic[np.arange(len(slot)), slot])
        return Sessions(visits, np.minimum(length, _MOST_CLICKS), bits, slot, topic, epoch, *opening)

    def _opening(
        self, visits: Visits, bits: NDArray[np.uint64], topic: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Topic that each session opens with, given that of its opening interest, and whether it is of favourites."""
        if self._config.signals.sessions == 0.0:
            return np.empty(0, np.int64), np.empty(0, bool)
        kind, place = halves(mixed(bits, np.asarray(-3)))
        depth = self._taste.depth(kind)
        bucket = (visits.start_s // self._shelf.bucket_s).astype(np.int64)
        segment = self._taste.segment(depth, topic)
        item = self._taste.in_season(self._taste.pick(segment, bucket, place), segment, bucket, place)
        return self._catalogue.topic[item].astype(np.int64), depth == ITEM

    def draw(self, users: NDArray[np.int64], sessions: Sessions, habits: Habits) -> ClickList:
        """All clicks of the sessions of users (B,)."""
        walk = _ClickWalk(self, users, sessions, habits)
        first = np.cumsum(sessions.length) - sessions.length
        n = int(sessions.length.sum())
        item, cause, bits = np.empty(n, np.int64), np.empty(n, np.uint8), np.empty(n, np.uint64)
        segment = np.empty(0 if self._config.choice.once == "none" else n, np.int64)
        alive = np.bincount(sessions.length)[::-1].cumsum()[::-1][1:]  # sessions that have a k-th click, k = 1 …
        places = first[walk.order]
        for position, count in enumerate(alive):
            at = places[:count] + position
            item[at], cause[at], bits[at], drawn_from = walk.step(position, int(count))
            if len(segment):
                segment[at] = drawn_from
        session = np.repeat(np.arange(len(sessions.length)), sessions.length)
        clicks = ClickList(session, item, cause, bits)
        return clicks if self._config.choice.once == "none" else self._once(sessions, clicks, segment)

    def _once(self, sessions: Sessions, clicks: ClickList, segment: NDArray[np.int64]) -> ClickList:
        """The clicks without later ones on one item: drawn anew from ``segment`` (n,), or left out."""
        within = clicks.session if self._config.choice.once == "session" else sessions.visits.row[clicks.session]
        item, cause = clicks.item.copy(), clicks.cause.copy()
        bucket = (sessions.visits.start_s[clicks.session] // self._shelf.bucket_s).astype(np.int64)
        again = _later_on_same(within, item)
        for attempt in range(2 * ONCE_TRIES):
            if not len(again):
                return ClickList(clicks.session, item, cause, clicks.bits)
            own = segment[again] if attempt < ONCE_TRIES else np.full(len(again), self._segments.everything)
            uniform = to_uniform(mixed(clicks.bits[again], _ONCE + attempt))
            drawn = self._taste.pick(own, bucket[again], uniform)
            item[again] = self._taste.in_season(drawn, own, bucket[again], uniform)
            if attempt >= ONCE_TRIES:
                cause[again] = Cause.POPULAR
            again = _later_on_same(within, item)
        kept = np.ones(len(item), bool)
        kept[again] = False
        return ClickList(clicks.session[kept], item[kept], cause[kept], clicks.bits[kept])


class _ClickWalk:
    """The state of sessions under way, longest first, so that those with a k-th click are the first rows."""

    def __init__(self, draws: ClickDraws, users: NDArray[np.int64], sessions: Sessions, habits: Habits) -> None:
        config = draws._config
        self._draws = draws
        self.order = np.argsort(-sessions.length, kind="stable")
        row = sessions.visits.row[self.order]
        self._user = users[row]
        self._bits = sessions.bits[self.order]
        self._slot = sessions.slot[self.order]
        self._topic, self._epoch = sessions.topic[self.order], sessions.epoch[self.order]
        self._has_favourites = config.taste.depth.item > 0.0
        self._own = np.full(len(row), -1)  # interest that the click at hand is a favourite of, -1 = none
        self._stays = config.signals.sessions
        if self._stays:
            self._opening_topic = sessions.opening_topic[self.order]
            self._opening_own = sessions.opening_own[self.order]
        self._bucket = (sessions.visits.start_s[self.order] // draws._shelf.bucket_s).astype(np.int64)
        readiness = capped_mean(config.links.strength, config.links.susceptibility_sd)
        self._follows = np.minimum(readiness * habits.susceptibility, 1.0)[row]
        self._thresholds = _thresholds(config, habits.novelty)[row].T.copy()  # (4, S)
        self._previous = np.full(len(row), -1)
        self._seen = np.zeros(len(row), np.uint64)  # a bit for each of 64 classes of items

    def step(
        self, position: int, count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint64], NDArray[np.int64]]:
        """Item, cause, bits and segment of the click at ``position`` of the first ``count`` sessions."""
        bits = mixed(self._bits[:count], np.asarray(position))
        cause, segment = self._choose(bits, count)
        item = self._pick(np.arange(count), segment, cause, mixed(bits, _PICK))
        for attempt in range(_TRIES - 1):
            again = np.flatnonzero(self._seen[:count] & _class_bit(item))
            if not len(again):
                break
            fresh_bits = mixed(bits[again], _RETRY + attempt)
            item[again] = self._pick(again, segment[again], cause[again], fresh_bits)
        self._seen[:count] |= _class_bit(item)
        self._previous[:count] = item
        return item, cause, bits, segment

    def _choose(self, bits: NDArray[np.uint64], count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Why the next item is clicked, and the segment it comes from."""
        draws = self._draws
        link, kind = halves(bits)
        cause = np.zeros(count, np.uint8)
        for threshold in self._thresholds:
            cause += kind >= threshold[:count]
        previous = self._previous[:count]
        if previous[0] < 0:  # the first click of the sessions
            cause[cause == Cause.SIMILAR] = Cause.TASTE
            group = np.zeros(count, np.int64)
        else:
            group = draws._catalogue.group[previous].astype(np.int64)
            follows = self._follows[:count]
            linked = np.flatnonzero((link < follows) & (draws._n_targets[group] > 0))
            cause[linked] = Cause.LINK
        segments = draws._segments
        segment = np.full(count, segments.everything)
        segment[cause == Cause.FRESH] = segments.fresh
        taste = np.flatnonzero(cause == Cause.TASTE)
        segment[taste] = self._taste(taste, bits[taste])
        similar = np.flatnonzero(cause == Cause.SIMILAR)
        segment[similar] = segments.first_group + group[similar]
        if previous[0] >= 0 and len(linked):
            sources = group[linked]
            choice = (link[linked] / follows[linked] * draws._n_targets[sources]).astype(np.int64)
            segment[linked] = segments.first_group + draws._catalogue.link_targets[sources, choice]
        return cause, segment

    def _taste(self, rows: NDArray[np.int64], bits: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Segment of a taste click, of the session's interest or of one drawn anew (:mod:`simulator.world.taste`)."""
        shelf = self._draws._taste
        stay, anew = halves(mixed(bits, _SLOT))
        slot = np.where(
            stay < self._draws._config.sessions.focus, self._slot[rows], np.searchsorted(self._draws._weights, anew)
        )
        topic = self._topic[rows, slot]
        if shelf.plain and not self._stays:
            return shelf.segment_of_subcategory(topic)
        kind, goes_on = halves(mixed(bits, _DEPTH))
        depth = shelf.depth(kind)
        segment = shelf.segment(depth, topic)
        own = depth == ITEM
        if self._stays:
            stays = goes_on < self._stays
            segment = np.where(stays, shelf.numbers.first_topic + self._opening_topic[rows], segment)
            own = np.where(stays, self._opening_own[rows], own)
            slot = np.where(stays, self._slot[rows], slot)
        if self._has_favourites:
            self._own[:] = -1
            self._own[rows] = np.where(own, slot, -1)
        return segment

    def _pick(
        self,
        rows: NDArray[np.int64],
        segment: NDArray[np.int64],
        cause: NDArray[np.uint8],
        bits: NDArray[np.uint64],
    ) -> NDArray[np.int64]:
        """An item of each segment; a staple is drawn by the user's own key, as of the start of the log."""
        draws = self._draws
        now, uniform = self._bucket[rows], to_uniform(bits)
        bucket = now
        staple = np.flatnonzero(cause == Cause.REPEAT)
        if len(staple):
            which = (uniform[staple] * draws._config.choice.staples).astype(np.int64)
            key = draws._staple.bits(self._user[rows[staple]], which)
            bucket, segment = now.copy(), segment.copy()
            bucket[staple] = 0
            segment[staple] = self._staple_segment(rows[staple], key)
            uniform[staple] = to_uniform(mixed(key, _STAPLE))
        item = draws._taste.pick(segment, bucket, uniform, at_last=now)
        if draws._seasonal:
            other = np.flatnonzero(cause != Cause.REPEAT)
            item[other] = draws._taste.in_season(item[other], segment[other], now[other], uniform[other])
        if self._has_favourites:
            favourite = np.flatnonzero(self._own[rows] >= 0)
            item[favourite] = self._favourite(rows[favourite], uniform[favourite])
        return item

    def _favourite(self, rows: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """One of the user's own items of the interest at hand, all alike."""
        draws, users, slot = self._draws, self._user[rows], self._own[rows]
        epoch = self._epoch[rows, slot]
        number = (uniform * draws._config.taste.favourites).astype(np.int64)
        begins_s = draws._users.begins_s(users, slot, epoch)
        return draws._taste.favourite(users, epoch * 16 + slot, self._topic[rows, slot], begins_s, number)

    def _staple_segment(self, rows: NDArray[np.int64], key: NDArray[np.uint64]) -> NDArray[np.int64]:
        slot = np.searchsorted(self._draws._weights, to_uniform(key))
        return self._draws._taste.staple_segment(self._topic[rows, slot], key)


def _later_on_same(within: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of clicks on what an earlier row of the same user or session (n,) has."""
    order = np.lexsort((np.arange(len(within)), item, within))
    again = (np.diff(within[order], prepend=-1) == 0) & (np.diff(item[order], prepend=-1) == 0)
    return order[again]


def _class_bit(item: NDArray[np.int64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        place = (item.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(58)
    return np.uint64(1) << place


def _thresholds(config: WorldConfig, novelty: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper ends of the causes TASTE, POPULAR, FRESH, SIMILAR in (0, 1) for each user, shape (B, 4)."""
    choice = config.choice
    fresh = np.minimum(capped_mean(choice.fresh, choice.novelty_sd) * novelty, 1.0)
    others = np.array([choice.taste, choice.popular, choice.similar, choice.repeat])
    total = others.sum()
    rest = (1.0 - fresh)[:, None] * (others / total if total > 0 else np.array([0.0, 0.0, 0.0, 0.0]))
    return np.cumsum(np.stack([rest[:, 0], rest[:, 1], fresh, rest[:, 2]], axis=1), axis=1)
