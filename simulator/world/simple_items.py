"""Items of the simple world: taxonomy, tags, providers, titles, publish times, and the hidden link groups."""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from simulator.world.simple_config import SimpleWorld
from simulator.world.simple_sampler import GroupSampler, zipf_weights

DAY_S = 86_400
START_S = 1_704_067_200  # 2024-01-01 00:00 UTC, a Monday: the first day of every log
CATALOGUE_AGE_DAYS = 90  # how far back items published before the log reach
TAG_ZIPF = 0.5
PROVIDER_ZIPF = 1.0
SAME_SUBCATEGORY = 0.7  # share of further tags that stay in the item's subcategory
WORDS_PER_TAG, WORDS_PER_CATEGORY, FILLER_WORDS = 3, 5, 300
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


class Taxonomy(NamedTuple):
    """Tags with their place in the two-level tree; subcategory s lies in category s // subcategories."""

    tag_subcategory: NDArray[np.int64]  # (T,)
    tag_category: NDArray[np.int64]  # (T,)
    tag_weight: NDArray[np.float64]  # (T,) Zipf, sums to 1


class Items(NamedTuple):
    """Items by dense id; appeal, quality and group are hidden from every model."""

    tag: NDArray[np.int64]  # (N,) the tag that taste acts on
    subcategory: NDArray[np.int64]  # (N,)
    category: NDArray[np.int64]  # (N,)
    provider: NDArray[np.int64]  # (N,)
    published_s: NDArray[np.int64]  # (N,) seconds since 1970
    appeal: NDArray[np.float64]  # (N,) weight in every draw, sums to 1
    quality: NDArray[np.float64]  # (N,) standard normal
    group: NDArray[np.int64]  # (N,) link group, within one subcategory
    item_tags: NDArray[np.int64]  # (nnz, 2) distinct (item, tag), sorted


def make_taxonomy(config: SimpleWorld, rng: np.random.Generator) -> Taxonomy:
    """Spread the tags over the subcategories evenly, at least one each."""
    subcategory = rng.permutation(np.arange(config.tags) % (config.categories * config.subcategories))
    weight = zipf_weights(config.tags, TAG_ZIPF, rng)
    return Taxonomy(subcategory, subcategory // config.subcategories, weight)


def make_items(config: SimpleWorld, taxonomy: Taxonomy, rng: np.random.Generator) -> Items:
    """Draw the catalogue."""
    n = config.items
    tag = GroupSampler(np.zeros(config.tags, np.int64), taxonomy.tag_weight).draw(np.zeros(n, np.int64), rng.random(n))
    subcategory, category = taxonomy.tag_subcategory[tag], taxonomy.tag_category[tag]
    return Items(
        tag=tag,
        subcategory=subcategory,
        category=category,
        provider=_providers(config, category, rng),
        published_s=_publish_times(config, rng),
        appeal=zipf_weights(n, config.popularity_exponent, rng),
        quality=rng.standard_normal(n),
        group=_link_groups(subcategory, config.group_size, rng),
        item_tags=_all_tags(config, taxonomy, tag, rng),
    )


def make_links(config: SimpleWorld, items: Items, rng: np.random.Generator) -> NDArray[np.int64]:
    """Target group of each link group, shape (G,), -1 = no link; always of another category, uniform among those.

    The links do not depend on ``link_strength``, so that worlds of different strength can be compared pair by pair.
    """
    n_groups = int(items.group.max()) + 1
    group_category = np.zeros(n_groups, np.int64)
    group_category[items.group] = items.category
    size = np.bincount(group_category, minlength=config.categories)
    first = np.cumsum(size) - size  # groups are numbered category by category
    others = n_groups - size[group_category]
    draw = rng.integers(0, np.maximum(others, 1))
    target = draw + np.where(draw >= first[group_category], size[group_category], 0)
    linked = rng.permutation(n_groups) < round(config.link_density * n_groups)
    return np.where(linked & (others > 0), target, -1)


def make_titles(config: SimpleWorld, items: Items, rng: np.random.Generator) -> pl.Series:
    """Titles of four to six words: one for each of up to two tags, one for the category, two or three fillers."""
    n, n_tag_words = config.items, config.tags * WORDS_PER_TAG
    n_category_words = config.categories * WORDS_PER_CATEGORY
    words = np.full((n, 6), -1)
    last_tag = np.zeros(n, np.int64)
    last_tag[items.item_tags[:, 0]] = items.item_tags[:, 1]  # the highest of the item's sorted tags stays
    words[:, 0] = items.tag * WORDS_PER_TAG + rng.integers(0, WORDS_PER_TAG, n)
    words[:, 1] = np.where(last_tag == items.tag, -1, last_tag * WORDS_PER_TAG + rng.integers(0, WORDS_PER_TAG, n))
    words[:, 2] = n_tag_words + items.category * WORDS_PER_CATEGORY + rng.integers(0, WORDS_PER_CATEGORY, n)
    words[:, 3:] = n_tag_words + n_category_words + rng.integers(0, FILLER_WORDS, (n, 3))
    words[rng.random(n) < 0.5, 5] = -1
    vocabulary = _vocabulary(n_tag_words + n_category_words + FILLER_WORDS, rng)
    columns = rng.permuted(words, axis=1).T
    frame = pl.DataFrame({f"word{slot}": _gather(vocabulary, column) for slot, column in enumerate(columns)})
    return frame.select(title=pl.concat_str(pl.all(), separator=" ", ignore_nulls=True)).to_series()


def item_frame(config: SimpleWorld, items: Items, titles: pl.Series) -> pl.DataFrame:
    """What models may see: the item table of the dataset."""
    tags = pl.DataFrame(items.item_tags, schema=["item", "tag"]).select("item", tag="t" + pl.col("tag").cast(pl.String))
    return pl.DataFrame(
        {
            "item_id": np.arange(config.items),
            "category": labels("c", items.category),
            "subcategory": labels("s", items.subcategory),
            "tags": tags.group_by("item", maintain_order=True).agg("tag")["tag"],
            "provider": labels("p", items.provider),
            "title": titles,
            "published": items.published_s,
        }
    )


def labels(prefix: str, codes: NDArray[np.int64]) -> pl.Series:
    """Codes as strings, ``c7`` for 7."""
    return prefix + pl.Series(codes).cast(pl.String)


def _providers(config: SimpleWorld, category: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A provider of each item's category; one of any category where the category has none."""
    home = rng.integers(0, config.categories, config.providers)
    weight = zipf_weights(config.providers, PROVIDER_ZIPF, rng)
    uniforms = rng.random(len(category))
    local = GroupSampler(home, weight).draw(category, uniforms)
    anyone = GroupSampler(np.zeros_like(home), weight).draw(np.zeros_like(category), uniforms)
    return np.where(local >= 0, local, anyone)


def _publish_times(config: SimpleWorld, rng: np.random.Generator) -> NDArray[np.int64]:
    new = rng.permutation(config.items) < int(config.new_items * config.items)  # never all: the log can start
    day = np.where(new, config.days * rng.random(config.items), -CATALOGUE_AGE_DAYS * rng.random(config.items))
    return START_S + np.floor(day * DAY_S).astype(np.int64)


def _link_groups(subcategory: NDArray[np.int64], group_size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Cut each subcategory, in random order, into groups of at most ``group_size``; numbered by subcategory."""
    order = np.lexsort((rng.random(len(subcategory)), subcategory))
    size = np.bincount(subcategory)
    position = np.arange(len(order)) - (np.cumsum(size) - size)[subcategory[order]]
    block = subcategory[order] * len(order) + position // group_size
    group = np.empty_like(subcategory)
    group[order] = np.unique(block, return_inverse=True)[1]
    return group


def _all_tags(
    config: SimpleWorld, taxonomy: Taxonomy, tag: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Distinct (item, tag) pairs: the tag of taste and further ones, most of them of the same subcategory."""
    item = np.repeat(np.arange(config.items), rng.poisson(config.tags_per_item - 1.0, config.items))
    uniforms = rng.random(len(item))
    near = GroupSampler(taxonomy.tag_subcategory, taxonomy.tag_weight).draw(
        taxonomy.tag_subcategory[tag[item]], uniforms
    )
    far = GroupSampler(np.zeros(config.tags, np.int64), taxonomy.tag_weight).draw(np.zeros_like(item), uniforms)
    further = np.where(rng.random(len(item)) < SAME_SUBCATEGORY, near, far)
    items = np.concatenate([np.arange(config.items), item])
    key = np.unique(items * config.tags + np.concatenate([tag, further]))
    return np.stack([key // config.tags, key % config.tags], axis=1)


def _vocabulary(n: int, rng: np.random.Generator) -> pl.Series:
    """``n`` distinct words of three syllables."""
    code = rng.choice(len(SYLLABLES) ** 3, size=n, replace=False)
    digits = [code // len(SYLLABLES) ** power % len(SYLLABLES) for power in (2, 1, 0)]
    first, second, third = (pl.Series(SYLLABLES).gather(pl.Series(digit)) for digit in digits)
    return first + second + third


def _gather(vocabulary: pl.Series, codes: NDArray[np.int64]) -> pl.Series:
    """Words of the codes; null for -1."""
    return vocabulary.gather(
        pl.select(pl.when(pl.lit(pl.Series(codes)) >= 0).then(pl.lit(pl.Series(codes)))).to_series()
    )
