"""From a batch of requests to their slates: retrieve, merge, rank, diversify. The timetable has the times."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.channels.lists import shared_list
from simulator.interleaving import credited, drafted, offered_bits
from simulator.merge import Merged, merge
from simulator.platform.choice import PADDING, best_columns, explore, spread_out
from simulator.platform.last_place import CHOICE, explored_among, policy_columns, propensities
from simulator.platform.serving_plan import ServingPlan, SlateShape
from simulator.platform.shown_items import VisitImpressions
from simulator.platform.stage import Outcome
from simulator.platform.timetable import RequestBatch, StageResult, Timetable
from simulator.ports import Candidates, Matcher, NominationRanker, Nominations, Ranker, Requests

CHUNK = 1_024  # requests in one call of a model
FALLBACK = -2  # in place of a channel's number: from the fallback list
_DEEP = 5  # slates' worth of ranked items among which a slate is spread


class Slates(NamedTuple):
    """The slates of requests (B,), with K places each."""

    items: NDArray[np.int64]  # (B, K), -1 as padding at the end
    channel: NDArray[np.int8]  # (B, K) number in ``plan.channels`` of who brought the item, FALLBACK, or -1
    channel_place: NDArray[np.int16]  # (B, K) place of the item in that channel's list, -1 beside padding and fallback
    scores: NDArray[np.float32]  # (B, K) of ranking, or of merging where that gave none; -inf beside padding
    propensity: NDArray[np.float32]  # (B, K) chance of the item at its place given the candidates; 0 beside padding
    candidates: NDArray[np.int32]  # (B,) that went on to ranking
    offered: NDArray[np.int32]  # (B, S) by each channel, after what the visit has seen is taken out
    merged: NDArray[np.int32]  # (B, S) of each channel's items among the candidates
    offered_by: NDArray[np.uint32]  # (B, K) bit s is set if channel s offered the item; 0 beside padding
    policies: NDArray[np.void]  # (B, P) what each policy would put on the last place, see last_place.CHOICE


@dataclass
class SlateBuilder:
    """Builds the slates of one day.

    Attributes:
        plan: Who serves whom.
        matchers: By id of the model.
        rankers: By id of the model.
        popular: Fallback list where no channel answers, best first, shape (n,).
        values: Code of each item's value by field of the item table, shape (N,), -1 = none: to spread by.
        shown: What visits have seen.
        item_arm: Arm that alone may show each item, shape (N,); None: every arm may show all.
    """

    plan: ServingPlan
    matchers: Mapping[str, Matcher]
    rankers: Mapping[str, Ranker]
    popular: NDArray[np.int64]
    values: Mapping[str, NDArray[np.int32]]
    shown: VisitImpressions
    item_arm: NDArray[np.int64] | None = None

    def make(
        self, asked: RequestBatch, recent: NDArray[np.int64], follows: NDArray[np.int64], timetable: Timetable
    ) -> Slates:
        """Slates of requests (B,) whose users' latest clicks are ``recent`` and latest follows ``follows`` (B, H)."""
        requests = Requests(asked.user, recent, asked.at_s, asked.key, follows)
        shapes = [arm.shape for arm in self.plan.arms]
        distinct = list(dict.fromkeys(shapes))
        of_arm = np.array([distinct.index(shape) for shape in shapes])[asked.arm]
        most = max(shape.slate_size for shape in shapes)
        whole = _empty(len(asked.at_s), most, len(self.plan.channels), max(len(shape.policies) for shape in shapes))
        for number, shape in enumerate(distinct):
            for rows in _chunks(np.flatnonzero(of_arm == number)):
                part = self._of_shape(shape, rows, asked, _take(requests, rows), timetable, most)
                for name in Slates._fields[:-1]:
                    getattr(whole, name)[rows] = getattr(part, name)
                whole.policies[rows, : part.policies.shape[1]] = part.policies
        return whole

    def see(self, asked: RequestBatch, rows: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        """The visits in ``rows`` (B,) are shown ``items`` (B, K)."""
        once = np.array([not arm.shape.repeats for arm in self.plan.arms])[asked.arm[rows]]
        if once.any():
            self.shown.add(self.shown.slots(asked.visit[rows][once]), items[once])

    def _of_shape(
        self,
        shape: SlateShape,
        rows: NDArray[np.int64],
        asked: RequestBatch,
        requests: Requests,
        timetable: Timetable,
        most: int,
    ) -> Slates:
        """Slates of ``requests``, those in ``rows`` of all that were asked, all of one shape."""
        slots = None if shape.repeats else self.shown.slots(asked.visit[rows])
        place = np.full(len(asked.at_s), -1)
        place[rows] = np.arange(len(rows))
        lists: list[Candidates | None] = []
        offered = np.zeros((len(rows), len(self.plan.channels)), np.int32)
        for name, k, _ in shape.channels:
            some = self._retrieve(name, k, requests, place, timetable.channels)
            if some is not None and slots is not None:
                some = without(some, self.shown.mask(slots, some.items))
            if some is not None and self.item_arm is not None:
                some = without(some, self._of_other_arm(some.items, asked.arm[rows]))
            lists.append(some)
            if some is not None:
                offered[:, self.plan.channels.index(name)] = (some.items >= 0).sum(axis=1)
        pool = self._merge(shape, lists, requests, slots, asked.arm[rows])
        scores, ranked = self._rank(requests, pool, place, timetable.ranking)
        order = np.where(ranked[:, None], scores, _falling(pool.items))
        final = np.where(ranked[:, None], scores, pool.scores)
        chosen, chance, policies = self._choose(shape, order, pool, final, asked.key[rows])
        slates = _empty(len(rows), most, len(self.plan.channels), 0)._replace(policies=policies)
        k = chosen.shape[1]
        row = np.arange(len(rows))[:, None]
        slates.items[:, :k] = pool.items[row, chosen]
        there = slates.items >= 0
        slates.channel[:, :k] = pool.channel[row, chosen]
        slates.channel_place[:, :k] = pool.place[row, chosen]
        slates.scores[:, :k] = final[row, chosen]
        slates.propensity[:, :k] = np.where(there[:, :k], chance, 0.0)
        slates.scores[~there] = -np.inf
        slates.channel[~there] = -1
        slates.channel_place[~there] = -1
        slates.offered_by[:, :k] = np.where(there[:, :k], pool.offered_by[row, chosen], 0)
        for number in range(len(self.plan.channels)):
            slates.merged[:, number] = (pool.channel == number).sum(axis=1)
        return slates._replace(candidates=(pool.items >= 0).sum(axis=1).astype(np.int32), offered=offered)

    def _retrieve(
        self, name: str, k: int, requests: Requests, place: NDArray[np.int64], results: Sequence[StageResult]
    ) -> Candidates | None:
        """The channel's lists, empty for requests that it did not answer; None if it answered none."""
        lists = None
        for result in results:
            if result.name != name:
                continue
            answered = result.rows[result.served.outcome == Outcome.ANSWERED]
            at = place[answered]
            at = at[at >= 0]
            if not len(at):
                continue
            whole = len(at) == len(requests.user_ids)
            some = requests if whole else _take(requests, at)
            found = self.matchers[result.model].retrieve(some, k)
            if whole:
                return found
            if lists is None:
                lists = _no_lists(len(requests.user_ids), k)
            width = found.items.shape[1]
            lists.items[at, :width] = found.items
            lists.scores[at, :width] = found.scores
        return lists

    def _merge(
        self,
        shape: SlateShape,
        lists: Sequence[Candidates | None],
        requests: Requests,
        slots: NDArray[np.int64] | None,
        arm: NDArray[np.int64],
    ) -> "_Pool":
        """The candidates; where there are none, those of the fallback list, which leaves out latest clicks too."""
        recent = requests.recent_items
        size, batch = shape.merge.candidates, len(recent)
        if any(part is not None for part in lists):
            merged = _merged(shape, lists, requests.keys)
            numbers = [self.plan.channels.index(name) for name, _, _ in shape.channels]
            pool = _Pool(
                merged.items,
                np.array([*numbers, -1], np.int8)[merged.channel],
                merged.scores,
                renumbered(merged.offered_by, numbers),
                merged.place,
            )
        else:
            pool = _Pool(
                np.full((batch, size), -1),
                np.full((batch, size), -1, np.int8),
                np.full((batch, size), -np.inf, np.float32),
                np.zeros((batch, size), np.uint32),
                np.full((batch, size), -1, np.int16),
            )
        alone = np.flatnonzero(pool.items[:, 0] < 0)
        if len(alone) and len(self.popular):
            hidden = recent[alone] if slots is not None else recent[alone, :0]
            items = shared_list(self.popular, np.zeros(len(self.popular), np.float32), size, hidden).items
            if slots is not None:
                items[self.shown.mask(slots[alone], items)] = -1
            if self.item_arm is not None:
                items[self._of_other_arm(items, arm[alone])] = -1
            pool.items[alone] = items
            pool.channel[alone] = np.where(items >= 0, FALLBACK, -1)
            pool.scores[alone] = np.where(items >= 0, 0.0, -np.inf)
        return pool

    def _rank(
        self, requests: Requests, pool: "_Pool", place: NDArray[np.int64], results: Sequence[StageResult]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Scores of the candidates, and which rows have them."""
        items = pool.items
        ranked = np.zeros(len(items), bool)
        scores = np.full(items.shape, -np.inf, np.float32)
        for result in results:
            answered = result.rows[result.served.outcome == Outcome.ANSWERED]
            at = place[answered]
            at = at[at >= 0]
            if not len(at):
                continue
            ranked[at] = True
            if len(at) == len(items):
                return self._score(result.model, requests, pool), ranked
            part = _Pool._make(column[at] for column in pool)
            scores[at] = self._score(result.model, _take(requests, at), part)
        return scores, ranked

    def _score(self, model: str, requests: Requests, pool: "_Pool") -> NDArray[np.float32]:
        """Scores of all candidates (B, C) by one ranking model, which is told who brought them if it asks for it."""
        ranker = self.rankers[model]
        if isinstance(ranker, NominationRanker):
            nominations = Nominations(self.plan.ranked_as, pool.channel, pool.place)
            return ranker.score_nominated(requests, pool.items, nominations)
        return ranker.score(requests, pool.items)

    def _of_other_arm(self, items: NDArray[np.int64], arm: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of ``items`` (B, K) belong to another arm than that of the request, ``arm`` (B,)."""
        assert self.item_arm is not None
        return (items >= 0) & (self.item_arm[items] != arm[:, None])

    def _choose(
        self,
        shape: SlateShape,
        order: NDArray[np.float32],
        pool: "_Pool",
        scores: NDArray[np.float32],
        keys: NDArray[np.uint64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.void]]:
        """Columns of the slate's items and their propensities, shape (B, K); what policies would show last, (B, P)."""
        items = pool.items
        k = min(shape.slate_size, order.shape[1])
        deep = (
            order.shape[1]
            if shape.explore or shape.policies
            else min(order.shape[1], k * _DEEP if shape.diversity_field else k)
        )
        ranking = best_columns(order, deep)
        if shape.diversity_field is not None:
            codes = self.values[shape.diversity_field]
            row = np.arange(len(items))[:, None]
            ahead = items[row, ranking[:, : k * _DEEP]]
            spread = spread_out(np.where(ahead >= 0, codes[ahead], PADDING), shape.diversity_at_most)
            ranking[:, : k * _DEEP] = np.take_along_axis(ranking[:, : k * _DEEP], spread, axis=1)
        chance = np.ones((len(items), k), np.float32)
        policies = self._policies(shape, ranking, pool, scores) if shape.policies else np.zeros((len(items), 0), CHOICE)
        if shape.explore:
            explore(ranking, chance, shape.explore, k, (items >= 0).sum(axis=1), keys, shape.explore_among)
        return ranking[:, :k], chance, policies

    def _policies(
        self, shape: SlateShape, ranking: NDArray[np.int64], pool: "_Pool", scores: NDArray[np.float32]
    ) -> NDArray[np.void]:
        """What each policy would put on the last place, and how likely the serving one does, shape (B, P)."""
        k, found = shape.slate_size, np.zeros((len(ranking), len(shape.policies)), CHOICE)
        found["item_id"] = -1
        if ranking.shape[1] < k:
            return found
        places = policy_columns(shape.policies, self.plan.channels, ranking, pool.channel, k)
        among = explored_among((pool.items >= 0).sum(axis=1), k, shape.explore_among)
        column, row = np.take_along_axis(ranking, places, axis=1), np.arange(len(ranking))[:, None]
        found["item_id"], found["score"] = pool.items[row, column], scores[row, column]
        found["channel"], found["channel_place"] = pool.channel[row, column], pool.place[row, column]
        found["propensity"] = propensities(places, k, shape.explore, among)
        return found


def _merged(shape: SlateShape, lists: Sequence[Candidates | None], keys: NDArray[np.uint64]) -> Merged:
    """The lists as one; ``channel`` counts the arm's channels, and two that draft have what they picked."""
    draft, own = None, lists
    if shape.draft is not None:
        lists, draft = drafted(lists, shape.draft, keys)
    merged = merge(lists, shape.merge.kind, [quota for _, _, quota in shape.channels], shape.merge.candidates)
    if shape.draft is None or draft is None:
        return merged
    bits = offered_bits(merged.items, merged.offered_by, own, shape.draft)
    return merged._replace(channel=credited(merged.channel, merged.place, draft, shape.draft), offered_by=bits)


class _Pool(NamedTuple):
    """Candidates (B, C)."""

    items: NDArray[np.int64]
    channel: NDArray[np.int8]
    scores: NDArray[np.float32]
    offered_by: NDArray[np.uint32]
    place: NDArray[np.int16]


def renumbered(bits: NDArray[np.uint32], numbers: Sequence[int]) -> NDArray[np.uint32]:
    """Bit masks with bit i moved to place ``numbers[i]``."""
    if list(numbers) == list(range(len(numbers))):
        return bits
    moved = np.zeros_like(bits)
    for place, number in enumerate(numbers):
        moved |= ((bits >> np.uint32(place)) & np.uint32(1)) << np.uint32(number)
    return moved


def without(lists: Candidates, mask: NDArray[np.bool_]) -> Candidates:
    """The lists less the items under ``mask`` (B, K), what follows moved up."""
    touched = np.flatnonzero(mask.any(axis=1))
    if not len(touched):
        return lists
    keep = ~mask[touched]
    to = np.cumsum(keep, axis=1) - 1
    row, column = np.nonzero(keep)
    items, scores = lists.items.copy(), lists.scores.copy()
    items[touched], scores[touched] = -1, -np.inf
    items[touched[row], to[row, column]] = lists.items[touched[row], column]
    scores[touched[row], to[row, column]] = lists.scores[touched[row], column]
    return Candidates(items, scores)


def _falling(items: NDArray[np.int64]) -> NDArray[np.float32]:
    """Scores that keep the order in which candidates stand."""
    return np.where(items >= 0, -np.arange(items.shape[1], dtype=np.float32), -np.inf).astype(np.float32)


def _take(requests: Requests, rows: NDArray[np.int64]) -> Requests:
    return Requests._make(part[rows] for part in requests)


def _chunks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for first in range(0, len(rows), CHUNK):
        yield rows[first : first + CHUNK]


def _no_lists(batch: int, k: int) -> Candidates:
    return Candidates(np.full((batch, k), -1), np.full((batch, k), -np.inf, np.float32))


def _empty(batch: int, k: int, channels: int, policies: int) -> Slates:
    return Slates(
        items=np.full((batch, k), -1),
        channel=np.full((batch, k), -1, np.int8),
        channel_place=np.full((batch, k), -1, np.int16),
        scores=np.full((batch, k), -np.inf, np.float32),
        propensity=np.zeros((batch, k), np.float32),
        candidates=np.zeros(batch, np.int32),
        offered=np.zeros((batch, channels), np.int32),
        merged=np.zeros((batch, channels), np.int32),
        offered_by=np.zeros((batch, k), np.uint32),
        policies=np.zeros((batch, policies), CHOICE),
    )
