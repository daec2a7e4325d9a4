"""Every key of a population: how users look at a slate, what they click, what satisfies them, when they return.

Whatever the world already says (interests, links, rates of behaviours, visit rates) is not said again here.
Bracketed figures are what the named public log shows, as in :mod:`simulator.world.world_config`.
"""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from micrec.bounds import Length, Seed
from simulator.world.world_config import FrozenConfig, LogSd, OpenShare, Share

Weight = Annotated[float, Field(ge=-20.0, le=20.0)]


class ExaminationConfig(FrozenConfig):
    """Which places of a slate users look at."""

    kind: Literal["position", "cascade", "choice"] = Field(
        "position",
        description="position: users look at each place independently; cascade: from the top until they stop; "
        "choice: they compare the whole slate and choose from it, repeatedly.",
    )
    decay: Annotated[float, Field(ge=0.0, le=3.0)] = Field(
        0.7,
        description="position, choice: place k is looked at with probability (or weight) k^-decay; 0: all alike.",
    )
    after_click: Share = Field(0.7, description="For cascade: probability of going on to the next place after a click.")
    after_skip: Share = Field(
        0.92, description="For cascade: probability of going on to the next place without a click."
    )
    again: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.75, description="For choice: probability of choosing once more from the slate after a click."
    )


class UtilityConfig(FrozenConfig):
    """Which properties of an item lead to clicks; weights add to the log odds of a click or a choice."""

    variant: Literal["balanced", "taste", "popularity", "organic_links"] = Field(
        "balanced",
        description="balanced: the weights below; taste: taste counts half more, popularity a third; popularity: the "
        "other way round; organic_links: users follow links in the history only, not on slates.",
    )
    taste: Weight = Field(2.5, description="Effect of full interest of the user in the item's subcategory.")
    popularity: Weight = Field(
        0.5, description="Effect of one standard deviation of the log of the item's appeal at its age."
    )
    freshness: Weight = Field(
        1.0, description="Effect of a new item on an average user; it halves every items.half_life_h hours."
    )
    similarity: Weight = Field(1.0, description="Effect of being in the hidden group of the visit's latest click.")
    staple: Weight = Field(1.0, description="Effect of being one of the user's staple items.")
    link: Weight = Field(
        5.0,
        description="Effect of being the target of a planted link from the latest click, times the propensity to "
        "follow links, which is links.strength on average.",
    )
    link_fading: Share = Field(0.6, description="Factor on a link's effect with each further click.")
    link_memory_h: PositiveFloat = Field(
        12.0, description="Half-life in hours of the effect of an earlier visit's click."
    )
    clickbait: Weight = Field(
        0.2,
        description="Effect of a clickbait title, beside the appeal that it feigns. With 0.2, clickbait gets a fifth "
        "of the clicks where one item in twenty is clickbait; with 0.7 it got a third, and worse lists satisfied more.",
    )
    clicked: Weight = Field(-2.0, description="Effect of having clicked the same item earlier in this visit.")
    satiation: Weight = Field(-0.25, description="Effect of each recent click of this visit in the item's subcategory.")
    click_propensity_sd: LogSd = Field(
        1.0,
        description="Standard deviation over users of their click propensity, which is added to the utility of every "
        "item; click_rate stays as it is. 0: all users alike [on KuaiRand's main feed the true click rate per look has "
        "a standard deviation of .186 over users].",
    )
    weariness: Weight = Field(
        -0.01, description="Effect of each item that the user has looked at and not yet rested from."
    )


class SatisfactionConfig(FrozenConfig):
    """What satisfies users. The value of a slate is the sum over its clicks of 1 and these effects; satisfaction is the
    value minus that of a reference slate, in standard deviations of it."""

    quality: NonNegativeFloat = Field(0.5, description="Effect of one standard deviation of the item's quality.")
    dwell: NonNegativeFloat = Field(0.2, description="Effect of one standard deviation of the logarithm of dwell time.")
    like: NonNegativeFloat = Field(1.0, description="Effect of a like.")
    clickbait: NonNegativeFloat = Field(1.0, description="Loss for a clickbait title.")
    outage: NonNegativeFloat = Field(
        3.0,
        description="Standard deviations of satisfaction lost when no slate arrives, about as much as three slates "
        "without a click lose [a choice; four days without any answer then cost a fifth of the visits].",
    )
    visit_weight: Share = Field(0.3, description="Weight of the latest visit in a user's satisfaction.")


class LifecycleConfig(FrozenConfig):
    """When users leave a visit, come back, or stay away for good."""

    requests: Annotated[float, Field(gt=1.0, le=100.0)] = Field(
        3.0,
        description="Mean requests in a visit, at satisfaction 0 and without fatigue [5 clicks a visit, 1.8 a slate].",
    )
    stay_satisfaction: NonNegativeFloat = Field(
        0.3,
        description="Effect of one standard deviation of the visit's satisfaction on the log odds of one more request.",
    )
    stay_fatigue: NonNegativeFloat = Field(
        0.01, description="Decrease of the log odds of one more request per item that the user has looked at."
    )
    rest_h: PositiveFloat = Field(12.0, description="Half-life of fatigue in hours.")
    return_satisfaction: NonNegativeFloat = Field(
        0.6,
        description="Effect of one standard deviation of satisfaction on the logarithm of the visit rate; habit delays "
        "it. The standard deviation is that of single slates: halving the clicks of all slates costs about 0.2 of it "
        "in four days, and 5 % of the visits [the size is a choice; the directions are tested].",
    )
    habit: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.4,
        description="Share of the visits that earlier visits cause; the mean rate stays as it is. 0: visits are "
        "independent [share of users who return after 1 and 7 days: .29 and .22, KuaiRand; .12 and .09, Deskdrop].",
    )
    habit_days: PositiveFloat = Field(
        1.0, description="Half-life in days of an earlier visit's effect on later visits."
    )
    churn_satisfaction: NonNegativeFloat = Field(
        0.7,
        description="Decrease of the logarithm of the rate users.churn_per_day per standard deviation of satisfaction.",
    )
    retry: Share = Field(0.5, description="Probability that a user asks again when no slate arrives.")
    retry_s: PositiveFloat = Field(5.0, description="Mean seconds until the user asks again.")
    wait_s: PositiveFloat = Field(8.0, description="Median seconds that a user waits for a slate before giving up.")


class PopulationConfig(FrozenConfig):
    """How users respond to a platform."""

    seed: Seed = Field(0, description="Seed of visits and responses; the world and its users keep theirs.")
    click_rate: OpenShare = Field(
        0.18,
        description="Clicks per impression on reference slates, half of the user's interests, half by appeal "
        "[.442 per exposure on KuaiRand's feed, where each is looked at; 0.4 of ten places are].",
    )
    slate_size: Length = Field(10, description="Number of items in a reference slate.")
    examination: ExaminationConfig = Field(
        default_factory=ExaminationConfig, description="Which places of a slate users look at."
    )
    utility: UtilityConfig = Field(default_factory=UtilityConfig, description="What makes users click.")
    satisfaction: SatisfactionConfig = Field(default_factory=SatisfactionConfig, description="What satisfies users.")
    lifecycle: LifecycleConfig = Field(default_factory=LifecycleConfig, description="When users leave and return.")
