"""Every key of a population: how users look at a slate, what draws them, what pleases them, when they come back.

Whatever the world already says (interests, links, rates of behaviours, visit rates) is not said again here.
Bracketed figures are what the named public log shows, as in :mod:`simulator.world.world_config`.
"""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from micrec.bounds import Length, Seed
from simulator.world.world_config import FrozenConfig, LogSd, OpenShare, Share

Weight = Annotated[float, Field(ge=-20.0, le=20.0)]


class ExaminationConfig(FrozenConfig):
    """How a slate is looked at."""

    kind: Literal["position", "cascade", "choice"] = Field(
        "position",
        description="position: each place is looked at by itself; cascade: from the top until the user stops; "
        "choice: the whole slate is weighed and the best of it taken, again and again.",
    )
    decay: Annotated[float, Field(ge=0.0, le=3.0)] = Field(
        0.7, description="position, choice: place k is looked at with chance (weighs) k^-decay; 0 = all places alike."
    )
    after_click: Share = Field(0.7, description="cascade: chance of going on to the next place after a click.")
    after_skip: Share = Field(0.92, description="cascade: chance of going on to the next place without a click.")
    again: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.75, description="choice: chance of choosing once more from the slate after a click."
    )


class UtilityConfig(FrozenConfig):
    """What an item must have to be clicked; weights add to the log odds of a click (the log weight of a choice)."""

    variant: Literal["balanced", "taste", "popularity", "organic_links"] = Field(
        "balanced",
        description="balanced: the weights below; taste: taste counts half more, popularity a third; popularity: the "
        "other way round; organic_links: users follow links in the history only, not on slates.",
    )
    taste: Weight = Field(2.5, description="Full interest of the user in the item's subcategory at the time.")
    popularity: Weight = Field(0.5, description="One sd of the log of the item's appeal, faded by its age.")
    freshness: Weight = Field(1.0, description="A new item, for a user of mean leaning; halves with items.half_life_h.")
    similarity: Weight = Field(1.0, description="Item of the hidden group of the latest click of the visit.")
    staple: Weight = Field(1.0, description="Item that is one of the user's staples.")
    link: Weight = Field(
        5.0,
        description="Target of a planted link from the latest click, times the user's readiness to follow links, "
        "links.strength on average.",
    )
    link_fading: Share = Field(0.6, description="What is left of a link's pull after each further click.")
    link_memory_h: PositiveFloat = Field(12.0, description="Hours in which the pull of a former visit's click halves.")
    clickbait: Weight = Field(
        0.2,
        description="Title that lies, beside the appeal that it borrows. A click model gives a fifth of the clicks to "
        "such items where one in twenty is one; at 0.7 it was a third, and worse lists pleased.",
    )
    clicked: Weight = Field(-2.0, description="Item that was clicked lately in this visit.")
    satiation: Weight = Field(-0.25, description="Each of the visit's latest clicks in the item's subcategory.")
    click_propensity_sd: LogSd = Field(
        1.0,
        description="Sd over users of their readiness to click, which adds to every item, click_rate kept; 0 = off "
        "[true clicks per look vary over users with sd .186 on KuaiRand's main feed, noise removed].",
    )
    weariness: Weight = Field(-0.01, description="Each item looked at, in this visit or not yet rested from.")


class SatisfactionConfig(FrozenConfig):
    """What pleases. The worth of a slate is the sum over its clicks of 1 and these; satisfaction is the worth above
    that of a reference slate, in standard deviations of it."""

    quality: NonNegativeFloat = Field(0.5, description="One sd of the item's quality.")
    dwell: NonNegativeFloat = Field(0.2, description="One sd of log dwell.")
    like: NonNegativeFloat = Field(1.0, description="A like.")
    clickbait: NonNegativeFloat = Field(1.0, description="Taken off for a title that lied.")
    outage: NonNegativeFloat = Field(
        3.0,
        description="Sd of satisfaction lost when no slate comes: some three slates on which nothing is clicked [a "
        "choice; four days without any answer then cost a fifth of the visits].",
    )
    visit_weight: Share = Field(0.3, description="Weight of the latest visit in a user's satisfaction.")


class LifecycleConfig(FrozenConfig):
    """When users leave a visit, come back, or stay away for good."""

    requests: Annotated[float, Field(gt=1.0, le=100.0)] = Field(
        3.0,
        description="Mean requests of a visit, at satisfaction 0 and without fatigue [5 clicks a visit, 1.8 a slate].",
    )
    stay_satisfaction: NonNegativeFloat = Field(
        0.3, description="What one sd of satisfaction in the visit adds to the log odds of one more request."
    )
    stay_fatigue: NonNegativeFloat = Field(
        0.01, description="What each item looked at takes off the log odds of one more request."
    )
    rest_h: PositiveFloat = Field(12.0, description="Hours in which fatigue halves.")
    return_satisfaction: NonNegativeFloat = Field(
        0.6,
        description="What one sd of satisfaction adds to the log of the visit rate; habit lets it take its time. The "
        "sd is that of single slates: halving the clicks of all slates costs some 0.2 of it in four days, and 5 % of "
        "the visits [a choice of size; the directions are tested].",
    )
    habit: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.4,
        description="Share of the visits that former visits bring about, mean rate kept; 0 = visits know nothing of "
        "each other [users are back after 1 and 7 days: .29 and .22, KuaiRand; .12 and .09, Deskdrop].",
    )
    habit_days: PositiveFloat = Field(1.0, description="Days in which the pull of a former visit halves.")
    churn_satisfaction: NonNegativeFloat = Field(
        0.7, description="What one sd of satisfaction takes off the log of the rate of users.churn_per_day."
    )
    retry: Share = Field(0.5, description="Chance of asking again when no slate comes.")
    retry_s: PositiveFloat = Field(5.0, description="Mean seconds until then.")
    wait_s: PositiveFloat = Field(8.0, description="Median seconds that a user waits for a slate before giving up.")


class PopulationConfig(FrozenConfig):
    """How users respond to a platform."""

    seed: Seed = Field(0, description="Seed of visits and responses; the world and its users keep theirs.")
    click_rate: OpenShare = Field(
        0.18,
        description="Clicks per impression on reference slates, half of the user's interests, half by appeal "
        "[.442 per exposure on KuaiRand's feed, where each is looked at; 0.4 of ten places are].",
    )
    slate_size: Length = Field(10, description="Items of a reference slate.")
    examination: ExaminationConfig = Field(default_factory=ExaminationConfig, description="How a slate is looked at.")
    utility: UtilityConfig = Field(default_factory=UtilityConfig, description="What draws clicks.")
    satisfaction: SatisfactionConfig = Field(default_factory=SatisfactionConfig, description="What pleases.")
    lifecycle: LifecycleConfig = Field(default_factory=LifecycleConfig, description="When users leave and return.")
