"""Session statistics find the planted links; popularity and tags do not; with strength 0 there is nothing to find."""

import functools

import numpy as np
import pytest
import torch
from scipy import stats

from micrec.baselines.item_knn import ItemKNN
from micrec.config import SessionsConfig
from micrec.data.cooccurrence import count_cooccurrences
from micrec.data.dataset import Clicks
from micrec.data.sessions import assign_sessions
from micrec.evaluation.link_recall import Links, NeighbourScores, cosine_scores, link_recall
from simulator.world.tags import draw_tags
from tests.simulator.worlds import log, small_config, small_world

SEEDS = range(10)
BASE = ("sessions.per_user=6", "links.density=0.5", "links.targets=2")
LINKED, OFF = "links.strength=0.3", "links.strength=0"
SESSIONS = SessionsConfig(category_boost=1.0)


def clicks_of(*overrides: str) -> Clicks:
    table = log(*overrides).sort("timestamp", maintain_order=True)
    return Clicks(
        table["user_id"].to_numpy().astype(np.int32),
        table["item_id"].to_numpy().astype(np.int32),
        table["timestamp"].to_numpy() * 1_000,
    )


class Groups:
    """Pairs of hidden groups of different categories, and which of them a link joins in either direction."""

    def __init__(self, *overrides: str) -> None:
        self.config, self.catalogue = small_config(*overrides), small_world(*overrides).catalogue
        self.n = len(self.catalogue.link_targets)
        per_category = self.config.items.subcategories * self.config.items.groups
        category = np.arange(self.n) // per_category
        source, column = np.nonzero(self.catalogue.link_targets >= 0)
        joined = np.zeros((self.n, self.n), bool)
        joined[source, self.catalogue.link_targets[source, column]] = True
        self.first, self.second = np.nonzero(np.triu(category[:, None] != category[None, :]))
        self.joined = (joined | joined.T)[self.first, self.second]

    def auc(self, score: np.ndarray) -> float:
        """Chance that a linked pair scores above one that is not; ``score`` has shape (groups, groups)."""
        value = score[self.first, self.second]
        u = stats.mannwhitneyu(value[self.joined], value[~self.joined]).statistic
        return float(u / (self.joined.sum() * (~self.joined).sum()))


@functools.cache
def session_lift(*overrides: str) -> np.ndarray:
    """How many times oftener items of two groups meet in a session than their frequencies suggest."""
    groups = Groups(*overrides)
    found = count_cooccurrences(clicks_of(*overrides), len(groups.catalogue), SESSIONS)
    group = groups.catalogue.group
    pairs = np.zeros((groups.n, groups.n))
    items = np.repeat(np.arange(found.n_items), np.diff(found.offsets))
    np.add.at(pairs, (group[items], group[found.partners]), found.counts)
    pairs += 1.0
    return pairs / pairs.sum(axis=1, keepdims=True) / pairs.sum(axis=0, keepdims=True) * pairs.sum()


def popularity(*overrides: str) -> np.ndarray:
    groups = Groups(*overrides)
    clicks = np.bincount(groups.catalogue.group[log(*overrides)["item_id"].to_numpy()], minlength=groups.n)
    return np.outer(clicks, clicks).astype(float)


def tag_likeness(*overrides: str) -> np.ndarray:
    groups = Groups(*overrides)
    tags = draw_tags(groups.config, groups.catalogue)
    use = np.zeros((groups.n, groups.config.tags.count))
    np.add.at(use, (groups.catalogue.group[tags.item], tags.tag), 1.0)
    use /= np.linalg.norm(use, axis=1, keepdims=True)
    return use @ use.T


def aucs(score, *overrides: str) -> np.ndarray:
    worlds = [(*BASE, *overrides, f"seed={seed}") for seed in SEEDS]
    return np.array([Groups(*world).auc(score(*world)) for world in worlds])


def interval(values: np.ndarray, *, confidence: float = 0.99) -> tuple[float, float]:
    half = stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def test_session_statistics_find_the_linked_groups():
    found = aucs(session_lift, LINKED)
    assert found.min() > 0.9
    assert interval(found)[0] > 0.9


def test_a_stronger_link_is_easier_to_find():
    means = [aucs(session_lift, f"links.strength={strength}").mean() for strength in (0.0, 0.03, 0.3)]
    assert means[0] + 0.1 < means[1] < means[2] - 0.1


@pytest.mark.parametrize("score", [popularity, tag_likeness])
def test_popularity_and_tags_do_not(score):
    found = aucs(score, LINKED)
    low, high = interval(found)
    assert low < 0.5 < high
    assert high - low < 0.15
    assert (aucs(session_lift, LINKED) - found).min() > 0.25  # in the same worlds


def test_without_strength_there_is_nothing_to_find():
    low, high = interval(aucs(session_lift, OFF))
    assert low < 0.5 < high
    assert high - low < 0.12


# -- items, by the measure of micrec evaluate --------------------------------------------------------------------


def recall_over_chance(model, *overrides: str, k: int = 20) -> np.ndarray:
    """Cross-category link recall of a model less chance, seed by seed."""
    gains = []
    for seed in SEEDS:
        world = (*BASE, *overrides, f"seed={seed}")
        groups = Groups(*world)
        source, column = np.nonzero(groups.catalogue.link_targets >= 0)
        pairs = np.stack([source, groups.catalogue.link_targets[source, column]], axis=1)
        category = groups.catalogue.subcategory // groups.config.items.subcategories
        links = Links(groups.catalogue.group.astype(np.int64), pairs, category)
        counts = np.bincount(log(*world)["item_id"].to_numpy(), minlength=len(groups.catalogue))
        found = link_recall(model(*world), links, train_clicks=counts, cutoffs=(k,), cold_clicks=5)
        gains.append(found[f"link_recall_cross@{k}"] - found[f"link_recall_cross@{k}_chance"])
    return np.array(gains)


def item_knn(*overrides: str) -> NeighbourScores:
    clicks = clicks_of(*overrides)
    sessions = assign_sessions(clicks.user_ids, clicks.time_ms, SESSIONS)
    return ItemKNN.fit(clicks, sessions, len(small_world(*overrides).catalogue)).neighbours


def most_clicked(*overrides: str) -> NeighbourScores:
    counts = np.bincount(log(*overrides)["item_id"].to_numpy(), minlength=len(small_world(*overrides).catalogue))
    return lambda items: torch.from_numpy(counts).float().expand(len(items), -1)


def same_tags(*overrides: str) -> NeighbourScores:
    config, catalogue = small_config(*overrides), small_world(*overrides).catalogue
    tags = draw_tags(config, catalogue)
    use = torch.zeros(len(catalogue), config.tags.count)
    use[tags.item, tags.tag] = 1.0
    return cosine_scores(use)


def test_item_knn_finds_linked_items():
    gain = recall_over_chance(item_knn, LINKED)
    assert interval(gain)[0] > 0.1


@pytest.mark.parametrize(("model", "strength"), [(most_clicked, LINKED), (same_tags, LINKED), (item_knn, OFF)])
def test_nothing_else_does(model, strength):
    low, high = interval(recall_over_chance(model, strength))
    assert low < 0 < high
    assert high - low < 0.03
