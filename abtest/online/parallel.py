"""Worlds side by side: one process each, warm-ups before what starts from them; the same files for any number."""

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from abtest.online.online_scenario import OnlineScenario
from abtest.online.simulate import WARM_UP, Simulation, drop_logs, is_done, simulate
from abtest.workers import SentProgress, listen
from micrec.errors import MicrecError
from micrec.parent import end_with
from micrec.progress import Progress
from micrec.registry import extensions, import_extensions


def simulate_all(
    scenario: OnlineScenario,
    root: Path,
    simulations: Sequence[Simulation],
    *,
    workers: int,
    progress: Progress,
    siblings: Sequence[Simulation] | None = None,
) -> None:
    """Simulate every world that is not finished.

    Args:
        scenario: The whole scenario.
        root: Folder of all worlds.
        simulations: In order; a warm-up stands before what starts from it.
        workers: Processes; with 1, everything runs in this one.
        progress: Where to report.
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
    if workers == 1 or len(left) < 2:
        for number, one in enumerate(left, start=1):
            progress.say(f"world {number} of {len(left)}: {one.title}")
            simulate(scenario, root, one, progress=progress)
            _tidy(scenario, root, siblings, one)
        return
    _spread(scenario, root, siblings, left, workers, progress)


def _spread(
    scenario: OnlineScenario,
    root: Path,
    simulations: Sequence[Simulation],
    left: list[Simulation],
    workers: int,
    progress: Progress,
) -> None:
    context = multiprocessing.get_context("spawn")
    lines = context.SimpleQueue()
    listener = threading.Thread(target=listen, args=(lines, progress), daemon=True)
    listener.start()
    start = (lines, os.getpid(), extensions())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=start)
    waiting, finished = list(left), 0
    running: dict[Future[None], Simulation] = {}
    try:
        while waiting or running:
            for one in [one for one in waiting if _may_start(root, one, simulations)]:
                if len(running) < workers:
                    running[pool.submit(_work, scenario, root, one)] = one
                    waiting.remove(one)
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                one = running.pop(future)
                future.result()
                finished += 1
                progress.say(f"world {finished} of {len(left)} is over: {one.title}")
                _tidy(scenario, root, simulations, one)
    except BrokenProcessPool:
        raise MicrecError(
            f"{root}: a worker was killed, perhaps for want of memory: run the same command again, it goes on where it "
            f"stopped; with fewer --workers than {workers} it takes less memory."
        ) from None
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()  # days are written whole, so nothing is lost but the one under way
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        lines.put(None)
        listener.join()


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


class _WorldWorker:
    """What a worker process keeps between worlds."""

    lines: Any


def _start(lines: Any, parent: int, modules: Sequence[str]) -> None:
    end_with(parent)
    import_extensions(modules)
    _WorldWorker.lines = lines


def _work(scenario: OnlineScenario, root: Path, one: Simulation) -> None:
    import torch

    torch.set_num_threads(1)  # one core each: several threads would wait for one another
    simulate(scenario, root, one, progress=SentProgress(one.title, _WorldWorker.lines))
