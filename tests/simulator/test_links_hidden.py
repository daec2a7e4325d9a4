"""Planted links cannot be read off fields, tags, titles or content: linked groups are as alike as any two others."""

import functools

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from simulator.world.item_table import item_frame
from simulator.world.items import make_catalogue
from tests.simulator.worlds import small_config

GROUPS, PER_CATEGORY = 48, 6  # of the small world
SEEDS = range(6)
DIALS = (
    "links.density=1",
    "links.targets=3",
    "content.dim=16",
    "items.fields.kind.values=6",
    "tags.count=120",
    "items.providers=5",
)


def profiles(frame: pl.DataFrame, group: np.ndarray, column: str) -> np.ndarray:
    """Shares of the values of a column in each group, one row per group."""
    long = pl.DataFrame({"group": group, "value": frame[column]}).explode("value") if column == "tags" else (
        pl.DataFrame({"group": group, "value": frame[column]})
    )  # fmt: skip
    table = long.pivot("value", index="group", values="value", aggregate_function="len").fill_null(0).sort("group")
    return table.drop("group").to_numpy().astype(float)


def means(rows: np.ndarray, group: np.ndarray) -> np.ndarray:
    sums = np.zeros((GROUPS, rows.shape[1]))
    np.add.at(sums, group, rows)
    return sums


@functools.cache
def likeness(seed: int) -> dict[str, np.ndarray]:
    """Cosine of every two groups in each aspect, shape (groups, groups)."""
    config = small_config(f"seed={seed}", *DIALS)
    catalogue = make_catalogue(config)
    frame, group = item_frame(config, catalogue), catalogue.group
    words = TfidfVectorizer(token_pattern=r"\S+").fit_transform(frame["title"].to_list()).toarray()
    content = np.array(frame["content"].to_list())
    vectors = {
        "tags": profiles(frame, group, "tags"),
        "title": means(words, group),
        "content": means(content - content.mean(axis=0), group),
        "provider": profiles(frame, group, "provider"),
        "kind": profiles(frame, group, "kind"),
    }
    unit = {name: rows / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in vectors.items()}
    return {name: rows @ rows.T for name, rows in unit.items()}


@functools.cache
def linked(seed: int) -> np.ndarray:
    """Source and target of every link, shape (n, 2)."""
    targets = make_catalogue(small_config(f"seed={seed}", *DIALS)).link_targets
    source, column = np.nonzero(targets >= 0)
    return np.stack([source, targets[source, column]], axis=1)


def other_categories() -> np.ndarray:
    category = np.arange(GROUPS) // PER_CATEGORY
    return category[:, None] != category[None, :]


def z_scores(seed: int, aspect: str) -> np.ndarray:
    """Likeness of linked groups, in sds over the pairs of the source with all groups of other categories."""
    alike, allowed = likeness(seed)[aspect], other_categories()
    masked = np.where(allowed, alike, np.nan)
    centre, spread = np.nanmean(masked, axis=1), np.nanstd(masked, axis=1)
    source, target = linked(seed).T
    return (alike[source, target] - centre[source]) / np.maximum(spread[source], 1e-9)


def permutation_p(seed: int, aspect: str, *, rounds: int = 1_000) -> float:
    """Share of random link tables of the same shape whose groups are alike at least as much as the planted ones;
    two-sided."""
    rng, alike = np.random.default_rng(seed), likeness(seed)[aspect]
    source, target = linked(seed).T
    allowed = np.argwhere(other_categories())[:, 1].reshape(GROUPS, -1)  # targets each source might have
    drawn = allowed[source, rng.integers(0, allowed.shape[1], (rounds, len(source)))]
    null = alike[source, drawn].mean(axis=1)
    above = (1 + (null >= alike[source, target].mean()).sum()) / (1 + rounds)
    below = (1 + (null <= alike[source, target].mean()).sum()) / (1 + rounds)
    return min(1.0, 2 * min(above, below))


@pytest.mark.parametrize("aspect", ["tags", "title", "content", "provider", "kind"])
def test_linked_groups_are_no_more_alike_than_any_two(aspect):
    found = np.concatenate([z_scores(seed, aspect) for seed in SEEDS])
    error = found.std() / np.sqrt(len(found))
    assert abs(found.mean()) < 3.5 * error
    assert abs(found.mean()) + 2 * error < 0.2  # sds: any difference there might be is small
    p_values = [permutation_p(seed, aspect) for seed in SEEDS]
    assert min(p_values) > 0.05 / 50  # Bonferroni over the aspects and seeds, and some room
    assert np.median(p_values) > 0.05


@pytest.mark.parametrize("aspect", ["tags", "title", "content", "provider", "kind"])
def test_the_measure_sees_likeness_where_there_is_some(aspect):
    """Groups of one subcategory stand out by the same measure."""
    for seed in SEEDS:
        alike = likeness(seed)[aspect]
        siblings = (np.arange(GROUPS)[:, None] // 3 == np.arange(GROUPS)[None, :] // 3) & ~np.eye(GROUPS, dtype=bool)
        apart = alike[other_categories()]
        assert alike[siblings].mean() > apart.mean() + apart.std()


def test_one_sided_popularity_is_no_hint():
    """Neither sources nor targets draw more clicks by themselves, or are better, than other groups."""
    gaps = []
    for seed in range(30):
        catalogue = make_catalogue(small_config(f"seed={seed}", "links.density=0.5"))
        appeal = np.bincount(catalogue.group, weights=np.log(catalogue.appeal), minlength=GROUPS)
        quality = np.bincount(catalogue.group, weights=catalogue.quality, minlength=GROUPS)
        size = np.bincount(catalogue.group, minlength=GROUPS)
        ends = np.nonzero(catalogue.link_targets >= 0)
        source, target = np.zeros(GROUPS, bool), np.zeros(GROUPS, bool)
        source[ends[0]] = target[catalogue.link_targets[ends]] = True
        traits = (appeal / size, quality / size, size.astype(float))
        gaps.append([trait[end].mean() - trait[~end].mean() for trait in traits for end in (source, target)])
    t = np.mean(gaps, axis=0) / (np.std(gaps, axis=0) / np.sqrt(len(gaps)))
    assert np.abs(t).max() < 4.0
