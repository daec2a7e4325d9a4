"""Every key of the simple world, with its default; rates come from measured public logs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from micrec.settings import load_yaml, merge, validate

Share = Annotated[float, Field(ge=0.0, le=1.0)]
ShareBelowOne = Annotated[float, Field(ge=0.0, lt=1.0)]
AtLeastOne = Annotated[float, Field(ge=1.0, le=100.0)]
LogSd = Annotated[float, Field(ge=0.0, le=5.0)]


class SimpleWorld(BaseModel):
    """A small world of items, users and organic sessions, with planted links between items.

    Bracketed figures are what the named public log shows: KuaiRand-Pure (Gao et al., CIKM 2022; per click),
    Globo.com news (Moreira et al., 2018), EB-NeRD (Kruse et al., 2024).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: NonNegativeInt = Field(0, description="Seeds every draw; the same keys and seed give the same bytes.")

    users: PositiveInt = Field(3000, description="Users, those who never click included.")
    items: PositiveInt = Field(1500, description="Items of the catalogue.")
    days: Annotated[int, Field(ge=1, le=3650)] = Field(14, description="Days the click log covers.")

    categories: Annotated[int, Field(ge=2)] = Field(10, description="Top-level categories.")
    subcategories: PositiveInt = Field(3, description="Subcategories in each category.")
    tags: Annotated[int, Field(ge=1, le=20_000)] = Field(
        80, description="Tags, at least one per subcategory; each belongs to one.", validate_default=True
    )
    tags_per_item: AtLeastOne = Field(3.0, description="Mean tags drawn for an item; a tag drawn twice counts once.")
    providers: PositiveInt = Field(150, description="Providers; each publishes in one category.")
    popularity_exponent: Annotated[float, Field(ge=0.0, le=5.0)] = Field(
        1.1, description="Zipf exponent of item appeal: 0 = all alike, larger = fewer items take more of the clicks."
    )
    new_items: ShareBelowOne = Field(0.1, description="Share of items published during the log, not before it.")

    group_size: PositiveInt = Field(
        10, description="Most items in a link group, a hidden random part of one subcategory."
    )
    link_density: Share = Field(0.5, description="Share of groups that link to a group of another category.")
    link_strength: Share = Field(
        0.5, description="Chance that a click on an item with a link is followed by one on its target group; 0 = off."
    )

    interests: Annotated[int, Field(ge=1, le=100)] = Field(
        4, description="Interests drawn per user, each a tag; a tag may be drawn twice."
    )
    taste_focus: Annotated[float, Field(gt=0.0, le=100.0)] = Field(
        1.0, description="Unevenness of a user's interests (Dirichlet with parameter 1 / taste_focus)."
    )
    session_focus: Share = Field(0.5, description="Chance that a taste click stays with the interest of its session.")
    demographic_effect: LogSd = Field(
        1.0, description="Standard deviation of what age, gender and region add to the log odds of a category."
    )
    popularity_share: Share = Field(
        0.1, description="Share of clicks that follow no link which go to popular items of any kind, not to taste."
    )
    novelty: Share = Field(
        0.03,
        description="Share of clicks that follow no link which go to items published in the last two days.",
        validate_default=True,
    )

    sessions_per_user: Annotated[float, Field(gt=0.0, le=1000.0)] = Field(
        13.0, description="Mean session arrivals per user over the log; at most one session starts in two hours."
    )
    activity_sd: LogSd = Field(
        1.1, description="Log standard deviation of user activity [coefficient of variation 1.5-1.9, KuaiRand, Globo]."
    )
    clicks_per_session: AtLeastOne = Field(
        3.5, description="Mean clicks of a session, a little fewer where a user has seen most of what is on offer."
    )

    dwell_log_mean: Annotated[float, Field(ge=0.0, le=10.0)] = Field(
        3.3, description="Mean of log dwell in seconds [3.30, KuaiRand; 2.88, EB-NeRD]."
    )
    dwell_log_sd: LogSd = Field(1.07, description="Standard deviation of log dwell [1.07; 1.37].")
    quality_effect: Share = Field(
        0.3, description="Correlation of log dwell with the hidden quality of the item; likes follow dwell."
    )
    like_rate: ShareBelowOne = Field(0.032, description="Likes per click [.032, KuaiRand].")
    follow_rate: ShareBelowOne = Field(0.0026, description="Follows of the provider per click [.0026, KuaiRand].")

    @field_validator("tags")
    @classmethod
    def _each_subcategory_has_a_tag(cls, tags: int, info: ValidationInfo) -> int:
        subcategories = info.data.get("categories", 0) * info.data.get("subcategories", 0)
        if tags < subcategories:
            raise ValueError(f"must be >= categories x subcategories = {subcategories}, so that each has a tag")
        return tags

    @field_validator("novelty")
    @classmethod
    def _shares_fit_in_one(cls, novelty: float, info: ValidationInfo) -> float:
        popularity_share = info.data.get("popularity_share", 0.0)
        if popularity_share + novelty > 1.0:
            raise ValueError(f"must be <= 1 - popularity_share = {1.0 - popularity_share:g}: taste has the rest")
        return novelty


def load_simple_world(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> SimpleWorld:
    """The world of a YAML file, or of the defaults, with ``overrides`` laid over its keys.

    Raises:
        MicrecError: If the file cannot be read or any key is wrong; all faults at once.
    """
    values = merge({} if path is None else load_yaml(path), overrides or {})
    return validate(SimpleWorld, values, where=str(path or "simple world"))
