"""Users of the simple world: demographics, interests that lean on them, and activity."""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from simulator.world.simple_config import SimpleWorld
from simulator.world.simple_items import Taxonomy
from simulator.world.simple_sampler import GroupSampler

AGE_BANDS = {"13-17": 0.08, "18-24": 0.24, "25-34": 0.28, "35-44": 0.18, "45-59": 0.15, "60+": 0.07}
GENDERS = {"f": 0.49, "m": 0.51}
REGIONS = {"east": 0.25, "south": 0.2, "north": 0.16, "west": 0.14, "centre": 0.1, "coast": 0.08, "hills": 0.07}


class Users(NamedTuple):
    """Users by dense id; interests and activity are hidden from every model."""

    demographics: pl.DataFrame  # age_band, gender, region; U rows
    interests: NDArray[np.int64]  # (U, K) tags
    interest_share: NDArray[np.float64]  # (U, K) of a user's taste, rows sum to 1
    activity: NDArray[np.float64]  # (U,) relative session rate, mean 1


def make_users(config: SimpleWorld, taxonomy: Taxonomy, rng: np.random.Generator) -> Users:
    """Draw users: age, gender and region tilt the odds of categories, interests are tags of the drawn categories."""
    n = config.users
    log_odds = np.log(np.bincount(taxonomy.tag_category, taxonomy.tag_weight, minlength=config.categories))
    scores = np.tile(log_odds, (n, 1))  # (U, C)
    columns = {}
    for name, shares in (("age_band", AGE_BANDS), ("gender", GENDERS), ("region", REGIONS)):
        codes = rng.choice(len(shares), size=n, p=list(shares.values()))
        effect = rng.normal(0.0, config.demographic_effect / np.sqrt(3.0), (len(shares), config.categories))
        scores += effect[codes]
        columns[name] = pl.Series(list(shares)).gather(pl.Series(codes))
    return Users(
        demographics=pl.DataFrame(columns),
        interests=_interests(config, taxonomy, scores, rng),
        interest_share=rng.dirichlet(np.full(config.interests, 1.0 / config.taste_focus), size=n),
        activity=rng.lognormal(-0.5 * config.activity_sd**2, config.activity_sd, n),
    )


def user_frame(users: Users) -> pl.DataFrame:
    """What models may see: the user table of the dataset."""
    return users.demographics.select(pl.int_range(pl.len()).alias("user_id"), pl.all())


def choose_column(shares: NDArray[np.float64], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
    """Column of each row of ``shares`` (B, K), rows summing to 1, drawn with ``uniforms`` (B,)."""
    return np.minimum((shares.cumsum(axis=1) <= uniforms[:, None]).sum(axis=1), shares.shape[1] - 1)


def _interests(
    config: SimpleWorld, taxonomy: Taxonomy, scores: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Tags (U, K): first a category by the softmax of ``scores`` (U, C), then one of its tags by weight."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    by_category = GroupSampler(taxonomy.tag_category, taxonomy.tag_weight)
    columns = []
    for _ in range(config.interests):
        category = choose_column(shares, rng.random(config.users))
        columns.append(by_category.draw(category, rng.random(config.users)))
    return np.stack(columns, axis=1)
