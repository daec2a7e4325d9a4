"""Settings by the names of options, and what a plan file makes of them, to the plan of an analysis."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from abtest.analysis.design import Design
from abtest.analysis.plan import read_shares
from abtest.analysis.plan_file import load_plan, with_plan
from abtest.analysis.stated_prior import stated_prior
from micrec.errors import MicrecError

DEFAULTS: dict[str, Any] = {
    "estimator": "welch",
    "unit": (),
    "washout": 0.0,
    "schedule": None,
    "crossovers": "refuse",
    "combine": {},
    "information": "variance",
    "planned_lift": None,
    "least_users": None,
    "prior": None,
    "equivalence": None,
}
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str) -> float:
    """Seconds of a length of time such as ``90s``, ``10m`` or ``1.5h``.

    Raises:
        MicrecError: If it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None:
        raise MicrecError(f"--washout {text}: must be a number with s, m, h or d, such as 10m.")
    return float(found[1]) * _SECONDS[found[2]]


def combined_arms(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Arms by the name they are judged under, from ``NAME=ARM+ARM``.

    Raises:
        MicrecError: If a text is not of this form.
    """
    found = {}
    for text in texts:
        name, sign, arms = text.partition("=")
        if not sign or not name.strip() or "+" not in arms:
            raise MicrecError(f"--combine {text}: must be NAME=ARM+ARM, such as both=B+C.")
        found[name.strip()] = tuple(arm.strip() for arm in arms.split("+"))
    return found


def design_of(settings: Mapping[str, Any], *, exposures: Path | None = None) -> Design:
    """The design from settings by the names of options.

    Raises:
        MicrecError: If the prior cannot be read.
    """
    prior = settings.get("prior")
    return Design(
        estimator=settings["estimator"],
        least_users=settings["least_users"],
        unit=tuple(settings["unit"]),
        washout_s=settings["washout"],
        schedule=None if settings["schedule"] is None else Path(settings["schedule"]),
        crossovers=settings["crossovers"],
        exposures=exposures,
        combined=settings["combine"],
        information=settings["information"],
        planned_lift=settings["planned_lift"],
        prior=stated_prior(prior) if isinstance(prior, str) else None,
        equivalence=settings["equivalence"],
        exploratory_slices=settings.get("exploratory_slices", ()),
        exploratory_readings=settings.get("exploratory_readings", ()),
        planned=settings.get("planned"),
    )


def design_settings(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings of a design by the names of options, as a caller from Python holds them, with defaults for the others.

    Raises:
        MicrecError: If a key is unknown.
    """
    given = dict(given or {})
    exposures = given.pop("exposures", None)
    if unknown := [key for key in given if key not in DEFAULTS]:
        known = ", ".join([*DEFAULTS, "exposures"])
        raise MicrecError(f"design: no key {', '.join(map(repr, unknown))}: the keys are {known}.")
    settings = {**DEFAULTS, **given}
    unit = settings["unit"]
    settings["unit"] = (unit,) if isinstance(unit, str) else tuple(unit)
    if isinstance(settings["washout"], str):
        settings["washout"] = seconds_of(settings["washout"])
    settings["combine"] = {name: tuple(arms) for name, arms in dict(settings["combine"]).items()}
    return settings | ({} if exposures is None else {"exposures": Path(exposures)})


def settled(
    settings: Mapping[str, Any], plan: Path | None, given: Collection[str], *, exposures: bool
) -> dict[str, Any]:
    """The settings of an analysis, by its plan file where there is one.

    Args:
        settings: By the names of options; ``metrics`` are Metrics or None.
        plan: The plan file, None without.
        given: Names of those that somebody gave; the others are defaults, which the plan replaces.
        exposures: Whether an exposure table was given.

    Raises:
        MicrecError: If the plan cannot be read, or what was given contradicts it.
    """
    if plan is None:
        return dict(settings)
    file = load_plan(plan)
    named = {name: value for name, value in settings.items() if name in given}
    if "weights" in named:
        named["weights"], faults = read_shares(named["weights"])
        if faults:
            raise MicrecError.of("plan", faults)
    if named.get("metrics") is None:
        named.pop("metrics", None)
    fixed = with_plan(file, named, where=str(plan), exposures=exposures)
    return {**settings, **fixed, "planned": {"file": str(plan), **file.model_dump(mode="json")}}
