"""Keys of items, tags, titles and content: each moves its statistic, and nothing that it should not."""

import numpy as np
import polars as pl
import pytest

from simulator.fit.simulate import world_log
from simulator.fit.structure_moments import popularity_drift
from simulator.world.item_table import published_items
from tests.simulator.effects import ABOUT, PLACES, TRAITS, WHICH_ITEMS, Effect, gini, items_of, tags_of
from tests.simulator.worlds import log, small_config, small_world

FADING = ("items.evergreen_share=0", "items.new_share=0.8")
KIND = ("items.fields.kind.values=5", "items.fields.kind.tied=0.5")
CONTENT = ("content.dim=16",)


def distinct(column: str):
    return lambda *overrides: float(items_of(*overrides)[column].n_unique())


def items_out(*overrides: str) -> float:
    return published_items(small_config(*overrides))


def new_items(*overrides: str) -> float:
    """Share of the items that appear during the log."""
    return float((items_of(*overrides)["published"] >= small_world(*overrides).start_s).mean())


def old_clicks(*overrides: str) -> float:
    """Share of clicks on items that are out for a month or longer."""
    return float((log(*overrides)["age_s"] > 30 * 86_400).mean())


def median_age_days(*overrides: str) -> float:
    """Of clicked items."""
    return float(log(*overrides)["age_s"].median()) / 86_400


def click_gini(*overrides: str) -> float:
    counts = np.bincount(log(*overrides)["item_id"], minlength=len(items_of(*overrides)))
    return gini(counts)


def clicks_follow_quality(*overrides: str) -> float:
    """Rank correlation of an item's quality with its clicks."""
    counts = log(*overrides)["item_id"].value_counts().rename({"count": "clicks"})
    both = items_of(*overrides).join(counts, on="item_id").select("quality", "clicks")
    return float(both.select(pl.corr("quality", "clicks", method="spearman")).item())


def lying_titles(*overrides: str) -> float:
    """Share of the items whose first word, one of a tag, is mostly that of another subcategory's items."""
    items = items_of(*overrides).with_columns(pl.col("title").str.split(" ").list.first().alias("word"))
    usual = items.group_by("word").agg(pl.col("subcategory").mode().first().alias("usual"))
    return float(items.join(usual, on="word").select((pl.col("usual") != pl.col("subcategory")).mean()).item())


def near_duplicates(*overrides: str) -> float:
    """Share of items whose title differs from that of another of the group in one word at most."""
    found = 0
    for titles in items_of(*overrides).group_by("link_group").agg("title")["title"]:
        words = [title.split() for title in titles]
        found += sum(
            any(
                i != j and len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) <= 1
                for j, b in enumerate(words)
            )
            for i, a in enumerate(words)
        )
    return found / len(items_of(*overrides))


def kind_of_subcategory(*overrides: str) -> float:
    """Share of the items with the commonest kind of their subcategory."""
    top = (
        items_of(*overrides)
        .group_by("subcategory")
        .agg(pl.col("kind").value_counts(sort=True).first().struct.field("count"))
    )
    return float(top["count"].sum()) / len(items_of(*overrides))


def tags_used(*overrides: str) -> float:
    return len(np.unique(tags_of(*overrides).tag))


def tags_per_item(*overrides: str) -> float:
    return float(items_of(*overrides)["tags"].list.len().mean())


def tag_gini(*overrides: str) -> float:
    return gini(np.bincount(tags_of(*overrides).tag))


def tags_astray(*overrides: str) -> float:
    """Share of tags whose items are mostly of another category than the item at hand."""
    tags = items_of(*overrides).select("category", tag="tags").explode("tag")
    usual = tags.group_by("tag").agg(pl.col("category").mode().first().alias("usual"))
    return float(tags.join(usual, on="tag").select((pl.col("usual") != pl.col("category")).mean()).item())


def words_per_title(*overrides: str) -> float:
    return float(items_of(*overrides)["title"].str.split(" ").list.len().mean())


def empty_words(*overrides: str) -> float:
    """Share of the words of titles that are found in at least half of the categories."""
    items = items_of(*overrides)
    words = items.select("category", word=pl.col("title").str.split(" ")).explode("word")
    spread = words.group_by("word").agg((pl.n_unique("category") >= items["category"].n_unique() / 2).alias("wide"))
    return float(words.join(spread, on="word")["wide"].mean())


def content_width(*overrides: str) -> float:
    items = items_of(*overrides)
    return float(items["content"].list.len().max()) if "content" in items.columns else 0.0


def content_spread(*overrides: str) -> float:
    """Cosine distance of two neighbours in a hidden group, averaged."""
    items = items_of(*overrides).sort("link_group")
    content, group = np.array(items["content"].to_list()), items["link_group"].to_numpy()
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    return float(1 - (content[1:] * content[:-1]).sum(axis=1)[group[1:] == group[:-1]].mean())


def drift(*overrides: str) -> float:
    return popularity_drift(world_log(small_world(*overrides)))


SEASONS = ("items.seasons={share: 1, days: 3, every_days: 14}", "items.popularity_exponent=0", "choice.fresh=0.1")
SEASONAL = f"{WHICH_ITEMS} item.appeal"

EFFECTS = {
    "items.count": Effect(500, 1500, items_out, 990, f"{WHICH_ITEMS} {PLACES} {ABOUT} {TRAITS}"),
    "items.new_share": Effect(0.1, 0.8, new_items, 0.6, f"{WHICH_ITEMS} item.published"),
    "items.evergreen_share": Effect(
        0.1,
        0.9,
        old_clicks,
        0.2,
        f"{WHICH_ITEMS} item.evergreen item.published",
        ("items.popularity_exponent=0", "items.new_share=0.8"),
    ),
    "items.half_life_h": Effect(12, 120, median_age_days, 1, f"{WHICH_ITEMS} item.published", FADING),
    "items.categories": Effect(5, 10, distinct("category"), 5, f"{WHICH_ITEMS} {PLACES} {ABOUT} links"),
    "items.subcategories": Effect(2, 4, distinct("subcategory"), 16, f"{WHICH_ITEMS} {PLACES} {ABOUT} links"),
    "items.groups": Effect(2, 5, distinct("link_group"), 48, f"{WHICH_ITEMS} {PLACES} {ABOUT} links"),
    "items.providers": Effect(20, 200, distinct("provider"), 100, "item.provider"),
    "items.popularity_exponent": Effect(0.2, 1.2, click_gini, 0.15, f"{WHICH_ITEMS} item.appeal"),
    "items.seasons.share": Effect(0, 0.8, drift, 0.3, SEASONAL, SEASONS),
    "items.seasons.days": Effect(8, 4, drift, 0.1, SEASONAL, SEASONS),
    "items.seasons.every_days": Effect(7, 14, drift, 0.15, SEASONAL, SEASONS),  # at 7, items come back
    "items.seasons.off_season": Effect(0.9, 0.05, drift, 0.3, SEASONAL, SEASONS),
    "items.quality_appeal": Effect(-0.5, 0.8, clicks_follow_quality, 0.5, "dwell_s like follow times item.quality"),
    "items.clickbait_share": Effect(
        0, 0.3, lying_titles, 0.1, f"{WHICH_ITEMS} item.appeal item.quality item.clickbait item.title"
    ),
    "items.near_duplicate_share": Effect(0, 0.5, near_duplicates, 0.4, "item.title item.duplicate_of"),
    "items.fields.*.values": Effect(5, 12, distinct("kind"), 7, "item.kind", KIND),
    "items.fields.*.tied": Effect(0.1, 0.9, kind_of_subcategory, 0.4, "item.kind", KIND),
    "tags.count": Effect(50, 400, tags_used, 200, ABOUT),
    "tags.per_item": Effect(1, 4, tags_per_item, 1.5, ABOUT),
    "tags.exponent": Effect(0, 1.5, tag_gini, 0.15, ABOUT),
    "tags.stray": Effect(0, 0.9, tags_astray, 0.3, ABOUT),
    "titles.words": Effect(4, 10, words_per_title, 5.5, "item.title"),
    "titles.filler": Effect(0, 0.8, empty_words, 0.3, "item.title"),
    "content.dim": Effect(0, 16, content_width, 16, "item.content"),
    "content.noise": Effect(0, 2, content_spread, 0.2, "item.content", CONTENT),
}


@pytest.mark.parametrize("key", EFFECTS)
def test_the_key_moves_its_statistic_and_nothing_else(key):
    EFFECTS[key].check(key)
