"""The ceiling of somebody who knows the items and must infer the users from their clicks.

Known are the world's constants, every item's latents and what each user's fields foretell. Inferred are the interests
(:mod:`simulator.ceiling.slot_posterior`), their topics, and the users' own items. Approximate, so that the evidence of
each subcategory stands for itself:

- a session's clicks in one subcategory are taken together: with the interest's weight as chance the session had opened
  with it, but without regard to what the session clicked in other subcategories;
- interests that lie in the same subcategory are taken to share a topic;
- clicks at the depth of a category count as if the user's interests in it were those the fields foretell;
- an interest is still the one of a former session with chance 1 - age / drift_days, each session for itself;
- interests beyond the sixth are left at their prior;
- readiness to follow links, leaning to fresh items and session length are those of the average user;
- staples and favourites are inferred item by item.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.evaluation.task import expand_ranges
from simulator.ceiling.click_evidence import ClickEvidence, PastClicks, click_evidence
from simulator.ceiling.expected_clicks import UserTraits, to_segments
from simulator.ceiling.slot_posterior import set_weights, slot_posterior
from simulator.ceiling.world_period import favourite_share, taste_depths, taste_divisions
from simulator.world.catalogue import Catalogue
from simulator.world.users import UserDraws, interest_cumulative
from simulator.world.visits import DAY_S
from simulator.world.world_config import WorldConfig

Floats = NDArray[np.float64]
MOST_SLOTS = 6
_MOST_PLACES = 48  # subcategories of a user with evidence, the strongest
_MOST_OWN_ITEMS = 32  # of a user, the most likely
_MOST_OWN = 4  # times that one item can be a staple


class Beliefs(NamedTuple):
    """What is known of users (B,) at the end of their histories.

    Attributes:
        prior: Chance of an interest to be each of A atoms (topics, or subcategories where there are none), by the
            users' fields, shape (B, A).
        interests: Expected weight of the interests in each atom, shape (B, A), rows sum to 1.
        own_items: Items that may be staples or favourites, shape (B, M).
        own_repeat: Expected share of each in the repeat clicks, shape (B, M).
        own_taste: Expected share of each in the taste clicks beyond that of its segments, shape (B, M).
    """

    prior: Floats
    interests: Floats
    own_items: NDArray[np.int64]
    own_repeat: Floats
    own_taste: Floats

    def of(self, rows: NDArray[np.int64]) -> "Beliefs":
        """Those of some of the users."""
        return Beliefs(
            self.prior[rows], self.interests[rows], self.own_items[rows], self.own_repeat[rows], self.own_taste[rows]
        )


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
        self._atoms = taste_divisions(config, catalogue)[0][0]
        weights = np.diff(interest_cumulative(config), prepend=0.0)
        self._weights, self._left = weights[:MOST_SLOTS], float(weights[MOST_SLOTS:].sum())

    def beliefs(self, users: NDArray[np.int64], history: PastClicks, now_s: float) -> Beliefs:
        """What the history of users (B,) tells at ``now_s``; a user without clicks is as the fields foretell.

        Args:
            users: Ids, shape (B,), for their fields.
            history: Their clicks; ``history.user`` counts rows of ``users``.
            now_s: End of the history, seconds since the start of the log.
        """
        prior = self._prior(users)
        if not len(history.user):
            none = np.zeros((len(users), 1))
            return Beliefs(prior, prior, none.astype(np.int64), none, none)
        evidence = click_evidence(self._config, self._catalogue, self._bucket_s, history)
        interests = self._interests(prior, history, evidence, now_s)
        return Beliefs(prior, interests, *self._own_items(interests, history, evidence))

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
            focus=session_focus(config),
            own_items=beliefs.own_items,
            own_taste=lasting * beliefs.own_taste,
            own_focus=np.full(beliefs.own_items.shape, -1),
            own_repeat=lasting * beliefs.own_repeat,
            causes=np.broadcast_to(causes, (n, 5)),
            follows=np.full(n, config.links.strength),
            goes_on=np.full(n, more / (1.0 + more)),
        )

    def _prior(self, users: NDArray[np.int64]) -> Floats:
        odds = self._draws.category_odds(users)
        by_category = odds / odds.sum(axis=1, keepdims=True)
        size = self._config.items.subcategories * self._config.items.topics
        return np.repeat(by_category / size, size, axis=1)

    def _interests(self, prior: Floats, history: PastClicks, evidence: ClickEvidence, now_s: float) -> Floats:
        """Expected weight of each atom, shape (B, A)."""
        slots = set_weights(self._weights)
        places = _places(history, self._catalogue.subcategory, self._atoms, self._config.items.topics)
        log_evidence = self._log_evidence(places, prior, history, evidence, now_s)  # (Q, 2^K) of candidates
        weighted = log_evidence + np.log(places.prior)[:, None]
        of_place = _log_sums(weighted, places.place)  # (P, 2^K)
        within = np.exp(weighted - of_place[places.place])
        rank = _rank_within(places.user, -of_place.max(axis=1))
        kept = rank < _MOST_PLACES
        user, column = places.user[kept], rank[kept]
        wide = np.zeros((len(prior), int(column.max()) + 1, len(slots)))
        wide[user, column] = of_place[kept]
        by_subcategory = prior.reshape(len(prior), -1, self._config.items.topics).sum(axis=2)
        chance = np.zeros(wide.shape[:2])
        chance[user, column] = by_subcategory[user, places.subcategory[kept]]
        held = slot_posterior(wide, chance, np.maximum(1.0 - chance.sum(axis=1), 1e-12)) * slots
        expected = np.zeros((len(kept), len(slots)))
        expected[kept] = held[user, column]
        return self._to_atoms(prior, places, (expected[places.place] * within).sum(axis=1), kept[places.place])

    def _to_atoms(self, prior: Floats, places: "_Places", weight: Floats, kept: NDArray[np.bool_]) -> Floats:
        """Weights of candidates as weights of atoms; what is left lies in subcategories without evidence."""
        topics = self._config.items.topics
        user = places.user[places.place]
        known = kept & (places.atom >= 0)
        result = np.zeros(prior.shape)
        result[user[known], places.atom[known]] = weight[known]
        named = np.zeros(prior.shape, bool)  # atoms with evidence of their own
        named[user[known], places.atom[known]] = True
        open_prior = prior.copy()
        for row in np.flatnonzero(kept & (places.atom < 0)):  # any other topic of the subcategory
            first = places.subcategory[places.place[row]] * topics
            rest = ~named[user[row], first : first + topics]
            result[user[row], first : first + topics] += rest * weight[row] / rest.sum()
        first = places.subcategory[places.place[kept]] * topics
        for topic in range(topics):
            open_prior[user[kept], first + topic] = 0.0
        left = np.maximum(1.0 - self._left - result.sum(axis=1), 0.0)[:, None]
        result += left * open_prior / np.maximum(open_prior.sum(axis=1, keepdims=True), 1e-12)
        result += self._left * prior
        whole: Floats = result / result.sum(axis=1, keepdims=True)
        return whole

    def _log_evidence(
        self, places: "_Places", prior: Floats, history: PastClicks, evidence: ClickEvidence, now_s: float
    ) -> Floats:
        """log of the chance of a subcategory's clicks if interests of a set of slots are a candidate, over none there.

        Returns:
            One row for each candidate and one column for each set, shape (Q, 2^K).
        """
        weights = set_weights(self._weights)
        candidate, click = places.pairs()
        ratio = self._ratio(prior, history, evidence, places.atom[candidate], click)
        n_sessions = int(evidence.session[-1]) + 1
        blocks, block = np.unique(candidate * n_sessions + evidence.session[click], return_inverse=True)
        of, session = blocks // n_sessions, blocks % n_sessions
        start_s = evidence.start_s[np.searchsorted(evidence.session, session)]
        lasting = still_there(self._config.taste.drift_days, now_s - start_s)
        user = places.user[places.place[of]]
        first = places.subcategory[places.place[of]] * self._config.items.topics  # any other topic has its prior
        own = np.where(places.atom[of] >= 0, places.atom[of], first)
        replaced = self._block_chance(prior[user, own], ratio, block)
        result = np.zeros((len(places.atom), len(weights)))
        for column, weight in enumerate(weights):
            of_block = self._block_chance(np.full(len(blocks), weight), ratio, block)
            mixed = np.logaddexp(_log(lasting) + of_block, _log(1.0 - lasting) + replaced)
            result[:, column] = np.bincount(of, mixed, minlength=len(result))
        return result - result[:, :1]

    def _ratio(
        self,
        prior: Floats,
        history: PastClicks,
        evidence: ClickEvidence,
        candidate: NDArray[np.int64],
        click: NDArray[np.int64],
    ) -> Floats:
        """Chance of clicks by an interest that is a candidate atom (-1 = any other), over that of anything else."""
        config = self._config
        narrow = evidence.taste[0] + evidence.own + evidence.repeat[0]
        wide = np.zeros_like(narrow)
        background = evidence.background
        if config.items.topics > 1:
            wide = wide + evidence.taste[1] + evidence.repeat[1]
        if config.taste.depth.category > 0.0:
            size = config.items.subcategories
            by_category = prior.reshape(len(prior), config.items.categories, -1).sum(axis=2)
            foreseen = by_category[history.user, self._catalogue.subcategory[history.item] // size]
            of_category = evidence.taste[-1] + evidence.repeat[-1]
            background = background + foreseen * of_category
            wide = wide + of_category * (1.0 - foreseen)
        matches = self._atoms[history.item[click]] == candidate
        ratio: Floats = (wide[click] + matches * narrow[click]) / np.maximum(background[click], 1e-300)
        return ratio

    def _block_chance(self, weight: Floats, ratio: Floats, block: NDArray[np.int64]) -> Floats:
        """log chance of a session's clicks in one subcategory whose interests have a weight, over their background."""
        focus = session_focus(self._config)

        def chance(inside: Floats) -> Floats:
            return np.bincount(block, np.log1p(ratio * inside[block]), minlength=len(weight)).astype(np.float64)

        opened, other = chance(focus + (1.0 - focus) * weight), chance((1.0 - focus) * weight)
        return np.logaddexp(_log(weight) + opened, _log(1.0 - weight) + other)

    def _own_items(
        self, interests: Floats, history: PastClicks, evidence: ClickEvidence
    ) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Items that may be staples or favourites, and their expected shares of the repeat and taste clicks."""
        config, n_items = self._config, len(self._catalogue)
        pairs, place = np.unique(history.user * n_items + history.item, return_inverse=True)
        user, item = pairs // n_items, pairs % n_items
        liking = np.stack(
            [
                np.take_along_axis(to_segments(interests, depth)[history.user], of[history.item][:, None], axis=1)[:, 0]
                for depth, (of, _) in zip(taste_depths(config), taste_divisions(config, self._catalogue), strict=True)
            ]
        )
        plain = evidence.background + (liking * evidence.taste).sum(axis=0)
        foreseen = (liking * evidence.repeat).sum(axis=0)  # chance of the item as a repeat of unknown staples
        count = config.choice.staples
        usual = foreseen / np.maximum(evidence.by_repeat, 1e-300)
        staple = _times_own(plain + liking[0] * evidence.own, count * usual, evidence.by_repeat / count, place, history)
        repeat = staple / count
        taste = np.zeros(len(pairs))
        own_share = favourite_share(config)
        if own_share > 0.0:
            count = config.taste.favourites
            weight = np.maximum(liking[0], self._weights.mean())  # of the interest, if it is one
            present = liking[0] / weight
            usual = present * evidence.own / np.maximum(evidence.by_taste * own_share, 1e-300)
            gain = evidence.by_taste * own_share * weight / count
            favourite = _times_own(plain + foreseen, count * usual, gain, place, history)
            share = own_share * np.bincount(place, weight) / np.bincount(place) / count
            taste = favourite * share
        rank = _rank_within(user, -(repeat * config.choice.repeat + taste * config.choice.taste))
        kept = rank < _MOST_OWN_ITEMS
        wide = (len(interests), int(rank[kept].max()) + 1)
        items, repeats, tastes = np.zeros(wide, np.int64), np.zeros(wide), np.zeros(wide)
        for into, values in ((items, item), (repeats, repeat), (tastes, taste)):
            into[user[kept], rank[kept]] = values[kept]
        repeats /= np.maximum(repeats.sum(axis=1, keepdims=True), 1.0)
        tastes *= np.minimum(own_share / np.maximum(tastes.sum(axis=1, keepdims=True), 1e-12), 1.0)
        return items, repeats, tastes


class _Places(NamedTuple):
    """Subcategories of users with clicks (P of them), and candidates for the topic of an interest there (Q).

    Attributes:
        user: Row of the user, shape (P,), never falling.
        subcategory: Shape (P,).
        place: Place of each candidate, shape (Q,), never falling.
        atom: The candidate, -1 = any other topic of the subcategory, shape (Q,).
        prior: Chance of the candidate given an interest in the subcategory, shape (Q,).
        clicks: Clicks by place, shape (C,).
        first: First click of each place in ``clicks``, and their number, shape (P + 1,).
    """

    user: NDArray[np.int64]
    subcategory: NDArray[np.int64]
    place: NDArray[np.int64]
    atom: NDArray[np.int64]
    prior: Floats
    clicks: NDArray[np.int64]
    first: NDArray[np.int64]

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Every candidate beside every click of its subcategory."""
        candidate, position = expand_ranges(self.first[self.place], self.first[self.place + 1])
        return candidate, self.clicks[position]


def _places(history: PastClicks, subcategory_of: NDArray[np.int32], atom_of: NDArray[np.int64], topics: int) -> _Places:
    size = int(subcategory_of.max()) + 1
    places, of_click = np.unique(history.user * size + subcategory_of[history.item], return_inverse=True)
    n_atoms = size * topics
    seen = np.unique(of_click * n_atoms + atom_of[history.item])
    place, atom = seen // n_atoms, seen % n_atoms
    others = topics - np.bincount(place, minlength=len(places))
    more = np.flatnonzero(others > 0)
    order = np.argsort(np.concatenate([place, more]), kind="stable")
    return _Places(
        user=places // size,
        subcategory=places % size,
        place=np.concatenate([place, more])[order],
        atom=np.concatenate([atom, np.full(len(more), -1)])[order],
        prior=np.concatenate([np.full(len(place), 1.0 / topics), others[more] / topics])[order],
        clicks=np.argsort(of_click, kind="stable"),
        first=np.append(0, np.cumsum(np.bincount(of_click, minlength=len(places)))),
    )


def _times_own(plain: Floats, rate: Floats, gain: Floats, place: NDArray[np.int64], history: PastClicks) -> Floats:
    """How often each item of a user is expected among the user's own; prior Poisson.

    Args:
        plain: Chance of each click if it is not, shape (C,).
        rate: Expected times that it is, before its clicks are seen, shape (C,).
        gain: What each time adds to the chance of a click on it, shape (C,).
        place: Pair of user and item of each click, shape (C,).
        history: The clicks.

    Returns:
        Shape (pairs,).
    """
    n_clicks = np.bincount(place)
    before, add = np.bincount(place, rate) / n_clicks, np.bincount(place, gain) / n_clicks
    user = np.zeros(len(n_clicks), np.int64)
    user[place] = history.user
    all_clicks = np.bincount(history.user)[user]
    times = np.arange(_MOST_OWN + 1)
    chances = np.zeros((len(n_clicks), len(times)))
    for one in times:
        chances[:, one] = np.bincount(place, np.log(np.maximum(plain + gain * one, 1e-300))) - all_clicks * add * one
        chances[:, one] += one * np.log(np.maximum(before, 1e-300)) - np.log(np.arange(1, one + 1)).sum()
    chances = np.exp(chances - chances.max(axis=1, keepdims=True))
    expected: Floats = chances @ times / chances.sum(axis=1)
    return expected


def session_focus(config: WorldConfig) -> float:
    """Chance that a taste click stays with the interest the session opened with, for either reason."""
    return 1.0 - (1.0 - config.sessions.focus) * (1.0 - config.signals.sessions)


def _log_sums(values: Floats, group: NDArray[np.int64]) -> Floats:
    """log of the sum of exponentials over the rows of each group; groups rise without gaps."""
    first = np.searchsorted(group, np.arange(int(group[-1]) + 1))
    highest = np.maximum.reduceat(values, first, axis=0)
    return highest + np.log(np.add.reduceat(np.exp(values - highest[group]), first, axis=0))


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
