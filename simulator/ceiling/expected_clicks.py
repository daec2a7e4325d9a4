"""Expected clicks of a user on every item in one session, in closed form.

A session is a Markov chain over hidden groups. Its first click is drawn from the user's base distribution b0, where a
"similar" click is a taste click. After a click on an item of group g the session goes on with chance r; then a link of
g is followed with chance f (if it has any), and otherwise the causes keep their shares, "similar" staying in g. With
V(g) the expected number of clicks on group g that have a successor,

    V = r b0 + r M' V,    M = (1 - f s(g)) (1 b' + p_similar I) + f L,

where s(g) says whether g has links, L spreads over the linked groups, and b is the base distribution by group without
"similar". M has rank one beside a sparse matrix, so two sparse fixed points give V. The expected clicks of every
segment follow from V, and those of an item are its shares of them.

Exact but for one thing: a session draws again, at most twice, what is of a class of items it has clicked (64 classes).
That is taken into account on average: see ``avoidance``.

Where users click an item once at most, what a user has clicked gets nothing, and its share of a segment goes to the
other items of the segment as the generator's further draws give it. Approximate then: the chain over groups is that of
a user who has clicked nothing, and what the session itself takes away is left out of account.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from simulator.ceiling.period_weights import CLASSES, Division, PeriodWeights
from simulator.world.clicks import ONCE_TRIES

Floats = NDArray[np.float64]
_TOLERANCE = 1e-7  # of the expected clicks of a group
_MOST_STEPS = 2_000
_AVOIDANCE_STEPS = 4


class TasteDepth(NamedTuple):
    """A depth at which interests are acted out; an interest is one of A atoms, the narrowest segments.

    Attributes:
        share: Share of the taste clicks at this depth.
        segment: Segment of each atom at this depth, shape (A,), in the division of the same place in
            :attr:`PeriodWeights.taste`.
        wider: Place of the depth that stands in where a segment has nothing out; None: the whole catalogue does. Only
            the depth of the atoms themselves has one, and it comes later.
    """

    share: float
    segment: NDArray[np.int64]
    wider: int | None = None


@dataclass(frozen=True)
class UserTraits:
    """All about users (B,) that decides what they click in a session.

    Attributes:
        interests: Chance that a taste click is of each atom, rows sum to 1, shape (B, A).
        foci: Atoms that a session may open with, shape (B, F).
        focus_weights: Chance of each; what lacks to 1 are sessions that open with any other atom, shape (B, F).
        focus: Chance that a taste click follows the atom the session opened with.
        own_items: Items of the user's own, shape (B, M); those without one have shares of 0.
        own_taste: Share of the taste clicks that fall on each of them, shape (B, M).
        own_focus: Column of ``foci`` of the interest that each of them belongs to, -1 = none, shape (B, M).
        own_repeat: Share of the repeat clicks that fall on each of them, shape (B, M); what lacks to 1 falls on the
            interests as of the start of the log.
        causes: Shares of taste, popular, fresh, similar, repeat, where no link is followed, shape (B, 5).
        follows: Chance that a click on a group with links is followed by one on a linked group, shape (B,).
        goes_on: Chance that another click follows one, shape (B,).
    """

    interests: Floats
    foci: NDArray[np.int64]
    focus_weights: Floats
    focus: float
    own_items: NDArray[np.int64]
    own_taste: Floats
    own_focus: NDArray[np.int64]
    own_repeat: Floats
    causes: Floats
    follows: Floats
    goes_on: Floats


@dataclass(frozen=True)
class SessionModel:
    """What the users of a period share.

    Attributes:
        weights: Shares of the items in the period.
        start: Shares of the items at the start of the log, for staples.
        depths: Depths of taste, in the order of ``weights.taste``; the first is that of the atoms.
        own_share: Share of the taste clicks that fall on items of the users' own; those that are not known fall on
            the atoms.
        link_targets: Group -> the groups it links to, shape (G, targets), -1 = none.
    """

    weights: PeriodWeights
    start: PeriodWeights
    depths: tuple[TasteDepth, ...]
    own_share: float
    link_targets: NDArray[np.int32]

    @cached_property
    def links(self) -> sp.csr_array:
        """Chance of each target group of each group's links, shape (G, G); rows sum to 1, or are empty."""
        source, column = np.nonzero(self.link_targets >= 0)
        count = (self.link_targets >= 0).sum(axis=1)
        n = len(self.link_targets)
        pairs = (source, self.link_targets[source, column])
        return sp.csr_array(sp.coo_array((1.0 / count[source], pairs), shape=(n, n)))

    @cached_property
    def similar(self) -> Floats:
        """Share of each item in the "similar" clicks of its group, which avoid the class of the item before, (N,)."""
        group = self.weights.group
        mine = group.by_class[group.segment, group.item_class]
        masses = group.by_class  # chance of the class of the item before, given its group
        all_but = (masses * (1.0 + masses + masses**2)).sum(axis=1)[group.segment]
        result: Floats = group.share * (all_but - mine * (1.0 + mine + mine**2) + mine * mine**2)
        return result

    @cached_property
    def by_group(self) -> "list[sp.csr_array]":
        """Share of each group in each segment of each depth of taste."""
        groups = self.weights.group
        return [division.by(groups.segment, len(groups.empty)) for division in self.weights.taste]

    @cached_property
    def start_by_group(self) -> "list[sp.csr_array]":
        """The same at the start of the log."""
        groups = self.weights.group
        return [division.by(groups.segment, len(groups.empty)) for division in self.start.taste]


class Attempts(NamedTuple):
    """Expected clicks of one session by what they are drawn from; (B,) unless said."""

    taste: Floats
    everything: Floats
    fresh: Floats
    repeat: Floats
    similar: Floats  # (B, G)
    linked: Floats  # (B, G)


def expected_clicks(model: SessionModel, users: UserTraits, clicked: sp.csr_array | None = None) -> NDArray[np.float32]:
    """Expected clicks of users (B,) on all items in one session, shape (B, N).

    Args:
        model: What all users share.
        users: The users.
        clicked: 1 for what each user has clicked and cannot click again, shape (B, N); None: they can.
    """
    return _by_item(model, users, session_attempts(model, users), clicked)


def session_attempts(model: SessionModel, users: UserTraits) -> Attempts:
    """Expected clicks of a session by segment."""
    taste, popular, fresh, similar, repeat = users.causes.T
    parts = _base_by_group(model, users)
    base = taste[:, None] * parts[0] + popular[:, None] * parts[1] + fresh[:, None] * parts[2]
    base += repeat[:, None] * parts[3]
    first = base + similar[:, None] * parts[0]
    linked = (model.link_targets >= 0).any(axis=1)
    stays = 1.0 - users.follows[:, None] * linked  # (B, G) chance that no link is followed
    visits = _visits(model, users, first, base, stays)
    free = (visits * stays).sum(axis=1)
    followed = (users.follows[:, None] * (visits * linked)) @ model.links
    into_nothing = followed @ model.weights.group.empty
    return Attempts(
        taste=taste * (1.0 + free) + similar,
        everything=popular * (1.0 + free) + into_nothing,
        fresh=fresh * (1.0 + free),
        repeat=repeat * (1.0 + free),
        similar=similar[:, None] * stays * visits,
        linked=followed * (1.0 - model.weights.group.empty),
    )


def _base_by_group(model: SessionModel, users: UserTraits) -> tuple[Floats, Floats, Floats, Floats]:
    """Distribution over groups of a taste, popular, fresh and repeat click, each (B, G)."""
    weights = model.weights
    groups, n_groups = weights.group.segment, len(weights.group.empty)
    everything = np.bincount(groups, weights.everything.share, minlength=n_groups)
    newest = np.bincount(groups, weights.fresh.share, minlength=n_groups)
    shape = (len(users.interests), n_groups)
    taste = _own_by_group(users.own_items, users.own_taste, groups, n_groups)
    repeat = _own_by_group(users.own_items, users.own_repeat, groups, n_groups)
    lack = 1.0 - users.own_repeat.sum(axis=1, keepdims=True)
    now, now_any = _spread_interests(model, users.interests, model.own_share - users.own_taste.sum(axis=1), weights)
    then, then_any = _spread_interests(model, users.interests, np.full(shape[0], model.own_share), model.start)
    for clicks, early, by_group, start_by_group in zip(now, then, model.by_group, model.start_by_group, strict=True):
        taste += clicks @ by_group
        repeat += lack * (early @ start_by_group)
    taste += now_any[:, None] * everything
    repeat += lack * then_any[:, None] * everything
    return taste, np.broadcast_to(everything, shape), np.broadcast_to(newest, shape), repeat


def _spread_interests(
    model: SessionModel, interests: Floats, own_left: Floats, weights: PeriodWeights
) -> tuple[list[Floats], Floats]:
    """How taste clicks spread over segments.

    Args:
        model: With the depths of taste.
        interests: Chance of each atom, shape (B, A).
        own_left: Share of the taste clicks on items of the users' own that are not known, shape (B,).
        weights: Those of the time, which say where nothing is out.

    Returns:
        Shares of the segments of each depth (B, S), and of the whole catalogue, which stands in for them, (B,).
    """
    shares = [depth.share * to_segments(interests, depth) for depth in model.depths]
    shares[0] = shares[0] + own_left[:, None] * interests
    everything = np.zeros(len(interests))
    for place, (depth, division) in enumerate(zip(model.depths, weights.taste, strict=True)):
        lost = shares[place] * division.empty
        shares[place] = shares[place] - lost
        if depth.wider is None:
            everything += lost.sum(axis=1)
        else:
            shares[depth.wider] = shares[depth.wider] + to_segments(lost, model.depths[depth.wider])
    return shares, everything


def _own_by_group(items: NDArray[np.int64], shares: Floats, groups: NDArray[np.int64], n_groups: int) -> Floats:
    place = np.arange(len(items))[:, None] * n_groups + groups[items]
    summed = np.bincount(place.ravel(), shares.ravel(), minlength=len(items) * n_groups).astype(np.float64)
    return summed.reshape(len(items), n_groups)


def to_segments(atoms: Floats, depth: TasteDepth) -> Floats:
    """Sums (B, S) over the atoms of each segment of a depth."""
    n_atoms, size = len(depth.segment), int(depth.segment[-1]) + 1
    if n_atoms == size:
        return atoms
    summing = sp.csr_array((np.ones(n_atoms), (np.arange(n_atoms), depth.segment)), shape=(n_atoms, size))
    return np.asarray(atoms @ summing)


def _visits(model: SessionModel, users: UserTraits, first: Floats, base: Floats, stays: Floats) -> Floats:
    """V: expected clicks on each group that have a successor, (B, G), by Sherman and Morrison's formula."""
    goes_on = users.goes_on[:, None]
    same = users.causes[:, 3:4] * stays * goes_on
    along = (users.follows[:, None] * goes_on) * (model.link_targets >= 0).any(axis=1)

    def solved(right: Floats) -> Floats:
        total = term = right
        for _ in range(_MOST_STEPS):
            term = same * term + (along * term) @ model.links
            total = total + term
            if term.sum(axis=1).max(initial=0.0) < _TOLERANCE:
                break
        return total

    start, again = solved(goes_on * first), solved(goes_on * base)
    free = (stays * start).sum(axis=1) / (1.0 - (stays * again).sum(axis=1))
    return start + free[:, None] * again


# -- avoidance -------------------------------------------------------------------------------------------------------


class _Source(NamedTuple):
    """Clicks drawn from the segments of a division."""

    clicks: Floats  # (B, S)
    division: Division


class _Own(NamedTuple):
    """Clicks drawn from items of the user's own."""

    clicks: Floats  # (B, M)
    items: NDArray[np.int64]  # (B, M)
    classes: NDArray[np.int64]  # (B, M)


def _by_item(
    model: SessionModel, users: UserTraits, attempts: Attempts, clicked: sp.csr_array | None
) -> NDArray[np.float32]:
    """Spread the clicks of the segments over their items, shape (B, N).

    The n clicks of a segment first fall on its items by their shares W. One on class c stays with chance phi(c), on
    average; else it is drawn again, at most twice. With R = 1 - sum W phi the clicks of item i are
    n W_i (phi (1 + R) + R²). phi(c) is the chance that a session meets class c at all, over the expected number of
    times it is drawn. Sessions that open with different interests have a phi of their own.
    """
    classes = model.weights.group.item_class[users.own_items]
    staples = _Own(attempts.repeat[:, None] * users.own_repeat, users.own_items, classes)
    common = _common_sources(model, users, attempts)
    drawn = sum(source.clicks @ source.division.by_class for source in common) + _drawn_of_own([staples])
    result = np.zeros((len(users.interests), len(model.weights.group.segment)), np.float32)
    usual = np.zeros((len(users.interests), CLASSES))
    lost = np.zeros(len(result))  # clicks whose segments the user has clicked through
    for place, (weight, opened) in enumerate(_openings(users)):
        interests = users.focus * opened + (1.0 - users.focus) * users.interests
        taste = _taste_sources(model, users, attempts, interests)
        own = _own_sources(users, attempts, classes, place)
        kept = _kept(users, taste, drawn + _drawn_of_own(own))
        usual += weight[:, None] * kept
        for source in taste:
            lost += _spread(result, _Source(weight[:, None] * source.clicks, source.division), kept, clicked)
        for one in own:
            _spread_own(result, _Own(weight[:, None] * one.clicks, one.items, one.classes), kept)
    for source in common:
        lost += _spread(result, source, usual, clicked)
    _spread_own(result, staples, usual)
    if clicked is not None:
        _spread(result, _Source(lost[:, None], model.weights.everything), usual, clicked, draws=ONCE_TRIES)
        result[clicked.nonzero()] = 0.0
    return result


def _own_sources(users: UserTraits, attempts: Attempts, classes: NDArray[np.int64], place: int) -> list[_Own]:
    """Taste clicks on items of the user's own, interest by interest, in sessions that open with one of the foci."""
    if not users.own_taste.any():
        return []
    found = []
    for column in range(-1, users.foci.shape[1]):
        share = np.where(users.own_focus == column, users.own_taste, 0.0)
        if column >= 0:
            others = 1.0 - users.focus
            opened = users.focus * (column == place) / np.maximum(users.focus_weights[:, column], 1e-12)
            share = share * (others + opened)[:, None]
        found.append(_Own(attempts.taste[:, None] * share, users.own_items, classes))
    return found


def _spread_own(result: NDArray[np.float32], own: _Own, kept: Floats) -> None:
    """Add the clicks on items of the users' own to those of the items (B, N)."""
    kept_own = np.take_along_axis(kept, own.classes, axis=1)
    again = 1.0 - (own.clicks * kept_own).sum(axis=1) / np.maximum(own.clicks.sum(axis=1), 1e-12)
    rows = np.arange(len(result))[:, None]
    np.add.at(result, (rows, own.items), own.clicks * (kept_own * (1.0 + again)[:, None] + again[:, None] ** 2))


def _openings(users: UserTraits) -> list[tuple[Floats, Floats]]:
    """Chance of each interest to open a session, shape (B,), and which it is, shape (B, A)."""
    rows = np.arange(len(users.foci))
    other = users.interests.copy()
    found = []
    for column in range(users.foci.shape[1]):
        opened = np.zeros_like(users.interests)
        opened[rows, users.foci[:, column]] = 1.0
        other[rows, users.foci[:, column]] -= users.focus_weights[:, column]
        found.append((users.focus_weights[:, column], opened))
    rest = np.maximum(1.0 - users.focus_weights.sum(axis=1), 0.0)
    if (rest > 1e-6).any():
        other = np.maximum(other, 0.0)
        found.append((rest, other / np.maximum(other.sum(axis=1, keepdims=True), 1e-12)))
    return found


def _taste_sources(model: SessionModel, users: UserTraits, attempts: Attempts, interests: Floats) -> list[_Source]:
    """Taste clicks of sessions whose clicks have these interests (B, A)."""
    own_left = model.own_share - users.own_taste.sum(axis=1)
    shares, _ = _spread_interests(model, interests, own_left, model.weights)
    return [
        _Source(attempts.taste[:, None] * share, division)
        for share, division in zip(shares, model.weights.taste, strict=True)
    ]


def _common_sources(model: SessionModel, users: UserTraits, attempts: Attempts) -> list[_Source]:
    """Clicks that are the same whatever interest a session opened with."""
    weights, group = model.weights, model.weights.group
    everything = attempts.everything.copy()
    lack = attempts.repeat * (1.0 - users.own_repeat.sum(axis=1))
    _, any_now = _spread_interests(model, users.interests, model.own_share - users.own_taste.sum(axis=1), weights)
    then, any_then = _spread_interests(model, users.interests, np.full(len(lack), model.own_share), model.start)
    everything += attempts.taste * any_now + lack * any_then
    sources = []
    if (lack > 1e-9).any():
        sources = [
            _Source(lack[:, None] * share, division) for share, division in zip(then, model.start.taste, strict=True)
        ]
    similar = Division(group.segment, model.similar, group.empty, group.item_class)
    sources += [
        _Source(everything[:, None], weights.everything),
        _Source(attempts.fresh[:, None], weights.fresh),
        _Source(attempts.linked, group),
        _Source(attempts.similar, similar),
    ]
    return sources


def _spread(
    result: NDArray[np.float32],
    source: _Source,
    kept: Floats,
    clicked: sp.csr_array | None = None,
    *,
    draws: int = 1 + ONCE_TRIES,
) -> Floats:
    """Add the clicks (B, S) of a source to those of its items (B, N), of which at most ``draws`` are drawn in turn.

    Returns:
        Clicks that no item of their segment gets, because the user has clicked what was drawn, each time; (B,).
    """
    division, clicks, lost = source.division, source.clicks, np.zeros(len(result))
    if clicked is not None:
        taken = np.minimum((clicked @ division.by_item).toarray(), 1.0 - 1e-9)
        in_vain = taken**draws
        lost = (clicks * in_vain).sum(axis=1)
        clicks = clicks * (1.0 - in_vain) / (1.0 - taken)
    again = 1.0 - kept @ division.by_class.T  # (B, S)
    stay = (clicks * (1.0 + again)).astype(np.float32)
    last = (clicks * again**2).astype(np.float32)
    if stay.shape[1] > 1:
        stay, last = stay[:, division.segment], last[:, division.segment]
    by_item = kept.astype(np.float32)[:, division.item_class]
    by_item *= stay
    by_item += last
    by_item *= division.share.astype(np.float32)
    result += by_item
    return lost


def _drawn_of_own(own: list[_Own]) -> Floats:
    """Expected draws of each class by clicks on items of the user's own, shape (B, 64)."""
    drawn: Floats = np.zeros((1, CLASSES))
    for one in own:
        rows = np.arange(len(one.clicks))[:, None] * CLASSES
        size = len(one.clicks) * CLASSES
        counted = np.bincount((rows + one.classes).ravel(), one.clicks.ravel(), minlength=size)
        drawn = drawn + counted.reshape(-1, CLASSES)
    return drawn


def _kept(users: UserTraits, sources: list[_Source], others: Floats) -> Floats:
    """phi: chance that a draw of each class is kept, shape (B, 64), found by iteration.

    Args:
        users: The users.
        sources: Taste clicks, whose repeated draws count.
        others: Expected draws of each class by all other clicks, shape (B, 64).
    """
    goes_on = users.goes_on[:, None]
    kept = np.ones_like(others)
    for _ in range(_AVOIDANCE_STEPS):
        drawn = others.copy()
        for source in sources:
            again = 1.0 - kept @ source.division.by_class.T
            drawn += (source.clicks * (1.0 + again + again**2)) @ source.division.by_class
        missed = 1.0 - np.minimum(drawn * (1.0 - goes_on), 1.0)  # by one click
        met = 1.0 - missed * (1.0 - goes_on) / (1.0 - goes_on * missed)
        kept = np.minimum(met / np.maximum(drawn, 1e-12), 1.0)
    return kept
