"""Run a scenario on the simulated platform: worlds, verdicts, truth, report; taken up where it was interrupted."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from abtest.analysis.output import write_report
from abtest.online.experiment import Replication, judge, possible_of
from abtest.online.extra_sections import extra_sections
from abtest.online.funnel import funnel_sections
from abtest.online.incidents import incident_section
from abtest.online.interleaving import interleaving_data
from abtest.online.methods import methods_data, methods_section
from abtest.online.off_policy import off_policy_data
from abtest.online.online_scenario import OnlineScenario
from abtest.online.parallel import simulate_all
from abtest.online.possible import Possible, answer, possible_data, possible_section
from abtest.online.recalls import recall_section, recalls_of
from abtest.online.simulate import EXPERIMENT, WARM_UP, Simulation, simulations_of
from abtest.online.study import StudyReport, Summary, study_data, study_section, summarise
from abtest.online.worlds_beside import POSSIBLE
from abtest.report.sections import Section
from abtest.run_folder import (
    SCENARIO_FILE,
    WORLDS_FOLDER,
    alone_in_folder,
    check_run,
    open_run,
    write_scenario,
    write_text,
)
from micrec.errors import MicrecError
from micrec.parallel import ExecutorLike, tasks_at_a_time
from micrec.progress import NoProgress, Progress
from micrec.settings import load_yaml

RUNTIME_FILE = "runtime_s"


@alone_in_folder
def run_online(
    scenario: OnlineScenario,
    out: Path,
    *,
    resolved: Mapping[str, Any],
    report: StudyReport,
    force: bool = False,
    command: str = "",
    workers: int | None = None,
    executor: ExecutorLike = "processes",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run a scenario into a run folder; an interrupted run goes on where it stopped, to the same result.

    Args:
        scenario: What to simulate.
        out: The run folder, see ``abtest.run_folder``.
        resolved: The scenario as plain data with every key, from ``load_scenario``.
        report: What its kind of study says beyond the effects.
        force: Replace a finished run.
        command: What the user typed, for the report.
        workers: Worlds simulated at a time; None = one per core. Any number gives the same results.
        executor: Where they are simulated, see :func:`micrec.parallel.run_tasks`.
        progress: Where to report.

    Returns:
        The contents of ``results.json``.

    Raises:
        MicrecError: If the folder holds a finished or another run, keys contradict each other, or the disk is full.
    """
    started_s, progress = time.monotonic(), progress or NoProgress()
    if alike := scenario.identical_arms():
        progress.say(f"note: {alike}")
    check_run(out, force=force)
    open_run(out, force=force)
    _same_scenario(out, resolved)
    write_scenario(out, resolved)
    root, simulations = out / WORLDS_FOLDER, simulations_of(scenario)
    given: dict[str, Any] = {
        "workers": tasks_at_a_time(executor, workers, len(simulations)),
        "executor": executor,
        "progress": progress,
    }
    first = _worlds_of_what_is_possible(simulations)
    tell = partial(_tell_what_is_possible, scenario, root, progress)
    simulate_all(scenario, root, simulations, first=first, then=tell, **given)
    asked = [(name, number) for name in scenario.named_variants() for number in range(scenario.replications)]
    found = [judge(scenario, root, name, number, command=command) for name, number in asked]
    possible = possible_of(scenario, root)
    runtime_s = _runtime(out, time.monotonic() - started_s)
    return _write(scenario, report, out, found, possible, resolved, runtime_s, command)


def _worlds_of_what_is_possible(simulations: Sequence[Simulation]) -> list[Simulation]:
    """The worlds that tell what matching is worth, and the warm-up that they start from."""
    parts = [one for one in simulations if one.part in POSSIBLE]
    return [one for one in simulations if one in parts or (parts and one == parts[0]._replace(part=WARM_UP))]


def _tell_what_is_possible(scenario: OnlineScenario, root: Path, progress: Progress) -> None:
    """Say what the test can find, and warn of one that cannot see half of what is possible, before it runs."""
    possible = possible_of(scenario, root)
    if possible is not None and possible.answers is not None:
        progress.say(f"{'note' if possible.answers else 'warning'}: {answer(possible)}")


def _write(
    scenario: OnlineScenario,
    report: StudyReport,
    out: Path,
    found: list[Replication],
    possible: Possible | None,
    resolved: Mapping[str, Any],
    runtime_s: float,
    command: str,
) -> dict[str, Any]:
    """A report of each experiment, and one of all; the latter is returned."""
    summaries = summarise(found, scenario.alpha)
    more: dict[str, Any] = {
        "kind": scenario.kind,
        "scenario": resolved,
        "runtime_s": runtime_s,
        "study": study_data(summaries),
        "identical_arms": scenario.identical_arms() or None,
        "possible": possible_data(possible) if possible is not None else None,
        "methods": methods_data(found[0].methods) or None,
        "interleaving": interleaving_data(found[0].preferences) or None,
        "off_policy": off_policy_data(found[0].policies) or None,
    }
    more["seeds"] = [scenario.seed + number for number in range(scenario.replications)]
    study = study_section(report, summaries, scenario.alpha, scenario.primary_names)
    single = len(found) == 1
    results: dict[str, Any] = {}
    for one in reversed(found):
        if one.analysis is None:
            continue
        sections = [*report.before_effects(one, out, command), *_sections(one)]
        if not single:
            write_report(one.analysis, one.root, sections, **more)
        if one is next(first for first in found if first.analysis is not None):
            title = () if single else (f"What follows is variant {one.variant}, replication {one.number}.",)
            head = [study, *report.comparisons(scenario, found), *_recalls(scenario, found)]
            head[1:1] = [*_methods(one, summaries), *extra_sections(one)]
            if single:
                head[0] = replace(head[0], title="The truth beside the test" if one.truth else "The test in one line")
            head[-1] = replace(head[-1], text=(*head[-1].text, *title))
            if alike := scenario.identical_arms():
                head[0] = replace(head[0], text=(alike, *head[0].text))
            head = [replace(section, lead=not single) for section in head]
            if possible is not None:
                head.insert(0, replace(possible_section(possible, scenario.alpha), lead=True))
            results = write_report(one.analysis, out, head + sections, **more)
    if not results:
        raise MicrecError(f"{scenario.name}: experiment: is off in every variant, so there is no log to report on.")
    return results


def _methods(one: Replication, summaries: Sequence[Summary]) -> list[Section]:
    """The truth of the methods beside that of the models, where the arms' models were trained several times."""
    if not one.methods:
        return []
    models = {
        (metric, arm): (summary.truth, summary.truth_ci)
        for summary in summaries
        for metric, where, arm in [summary.question]
        if where == "all" and summary.variant == one.variant
    }
    return [methods_section(one.methods, models, one.scenario.alpha)]


def _recalls(scenario: OnlineScenario, found: list[Replication]) -> list[Section]:
    """What the channels find of what users would click, where that was measured."""
    recalls = recalls_of(found)
    return [recall_section(recalls, scenario.alpha, doses=scenario.doses is not None)] if recalls else []


def _sections(one: Replication) -> list[Section]:
    labels = {name: arm.label for name, arm in one.scenario.arms.items()}
    facts, first_day = one.facts[EXPERIMENT], one.scenario.experiment_day
    incidents_found = incident_section(facts, labels, first_day)
    return [*([incidents_found] if incidents_found else []), *funnel_sections(facts, labels, first_day)]


def _same_scenario(out: Path, resolved: Mapping[str, Any]) -> None:
    """Refuse to go on with another scenario's worlds."""
    path = out / SCENARIO_FILE
    if path.exists() and load_yaml(path) != dict(resolved):
        raise MicrecError(
            f"--out {out}: holds an interrupted run of another scenario: use --force to start anew, or another folder."
        )


def _runtime(out: Path, now_s: float) -> float:
    """Seconds of all attempts together."""
    path = out / f".{RUNTIME_FILE}"
    before_s = float(path.read_text(encoding="utf-8")) if path.exists() else 0.0
    write_text(path, repr(before_s + now_s))
    return round(before_s + now_s, 1)
