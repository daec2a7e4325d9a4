"""Worlds side by side: one process each, warm-ups before what starts from them; the same files for any number."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from abtest.online.online_scenario import OnlineScenario
from abtest.online.simulate import WARM_UP, Simulation, drop_logs, is_done, simulate
from micrec.folder_lock import waiting_for
from micrec.parallel import ExecutorLike, is_local, run_tasks
from micrec.progress import Progress


def simulate_all(
    scenario: OnlineScenario,
    root: Path,
    simulations: Sequence[Simulation],
    *,
    workers: int | None,
    progress: Progress,
    executor: ExecutorLike = "processes",
    siblings: Sequence[Simulation] | None = None,
) -> None:
    """Simulate every world that is not finished.

    Args:
        scenario: The whole scenario.
        root: Folder of all worlds.
        simulations: In order; a warm-up stands before what starts from it.
        workers: Worlds at a time; with 1 process, everything runs in this one; None = as the executor has room.
        progress: Where to report.
        executor: Where, see :func:`micrec.parallel.run_tasks`.
        siblings: Every world of the run, if ``simulations`` are only some: what they need of the warm-up is kept.

    Raises:
        MicrecError: What a world raised; the others are stopped, and go on from their last day the next time.
    """
    siblings = simulations if siblings is None else siblings
    left = [one for one in simulations if not is_done(root, one)]
    for one in simulations:
        if one not in left:  # a kill may have come between the last day and tidying up
            _tidy(scenario, root, siblings, one)
    if len(left) < len(simulations):
        progress.say(f"{len(simulations) - len(left)} of {len(simulations)} worlds are there already")
    if is_local(executor, 1 if workers is not None and len(left) < 2 else workers):
        for number, one in enumerate(left, start=1):
            progress.say(f"world {number} of {len(left)}: {one.title}")
            simulate(scenario, root, one, progress=progress)
            _tidy(scenario, root, siblings, one)
        return
    root.mkdir(parents=True, exist_ok=True)
    done = run_tasks(
        _simulate_alone,
        _ready(root, left, siblings),
        executor=executor,
        workers=workers,
        prepare=partial(_Worlds, scenario, root.absolute()),
        label=lambda one: one.title,
        folder=root.absolute(),
        progress=progress,
    )
    for finished, (one, _) in enumerate(done, start=1):
        progress.say(f"world {finished} of {len(left)} is over: {one.title}")
        _tidy(scenario, root, siblings, one)


def _ready(root: Path, left: Sequence[Simulation], siblings: Sequence[Simulation]) -> Iterator[Simulation | None]:
    """The worlds, each when its warm-up is over; None as long as there is none that may start."""
    waiting = list(left)
    while waiting:
        one = next((one for one in waiting if _may_start(root, one, siblings)), None)
        if one is not None:
            waiting.remove(one)
        yield one


def _may_start(root: Path, one: Simulation, simulations: Sequence[Simulation]) -> bool:
    base = one._replace(part=WARM_UP)
    return one == base or base not in simulations or is_done(root, base)


def _tidy(scenario: OnlineScenario, root: Path, simulations: Sequence[Simulation], one: Simulation) -> None:
    """Without ``keep_logs``, days go as soon as nothing needs them any more."""
    if scenario.keep_logs:
        return
    siblings = [s for s in simulations if s._replace(part="") == one._replace(part="")]
    if one.part != WARM_UP:
        drop_logs(root, one)
    if all(is_done(root, s) for s in siblings):
        for sibling in siblings:
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
        simulate(worlds.scenario, worlds.root, one, progress=progress)
