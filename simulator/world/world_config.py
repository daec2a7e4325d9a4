"""Every key of a world file, with its default, its meaning and the measured rate it comes from.

Bracketed figures are what the named public log shows: KuaiRand-Pure (Gao et al., CIKM 2022; per click), EB-NeRD (Kruse
et al., 2024), Globo.com news (Moreira et al., 2018), Online Retail (Chen, 2015).
"""

import datetime
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    field_validator,
    model_validator,
)

from micrec.bounds import MOST_ROWS, Length, Rows, Seed

Share = Annotated[float, Field(ge=0.0, le=1.0)]
OpenShare = Annotated[float, Field(gt=0.0, lt=1.0)]
Correlation = Annotated[float, Field(ge=-1.0, le=1.0)]
LogSd = Annotated[float, Field(ge=0.0, le=3.0)]
Exponent = Annotated[float, Field(ge=0.0, le=3.0)]
ENGLISH_CATEGORIES, ENGLISH_SUBCATEGORIES, ENGLISH_TOPICS = 30, 10, 5
"""What the vocabulary of English titles holds: categories, subcategories of each, topics of each."""
FieldName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]

MOST_TOPICS = 200_000  # of a world: each takes some kilobytes for the hours of the log

# Globo.com: night low to peak 1:13. No visit starts in the hour before four: a visit lasts an hour at most, and the
# world's day runs from four to four.
HOURLY = (
    *(5.5, 3.2, 1.6, 0.0, 0.8, 1.2),
    *(2.6, 4.6, 6.2, 6.8, 7.0, 7.4),
    *(8.2, 7.6, 6.8, 6.6, 6.8, 7.4),
    *(8.2, 9.2, 10.4, 10.2, 8.6, 6.8),
)


class FrozenConfig(BaseModel):
    """Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _check_total(names: str, shares: Iterable[float]) -> None:
    """Refuse shares that do not sum to 1."""
    total = sum(shares)
    if abs(total - 1.0) > 1e-6:
        raise ValueError(f"{names} must sum to 1, got {total:g}")


class UserField(FrozenConfig):
    """One field of the user table."""

    values: Annotated[int, Field(ge=1, le=100_000)] = Field(description="Distinct values.")
    exponent: Exponent = Field(0.5, description="Zipf exponent of how users spread over the values; 0 = evenly.")
    effect: LogSd = Field(0.5, description="Sd of what a value adds to the log odds of each category of interest.")


class ItemField(FrozenConfig):
    """One further field of the item table, beside category, tags and provider."""

    values: Annotated[int, Field(ge=1, le=100_000)] = Field(description="Distinct values.")
    tied: Share = Field(0.5, description="Share of items whose value is the one of their subcategory; the rest: any.")
    topic: Share = Field(0.0, description="Share of items whose value is the one of their topic, tied or not.")


class UserConfig(FrozenConfig):
    """Who comes."""

    count: Rows = Field(3_000, description="Users seen within the window, each in at least one session.")
    new_share: Share = Field(0.25, description="Share of them who first appear during the window, evenly over it.")
    activity_sd: LogSd = Field(
        1.0, description="Log sd of the users' visit rates [CV of clicks 1.5-1.9, KuaiRand, Globo]."
    )
    churn_per_day: Share = Field(0.01, description="Chance a day that a user leaves for good after the first visit.")
    fields: dict[FieldName, UserField] = Field(
        default_factory=lambda: {
            "age_band": UserField(values=7),
            "gender": UserField(values=2, exponent=0.1),
            "region": UserField(values=30, exponent=0.8, effect=0.3),
            "device": UserField(values=5, exponent=1.0, effect=0.2),
        },
        description="Fields of the user table; each shifts what its users like.",
    )


class DepthConfig(FrozenConfig):
    """How narrow the items of a taste click are; the four shares sum to 1."""

    category: Share = Field(0.0, description="Share of taste clicks on any item of the interest's category.")
    subcategory: Share = Field(1.0, description="Share on any item of its subcategory.")
    topic: Share = Field(0.0, description="Share on an item of the user's own topic within it (items.topics).")
    item: Share = Field(0.0, description="Share on the user's own few items of that topic (taste.favourites).")

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        _check_total("category, subcategory, topic and item", (self.category, self.subcategory, self.topic, self.item))
        return self


class TasteConfig(FrozenConfig):
    """What users like."""

    interests: Annotated[int, Field(ge=1, le=16)] = Field(4, description="Interests per user, each a subcategory.")
    focus: NonNegativeFloat = Field(0.7, description="Interest k has weight exp(-focus * k): 0 = all alike.")
    drift_days: NonNegativeFloat = Field(60.0, description="Days after which an interest is replaced; 0 = never.")
    category_exponent: Exponent = Field(0.6, description="Zipf exponent of how interests spread over categories.")
    depth: DepthConfig = Field(default_factory=DepthConfig, description="At which granularity interests are acted out.")
    favourites: Annotated[int, Field(ge=1, le=1000)] = Field(4, description="Own items of each interest (depth.item).")


class SignalsConfig(FrozenConfig):
    """What tells the hidden topics: 0 = nothing beyond the subcategory, 1 = all; and how clean the item table is."""

    titles: Share = Field(0.0, description="Share of the telling words of titles that are words of the topic.")
    tags: Share = Field(0.0, description="Share of tags, strays aside, that are tags of the item's topic.")
    provider: Share = Field(0.0, description="Share of items whose provider is at home in their topic.")
    content: Share = Field(0.0, description="Share of the content vectors' signal (its variance) that is of the topic.")
    sessions: Share = Field(
        0.0, description="Chance that a taste click stays in the topic that the session opened with."
    )
    groups: Share = Field(
        1.0,
        description="Share of items whose first tag is one of their hidden group, which links and similar clicks "
        "follow, and of the group's part in content vectors (its variance). 0: tags, titles and content tell nothing "
        "of groups beyond the subcategory, near-duplicates aside.",
    )
    missing: Share = Field(
        0.0, description="Share of values of subcategory, tags, provider, title and further fields that are absent."
    )
    noise: Share = Field(0.0, description="Share of the same values, if present, that are those of another item.")


class VisitsConfig(FrozenConfig):
    """When users come and how much they click."""

    per_user: Annotated[float, Field(gt=1.0)] = Field(3.0, description="Mean sessions per user within the window.")
    clicks: Annotated[float, Field(gt=1.0, le=100.0)] = Field(5.0, description="Mean clicks per session.")
    patience_sd: LogSd = Field(0.3, description="Log sd of the users' mean session lengths.")
    focus: Share = Field(0.6, description="Chance that a taste click follows the interest the session opened with.")
    browse_s: NonNegativeFloat = Field(8.0, description="Mean seconds between leaving one item and clicking the next.")
    hourly: tuple[NonNegativeFloat, ...] = Field(
        HOURLY, description="Relative visit rate by hour of the day, 24 numbers; that of hour 3 must be 0."
    )
    weekly: tuple[NonNegativeFloat, ...] = Field(
        (1.0, 0.98, 1.0, 1.02, 1.05, 1.15, 1.1),
        description="Relative visit rate by day of the week from Monday, 7 numbers.",
    )

    @field_validator("hourly")
    @classmethod
    def _check_hourly(cls, hourly: tuple[float, ...]) -> tuple[float, ...]:
        if len(hourly) != 24 or sum(hourly) <= 0:
            raise ValueError(f"must be 24 rates, not all 0, got {len(hourly)}")
        if hourly[3] != 0:
            raise ValueError(f"the rate of hour 3 must be 0, as the world's day starts at four, got {hourly[3]:g}")
        return hourly

    @field_validator("weekly")
    @classmethod
    def _check_weekly(cls, weekly: tuple[float, ...]) -> tuple[float, ...]:
        if len(weekly) != 7 or min(weekly) <= 0:
            raise ValueError(f"must be 7 rates above 0, got {len(weekly)}, the least {min(weekly, default=0):g}")
        return weekly


class ChoiceConfig(FrozenConfig):
    """Where the next click comes from where no link is followed; the five shares sum to 1."""

    taste: Share = Field(0.55, description="Share from the user's interests.")
    popular: Share = Field(0.15, description="Share from the whole catalogue by appeal.")
    fresh: Share = Field(0.10, description="Share from the newest items.")
    similar: Share = Field(0.15, description="Share from the hidden group of the item just clicked.")
    repeat: Share = Field(0.05, description="Share from the user's staples, clicked again and again.")
    once: Literal["none", "session", "log"] = Field(
        "none",
        description="Within what a user clicks an item once at most: a session, as a basket holds an article once, or "
        "the log, as people rate a film once; none = repeats are possible, if avoided within a session.",
    )
    staples: Length = Field(8, description="Staple items per user.")
    novelty_sd: LogSd = Field(0.5, description="Log sd of the users' leaning to fresh items, mean kept.")

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        shares = (self.taste, self.popular, self.fresh, self.similar, self.repeat)
        _check_total("taste, popular, fresh, similar and repeat", shares)
        if self.once == "log" and self.repeat > 0.0:
            raise ValueError(
                f"once: log leaves no click for repeat, which is {self.repeat:g}: set repeat to 0 and another share "
                "higher"
            )
        return self


class LinkConfig(FrozenConfig):
    """Planted links between hidden item groups of different categories: after diapers, beer."""

    density: Share = Field(0.3, description="Share of the groups that have links.")
    targets: Length = Field(1, description="Groups that each of them links to.")
    mutual: Share = Field(0.0, description="Share of the links that run back as well.")
    strength: Share = Field(
        0.3, description="Chance that the click after one on a linked item follows its link; 0 = off."
    )
    susceptibility_sd: LogSd = Field(0.5, description="Log sd of the users' readiness to follow links, mean kept.")


class SeasonsConfig(FrozenConfig):
    """Appeal that comes and goes again and again."""

    share: Share = Field(0.0, description="Share of the items whose appeal comes in seasons; 0 = none.")
    days: PositiveFloat = Field(90.0, description="Days that an item's season lasts.")
    every_days: PositiveFloat = Field(365.0, description="Days after which it begins again; each item has its own.")
    off_season: Annotated[float, Field(ge=0.02, le=1.0)] = Field(
        0.1, description="Appeal of an item out of season, as a share of that in season."
    )

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.share > 0.0 and self.days > self.every_days:
            raise ValueError(f"days must be at most every_days, got {self.days:g} and {self.every_days:g}")
        return self


class ItemConfig(FrozenConfig):
    """What there is."""

    count: Rows = Field(1_500, description="Items published by the end of the window.")
    clicks_per_item: PositiveFloat | None = Field(
        None,
        description="Mean clicks an item gets within the window; sets count to users.count * sessions.per_user * "
        "sessions.clicks / clicks_per_item, at any scale. null = count as given.",
    )
    new_share: Share = Field(0.15, description="Share of them published during the window, evenly over it.")
    evergreen_share: Share = Field(0.8, description="Share of the items whose appeal does not fade.")
    half_life_h: PositiveFloat = Field(
        23.0, description="Hours in which the appeal of the others halves [half of an article's clicks in 23 h, Globo]."
    )
    categories: Annotated[int, Field(ge=1, le=1000)] = Field(20, description="Top-level categories.")
    subcategories: Annotated[int, Field(ge=1, le=1000)] = Field(3, description="Subcategories of each.")
    groups: Annotated[int, Field(ge=1, le=1000)] = Field(4, description="Hidden groups of items in each subcategory.")
    topics: Annotated[int, Field(ge=1, le=1000)] = Field(
        1, description="Hidden topics of items in each subcategory, independent of its groups; 1 = none."
    )
    providers: Rows = Field(150, description="Providers, each at home in one category.")
    popularity_exponent: Annotated[float, Field(ge=0.0, le=2.0)] = Field(
        0.8, description="Zipf exponent of item appeal: 0 = all alike, larger = fewer items take more clicks."
    )
    rare_share: Share = Field(0.0, description="Share of items that are hardly shown: a fiftieth of their appeal.")
    seasons: SeasonsConfig = Field(
        default_factory=SeasonsConfig, description="Appeal that comes and goes, beside fading from publication."
    )
    quality_appeal: Correlation = Field(0.3, description="Correlation of an item's quality with its appeal.")
    clickbait_share: Share = Field(
        0.05, description="Share of items with high appeal, low quality and a title that lies."
    )
    near_duplicate_share: Share = Field(
        0.05, description="Share of items that copy the title of another, but for a word."
    )
    fields: dict[FieldName, ItemField] = Field(default_factory=dict, description="Further fields of the item table.")


class TagConfig(FrozenConfig):
    """How items are tagged."""

    count: Rows = Field(300, description="Size of the tag vocabulary.")
    per_item: Annotated[float, Field(ge=1.0, le=20.0)] = Field(3.0, description="Mean tags per item, at least 1 each.")
    exponent: Exponent = Field(0.8, description="Zipf exponent of how tags are used.")
    stray: Share = Field(0.15, description="Share of an item's further tags that come from anywhere.")


class TitleConfig(FrozenConfig):
    """How titles are worded."""

    language: Literal["pseudo", "english"] = Field(
        "pseudo",
        description="pseudo: made-up words, for any number of topics; english: titles that a person and a pretrained "
        "encoder understand, for up to 30 categories of 10 subcategories of 5 topics.",
    )
    style: Literal["video", "news", "shop"] = Field("video", description="Shape of English titles.")
    words: Annotated[float, Field(ge=2.0, le=30.0)] = Field(7.0, description="Mean words of a title.")
    filler: Share = Field(0.4, description="Share of the words that say nothing of the item.")


class ContentConfig(FrozenConfig):
    """Content embeddings of items, for the content variant of the semantic loss."""

    dim: Annotated[int, Field(ge=0, le=1024)] = Field(0, description="Width of the embedding; 0 = no embeddings.")
    noise: NonNegativeFloat = Field(0.7, description="Noise per unit of signal.")


class BehaviourConfig(FrozenConfig):
    """What follows a click."""

    dwell_log_mean: float = Field(3.3, description="Mean of log dwell in seconds [3.30, KuaiRand; 2.88, EB-NeRD].")
    dwell_log_sd: LogSd = Field(1.07, description="Sd of log dwell [1.07, KuaiRand; 1.37, EB-NeRD].")
    dwell_user: Correlation = Field(0.3, description="Correlation of log dwell with the user's own habit.")
    dwell_quality: Correlation = Field(0.3, description="Correlation of log dwell with the hidden quality of the item.")
    like_rate: OpenShare = Field(0.032, description="Likes per click [.032, KuaiRand].")
    like_user: Correlation = Field(0.6, description="Weight of the user's habit in liking [CV of likes 5.7, KuaiRand].")
    like_quality: Correlation = Field(0.2, description="Weight of the item's quality in liking.")
    like_dwell: Correlation = Field(
        0.15, description="Weight of dwell in liking [.022-.083 over watch ratios, KuaiRand]."
    )
    follow_rate: OpenShare = Field(0.0026, description="Follows of the provider per click [.0026, KuaiRand].")
    follow_given_like: OpenShare = Field(0.035, description="Follows per liked click [.035, KuaiRand].")

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        spent = self.dwell_user**2 + self.dwell_quality**2
        if spent > 1.0:
            raise ValueError(f"dwell_user² + dwell_quality² must be at most 1, got {spent:g}")
        quality = self.like_quality + self.like_dwell * self.dwell_quality
        liked = self.like_user**2 + quality**2 + self.like_dwell**2 * (1.0 - self.dwell_quality**2)
        if liked > 1.0:
            raise ValueError(
                f"like_user, like_quality and like_dwell explain {liked:g} of the variance, at most 1 is there"
            )
        return self


class WorldConfig(FrozenConfig):
    """A world: its items, its users, what they click, and the truth behind it."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")] = Field("world", description="Name of the dataset.")
    seed: Seed = Field(0, description="Seed of every draw; same keys and seed, same bytes.")
    start: datetime.date = Field(datetime.date(2024, 1, 1), description="First day of the log.")
    days: Annotated[int, Field(ge=1, le=3650)] = Field(14, description="Days the log covers.")
    window_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        14, description="Days that users.count, items.count and sessions.per_user speak of; more days only add to them."
    )
    users: UserConfig = Field(default_factory=UserConfig, description="Who comes.")
    taste: TasteConfig = Field(default_factory=TasteConfig, description="What users like.")
    sessions: VisitsConfig = Field(default_factory=VisitsConfig, description="When users come, how much they click.")
    choice: ChoiceConfig = Field(default_factory=ChoiceConfig, description="Where the next click comes from.")
    links: LinkConfig = Field(default_factory=LinkConfig, description="Planted links.")
    signals: SignalsConfig = Field(
        default_factory=SignalsConfig, description="What tells topics; absent, wrong values."
    )
    items: ItemConfig = Field(default_factory=ItemConfig, description="What there is.")
    tags: TagConfig = Field(default_factory=TagConfig, description="How items are tagged.")
    titles: TitleConfig = Field(default_factory=TitleConfig, description="How titles are worded.")
    content: ContentConfig = Field(default_factory=ContentConfig, description="Content embeddings.")
    behaviour: BehaviourConfig = Field(default_factory=BehaviourConfig, description="What follows a click.")

    @model_validator(mode="after")
    def _count_items(self) -> Self:
        wanted = self.items.clicks_per_item
        if wanted is not None:
            count = round(self.users.count * self.sessions.per_user * self.sessions.clicks / wanted)
            if not 1 <= count <= MOST_ROWS:
                raise ValueError(
                    f"items.clicks_per_item: {wanted:g} makes {count:,} items of {self.users.count:,} users with "
                    f"{self.sessions.per_user * self.sessions.clicks:g} clicks each, 1 to {MOST_ROWS:,} are allowed"
                )
            object.__setattr__(self, "items", self.items.model_copy(update={"count": count}))
        return self

    @model_validator(mode="after")
    def _check_topics(self) -> Self:
        total = self.items.categories * self.items.subcategories * self.items.topics
        if self.items.topics > 1 and total > MOST_TOPICS:
            raise ValueError(
                f"items.topics: {self.items.topics:,} in each of {total // self.items.topics:,} subcategories makes "
                f"{total:,} topics, at most {MOST_TOPICS:,} are allowed: lower one of the two"
            )
        return self

    @model_validator(mode="after")
    def _check_links(self) -> Self:
        others = (self.items.categories - 1) * self.items.subcategories * self.items.groups
        if self.links.density > 0 and self.links.targets > others:
            raise ValueError(
                f"links.targets is {self.links.targets}, but only {others} groups lie in other categories: "
                "raise items.categories, subcategories or groups, or set links.density to 0"
            )
        return self

    @model_validator(mode="after")
    def _check_vocabulary(self) -> Self:
        limits = {"categories": ENGLISH_CATEGORIES, "subcategories": ENGLISH_SUBCATEGORIES, "topics": ENGLISH_TOPICS}
        above = [
            f"items.{name} is {getattr(self.items, name)}, at most {most} have words"
            for name, most in limits.items()
            if getattr(self.items, name) > most
        ]
        if self.titles.language == "english" and above:
            raise ValueError(
                f"titles.language: english: {'; '.join(above)}: lower it, or set titles.language to pseudo"
            )
        return self

    def scaled_keys(self, scale: float) -> dict[str, Any]:
        """The keys of the same world with ``scale`` times the users, items, tags and providers, at least 1 of each.

        Subcategories per category and topics per subcategory shrink with the cube root of a scale below 1, so that each
        still holds items. Clicks per item stay as they are, whether ``items.clicks_per_item`` is set or follows.
        """
        thinner = min(scale, 1.0) ** (1 / 3)

        def times(count: int) -> int:
            return max(1, round(count * scale))

        keys = self.model_dump(mode="json")
        keys["users"]["count"] = times(self.users.count)
        keys["tags"]["count"] = times(self.tags.count)
        keys["items"]["count"] = times(self.items.count)
        keys["items"]["providers"] = times(self.items.providers)
        keys["items"]["subcategories"] = max(1, round(self.items.subcategories * thinner))
        keys["items"]["topics"] = max(1, round(self.items.topics * thinner))
        return keys


def with_signals(config: WorldConfig, **signals: float) -> WorldConfig:
    """The same world with some of its signals set to other values."""
    return config.model_copy(update={"signals": config.signals.model_copy(update=signals)})
