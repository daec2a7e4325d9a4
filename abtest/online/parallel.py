"""Worlds side by side: one process each, warm-ups before what starts from them; the same files for any number."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from abtest.online.needs import PacedWorlds, say_needs_of_worlds
from abtest.online.online_scenario import OnlineScenario
from abtest.online.simulate import (
    AHEAD,
    WARM_UP,
    Simulation,
    drop_logs,
    is_done,
    models_ahead,
    simulate,
    train_models_ahead,
)
from micrec.folder_lock import waiting_for
from micrec.parallel import ExecutorLike, is_local, run_tasks, tasks_at_a_time
from micrec.progress import Progress


def simulate_all(
    scenario: OnlineScenario,
    root: Path,
    simulations: Sequence[Simulation],
    *,
    workers: int | None,
    progress: Progress,
    executor: ExecutorLike = "processes",
    first: Sequence[Simulation] = (),
    then: Callable[[], None] = lambda: None,
) -> None:
    """Simulate every world that is not finished.

    Args:
        scenario: The whole scenario.
        root: Folder of all worlds.
        simulations: In order; a warm-up stands before what starts from it.
        workers: Worlds at a time; with 1 process, everything runs in this one; None = as the executor has room.
        progress: Where to report.
        executor: Where, see :func:`micrec.parallel.run_tasks`.
        first: Those of the worlds that are simulated before all others.
        then: Called once these are over, before the others begin.

    Raises:
        MicrecError: What a world raised; the others are stopped, and go on from their last day the next time.
    """
    left = [one for one in simulations if not is_done(root, one)]
    for one in simulations:
        if one not in left:  # a kill may have come between the last day and tidying up
            _tidy(scenario, root, simulations, one)
    if len(left) < len(simulations):
        progress.say(f"{len(simulations) - len(left)} of {len(simulations)} worlds are there already")
    local = is_local(executor, 1 if workers is not None and len(left) < 2 else workers)
    at_a_time = 1 if local else tasks_at_a_time(executor, workers, len(left)) or len(left)
    say_needs_of_worlds(scenario, len(left), at_a_time, progress)
    paced = PacedWorlds(scenario, left, at_a_time, progress)
    if local:
        early = [one for one in left if one in first]
        late = [one for one in left if one not in first]
        for number, one in enumerate([*early, *late], start=1):
            if number == len(early) + 1:
                then()
            progress.say(f"world {number} of {len(left)}: {one.title}")
            paced.begin(one)
            simulate(scenario, root, one, progress=paced)
            paced.over(one)
            _tidy(scenario, root, simulations, one)
        if not late:
            then()
        return
    root.mkdir(parents=True, exist_ok=True)
    done = run_tasks(
        _simulate_alone,
        _ready(scenario, root, left, simulations, first, then),
        executor=executor,
        workers=workers,
        prepare=partial(_Worlds, scenario, root.absolute()),
        label=lambda one: one.title,
        folder=root.absolute(),
        progress=progress,
    )
    worlds = (one for one, _ in done if one.part != AHEAD)
    for finished, one in enumerate(worlds, start=1):
        progress.say(f"world {finished} of {len(left)} is over: {one.title}")
        paced.over(one)
        _tidy(scenario, root, simulations, one)
    if all(one in first for one in left):
        then()


def _ready(
    scenario: OnlineScenario,
    root: Path,
    left: Sequence[Simulation],
    simulations: Sequence[Simulation],
    first: Sequence[Simulation],
    then: Callable[[], None],
) -> Iterator[Simulation | None]:
    """The worlds, each when what it waits for is over; None as long as there is none that may start.

    Who has no world to simulate trains models for a warm-up under way, once for each.
    """
    waiting, told = list(left), False
    warming: list[Simulation] = []
    while waiting:
        early = [one for one in waiting if one in first]
        if not early and not told and all(is_done(root, one) for one in first):
            then()
            told = True
        startable = early if not told else waiting
        one = next((one for one in startable if _may_start(root, one, simulations)), None)
        if one is not None:
            waiting.remove(one)
            warming += [one] if one.part == WARM_UP else []
        while one is None and warming:
            warm_up = warming.pop(0)
            one = None if is_done(root, warm_up) else models_ahead(scenario, warm_up)
        yield one


def _may_start(root: Path, one: Simulation, simulations: Sequence[Simulation]) -> bool:
    base = one._replace(part=WARM_UP)
    return one == base or base not in simulations or is_done(root, base)


def _tidy(scenario: OnlineScenario, root: Path, simulations: Sequence[Simulation], one: Simulation) -> None:
    """Shared models go once all worlds are over; without ``keep_logs``, days as soon as nothing needs them any more."""
    siblings = [s for s in simulations if s._replace(part="") == one._replace(part="")]
    over = all(is_done(root, s) for s in siblings)
    if over:
        shutil.rmtree(root / one.shared_models, ignore_errors=True)
    if scenario.keep_logs:
        return
    if one.part != WARM_UP:
        drop_logs(root, one)
    for sibling in siblings if over else []:
        drop_logs(root, sibling)


class _Worlds(NamedTuple):
    """What a worker needs for every world."""

    scenario: OnlineScenario
    root: Path


def _simulate_alone(worlds: _Worlds, one: Simulation, progress: Progress) -> None:
    import torch

    torch.set_num_threads(1)  # one core each: several threads would wait for one another
    folder = worlds.root / one.path
    folder.mkdir(parents=True, exist_ok=True)
    with waiting_for(folder):  # an attempt that was given up may still write
        if one.part == AHEAD:
            train_models_ahead(worlds.scenario, worlds.root, one, progress)
        else:
            simulate(worlds.scenario, worlds.root, one, progress=progress)
