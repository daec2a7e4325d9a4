"""One replication of a scenario, judged: the experiment's log as an analyst would read it, and the truth beside it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from abtest.analysis.analysis import Analysis, analyse
from abtest.analysis.design import Design
from abtest.analysis.effects import Question
from abtest.analysis.plan import AnalysisPlan
from abtest.analysis.source import LogSource, hash_files
from abtest.analysis.userlog import log_of
from abtest.arms import CONTROL
from abtest.online.extra_tables import policies_of, preferences_of
from abtest.online.interleaving import Preference
from abtest.online.measures import DAYS_FILE, FACTS_FILE, MEASURES
from abtest.online.methods import MethodLift, method_lifts
from abtest.online.off_policy import PolicyFound
from abtest.online.online_scenario import OnlineScenario
from abtest.online.possible import Possible, measure_possible
from abtest.online.simulate import EXPERIMENT, Simulation, possible_parts
from abtest.online.truth import TrueLift, true_lifts
from abtest.online.worlds_beside import training_name
from micrec.errors import MicrecError


class Replication(NamedTuple):
    """What one replication of a variant found.

    Attributes:
        variant: Its name.
        number: Number of the replication.
        scenario: The variant.
        analysis: Analysis of the experiment's log; None if it was not run.
        truth: True lifts; empty if the worlds of the arms were not run.
        facts: Counts of the funnel by part: the experiment, and each arm's world.
        root: Folder of its worlds.
        methods: True lifts of the methods, over trainings; empty if each arm's models were trained once.
        preferences: What interleaving says of each treatment; empty if it was not asked.
        policies: Off-policy estimates; empty if they were not asked.
    """

    variant: str
    number: int
    scenario: OnlineScenario
    analysis: Analysis | None
    truth: dict[Question, TrueLift]
    facts: dict[str, dict[str, Any]]
    root: Path
    methods: tuple[MethodLift, ...] = ()
    preferences: tuple[Preference, ...] = ()
    policies: tuple[PolicyFound, ...] = ()


def judge(scenario: OnlineScenario, root: Path, variant: str, number: int, *, command: str) -> Replication:
    """Read what was measured of a replication's worlds.

    Raises:
        MicrecError: If a file cannot be read, or the log breaks a rule of the analysis.
    """
    chosen = scenario.variant(variant)
    parts = [EXPERIMENT] if chosen.experiment else []
    parts += list(chosen.arms) if chosen.truth.worlds else []
    folders = {part: root / Simulation(variant, number, part).path / MEASURES for part in parts}
    facts = {part: _facts(folder) for part, folder in folders.items()}
    truth: dict[Question, TrueLift] = {}
    if chosen.truth.worlds:
        worlds = {arm: _days(folders[arm]) for arm in chosen.arms}
        for arm in chosen.treatments:
            truth |= true_lifts(worlds[CONTROL], worlds[arm], plan_of(chosen, (arm,), command))
    analysis = None
    if chosen.experiment:
        file = folders[EXPERIMENT] / DAYS_FILE
        plan = plan_of(chosen, tuple(chosen.treatments), command)
        log = log_of(_days(file.parent), plan, LogSource(f"experiment of {scenario.name}", hash_files([file])))
        analysis = analyse(log, plan, {question: (one.lift, one.se) for question, one in truth.items()})
    own = root / Simulation(variant, number, "").path
    preferences, policies = preferences_of(chosen, own), policies_of(chosen, own)
    return Replication(
        variant, number, chosen, analysis, truth, facts, own, _methods(chosen, own), preferences, policies
    )


def _methods(chosen: OnlineScenario, root: Path) -> tuple[MethodLift, ...]:
    """True lifts of the methods, if the arms' models were trained several times."""
    numbers = range(1, chosen.truth.trainings)
    if not numbers:
        return ()
    worlds = {
        arm: [_days(root / part / MEASURES) for part in (arm, *(training_name(arm, number) for number in numbers))]
        for arm in chosen.arms
    }
    users, alpha = chosen.truth.users, chosen.alpha
    return tuple(
        lift
        for arm in chosen.treatments
        for lift in method_lifts(worlds[CONTROL], worlds[arm], chosen.arms[arm].label, users=users, alpha=alpha)
    )


def possible_of(scenario: OnlineScenario, root: Path) -> Possible | None:
    """What matching is worth on the platform of the first variant; None if it was not asked.

    Raises:
        MicrecError: If a world cannot be read.
    """
    variant = next(iter(scenario.named_variants()))
    chosen = scenario.variant(variant)
    if chosen.possible is None:
        return None
    days = {part: _days(root / Simulation(variant, 0, part).path / MEASURES) for part in possible_parts(chosen)}
    return measure_possible(chosen, days, plan_of(chosen, (chosen.treatments[0],), "", usual=True))


def _days(folder: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(folder / DAYS_FILE)
    except (OSError, pl.exceptions.PolarsError) as fault:
        raise _damaged(folder, fault) from None


def _facts(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise _damaged(folder, fault) from None
    assert isinstance(found, dict)
    return found


def _damaged(folder: Path, fault: Exception) -> MicrecError:
    return MicrecError(
        f"{folder}: cannot be read ({fault}): delete {folder.parent} and run the same command again; it simulates that "
        "world anew."
    )


def plan_of(
    scenario: OnlineScenario, treatments: tuple[str, ...], command: str, *, usual: bool = False
) -> AnalysisPlan:
    """The plan of the analysis: fixed by the scenario before anything is simulated. Arms go by their labels.

    Args:
        scenario: The variant.
        treatments: Names of the treatments that are compared with control.
        command: What the user typed, for the report.
        usual: Whether the usual metrics are measured, whatever the scenario names.
    """
    labels = {name: arm.label for name, arm in scenario.arms.items()}
    chosen = (CONTROL, *treatments)
    return AnalysisPlan(
        control=labels[CONTROL],
        treatments=tuple(labels[arm] for arm in treatments),
        alpha=scenario.alpha,
        metrics=None if usual else scenario.planned_metrics(),
        slices=() if usual else scenario.slices,
        planned_days=scenario.days,
        looks=scenario.looks if scenario.days > 1 else "final",
        weights={labels[arm]: scenario.arms[arm].weight for arm in chosen},
        ignored_arms=tuple(label for arm, label in labels.items() if arm not in chosen),
        rows="days",
        seed=scenario.seed + 1,
        command=command,
        design=Design(estimator=scenario.estimator),
    )
