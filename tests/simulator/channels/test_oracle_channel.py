"""The oracle channel: what it offers is what the population clicks, and nothing that may not be shown."""

import numpy as np
import polars as pl

from simulator.channels.oracle import ORACLE
from simulator.platform.registered_models import registered_trainers, with_oracle
from simulator.ports import ObservedLog, Requests
from tests.simulator.population.driving import SIZE, anything, distinct, keys, live, population
from tests.simulator.worlds import small_world

EMPTY = pl.DataFrame()
LOG = ObservedLog(EMPTY, EMPTY, EMPTY, EMPTY, 86_400.0, 0)


def oracle(world, folder, **options):
    trainer = with_oracle(registered_trainers(), world, keys()).matchers[ORACLE](options)
    trainer.train(LOG, previous=None, folder=folder, seed=0)
    return trainer.load(folder)


def requests(users, now_s, recent=None):
    recent = np.full((len(users), 3), -1) if recent is None else recent
    return Requests(np.asarray(users), recent, np.full(len(users), now_s), np.zeros(len(users), np.uint64))


def test_users_click_what_it_offers_far_more_than_what_is_popular(tmp_path):
    """The population's own responses to three kinds of slates; the oracle's are the highest by far."""
    world = small_world()
    matcher = oracle(world, tmp_path / "oracle")
    popular = np.argsort(-world.catalogue.appeal, kind="stable")
    popular = popular[world.catalogue.published_s[popular] <= 0][:60]

    def by_oracle(of, visits, rows, now_s, request):
        found = matcher.retrieve(Requests(visits.user[rows], np.full((len(rows), 1), -1), now_s, visits.key[rows]), 30)
        place = distinct(np.arange(30), visits.key[rows], request)
        return np.take_along_axis(found.items, place, axis=1)

    def by_popularity(of, visits, rows, now_s, request):
        return distinct(popular, visits.key[rows], request)

    rate = {
        name: live(population(), 2, show)["clicked"].mean()
        for name, show in (("oracle", by_oracle), ("popular", by_popularity), ("any", anything))
    }
    assert rate["oracle"] > 1.3 * rate["popular"] > 1.3 * rate["any"]
    assert SIZE == 10


def test_it_offers_nothing_unpublished_or_recent(tmp_path):
    world = small_world()
    matcher = oracle(world, tmp_path / "oracle")
    now_s, users = 3 * 86_400.0, np.arange(50)
    first = matcher.retrieve(requests(users, now_s), 40)
    assert (world.catalogue.published_s[first.items] <= now_s).all()
    assert (np.diff(first.scores, axis=1) <= 0).all()
    again = matcher.retrieve(requests(users, now_s, first.items[:, :3]), 40)
    assert not (again.items[:, :, None] == first.items[:, None, :3]).any()
    shown = oracle(world, tmp_path / "shown", hide_recent=False).retrieve(
        requests(users, now_s, first.items[:, :3]), 40
    )
    assert (shown.items[:, :, None] == first.items[:, None, :3]).any()


def test_lists_do_not_depend_on_the_batch(tmp_path):
    matcher = oracle(small_world(), tmp_path / "oracle")
    users = np.arange(40)
    together = matcher.retrieve(requests(users, 86_400.0), 30)
    alone = [matcher.retrieve(requests(users[[one]], 86_400.0), 30) for one in users]
    assert (together.items == np.concatenate([one.items for one in alone])).all()
    assert (together.scores == np.concatenate([one.scores for one in alone])).all()


def test_more_than_there_is_leaves_padding(tmp_path):
    world = small_world()
    found = oracle(world, tmp_path / "oracle").retrieve(requests([0, 1], 0.0), 2 * len(world.catalogue))
    there = int((world.catalogue.published_s <= 0.0).sum())
    assert ((found.items >= 0).sum(axis=1) == there).all()
    assert np.isneginf(found.scores[:, there:]).all()


def test_share_is_that_of_the_requests_with_items(tmp_path):
    """The same requests are answered under a larger share as well, with the same lists."""
    world = small_world()
    keys_of = np.random.default_rng(0).integers(2**63, size=2_000).astype(np.uint64)
    asked = requests(np.arange(2_000) % 40, 86_400.0)._replace(keys=keys_of)
    whole, most, some = (
        oracle(world, tmp_path / f"{share:g}", share=share).retrieve(asked, 20).items for share in (1.0, 0.6, 0.3)
    )
    known = [(items >= 0).any(axis=1) for items in (most, some)]
    assert abs(known[0].mean() - 0.6) < 0.05
    assert abs(known[1].mean() - 0.3) < 0.05
    assert not (known[1] & ~known[0]).any()
    assert (most[known[0]] == whole[known[0]]).all()
