"""Score the designs of an experiment: simulate each of them in several worlds, and test the one that is recommended."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from abtest.arms import CONTROL
from abtest.online.design_scores import (
    DesignRun,
    Score,
    clicks_by_day,
    measure,
    measured,
    recommend,
    scores_of,
    true_lift,
)
from abtest.online.designs import USER, DesignScenario, ExperimentDesign, design_scenario, designs_of
from abtest.online.measures import MEASURES
from abtest.online.online_scenario import OnlineScenario
from abtest.online.parallel import simulate_all
from abtest.online.simulate import EXPERIMENT, Simulation, simulations_of
from abtest.online.unit_sums import UNITS_FILE
from abtest.run_folder import (
    DESIGN_FILE,
    SCENARIO_FILE,
    WORLDS_FOLDER,
    alone_in_folder,
    check_run,
    open_run,
    write_json,
    write_scenario,
)
from abtest.workers import default_workers
from micrec.errors import MicrecError
from micrec.progress import NoProgress, Progress
from micrec.settings import load_yaml
from simulator.platform.arms import clusters_of

Clusters = dict[int, NDArray[np.int64]]  # of every user, by replication


class Advice(NamedTuple):
    """What the designs are worth.

    Attributes:
        designs: What was scored, by name.
        scores: The user split first; without those that no experiment could be judged of.
        recommended: The best; None if there is none.
        truth: True lift of clicks per visit in each world.
        fresh: Scores of the recommended design and of the user split in worlds that were not chosen by.
        alpha: Level.
        days: Days of each experiment.
        wanted: Lift that the days are for.
    """

    designs: dict[str, ExperimentDesign]
    scores: list[Score]
    recommended: Score | None
    truth: tuple[float, ...]
    fresh: list[Score]
    alpha: float
    days: int
    wanted: float | None


@alone_in_folder
def advise(
    scenario: OnlineScenario,
    out: Path,
    *,
    replications: int = 4,
    fresh: int = 0,
    wanted: float | None = None,
    cluster_fields: Sequence[str] = ("region",),
    only: Sequence[str] | None = None,
    force: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Advice:
    """Score the designs of an experiment in simulated worlds, where the truth is known.

    Args:
        scenario: The experiment, with one treatment.
        out: The run folder; an interrupted run goes on where it stopped.
        replications: Worlds by which the designs are scored, two or more.
        fresh: Further worlds, in which the recommended design and the user split are tested.
        wanted: Lift that a longer experiment should find, as a share; None: half of the true one.
        cluster_fields: User fields whose values name the clusters.
        only: Names of designs to be scored beside the user split; None: all.
        force: Replace a finished run.
        workers: Worlds simulated at a time; None = one per core.
        progress: Where to report.

    Raises:
        MicrecError: If a design does not fit the scenario, is unknown, or the folder holds another run.
    """
    designs = designs_of(scenario, cluster_fields)
    if unknown := [name for name in only or () if name not in designs]:
        raise MicrecError(f"--only: no design {unknown[0]}: choose from {', '.join(designs)}.")
    if replications < 2 or fresh < 0:
        raise MicrecError(f"--replications: must be >= 2, and --fresh >= 0, got {replications} and {fresh}.")
    asked = {name: one for name, one in designs.items() if only is None or name in (USER, *only)}
    simulated = {one.simulated: designs[one.simulated] for one in asked.values()}
    study, resolved = design_scenario(scenario, simulated, replications=replications + fresh)
    _open(out, resolved, force=force)
    root, progress = out / WORLDS_FOLDER, progress or NoProgress()
    _simulate(study, root, list(simulated), range(replications), workers, progress)
    clusters = {number: _clusters(study, number, cluster_fields) for number in range(replications + fresh)}
    given: dict[str, Any] = {"alpha": study.alpha, "days": study.days}
    chosen = list(asked.values())
    runs, truth = _runs(study, root, chosen, range(replications), clusters)
    wanted = wanted if wanted is not None else abs(float(np.mean(truth))) / 2.0 or None
    scores = _scores(root, chosen, runs, range(replications), clusters, given | {"wanted": wanted})
    best = recommend(scores, study.alpha)
    tested: list[Score] = []
    if fresh and best is not None:
        chosen, numbers = (
            [asked[name] for name in dict.fromkeys([USER, best.name])],
            range(replications, replications + fresh),
        )
        _simulate(study, root, [one.simulated for one in chosen], numbers, workers, progress)
        again, _ = _runs(study, root, chosen, numbers, clusters)
        tested = _scores(root, chosen, again, numbers, clusters, given | {"wanted": wanted})
    advice = Advice(asked, scores, best, truth, tested, study.alpha, study.days, wanted)
    write_json(out / DESIGN_FILE, advice_data(advice))
    return advice


def advice_data(advice: Advice) -> dict[str, Any]:
    """Plain values."""
    return {
        "kind": "design",
        "recommended": advice.recommended.name if advice.recommended else None,
        "metric": "clicks per visit",
        "days": advice.days,
        "wanted": advice.wanted,
        "alpha": advice.alpha,
        "truth": list(advice.truth),
        "designs": {name: {"unit": one.unit, "what": one.what} for name, one in advice.designs.items()},
        "scores": [one._asdict() for one in advice.scores],
        "fresh": [one._asdict() for one in advice.fresh],
    }


def _open(out: Path, resolved: Mapping[str, Any], *, force: bool) -> None:
    """Make the run folder, or go on in one of the same designs."""
    check_run(out, force=force)
    if (out / DESIGN_FILE).exists() and not force:
        raise MicrecError(f"--out {out}: holds finished advice: use --force to replace it, or another folder.")
    open_run(out, force=force)
    path = out / SCENARIO_FILE
    if path.exists() and load_yaml(path) != dict(resolved):
        raise MicrecError(f"--out {out}: holds another run: use --force to start anew, or another folder.")
    write_scenario(out, resolved)


def _simulate(
    study: DesignScenario,
    root: Path,
    names: Sequence[str],
    numbers: range,
    workers: int | None,
    progress: Progress,
) -> None:
    found = [one for one in simulations_of(study) if one.variant in names and one.replication in numbers]
    workers = workers or default_workers("cpu", len(found))
    simulate_all(study, root, found, workers=workers, progress=progress)


def _runs(
    study: DesignScenario, root: Path, designs: Sequence[ExperimentDesign], numbers: range, clusters: Clusters
) -> tuple[dict[str, list[DesignRun]], tuple[float, ...]]:
    """Every experiment beside its truth, and the truths."""
    (treatment,) = study.treatments
    runs: dict[str, list[DesignRun]] = {one.name: [] for one in designs}
    truths = []
    for number in numbers:
        truth = true_lift(*(_sums(root, USER, number, part) for part in (CONTROL, treatment)))
        truths.append(truth)
        for design in designs:
            found = measure(
                experiment_sums(root, design, number), design.unit, clusters[number], treatment, alpha=study.alpha
            )
            if (one := measured(found, truth)) is not None:
                runs[design.name].append(one)
    return runs, tuple(truths)


def _scores(
    root: Path,
    designs: Sequence[ExperimentDesign],
    runs: Mapping[str, Sequence[DesignRun]],
    numbers: range,
    clusters: Clusters,
    given: Mapping[str, Any],
) -> list[Score]:
    found = []
    for one in designs:
        days = [clicks_by_day(experiment_sums(root, one, number), one.unit, clusters[number]) for number in numbers]
        growth = [of_units for of_units in days if of_units is not None]
        found += scores_of({one.name: runs[one.name]}, growth=growth, **given)
    return sorted(found, key=lambda one: one.name != USER)


def experiment_sums(root: Path, design: ExperimentDesign, number: int) -> pl.DataFrame:
    """The sums of a design's experiment."""
    sums = _sums(root, design.simulated, number, EXPERIMENT)
    return sums if design.read_from is None else sums.filter(~pl.col("early"))


def _sums(root: Path, name: str, number: int, part: str) -> pl.DataFrame:
    return pl.read_parquet(root / Simulation(name, number, part).path / MEASURES / UNITS_FILE)


def _clusters(study: DesignScenario, number: int, fields: Sequence[str]) -> NDArray[np.int64]:
    from simulator.world.users import UserDraws, user_frame

    world = study.world_config(number)
    table = user_frame(world, np.arange(world.users.count), UserDraws(world))
    return clusters_of(table, fields)
