"""Worlds that tell what is possible come first, and what they tell is said before the others begin."""

import pytest

from abtest.online import parallel
from abtest.online.simulate import AHEAD, EXPERIMENT, WARM_UP, Simulation
from micrec.progress import NoProgress
from tests.abtest.online.tiny_runs import tiny

WARM, FIRST, SECOND, TEST, ALONE = (
    Simulation("main", 0, part) for part in (WARM_UP, "possible.control", "possible.off", EXPERIMENT, "control")
)
ALL = [WARM, FIRST, SECOND, TEST, ALONE]


@pytest.fixture
def lived(monkeypatch):
    """Names of what happened, in order; worlds take no time."""
    events: list[str] = []
    done: set[Simulation] = set()

    def simulate(scenario, root, one, *, progress=None):
        events.append(one.part)
        done.add(one)

    monkeypatch.setattr(parallel, "simulate", simulate)
    monkeypatch.setattr(parallel, "is_done", lambda root, one: one in done)
    return events, done


def test_what_is_possible_is_told_before_the_experiment(lived, tmp_path):
    events, _ = lived
    parallel.simulate_all(
        tiny(),
        tmp_path,
        [TEST, *ALL[:3], ALONE],
        workers=1,
        progress=NoProgress(),
        first=ALL[:3],
        then=lambda: events.append("told"),
    )
    assert events == [WARM.part, FIRST.part, SECOND.part, "told", TEST.part, ALONE.part]


def test_it_is_told_once_where_nothing_else_is_left(lived, tmp_path):
    events, done = lived
    done.update((TEST, ALONE))
    parallel.simulate_all(
        tiny(),
        tmp_path,
        ALL,
        workers=1,
        progress=NoProgress(),
        first=ALL[:3],
        then=lambda: events.append("told"),
    )
    assert events == [WARM.part, FIRST.part, SECOND.part, "told"]


def test_side_by_side_the_others_wait_until_it_is_told(lived, tmp_path):
    """None is handed out as long as a world of the first ones is under way."""
    events, done = lived
    ready = parallel._ready(tiny(), tmp_path, ALL, ALL, ALL[:3], lambda: events.append("told"))
    assert next(ready) == WARM
    assert next(ready) is None
    done.add(WARM)
    assert [next(ready), next(ready), next(ready)] == [FIRST, SECOND, None]
    done.update((FIRST, SECOND))
    assert [next(ready), next(ready)] == [TEST, ALONE]
    assert events == ["told"]


def test_who_has_no_world_trains_models_for_the_warm_up(lived, tmp_path):
    """Once for each warm-up, and only while it is under way."""
    _, done = lived
    scenario = tiny("platform.warmup_days=1", "arms.treatment.pipeline.channels.fresh.kind=fresh")
    ready = parallel._ready(scenario, tmp_path, ALL, ALL, (), lambda: None)
    assert [next(ready) for _ in range(3)] == [WARM, WARM._replace(part=AHEAD), None]
    done.add(WARM)
    assert [next(ready) for _ in range(4)] == ALL[1:]
    ready = parallel._ready(scenario, tmp_path, ALL, ALL, (), lambda: None)
    assert [next(ready), next(ready)] == [WARM, FIRST]  # it was over
