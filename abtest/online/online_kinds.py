"""Kinds of scenario that simulate a platform, an entry each: its schema, and what its report adds to the effects."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abtest.arms import arm_faults, config_faults
from abtest.online.online_scenario import (
    AaScenario,
    DoseResponseScenario,
    FaultsScenario,
    InterferenceScenario,
    MisspecifiedScenario,
    OnlineAbScenario,
    OnlineScenario,
)
from abtest.scenario_kind import ScenarioKind
from micrec.registry import loaded
from micrec.settings import check


def _check(schema: type[OnlineScenario], data: Mapping[str, Any]) -> tuple[OnlineScenario | None, list[str]]:
    scenario, faults = check(schema, data)
    faults = [*faults, *config_faults(data, schema.unread)]
    if scenario is not None:
        faults += arm_faults(scenario.arms, schema.reserved_arms)
        faults += [] if faults else scenario.faults()
    return scenario, faults


def _show(results: dict[str, Any]) -> None:
    from abtest.report.pages.experiment_terminal import print_analysis, print_sections

    print_sections(results)
    print_analysis(results)


def _describe(scenario: OnlineScenario) -> str:
    from abtest.online.simulate import simulations_of

    arms = ", ".join(f"{name} ({arm.label})" for name, arm in scenario.arms.items())
    return f"preset {scenario.preset}, {arms}, {scenario.days} days: {len(simulations_of(scenario))} worlds"


def _notes(scenario: OnlineScenario) -> list[str]:
    alike = scenario.identical_arms()
    return [alike] if alike else []


def online_kind(schema: type[OnlineScenario], report: str | object) -> ScenarioKind:
    """A kind of scenario that is simulated, judged and reported as experiments on the platform are.

    Args:
        schema: Keys of its file: ``OnlineScenario`` with the name of the kind, and with keys and checks of its own.
        report: The ``abtest.online.study.StudyReport``, or where it is: ``module:NAME``, read when a run begins.
    """

    def run(scenario: OnlineScenario, out: Path, **given: Any) -> dict[str, Any]:
        from abtest.online.run import run_online

        results: dict[str, Any] = run_online(scenario, out, report=loaded(report), **given)
        return results

    return ScenarioKind(schema=schema, check=_check, run=run, show=_show, describe=_describe, notes=_notes)


_REPORTS = "abtest.online.study_reports"
ONLINE_AB = online_kind(OnlineAbScenario, f"{_REPORTS}:ONLINE_AB")
AA = online_kind(AaScenario, f"{_REPORTS}:AA")
DOSE_RESPONSE = online_kind(DoseResponseScenario, f"{_REPORTS}:DOSE_RESPONSE")
INTERFERENCE = online_kind(InterferenceScenario, f"{_REPORTS}:INTERFERENCE")
FAULTS = online_kind(FaultsScenario, f"{_REPORTS}:FAULTS")
MISSPECIFIED = online_kind(MisspecifiedScenario, f"{_REPORTS}:MISSPECIFIED")
