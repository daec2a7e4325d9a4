"""What the report of each kind of study says beyond the effects of its experiments."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from abtest.online.aa_study import aa_section, daily_false_alarms, false_alarms
from abtest.online.experiment import Replication, plan_of
from abtest.online.measures import DAYS_FILE, MEASURES
from abtest.online.online_scenario import AaScenario, OnlineScenario
from abtest.online.simulate import EXPERIMENT, Simulation
from abtest.online.study import StudyReport, Summary, agreement, by_question, dose_figures, trend
from abtest.online.world_comparison import fault_section, spillover_section
from abtest.report.sections import Section
from abtest.run_folder import WORLDS_FOLDER


def _calibration(one: Replication, out: Path, command: str) -> list[Section]:
    """How often the test rejects when the users are split at random, again and again."""
    scenario = one.scenario
    assert isinstance(scenario, AaScenario)
    folder = out / WORLDS_FOLDER / Simulation(one.variant, one.number, EXPERIMENT).path / MEASURES
    plan = plan_of(scenario, (scenario.treatments[0],), command)
    days = pl.read_parquet(folder / DAYS_FILE)
    salts = {"splits": scenario.splits, "seed": scenario.seed}
    daily = daily_false_alarms(days, plan, **salts) if scenario.days > 1 else ()
    return [aa_section(false_alarms(days, plan, **salts), scenario.alpha, daily, alike=_alike(scenario))]


def _alike(scenario: OnlineScenario) -> str:
    """Whether the arms of an A/A are identical, in words."""
    if alike := OnlineScenario.identical_arms(scenario):
        return f"{alike} Every significant difference is a false alarm."
    return "The arms are NOT identical, so this is no A/A: a difference between them is no false alarm."


def _trends(primary: Sequence[Summary], alpha: float) -> list[str]:
    return [trend(own, metric, arm, alpha) for metric, arm, own in by_question(primary)]


def _agreements(primary: Sequence[Summary], alpha: float) -> list[str]:
    return [agreement(own, metric, arm) for metric, arm, own in by_question(primary)]


def _spillovers(scenario: OnlineScenario, found: Sequence[Replication]) -> list[Section]:
    return [spillover_section(found, scenario.alpha)] if scenario.truth.worlds else []


def _fault_costs(scenario: OnlineScenario, found: Sequence[Replication]) -> list[Section]:
    return [fault_section(found, scenario.alpha)] if scenario.truth.worlds else []


ONLINE_AB = StudyReport()
AA = StudyReport(before_effects=_calibration)
DOSE_RESPONSE = StudyReport(
    lead="One key is varied and all else is kept; each point is the true effect, everybody under treatment against "
    "everybody under control. With several replications its interval is over them, and what differs between worlds and "
    "trainings is in it; with one it is of that world and that training alone.",
    sentences=_trends,
    figures=dose_figures,
)
INTERFERENCE = StudyReport(
    lead="With shared logs both arms learn from what either showed, which no user-level split can undo; with diverted "
    "logs each arm learns from its own users, fewer of them. The truth is the same question asked of whole worlds.",
    comparisons=_spillovers,
)
FAULTS = StudyReport(
    lead="Each variant breaks something in both arms' platform, or in one's. What the test says of the treatment is "
    "here; what the fault costs is below.",
    comparisons=_fault_costs,
)
MISSPECIFIED = StudyReport(
    lead="The same experiment under other users: a result that depends on the user model is no conclusion.",
    sentences=_agreements,
)
