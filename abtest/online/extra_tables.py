"""What is measured of worlds beside the arms' own, and what is read from it."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import polars as pl

from abtest.arms import CONTROL
from abtest.online.designs import DesignScenario
from abtest.online.extra_worlds import INTERLEAVED, OFF_POLICY, interleaved_name, teams
from abtest.online.interleaving import CREDITS_FILE, Preference, compare, credits_of
from abtest.online.measures import DAYS_FILE, MEASURES, channel_names
from abtest.online.off_policy import CHOICES_FILE, PolicyFound, choices_of, estimate
from abtest.online.online_scenario import OnlineScenario
from abtest.online.unit_sums import UNITS_FILE, unit_sums
from micrec.errors import MicrecError
from simulator.platform.arms import arm_pipelines

WARM_UP = "warmup"


def extra_tables(scenario: OnlineScenario, part: str) -> Mapping[str, Callable[[list[Path]], pl.DataFrame]]:
    """Tables to be written of a world, by file name; each is made from the folders of the experiment's days."""
    if part.startswith(INTERLEAVED):
        first, second = teams(*scenario.arm_changes(), part.removeprefix(INTERLEAVED))
        names = channel_names(scenario, part)
        bits = names.index(first), names.index(second)
        return {CREDITS_FILE: partial(credits_of, first=first, second=second, bits=bits)}
    if part.startswith(OFF_POLICY):
        (pipeline,) = arm_pipelines(scenario.platform_config(0, part)).values()
        return {CHOICES_FILE: partial(choices_of, last=pipeline.slate_size - 1)}
    if isinstance(scenario, DesignScenario) and part != WARM_UP:
        by_time = scenario.platform.assignment.unit == "time"
        return {UNITS_FILE: partial(unit_sums, period_h=scenario.platform.assignment.period_h if by_time else 24.0)}
    return {}


def preferences_of(scenario: OnlineScenario, root: Path) -> tuple[Preference, ...]:
    """What interleaving says of each treatment; empty if it was not asked."""
    if scenario.interleaving is None:
        return ()
    control = _read(root / CONTROL, DAYS_FILE)
    return tuple(
        compare(
            control,
            _read(root / arm, DAYS_FILE),
            _read(root / interleaved_name(arm), DAYS_FILE),
            _read(root / interleaved_name(arm), CREDITS_FILE),
            scenario.arms[arm].label,
            users=scenario.interleaving.users,
            alpha=scenario.alpha,
            seed=scenario.seed,
        )
        for arm in scenario.treatments
    )


def policies_of(scenario: OnlineScenario, root: Path) -> tuple[PolicyFound, ...]:
    """Off-policy estimates; empty if they were not asked."""
    if scenario.off_policy is None:
        return ()
    part = f"{OFF_POLICY}{CONTROL}"
    (pipeline,) = arm_pipelines(scenario.platform_config(0, part)).values()
    choices = _read(root / part, CHOICES_FILE)
    return tuple(estimate(choices, pipeline.policies, alpha=scenario.alpha, seed=scenario.seed))


def _read(folder: Path, name: str) -> pl.DataFrame:
    try:
        return pl.read_parquet(folder / MEASURES / name)
    except (OSError, pl.exceptions.PolarsError) as fault:
        raise MicrecError(
            f"{folder}: cannot be read ({fault}): delete it and run the same command again; it simulates that world "
            "anew."
        ) from None
