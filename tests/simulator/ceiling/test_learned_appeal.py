"""Appeal learned from clicks: against the truth, against raw counts, and the ceiling that follows from it."""

import dataclasses
import functools
import shutil

import numpy as np
import polars as pl
import pytest
from scipy.integrate import quad

from micrec.baselines import BASELINES
from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.data.split import temporal_split
from micrec.data.store import read_dataset
from micrec.evaluation import evaluation_task
from simulator.ceiling import register_ceilings
from simulator.ceiling.click_evidence import PastClicks
from simulator.ceiling.drawn_segments import DrawnSegments, Repeats, SegmentDraws
from simulator.ceiling.item_exposure import ItemExposure
from simulator.ceiling.learned_appeal import AppealPrior, learned_appeal
from simulator.world.generate import generate_world
from simulator.world.items import make_catalogue
from tests.simulator.ceiling.test_ceilings import CONFIG
from tests.simulator.worlds import small_config, small_history, small_world

register_ceilings()
ONCE = "choice={once: log, taste: 0.6, popular: 0.15, fresh: 0.1, similar: 0.15, repeat: 0}"
WORLDS = {
    "usual": (),
    "links": ("links.strength=0.8", "links.density=0.5"),
    "topics": ("items.topics=4", "taste.depth={topic: 0.6, subcategory: 0.2, category: 0.1, item: 0.1}"),
    "seasons": ("items.seasons={share: 0.7, days: 60, off_season: 0.05}", "items.count=400"),
    "once": (ONCE, "sessions.per_user=10", "users.count=600"),
}
SPARSE = ("items.categories=20", "items.subcategories=5", "items.groups=2")
FEW = (*SPARSE, "items.count=3000", "sessions.per_user=1.5", "users.count=1200")  # three clicks an item
MANY = ("items.count=240", "sessions.per_user=20", "users.count=800")  # 340
NO_SPREAD = ("items.popularity_exponent=0", "items.clickbait_share=0")


@functools.lru_cache
def history(overrides):
    world, clicks = small_world(*overrides), small_history(*overrides).clicks
    user, item, time = (clicks[name].to_numpy() for name in ("user_id", "item_id", "timestamp"))
    return world, PastClicks(user, item, time.astype(float) - world.start_s)


@functools.lru_cache
def learned(overrides):
    world, clicks = history(overrides)
    return learned_appeal(world.config, world.catalogue, world.shelf.bucket_s, clicks)


def error(estimate, appeal):
    """Root mean square error of the logarithms, but for a common factor."""
    return float(np.std(np.log(estimate) - np.log(appeal)))


def counted(overrides):
    world, clicks = history(overrides)
    return np.bincount(clicks.item, minlength=len(world.catalogue)) + 0.5


# -- the prior -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", [(), ("items.rare_share=0.3", "items.popularity_exponent=0.5")])
def test_the_prior_is_how_appeal_is_drawn(overrides):
    config = small_config(*overrides)
    prior = AppealPrior.of(config)
    drawn = np.log(make_catalogue(small_config(*overrides, "items.count=40000")).appeal)
    assert prior.chance.sum() == pytest.approx(1.0)
    for power in (1, 2, 3):
        assert prior.chance @ np.log(prior.appeal) ** power == pytest.approx((drawn**power).mean(), rel=0.06)


def test_the_posterior_mean_is_that_of_the_integral():
    prior = AppealPrior.of(small_config("items.clickbait_share=0", "items.popularity_exponent=0.5"))
    clicks, exposure = np.array([0, 3, 40]), np.array([0.0, 0.7, 8.0])
    found = prior.posterior(clicks, exposure).mean
    for n, e, mean in zip(clicks, exposure, found, strict=True):

        def density(u, power, n=n, e=e):
            return u ** (-0.5 * (n + power)) * np.exp(-e * u**-0.5)

        expected = quad(density, 1e-9, 1, args=(1,), limit=400)[0] / quad(density, 1e-9, 1, args=(0,), limit=400)[0]
        assert mean == pytest.approx(expected, rel=0.01)


# -- the exposure ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORLDS)
def test_as_many_clicks_are_expected_as_there_are(name):
    """At the true appeal, by kinds of items: the most wanted, the least, those that fade, and linked groups."""
    world, clicks = history(WORLDS[name])
    catalogue = world.catalogue
    expected = ItemExposure(world.config, catalogue, world.shelf.bucket_s, clicks).of(catalogue.appeal)
    expected *= catalogue.appeal
    seen = np.bincount(clicks.item, minlength=len(catalogue))
    assert expected.sum() == pytest.approx(seen.sum(), rel=0.08 if name == "once" else 0.01)
    targets = np.isin(catalogue.group, catalogue.link_targets)
    rank = np.argsort(np.argsort(-catalogue.appeal))
    for kind in (rank < 40, rank > 500, ~catalogue.evergreen, catalogue.published_s > 0, targets, ~targets):
        assert expected[kind].sum() == pytest.approx(seen[kind].sum(), rel=0.12)


def test_what_was_clicked_could_be_clicked():
    """Also where users click through all there is, so that what they lose by it is only roughly known."""
    keys = (ONCE, "items.popularity_exponent=1.2", "sessions.per_user=20", "users.count=400", "items.count=300")
    world, clicks = history(keys)
    exposure = ItemExposure(world.config, world.catalogue, world.shelf.bucket_s, clicks).of(world.catalogue.appeal)
    assert (exposure[clicks.item] > 0.0).all()
    assert error(learned(keys), world.catalogue.appeal) < np.std(np.log(world.catalogue.appeal))


@pytest.mark.parametrize("last_stays", [True, False])
def test_what_was_clicked_before_is_drawn_again(last_stays):
    """Two users, two segments, three items each: by loops over the clicks."""
    rng = np.random.default_rng(0)
    n, tries = 30, 2
    within, item = np.sort(rng.integers(2, size=n)), rng.integers(6, size=n)
    time_s = np.arange(n, dtype=float)
    until_s = time_s + np.where(item % 2 == 0, np.inf, 4.0)
    chance, weight = rng.random(n), np.array([0.2, 0.3, 0.5, 0.1, 0.6, 0.3])
    segment = item // 3
    repeats = Repeats(within, item, time_s, until_s, tries, last_stays)
    further = SegmentDraws(np.append(np.arange(n), 5), np.append(segment, 1 - segment[5]), np.append(chance, 0.4))
    drawn, lost = DrawnSegments(repeats, segment, further).expected(further.chance, weight[item])
    found = np.zeros(6)
    for of, amount in zip(further.segment, drawn, strict=True):
        found += amount * weight * (np.arange(6) // 3 == of)
    found -= np.bincount(item, lost, minlength=6)
    expected = np.zeros(6)
    for click, of, once in zip(*further, strict=True):
        before: dict[int, float] = {}
        for earlier in range(click):
            if within[earlier] == within[click]:
                before.setdefault(int(item[earlier]), until_s[earlier])
        gone = {one for one, until in before.items() if until > time_s[click] and one // 3 == of}
        taken = weight[list(gone)].sum()
        for one in (one for one in range(6) if one // 3 == of):
            times = sum(taken**k for k in range(tries + 1))
            if one in gone:
                times = taken**tries if last_stays else 0.0
            expected[one] += once * weight[one] * times
    assert found == pytest.approx(expected)


# -- the estimate ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORLDS)
def test_it_is_nearer_to_the_truth_than_counts_are(name):
    world = history(WORLDS[name])[0]
    appeal = world.catalogue.appeal
    assert error(learned(WORLDS[name]), appeal) < 0.5 * error(counted(WORLDS[name]), appeal)
    assert error(learned(WORLDS[name]), appeal) < 0.6 * np.std(np.log(appeal))  # than what was known before


def test_more_clicks_tell_more():
    worlds = [("sessions.per_user=1.1",), (), ("sessions.per_user=12",)]
    errors = [error(learned(one), history(one)[0].catalogue.appeal) for one in worlds]
    assert errors[0] > 1.1 * errors[1] > 1.1 * 1.1 * errors[2]


def test_the_true_appeal_is_not_looked_at():
    world, clicks = history(())
    hidden = dataclasses.replace(world.catalogue, appeal=np.full(len(world.catalogue), np.nan))
    assert (learned_appeal(world.config, hidden, world.shelf.bucket_s, clicks) == learned(())).all()


def test_without_clicks_all_have_the_prior_mean():
    world, _ = history(())
    nothing = PastClicks(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    found = learned_appeal(world.config, world.catalogue, world.shelf.bucket_s, nothing)
    prior = AppealPrior.of(world.config)
    assert found == pytest.approx(np.full(len(found), prior.appeal @ prior.chance))


# -- the ceiling -----------------------------------------------------------------------------------------------------


@functools.lru_cache
def inputs(folder):
    dataset = read_dataset(folder)
    split = temporal_split(dataset.clicks, CONFIG.split, dataset.schema.days)
    return BaselineInputs.of(evaluation_task(dataset, split, CONFIG.evaluation, "test"), dataset, CONFIG)


@functools.lru_cache
def scores(folder, name):
    """Of all items for the first 150 users at most, shape (B, N)."""
    judged = min(150, len(inputs(folder).task.user_ids))
    return BASELINES[name].load()(inputs(folder)).users(0, judged).numpy()


def caught(folder, name, n=50):
    """Share of the clicks to come, as who knows the users expects them, that lists of n items catch, by user."""
    expected = scores(folder, "users_known")
    lists = np.argpartition(-scores(folder, name), n, axis=1)[:, :n]
    return np.take_along_axis(expected, lists, axis=1).sum(axis=1) / expected.sum(axis=1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("learned")
    worlds = {"few": FEW, "many": MANY, "no spread": NO_SPREAD}
    return {name: generate_world(small_config(*keys), root / name).folder for name, keys in worlds.items()}


def test_few_clicks_leave_it_clearly_below_items_known(folders):
    lacks = caught(folders["few"], "items_known") - caught(folders["few"], "structure_known")
    assert lacks.mean() > 5.0 * lacks.std() / np.sqrt(len(lacks))
    assert lacks.mean() > 0.03 * caught(folders["few"], "items_known").mean()


@pytest.mark.parametrize("rival", ["popularity", "field_counts", "ease"])
def test_few_clicks_leave_it_above_the_simple_models(folders, rival):
    leads = caught(folders["few"], "structure_known") - caught(folders["few"], rival)
    assert leads.mean() > 5.0 * leads.std() / np.sqrt(len(leads))


@pytest.mark.parametrize("n", [10, 50])
def test_many_clicks_lead_to_items_known(folders, n):
    lacks = caught(folders["many"], "items_known", n) - caught(folders["many"], "structure_known", n)
    assert abs(lacks.mean()) < 0.01 * caught(folders["many"], "items_known", n).mean()


def test_where_all_are_alike_there_is_nothing_to_learn(folders):
    assert learned(NO_SPREAD) == pytest.approx(np.ones(len(learned(NO_SPREAD))))
    found, known = (scores(folders["no spread"], name) for name in ("structure_known", "items_known"))
    alike = np.isclose(found, known, rtol=1e-5, atol=0.0).all(axis=1)
    assert alike.mean() > 0.97  # rounding decides which of a user's equally likely items count as the user's own


def test_it_never_sees_the_judged_clicks(folders, tmp_path):
    """Other items clicked in the judged period leave the scores as they are."""
    shutil.copytree(folders["few"], tmp_path / "other")
    source = next((tmp_path / "other").glob("clicks*"))
    files = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
    clicks = pl.concat([pl.read_parquet(file) for file in files])
    train = int(len(clicks) * (1.0 - CONFIG.split.test_fraction))
    late = clicks["timestamp"].rank("ordinal") > train
    known = clicks.filter(~late)["item_id"].unique().sort()
    rng = np.random.default_rng(0)
    drawn = pl.Series(known.to_numpy()[rng.integers(len(known), size=len(clicks))])
    changed = clicks.with_columns(item_id=pl.when(late).then(drawn).otherwise(pl.col("item_id")).cast(pl.Int64))
    for file in files:
        file.unlink()
    changed.write_parquet(files[0])
    found = []
    for folder in (folders["few"], tmp_path / "other"):
        users = inputs(folder).task.user_ids[:150].tolist()
        found.append(dict(zip(users, scores(folder, "structure_known"), strict=True)))
    both = found[0].keys() & found[1].keys()  # who is judged depends on what is clicked then
    assert len(both) > 20
    for user in both:
        assert found[0][user] == pytest.approx(found[1][user], rel=1e-5)
