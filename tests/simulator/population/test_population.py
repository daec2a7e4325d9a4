"""The same answer whatever the batches, the order, or a stop in between; arms that share their noise."""

import numpy as np
import pytest

from tests.simulator.population.driving import anything, distinct, from_pool, live, population
from tests.simulator.worlds import small_world

BUSY = ("sessions.per_user=20",)  # several visits a day
KINDS = ("position", "cascade", "choice")


def by_visit(of, day, order_seed=None, batch=10**9):
    """Every response of a day by (visit, request); batches of any size, visits of a wave in any order."""
    rng = np.random.default_rng(order_seed)
    visits = of.begin_day(day)
    answers = {}
    for ordinal in range(visits.ordinal.max(initial=-1) + 1):
        live_rows, request = np.flatnonzero(visits.ordinal == ordinal), 0
        now = dict(zip(live_rows.tolist(), visits.start_s[live_rows].tolist(), strict=True))
        while now:
            rows = np.fromiter(now, int)
            if order_seed is not None:
                rng.shuffle(rows)
            following = {}
            for first in range(0, len(rows), batch):
                part = rows[first : first + batch]
                now_s = np.array([now[row] for row in part.tolist()])
                slates = distinct(np.arange(600), visits.key[part], request)
                done = of.respond(part, slates, now_s, np.full(len(part), request))
                for i, row in enumerate(part.tolist()):
                    answers[row, request] = b"".join(np.ascontiguousarray(values[i]).tobytes() for values in done)
                    if not done.leave[i]:
                        following[row] = now_s[i] + done.busy_s[i]
            now, request = following, request + 1
    of.end_day(day)
    return answers


@pytest.mark.parametrize("kind", KINDS)
def test_batches_and_order_do_not_matter(kind):
    overrides = (f"examination.kind={kind}",)
    whole, split, single = (population(*overrides, world=BUSY) for _ in range(3))
    for day in range(2):
        expected = by_visit(whole, day)
        assert by_visit(split, day, order_seed=day, batch=37) == expected
        assert by_visit(single, day, order_seed=day + 9, batch=1 if day == 0 else 3) == expected
    for name, values in whole.state().items():
        assert (values == split.state()[name]).all()
        assert (values == single.state()[name]).all()


def test_depth_first_is_breadth_first():
    """Visit after visit, as few users at a time would do it."""
    wide, deep = population(world=BUSY), population(world=BUSY)
    expected = by_visit(wide, 0)
    visits = deep.begin_day(0)
    for row in range(len(visits.user)):  # in order of start: a user's visits stay in order
        now_s, request, rows = visits.start_s[[row]], 0, np.array([row])
        while True:
            slates = distinct(np.arange(600), visits.key[rows], request)
            done = deep.respond(rows, slates, now_s, np.array([request]))
            assert b"".join(np.ascontiguousarray(values[0]).tobytes() for values in done) == expected[row, request]
            if done.leave[0]:
                break
            now_s, request = now_s + done.busy_s, request + 1


def test_second_visit_of_the_day_takes_up_where_the_first_ended():
    of = population(world=BUSY)
    visits = of.begin_day(0)
    second = np.flatnonzero(visits.ordinal == 1)[:200]
    first = np.array([np.flatnonzero((visits.user == visits.user[row]) & (visits.ordinal == 0))[0] for row in second])
    done = of.respond(first, distinct(np.arange(600), visits.key[first], 0), visits.start_s[first], 0 * first)
    of.respond(second, distinct(np.arange(600), visits.key[second], 0), visits.start_s[second], 0 * second)
    brought = of._visiting.brought
    last = [np.flatnonzero(clicked)[-1:] for clicked in done.clicked]
    for i, row in enumerate(second):
        if len(last[i]):
            assert brought.item[row] == distinct(np.arange(600), visits.key[first[[i]]], 0)[0, last[i][0]]
            assert brought.item_s[row] == visits.start_s[first[i]]
        assert brought.fatigue[row] == done.examined[i].sum()


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_stops_and_goes_on_is_the_same(kind):
    overrides = (f"examination.kind={kind}",)
    through = population(*overrides)
    live(through, 3)
    kept = through.state()
    expected = live(through, range(3, 6))
    resumed = population(*overrides)
    resumed.restore(kept)
    assert live(resumed, range(3, 6)).equals(expected)
    assert all((values == through.state()[name]).all() for name, values in resumed.state().items())
    assert all(values.base is None for values in kept.values())
    resumed.restore(kept)  # what was kept has not moved
    assert live(resumed, range(3, 6)).equals(expected)


def test_same_keys_same_bytes_and_another_seed_other_ones():
    log = live(population(), 2)
    assert log.equals(live(population(), 2))
    assert not log.equals(live(population("seed=1"), 2))


def test_arms_share_their_noise():
    """Two platforms that differ a little: clicks per user differ less than with separate noise."""

    def clicks(seed, show):
        log = live(population(f"seed={seed}", world=("users.count=4000",)), 4, show)
        return np.bincount(log["user"], weights=log["clicked"], minlength=4_000)

    published = np.flatnonzero(small_world("users.count=4000").catalogue.published_s < 0)
    control = from_pool(published)

    def treatment(of, visits, rows, now_s, request):
        slates = control(of, visits, rows, now_s, request)
        slates[:, :2] = slates[:, 1::-1]  # the first two change places
        return slates

    shared = clicks(0, treatment) - clicks(0, control)
    apart = clicks(1, treatment) - clicks(0, control)
    assert shared.var() < 0.5 * apart.var()
    assert (clicks(0, control) == clicks(0, control)).all()


def test_what_does_not_change_is_answered_alike():
    """Items keep their noise when others on the slate change."""
    of, other = population(world=BUSY), population(world=BUSY)
    visits = of.begin_day(0)
    other.begin_day(0)
    rows = np.flatnonzero(visits.ordinal == 0)
    slates = distinct(np.arange(400), visits.key[rows], 0)
    changed = slates.copy()
    changed[:, 4] = 700
    a = of.respond(rows, slates, visits.start_s[rows], 0 * rows)
    b = other.respond(rows, changed, visits.start_s[rows], 0 * rows)
    same = np.arange(10) != 4
    for name in ("examined", "clicked", "dwell_s", "like", "follow", "cause"):
        assert (getattr(a, name)[:, same] == getattr(b, name)[:, same]).all()
    assert (a.clicked[:, 4] != b.clicked[:, 4]).any()


def test_nothing_to_show():
    """Retries with the configured chance; nobody is pleased."""
    of = population(world=("users.count=6000",))
    visits = of.begin_day(0)
    rows = np.arange(len(visits.user))
    done = of.abandon(rows, visits.start_s, 0 * rows)
    assert done.leave.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(rows)))
    assert (done.busy_s[done.leave] == 0).all()
    assert done.busy_s[~done.leave].mean() == pytest.approx(5.0, rel=0.15)
    waits = of.wait_s(rows, 0 * rows)
    assert np.median(waits) == pytest.approx(8.0 * np.exp(-0.045), rel=0.15)
    of.end_day(0)
    came = np.unique(visits.user)
    assert (of.satisfaction[came] < 0).all()
    assert (np.delete(of.satisfaction, came) == 0).all()


def test_a_slate_of_padding_is_a_slate_without_clicks():
    of = population()
    visits = of.begin_day(0)
    rows = np.arange(len(visits.user))
    done = of.respond(rows, np.full((len(rows), 4), -1), visits.start_s, 0 * rows)
    assert not done.examined.any()
    assert not done.clicked.any()
    of.end_day(0)
    assert (of.satisfaction[visits.user] < 0).all()


def test_a_call_for_nobody():
    of = population()
    of.begin_day(0)
    none = np.zeros(0, int)
    done = of.respond(none, np.zeros((0, 5), int), np.zeros(0), none)
    assert done.clicked.shape == (0, 5)
    assert done.leave.shape == (0,)
    assert of.abandon(none, np.zeros(0), none).leave.shape == (0,)


def test_days_run_in_order():
    of = population()
    with pytest.raises(ValueError, match=r"begin_day\(1\): day 0 comes next, of 14 days"):
        of.begin_day(1)
    with pytest.raises(ValueError, match="no day is under way"):
        of.end_day(0)
    of.begin_day(0)
    with pytest.raises(ValueError, match="day 0 is under way"):
        of.begin_day(1)
    with pytest.raises(ValueError, match=r"end_day\(0\) before state"):
        of.state()
    with pytest.raises(ValueError, match=r"end_day\(1\): day 0"):
        of.end_day(1)
    of.end_day(0)
    for day in range(1, 14):
        of.begin_day(day)
        of.end_day(day)
    with pytest.raises(ValueError, match="of 14 days"):
        of.begin_day(14)


def test_a_state_of_another_world_is_refused():
    state = population(world=("users.count=1000",)).state()
    with pytest.raises(ValueError, match="but this population has"):
        population().restore(state)


def test_an_unknown_item_is_an_error():
    of = population()
    visits = of.begin_day(0)
    with pytest.raises(IndexError):
        of.respond(np.array([0]), np.array([[5, 10**6]]), visits.start_s[:1], np.array([0]))


def test_slates_may_come_as_any_integers():
    of, other = population(), population()
    visits = of.begin_day(0)
    other.begin_day(0)
    rows = np.arange(50)
    slates = anything(of, visits, rows, visits.start_s[:50], 0)
    a = of.respond(rows, slates, visits.start_s[:50], 0 * rows)
    b = other.respond(rows.astype(np.int32), np.asfortranarray(slates.astype(np.int32)), visits.start_s[:50], 0 * rows)
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
