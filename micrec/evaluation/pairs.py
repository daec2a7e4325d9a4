"""Pairs of items that belong together according to the data, not to a model: alignment is measured on them.

==============  ====================================================================================================
clicks          a query of the task and a test item it clicked, drawn by click lines
sessions        a test click and another click, on another item, of the same session
titles          an item and one of its ten nearest titles (TF-IDF, as the semantic loss finds its positives), searched
                among at most ``MOST_TITLES`` items
categories      an item and another of the same category, drawn among items
links           an item of a linked source group and one of a group it is linked to; where links are known
==============  ====================================================================================================

Every pair is of items with training clicks. Drawn once with one generator, the pairs are the same for every model.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from micrec.config import SessionsConfig
from micrec.data.dataset import Clicks, Dataset
from micrec.data.sessions import assign_sessions
from micrec.evaluation.link_recall import Links
from micrec.evaluation.task import EvalTask

MOST_DRAWN = 20_000  # pairs of a kind
MOST_TITLES = 4_096
MOST_CLICKS = 2_000_000  # test clicks that sessions are cut from, the first ones
NEAREST = 10

Ints = NDArray[np.int64]


class Pairs(NamedTuple):
    """P pairs of dense ids; under ``clicks`` the first is a query of the task."""

    first: Ints  # (P,)
    second: Ints  # (P,)

    def among(self, allowed: NDArray[np.bool_], *, both: bool = True) -> "Pairs":
        """The pairs whose second item, or both items, are ``allowed`` (N,)."""
        kept = allowed[self.second] & (allowed[self.first] if both else True)
        return Pairs(self.first[kept], self.second[kept])


def positive_pairs(
    dataset: Dataset,
    task: EvalTask,
    part: Clicks,
    sessions: SessionsConfig,
    links: Links | None,
    *,
    rng: np.random.Generator,
) -> Mapping[str, Pairs]:
    """Pairs of each kind that the dataset has; kinds without a pair are left out.

    Args:
        dataset: Its title and category roles name the item fields.
        task: Queries, targets and candidates.
        part: The clicks of the task's part, in time order.
        sessions: What a session is.
        links: The planted links, where they are known.
        rng: Draws the pairs.
    """
    known = task.candidates
    roles, items = dataset.schema.roles, dataset.items
    found = {
        "clicks": click_pairs(task, rng).among(known, both=False),
        "sessions": session_pairs(part[:MOST_CLICKS], sessions, rng).among(known),
    }
    if roles.title is not None:
        found["titles"] = title_pairs(items.frame[roles.title].to_list(), np.flatnonzero(known), rng)
    codes = items.columns[roles.category].codes if roles.category else None
    if codes is not None:
        found["categories"] = category_pairs(codes, np.flatnonzero(known), rng)
    if links is not None:
        found["links"] = link_pairs(links, np.flatnonzero(known), rng)
    return {kind: pairs for kind, pairs in found.items() if len(pairs.first)}


def click_pairs(task: EvalTask, rng: np.random.Generator) -> Pairs:
    """Query and target of click lines: all of them where they are few, else drawn with replacement."""
    ends = np.cumsum(task.target_counts)  # target t owns lines ends[t - 1] .. ends[t]
    lines = np.arange(ends[-1]) if ends[-1] <= MOST_DRAWN else rng.integers(ends[-1], size=MOST_DRAWN)
    chosen = np.searchsorted(ends, lines, side="right")
    queries = np.searchsorted(task.target_offsets, chosen, side="right") - 1
    return Pairs(queries, task.target_items[chosen].astype(np.int64))


def session_pairs(clicks: Clicks, config: SessionsConfig, rng: np.random.Generator) -> Pairs:
    """A random click and another random click of its session; pairs of one item with itself are dropped."""
    sessions = assign_sessions(clicks.user_ids, clicks.time_ms, config)
    order = np.argsort(sessions, kind="stable")
    sizes = np.bincount(sessions)
    starts = np.cumsum(sizes) - sizes
    chosen = order[sizes[sessions[order]] > 1]
    if not len(chosen):
        return Pairs(chosen, chosen)
    anchors = rng.choice(chosen, min(MOST_DRAWN, len(chosen)), replace=False)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    first, size = starts[sessions[anchors]], sizes[sessions[anchors]]
    step = 1 + (rng.random(len(anchors)) * (size - 1)).astype(np.int64)  # 1 .. size - 1 places on, around the session
    others = order[first + (place[anchors] - first + step) % size]
    items = clicks.item_ids.astype(np.int64)
    return _distinct(items[anchors], items[others])


def title_pairs(titles: list[str | None], items: Ints, rng: np.random.Generator) -> Pairs:
    """Items and the nearest titles among ``items``, or among an even sample of them."""
    from micrec.data.semantics import nearest_items
    from micrec.data.titles import encode_titles

    shown = even_sample(items, MOST_TITLES)
    embeddings = encode_titles([titles[item] for item in shown], encoder="tfidf", svd_dim=128)
    ids, similarity = nearest_items(embeddings, NEAREST)
    row, slot = np.nonzero((ids >= 0) & (similarity > 0))
    return _thin(Pairs(shown[row], shown[ids[row, slot]]), rng)


def category_pairs(codes: NDArray[np.int32], items: Ints, rng: np.random.Generator) -> Pairs:
    """A random item of known category, and another of it."""
    items = items[codes[items] > 0]
    order = items[np.argsort(codes[items], kind="stable")]
    sizes = np.bincount(codes[order], minlength=1)
    starts = np.cumsum(sizes) - sizes
    places = np.flatnonzero(sizes[codes[order]] > 1)
    if not len(places):
        return Pairs(order[:0], order[:0])
    chosen = rng.choice(places, min(MOST_DRAWN, 5 * len(places)))
    first, size = starts[codes[order[chosen]]], sizes[codes[order[chosen]]]
    step = 1 + (rng.random(len(chosen)) * (size - 1)).astype(np.int64)
    return Pairs(order[chosen], order[first + (chosen - first + step) % size])


def link_pairs(links: Links, items: Ints, rng: np.random.Generator) -> Pairs:
    """A random item of a source group, one of its group's links, and a random item of that link's target."""
    if not len(links.pairs):
        return Pairs(items[:0], items[:0])
    n_groups = 1 + int(max(links.group.max(initial=0), links.pairs.max(initial=0)))
    order = items[np.argsort(links.group[items], kind="stable")]
    sizes = np.bincount(links.group[order], minlength=n_groups)
    starts = np.cumsum(sizes) - sizes
    pairs = links.pairs[sizes[links.pairs[:, 1]] > 0]
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    outgoing = np.bincount(pairs[:, 0], minlength=n_groups)
    sources = items[outgoing[links.group[items]] > 0]
    if not len(sources):
        return Pairs(items[:0], items[:0])
    anchors = rng.choice(sources, MOST_DRAWN)
    group = links.group[anchors]
    begin = np.cumsum(outgoing) - outgoing
    link = begin[group] + (rng.random(len(anchors)) * outgoing[group]).astype(np.int64)
    target = pairs[link, 1]
    return _distinct(anchors, order[starts[target] + (rng.random(len(anchors)) * sizes[target]).astype(np.int64)])


def even_sample(items: Ints, most: int) -> Ints:
    """At most ``most`` of ``items`` (n,), evenly spaced in their order, the same for every model."""
    if len(items) <= most:
        return items
    return items[np.linspace(0, len(items) - 1, most).astype(np.int64)]


def _thin(pairs: Pairs, rng: np.random.Generator) -> Pairs:
    if len(pairs.first) <= MOST_DRAWN:
        return pairs
    kept = rng.choice(len(pairs.first), MOST_DRAWN, replace=False)
    return Pairs(pairs.first[kept], pairs.second[kept])


def _distinct(first: Ints, second: Ints) -> Pairs:
    kept = first != second
    return Pairs(first[kept], second[kept])
