"""On the log of a platform that shows what it likes, the trained model must earn more true clicks than popular items.

Clicks are mostly of items that were shown often, and raw click rates are those of chosen places and audiences. A model
that takes either for the worth of an item, or does not see what a user likes, falls back to the list of popular items.
True chances are the population's own, so that no noise of clicks is in the comparison.
"""

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from micrec.settings import validate
from simulator.channels import CHANNELS, channel_trainer
from simulator.platform.archive import Archive, observed
from simulator.platform.engine import Engine, popular_items
from simulator.platform.model_registry import TrainerFactories
from simulator.platform.platform_config import PlatformConfig
from simulator.platform.platform_inputs import PlatformInputs
from simulator.population.population import Population
from simulator.population.population_config import PopulationConfig
from simulator.ranking import CtrTrainer, requests_at
from simulator.world.world import World
from simulator.world.world_config import WorldConfig

FIRST, DAYS, SLATE, POOL = 6, 3, 10, 300
SEEN = np.arange(1, SLATE + 1) ** -0.7  # chance that a place is looked at


def world_of(seed):
    keys = {
        "seed": seed,
        "days": FIRST + DAYS + 1,
        "window_days": FIRST + DAYS + 1,
        "users": {"count": 500},
        "items": {"count": 600, "categories": 10, "groups": 3, "providers": 60},
        "tags": {"count": 100},
        "sessions": {"per_user": 8.0},
    }
    return World.build(WorldConfig.model_validate(keys))


def platform_of():
    kinds = {"popular": 60, "item_cf": 60, "fresh": 40, "tag": 60}
    channels = {kind: {"kind": kind, "k": 100, "quota": quota} for kind, quota in kinds.items()}
    keys = {"warmup_days": 0, "pipeline": {"channels": channels}}
    makers = {kind: lambda options, kind=kind: channel_trainer(kind, options, where=kind) for kind in CHANNELS}
    return validate(PlatformConfig, keys, where="test"), TrainerFactories(makers, {"ctr": lambda options: CtrTrainer()})


def true_log_odds(population, visits, items, now_s):
    """Of items (B, C) for the users of visits (B,), once looked at, shape (B, C)."""
    visiting = population._under_way()
    visiting.take_up(visits)
    appraisal = population._attraction(np.ascontiguousarray(items.T), visiting.situation(visits, now_s))
    link = 0.0 if appraisal.link is None else appraisal.link
    return (appraisal.utility + link + np.float32(population.intercept)).T


@pytest.fixture(scope="module")
def earned(tmp_path_factory):
    """Clicks of the first slate of a day's visits under several orders of random candidates; a row per world."""
    rows = []
    for seed in range(2):
        folder, world = tmp_path_factory.mktemp("platform"), world_of(seed)
        setting, (keys, makers) = PlatformInputs.of(world, first_day=FIRST), platform_of()
        population = Population.build(world, PopulationConfig(), first_day=FIRST)
        Engine(keys, setting, population, makers, folder / "run").run(DAYS)
        day = FIRST + DAYS
        archive = Archive(folder / "run", None, FIRST)
        log = observed(archive, setting, day, arm=None, log_days=None, shared_until=FIRST)
        before = folder / "run" / f"day-{day - 1:04d}" / "models"
        previous = next(path for path in before.iterdir() if path.name.startswith("ranking"))
        CtrTrainer().train(log, previous=previous, folder=folder / "model", seed=0)
        visits = population.begin_day(day)
        chosen = np.flatnonzero(visits.ordinal == 0)
        requests = requests_at(log, visits.user[chosen], log.start_s + visits.start_s[chosen])
        rng = np.random.default_rng(seed)
        published = log.items["item_id"].to_numpy()
        pool = published[np.argsort(rng.random((len(chosen), len(published))), axis=1)[:, :POOL]]
        truth = true_log_odds(population, chosen, pool, visits.start_s[chosen])
        place = np.full(int(published.max()) + 1, 1 << 20)
        popular = popular_items(log)
        place[popular] = np.arange(len(popular))
        model = CtrTrainer().load(folder / "model")
        scores = {"ranked": model.score(requests, pool), "popular": -place[pool], "best": truth}
        scores["any"] = rng.random(pool.shape)
        rows.append({name: clicks_of(score, truth) for name, score in scores.items()})
    return pl.DataFrame(rows)


def clicks_of(score, truth):
    order = np.argsort(-score, axis=1, kind="stable")[:, :SLATE]
    return float((SEEN * expit(np.take_along_axis(truth, order, axis=1))).sum(axis=1).mean())


def test_ranked_slates_earn_more_than_popular_ones(earned):
    """A model of raw click rates and of clicks, most of them earned by being shown, is 1.09 times as good here."""
    gain = earned["ranked"] / earned["popular"]
    assert gain.min() > 1.05
    assert gain.mean() > 1.12
    assert (earned["popular"] > 2 * earned["any"]).all()


def test_ranked_slates_earn_most_of_what_could_be_earned(earned):
    """Which of their interests users open a visit with, and links, no log can tell beforehand."""
    share = (earned["ranked"] - earned["any"]) / (earned["best"] - earned["any"])
    assert share.mean() > 0.7
