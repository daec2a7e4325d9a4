"""Keys of topics, depth of taste, signals and rare items: each moves its statistic, and nothing that it should not."""

import numpy as np
import polars as pl
import pytest

from simulator.world.clicks import Cause
from tests.simulator.effects import ABOUT, PLACES, TRAITS, WHICH_ITEMS, Effect, items_of, tags_of
from tests.simulator.worlds import log, small_world

TOPICS = ("items.topics=4",)
VECTORS = ("content.dim=16",)
FIXED = (*TOPICS, "taste.drift_days=0", "sessions.per_user=8", "choice.taste=0.8", "choice.popular=0",
         "choice.repeat=0", "choice.similar=0.1", "links.strength=0")  # fmt: skip
KIND = (*TOPICS, "items.fields.kind.values=40", "items.fields.kind.tied=0.5")
OTHER_ITEMS = "items times dwell_s like follow"  # without links the causes do not depend on the items
FAULTY = "item.subcategory item.tags item.provider item.title"


def distinct_topics(*overrides: str) -> float:
    return float(items_of(*overrides)["topic"].n_unique())


def taste_clicks(*overrides: str) -> pl.DataFrame:
    topics = items_of(*overrides).select("item_id", "topic")
    return log(*overrides).filter(pl.col("cause") == Cause.TASTE).join(topics, on="item_id", maintain_order="left")


def own_subcategories(*overrides: str) -> float:
    """Mean distinct subcategories of the taste clicks of a user of at least twenty."""
    users = taste_clicks(*overrides).group_by("user_id").agg(pl.n_unique("subcategory"), pl.len())
    return float(users.filter(pl.col("len") >= 20)["subcategory"].mean())


def chance_of_two(value: str, within: tuple[str, ...], clicks: pl.DataFrame) -> float:
    """Chance that two taste clicks of one place agree in ``value``."""
    counts = clicks.group_by(*within, value).len("n").with_columns(pl.col("n").cast(pl.Float64))
    pairs = counts.group_by(within).agg(
        same=(pl.col("n") * (pl.col("n") - 1)).sum(), all=pl.sum("n") * (pl.sum("n") - 1)
    )
    return float(pairs.select(pl.sum("same") / pl.sum("all")).item())


def one_topic_of_a_user(*overrides: str) -> float:
    return chance_of_two("topic", ("user_id", "subcategory"), taste_clicks(*overrides))


def many_topics_of_a_user(*overrides: str) -> float:
    return 1.0 - one_topic_of_a_user(*overrides)


def one_item_of_a_user(*overrides: str) -> float:
    return chance_of_two("item_id", ("user_id", "topic"), taste_clicks(*overrides))


def many_items_of_a_user(*overrides: str) -> float:
    return 1.0 - one_item_of_a_user(*overrides)


def first_tags_of_one_group(*overrides: str) -> float:
    """Chance that two items of a subcategory with the same first tag are of one hidden group."""
    items = items_of(*overrides).with_columns(first=tags_of(*overrides).first)
    return chance_of_two("link_group", ("subcategory", "first"), items)


def one_topic_of_a_session(*overrides: str) -> float:
    return chance_of_two("topic", ("session",), taste_clicks(*overrides))


def hardly_clicked(*overrides: str) -> float:
    counts = np.bincount(log(*overrides)["item_id"], minlength=len(items_of(*overrides)))
    return float((counts < 3).mean())


def clicks_per_item(*overrides: str) -> float:
    return len(log(*overrides)) / small_world(*overrides).config.items.count


def agreement(column: str):
    """How much likelier two items of a topic are to share a value than two of its subcategory."""

    def statistic(*overrides: str) -> float:
        items = items_of(*overrides).select("item_id", "topic", "subcategory", value=column)
        items = items.explode("value") if items["value"].dtype == pl.List else items
        return chance_of_two("value", ("topic",), items) / chance_of_two("value", ("subcategory",), items)

    return statistic


def content_agreement(*overrides: str) -> float:
    """Mean cosine of two neighbours of one topic less that of neighbours of one subcategory."""
    items = items_of(*overrides)
    content = np.array(items["content"].to_list())
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    found = []
    for column in ("topic", "subcategory"):
        order = np.argsort(items[column].to_numpy(), kind="stable")
        place = items[column].to_numpy()[order]
        cosine = (content[order][1:] * content[order][:-1]).sum(axis=1)
        found.append(float(cosine[place[1:] == place[:-1]].mean()))
    return found[0] - found[1]


def absent(*overrides: str) -> float:
    """Least share of nulls of the four columns."""
    items = items_of(*overrides)
    return min(items[name].null_count() / len(items) for name in ("subcategory", "tags", "provider", "title"))


def wrong(*overrides: str) -> float:
    """Share of items whose subcategory is not of their category."""
    items, per_category = items_of(*overrides), small_world(*overrides).config.items.subcategories
    numbers = items.select(*(pl.col(name).str.slice(1).cast(pl.Int64) for name in ("category", "subcategory")))
    return float(numbers.select((pl.col("subcategory") // per_category != pl.col("category")).mean()).item())


def depth(**shares: float) -> str:
    """The four shares as overrides."""
    return " ".join(
        f"taste.depth.{name}={shares.get(name, 0)}" for name in ("category", "subcategory", "topic", "item")
    )


EFFECTS = {
    "items.topics": Effect(1, 4, distinct_topics, 48, "item.topic"),
    "items.rare_share": Effect(0, 0.4, hardly_clicked, 0.2, f"{WHICH_ITEMS} item.appeal"),
    "items.clicks_per_item": Effect(20, 60, clicks_per_item, 38, f"{WHICH_ITEMS} {PLACES} {ABOUT} {TRAITS}"),
    "items.fields.*.topic": Effect(0, 0.9, agreement("kind"), 0.5, "item.kind", KIND),
    "taste.depth.category": Effect(
        depth(subcategory=1), depth(category=0.6, subcategory=0.4), own_subcategories, 1, OTHER_ITEMS, FIXED
    ),
    "taste.depth.subcategory": Effect(
        depth(topic=1), depth(subcategory=1), many_topics_of_a_user, 0.4, OTHER_ITEMS, FIXED
    ),
    "taste.depth.topic": Effect(
        depth(subcategory=1), depth(subcategory=0.2, topic=0.8), one_topic_of_a_user, 0.3, OTHER_ITEMS, FIXED
    ),
    "taste.depth.item": Effect(depth(topic=1), depth(item=1), one_item_of_a_user, 0.1, OTHER_ITEMS, FIXED),
    "taste.favourites": Effect(
        1, 8, many_items_of_a_user, 0.2, OTHER_ITEMS, (*FIXED, *depth(topic=0.2, item=0.8).split())
    ),
    "signals.tags": Effect(0, 1, agreement("tags"), 0.5, "item.tags", (*TOPICS, *VECTORS, "tags.count=400")),
    "signals.provider": Effect(0, 1, agreement("provider"), 0.5, "item.provider", (*TOPICS, *VECTORS)),
    "signals.content": Effect(0, 1, content_agreement, 0.1, "item.content", (*TOPICS, *VECTORS)),
    "signals.sessions": Effect(0, 1, one_topic_of_a_session, 0.2, OTHER_ITEMS, FIXED),
    "signals.groups": Effect(0, 1, first_tags_of_one_group, 0.2, f"{ABOUT} item.content", (*VECTORS, "tags.count=400")),
    "signals.missing": Effect(0, 0.2, absent, 0.15, FAULTY),
    "signals.noise": Effect(0, 0.5, wrong, 0.35, FAULTY),
}


@pytest.mark.parametrize("key", EFFECTS)
def test_the_key_moves_its_statistic_and_nothing_else(key):
    EFFECTS[key].check(key)
