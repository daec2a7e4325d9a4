"""The ceiling of somebody who knows the items and must infer the users from their clicks.

Known are the world's constants, every item's latents and what each user's fields foretell. Inferred are the interests
(:mod:`simulator.ceiling.slot_posterior`) and the staples. Approximate, so that the evidence of each subcategory stands
for itself:

- a session's clicks in one subcategory are taken together: with the interest's weight as chance the session had opened
  with it, but without regard to what the session clicked in other subcategories;
- an interest is still the one of a former session with chance 1 - age / drift_days, each session for itself;
- interests beyond the sixth are left at their prior;
- readiness to follow links, leaning to fresh items and session length are those of the average user;
- staples of different items are inferred one by one.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.ceiling.click_evidence import ClickEvidence, History, click_evidence
from simulator.ceiling.expected_clicks import UserTraits
from simulator.ceiling.slot_posterior import set_weights, slot_posterior
from simulator.world.catalogue import Catalogue
from simulator.world.users import UserDraws, interest_cumulative
from simulator.world.visits import DAY_S
from simulator.world.world_config import WorldConfig

Floats = NDArray[np.float64]
MOST_SLOTS = 6
_MOST_PLACES = 48  # subcategories of a user with evidence, the strongest
_MOST_STAPLES = 24  # of a user, the most likely
_MOST_OWN = 4  # times that one item can be a staple


class Beliefs(NamedTuple):
    """What is known of users (B,) at the end of their histories.

    Attributes:
        prior: Chance of an interest to be each of S subcategories, by the users' fields, shape (B, S).
        interests: Expected weight of the interests in each subcategory, shape (B, S), rows sum to 1.
        own_items: Items that may be staples, shape (B, M).
        own_repeat: Expected share of each in the repeat clicks, shape (B, M).
    """

    prior: Floats
    interests: Floats
    own_items: NDArray[np.int64]
    own_repeat: Floats

    def of(self, rows: NDArray[np.int64]) -> "Beliefs":
        """Those of some of the users."""
        return Beliefs(self.prior[rows], self.interests[rows], self.own_items[rows], self.own_repeat[rows])


class InferredUsers:
    """Beliefs about any users of a world from their clicks.

    Args:
        config: The world.
        catalogue: Its items.
        bucket_s: Length of the click generator's buckets of time.
    """

    def __init__(self, config: WorldConfig, catalogue: Catalogue, bucket_s: float) -> None:
        self._config, self._catalogue, self._bucket_s = config, catalogue, bucket_s
        self._draws = UserDraws(config)
        weights = np.diff(interest_cumulative(config), prepend=0.0)
        self._weights, self._left = weights[:MOST_SLOTS], float(weights[MOST_SLOTS:].sum())

    def beliefs(self, users: NDArray[np.int64], history: History, now_s: float) -> Beliefs:
        """What the history of users (B,) tells at ``now_s``; a user without clicks is as the fields foretell.

        Args:
            users: Ids, shape (B,), for their fields.
            history: Their clicks; ``history.user`` counts rows of ``users``.
            now_s: End of the history, seconds since the start of the log.
        """
        prior = self._prior(users)
        if not len(history.user):
            none = np.zeros((len(users), 1))
            return Beliefs(prior, prior, none.astype(np.int64), none)
        evidence = click_evidence(self._config, self._catalogue, self._bucket_s, history)
        interests = self._interests(prior, history, evidence, now_s)
        own_items, own_repeat = self._staples(interests, history, evidence)
        return Beliefs(prior, interests, own_items, own_repeat)

    def traits(self, beliefs: Beliefs, later_s: float) -> UserTraits:
        """Expected traits ``later_s`` after the end of the history."""
        config = self._config
        lasting = still_there(config.taste.drift_days, np.asarray(later_s))
        interests = lasting * beliefs.interests + (1.0 - lasting) * beliefs.prior
        foci = np.argsort(-interests, axis=1, kind="stable")[:, : config.taste.interests]
        n = len(interests)
        choice = config.choice
        causes = np.array([choice.taste, choice.popular, choice.fresh, choice.similar, choice.repeat])
        more = config.sessions.clicks - 1.0
        return UserTraits(
            interests=interests,
            foci=foci,
            focus_weights=np.take_along_axis(interests, foci, axis=1),
            focus=config.sessions.focus,
            own_items=beliefs.own_items,
            own_taste=np.zeros(beliefs.own_items.shape),
            own_repeat=lasting * beliefs.own_repeat,
            causes=np.broadcast_to(causes, (n, 5)),
            follows=np.full(n, config.links.strength),
            goes_on=np.full(n, more / (1.0 + more)),
        )

    def _prior(self, users: NDArray[np.int64]) -> Floats:
        odds = self._draws.category_odds(users)
        by_category = odds / odds.sum(axis=1, keepdims=True)
        size = self._config.items.subcategories
        return np.repeat(by_category / size, size, axis=1)

    def _interests(self, prior: Floats, history: History, evidence: ClickEvidence, now_s: float) -> Floats:
        size = prior.shape[1]
        key = history.user * size + self._catalogue.subcategory[history.item]
        pairs, place = np.unique(key, return_inverse=True)
        log_evidence = self._log_evidence(prior.ravel()[pairs], place, evidence, now_s)
        user, subcategory = pairs // size, pairs % size
        slots = set_weights(self._weights)
        rank = _rank_within(user, -log_evidence.max(axis=1))
        kept = rank < _MOST_PLACES
        wide = np.zeros((len(prior), min(_MOST_PLACES, int(rank.max()) + 1), len(slots)))
        wide[user[kept], rank[kept]] = log_evidence[kept]
        chance = np.zeros(wide.shape[:2])
        chance[user[kept], rank[kept]] = prior[user[kept], subcategory[kept]]
        rest = np.maximum(1.0 - chance.sum(axis=1), 1e-12)
        expected = slot_posterior(wide, chance, rest) @ slots  # (B, H)
        left = 1.0 - self._left - expected.sum(axis=1)
        interests = self._left * prior
        open_prior = prior.copy()
        open_prior[user[kept], subcategory[kept]] = 0.0
        interests += left[:, None] * open_prior / np.maximum(open_prior.sum(axis=1, keepdims=True), 1e-12)
        interests[user[kept], subcategory[kept]] += expected[user[kept], rank[kept]]
        return interests / interests.sum(axis=1, keepdims=True)

    def _log_evidence(self, prior: Floats, place: NDArray[np.int64], evidence: ClickEvidence, now_s: float) -> Floats:
        """log of the chance of the clicks in P pairs of user and subcategory, over that without an interest there.

        Args:
            prior: Of the subcategory, shape (P,).
            place: Pair of each click, shape (C,).
            evidence: Of the clicks.
            now_s: End of the histories.
        """
        weights = set_weights(self._weights)
        ratio = (evidence.taste.sum(axis=0) + evidence.repeat.sum(axis=0)) / np.maximum(evidence.background, 1e-300)
        blocks, block = np.unique(place * (evidence.session[-1] + 1) + evidence.session, return_inverse=True)
        first = np.unique(block, return_index=True)[1]
        pair = blocks // (evidence.session[-1] + 1)
        lasting = still_there(self._config.taste.drift_days, now_s - evidence.start_s[first])
        replaced = self._block_chance(prior[pair], ratio, block)
        result = np.zeros((len(prior), len(weights)))
        for column, weight in enumerate(weights):
            of_block = self._block_chance(np.full(len(blocks), weight), ratio, block)
            mixed = np.logaddexp(_log(lasting) + of_block, _log(1.0 - lasting) + replaced)
            result[:, column] = np.bincount(pair, mixed, minlength=len(prior))
        return result - result[:, :1]

    def _block_chance(self, weight: Floats, ratio: Floats, block: NDArray[np.int64]) -> Floats:
        """log chance of a session's clicks in one subcategory whose interests have a weight, over their background."""
        focus = self._config.sessions.focus

        def chance(inside: Floats) -> Floats:
            return np.bincount(block, np.log1p(ratio * inside[block]), minlength=len(weight)).astype(np.float64)

        opened, other = chance(focus + (1.0 - focus) * weight), chance((1.0 - focus) * weight)
        return np.logaddexp(_log(weight) + opened, _log(1.0 - weight) + other)

    def _staples(
        self, interests: Floats, history: History, evidence: ClickEvidence
    ) -> tuple[NDArray[np.int64], Floats]:
        """Items that may be staples, and their expected share of the repeat clicks."""
        choice = self._config.choice
        n_items = len(self._catalogue)
        pairs, place = np.unique(history.user * n_items + history.item, return_inverse=True)
        user, item = pairs // n_items, pairs % n_items
        subcategory = self._catalogue.subcategory[history.item]
        liking = interests[history.user, subcategory]
        plain = evidence.background + liking * evidence.taste.sum(axis=0)
        foreseen = liking * evidence.repeat.sum(axis=0) / np.maximum(evidence.stays * choice.repeat, 1e-300)
        rate = choice.staples * np.bincount(place, foreseen) / np.bincount(place)  # expected times it is a staple
        share = choice.repeat / choice.staples
        chances = np.zeros((len(pairs), _MOST_OWN + 1))
        clicks = np.bincount(history.user, minlength=len(interests))
        for times in range(_MOST_OWN + 1):
            likely = np.log(np.maximum(plain + evidence.stays * share * times, 1e-300))
            chances[:, times] = np.bincount(place, likely) - clicks[user] * share * times
            chances[:, times] += times * np.log(np.maximum(rate, 1e-300)) - sum(map(np.log, range(1, times + 1)))
        chances = np.exp(chances - chances.max(axis=1, keepdims=True))
        expected = chances @ np.arange(_MOST_OWN + 1) / chances.sum(axis=1) / choice.staples
        rank = _rank_within(user, -expected)
        kept = rank < _MOST_STAPLES
        items = np.zeros((len(interests), min(_MOST_STAPLES, int(rank.max()) + 1)), np.int64)
        shares = np.zeros(items.shape)
        items[user[kept], rank[kept]] = item[kept]
        shares[user[kept], rank[kept]] = expected[kept]
        return items, shares / np.maximum(shares.sum(axis=1, keepdims=True), 1.0)


def still_there(drift_days: float, later_s: Floats) -> Floats:
    """Chance that an interest is the same some seconds later, as it is replaced at even intervals from a random one."""
    if drift_days == 0.0:
        return np.ones_like(later_s, dtype=np.float64)
    return np.maximum(1.0 - later_s / (drift_days * DAY_S), 0.0)


def _rank_within(group: NDArray[np.int64], order: Floats) -> NDArray[np.int64]:
    """Place of each row within its group by rising order; groups stand together, rising."""
    by_order = np.lexsort((order, group))
    rank = np.empty(len(group), np.int64)
    rank[by_order] = np.arange(len(group)) - np.searchsorted(group, group)
    return rank


def _log(values: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        result: Floats = np.log(values)
    return result
