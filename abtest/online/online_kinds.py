"""The kind of scenario that simulates a platform; its six questions share one schema and one run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abtest.arms import arm_faults, config_faults
from abtest.online.online_scenario import OnlineScenario
from abtest.scenario_kind import ScenarioKind
from micrec.settings import check


def _check(schema: type[OnlineScenario], data: Mapping[str, Any]) -> tuple[OnlineScenario | None, list[str]]:
    scenario, faults = check(schema, data)
    faults = [*faults, *config_faults(data, schema.unread)]
    if scenario is not None:
        faults += arm_faults(scenario.arms, schema.reserved_arms)
        faults += [] if faults else scenario.faults()
    return scenario, faults


def _run(scenario: OnlineScenario, out: Path, **given: Any) -> dict[str, Any]:
    from abtest.online.run import run_online

    results: dict[str, Any] = run_online(scenario, out, **given)
    return results


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


ONLINE = ScenarioKind(schema=OnlineScenario, check=_check, run=_run, show=_show, describe=_describe, notes=_notes)
