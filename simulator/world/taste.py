"""Taste: at which granularity an interest is acted out, and the closed form of what a taste click picks.

An interest k of a user u is a subcategory s, the user's own topic t within it, and the user's ``taste.favourites``
items f_1 … f_F of that topic. A taste click draws an interest k with weight w_k, then the depth at which it is acted
out with the shares d of ``taste.depth``. Given user and time, a taste click picks item i with probability

    P(i | u, time) = sum_k w_k [ d_category    a_i [i in category(s_k)] / A(category(s_k))
                               + d_subcategory a_i [i in s_k] / A(s_k)
                               + d_topic       a_i [i in t_k] / A(t_k)
                               + d_item        #{j: f_kj = i} / F ]

with a_i the appeal of item i at the time (0 before it is published, halved every half-life if it fades) and A(S) the
sum of a over S; where items have seasons, each of the three ratios becomes the chance of a draw by the formula of
:mod:`simulator.world.seasons`. Where A(t_k) is 0, the subcategory stands for the topic; where A(s_k) or A of the
category is 0, the whole catalogue does. Favourites are drawn from t_k by appeal as of the time at which the interest
begins (the start of the log for the first), by the same rule where the topic is empty then; they are the same at every
click. The w_k are those of ``taste.focus``; interests at the time are those of
:meth:`simulator.world.users.UserDraws.epoch_at`.

Within a session the draws are not independent, but each has the distribution above:

* With chance ``sessions.focus`` the interest is the one that the session opened with, a draw by w made once a session.
* With chance ``signals.sessions`` the click stays in the session's opening topic instead: once a session, the opening
  interest is acted out at a depth drawn by d, which gives an item by the rule above, and the click is an item of that
  item's topic, drawn by appeal (one of the favourites, if the depth was item). The mixture over the opening draw is
  P(i | u, time) again, so that the dial moves nothing but what clicks of one session tell about each other.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Draws, mixed, to_uniform
from simulator.world.catalogue import Catalogue
from simulator.world.item_sampler import Segments, WeightedItemSampler
from simulator.world.seasons import Seasons
from simulator.world.users import UserDraws
from simulator.world.world_config import DepthConfig, WorldConfig

_STAPLE_DEPTH = np.asarray(5)  # what the bits of a staple are mixed with
CATEGORY, SUBCATEGORY, TOPIC, ITEM = range(4)  # depths, in the order of taste.depth


@dataclass(frozen=True)
class SegmentNumbers:
    """Where each division of the catalogue begins among the segments of the shelf.

    Topics and categories are there only if they can be drawn from, and come before what is always there, so that they
    move no draw of the others. Without topics of their own, subcategories are the topics.
    """

    first_topic: int
    first_category: int  # meaningless unless taste.depth.category > 0
    first_subcategory: int
    first_group: int
    everything: int
    fresh: int  # all that fades

    @classmethod
    def of(cls, config: WorldConfig) -> Self:
        """The numbers in a world of these keys."""
        keys = config.items
        subcategories = keys.categories * keys.subcategories
        topics = subcategories * keys.topics if keys.topics > 1 else 0
        categories = keys.categories if config.taste.depth.category > 0 else 0
        first_subcategory = topics + categories
        first_group = first_subcategory + subcategories
        everything = first_group + subcategories * keys.groups
        return cls(
            first_topic=0 if topics else first_subcategory,
            first_category=topics,
            first_subcategory=first_subcategory,
            first_group=first_group,
            everything=everything,
            fresh=everything + 1,
        )


def divisions(config: WorldConfig, catalogue: Catalogue) -> list[Segments]:
    """The divisions that :class:`SegmentNumbers` counts: topics, categories, subcategories, groups, all, all fading."""
    keys, evergreen = config.items, catalogue.evergreen
    subcategories = keys.categories * keys.subcategories
    nothing = np.zeros(len(catalogue), np.int32)
    found = [
        Segments(catalogue.subcategory, subcategories, evergreen),
        Segments(catalogue.group, subcategories * keys.groups, evergreen),
        Segments(nothing, 1, evergreen),
        Segments(nothing, 1, nothing.astype(bool)),
    ]
    if config.taste.depth.category > 0:
        found.insert(0, Segments(catalogue.subcategory // keys.subcategories, keys.categories, evergreen))
    if keys.topics > 1:
        found.insert(0, Segments(catalogue.topic, subcategories * keys.topics, evergreen))
    return found


class TasteShelf:
    """Picks items at any depth of an interest.

    Args:
        config: The world's keys.
        shelf: The segments of :func:`divisions`.
    """

    def __init__(self, config: WorldConfig, shelf: WeightedItemSampler) -> None:
        self._config, self._shelf = config, shelf
        self.numbers = SegmentNumbers.of(config)
        self._shares = depth_cumulative(config.taste.depth)
        self._favourite = Draws(config.seed, "favourite")
        self._seasons = Seasons(config)
        self.plain = config.taste.depth.subcategory == 1.0  # nothing but subcategories is ever drawn from

    def depth(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Depth at which a taste click is acted out, shape (B,)."""
        return np.searchsorted(self._shares, uniform, side="right")

    def segment(self, depth: NDArray[np.int64], topic: NDArray[np.integer]) -> NDArray[np.int64]:
        """Segment that an interest is drawn from at a depth, given its topic; that of the topic at depth item."""
        keys, numbers = self._config.items, self.numbers
        topic = topic.astype(np.int64)
        subcategory = topic // keys.topics
        segment = numbers.first_topic + topic
        segment = np.where(depth == SUBCATEGORY, numbers.first_subcategory + subcategory, segment)
        return np.where(depth == CATEGORY, numbers.first_category + subcategory // keys.subcategories, segment)

    def segment_of_subcategory(self, topic: NDArray[np.integer]) -> NDArray[np.int64]:
        """Segment of the subcategory of a topic, shape (B,)."""
        return self.numbers.first_subcategory + topic.astype(np.int64) // self._config.items.topics

    def staple_segment(self, topic: NDArray[np.integer], key: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Segment of staples of these keys, given the topics of their interests; as deep as taste clicks."""
        if self.plain:
            return self.segment_of_subcategory(topic)
        return self.segment(self.depth(to_uniform(mixed(key, _STAPLE_DEPTH))), topic)

    def pick_known(
        self, segment: NDArray[np.int64], bucket: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """An item of each segment (B,), one of the subcategory where a topic has none; -1 where that has none."""
        item = self._shelf.pick(segment, bucket, uniform)
        if self._config.items.topics > 1:
            missing = np.flatnonzero((item < 0) & (segment < self.numbers.first_category))
            if len(missing):
                wider = self.numbers.first_subcategory + segment[missing] // self._config.items.topics
                item[missing] = self._shelf.pick(wider, bucket[missing], uniform[missing])
        return item

    def pick(
        self,
        segment: NDArray[np.int64],
        bucket: NDArray[np.int64],
        uniform: NDArray[np.float64],
        *,
        at_last: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        """An item of each segment (B,); where it has none, one of the topic's subcategory, or else of all.

        Args:
            segment: Any segment of the shelf, shape (B,).
            bucket: Time bucket, shape (B,).
            uniform: Uniform in (0, 1), shape (B,).
            at_last: Time bucket of a draw from all, shape (B,); that of ``bucket`` if None.
        """
        item = self.pick_known(segment, bucket, uniform)
        missing = np.flatnonzero(item < 0)
        if len(missing):
            everything = np.full(len(missing), self.numbers.everything)
            last = bucket if at_last is None else at_last
            item[missing] = self._shelf.pick(everything, last[missing], uniform[missing])
        return item

    def in_season(
        self,
        item: NDArray[np.int64],
        segment: NDArray[np.int64],
        bucket: NDArray[np.int64],
        uniform: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """The items (B,) that :meth:`pick` drew, drawn anew where they are out of season (:mod:`.seasons`)."""
        if not self._seasons.any:
            return item

        def again(rows: NDArray[np.intp], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
            return self.pick(segment[rows], bucket[rows], uniform)

        return self._seasons.keep(item, np.asarray(bucket * self._shelf.bucket_s, dtype=np.float64), uniform, again)

    def favourite(
        self,
        users: NDArray[np.int64],
        interest: NDArray[np.int64],
        topic: NDArray[np.integer],
        begins_s: NDArray[np.float64],
        number: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Own items of users' interests, shape (B,).

        Args:
            users: Ids, shape (B,).
            interest: Number of the interest over all epochs of drift, epoch * 16 + slot, shape (B,).
            topic: The user's own topic of the interest, shape (B,).
            begins_s: When the interest begins, shape (B,); before the log counts as its start.
            number: Which of the favourites, 0 … ``taste.favourites`` - 1, shape (B,).
        """
        bucket = (np.maximum(begins_s, 0.0) // self._shelf.bucket_s).astype(np.int64)
        bucket = np.minimum(bucket, self._shelf.evergreen_share.shape[1] - 1)
        uniform = self._favourite.uniform(users, interest, number)
        return self.pick(self.numbers.first_topic + topic.astype(np.int64), bucket, uniform)

    def favourites(
        self, draws: UserDraws, users: NDArray[np.int64], topic: NDArray[np.integer], time_s: NDArray[np.float64]
    ) -> NDArray[np.int32]:
        """Own items of users' interests at a time, shape (S, F, B); F = 0 in a world where none are clicked.

        Args:
            draws: The users' draws.
            users: Ids, shape (B,).
            topic: Topic of each interest at the time, shape (S, B).
            time_s: Seconds since the start of the log, shape (B,).
        """
        slots, n = topic.shape
        count = self._config.taste.favourites if self._config.taste.depth.item > 0.0 else 0
        items = np.empty((slots, count, n), np.int32)
        for slot, number in np.ndindex(slots, count):
            of = np.full(n, slot)
            epoch = draws.epoch_at(users, of, time_s)
            begins_s = draws.begins_s(users, of, epoch)
            items[slot, number] = self.favourite(users, epoch * 16 + slot, topic[slot], begins_s, np.full(n, number))
        return items


def depth_cumulative(depth: DepthConfig) -> NDArray[np.float64]:
    """Cumulative shares of the first three depths, shape (3,); a depth of share 0 is never drawn."""
    shares = np.array([depth.category, depth.subcategory, depth.topic, depth.item])
    cumulative = np.cumsum(shares / shares.sum())
    last = int(np.flatnonzero(shares)[-1])
    cumulative[last:] = 1.0
    return cumulative[:3]
