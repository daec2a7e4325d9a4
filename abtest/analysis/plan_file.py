"""The plan of a test as a file, written before it: what is judged, by which rule; checked when the log is read."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from abtest.analysis.metrics import Metric, MetricConfig, metrics_of
from abtest.run_folder import write_text
from micrec.errors import MicrecError
from micrec.settings import load_yaml, validate

_WIDTH = 110
_READINGS = {"prior": "the Bayesian reading", "equivalence": "the equivalence reading"}  # they decide nothing


class PlannedMetric(BaseModel):
    """One metric with what the plan says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    metric: str = Field(..., description="Its name: a named metric, or one of those below.")
    level: float | None = Field(None, gt=0, lt=0.5, description="Primary: its part of alpha; all parts sum to alpha.")
    null_lift: float = Field(0.0, gt=-1, lt=10, description="Primary: lift that must be exceeded, 0.01 = 1 %.")
    worse: float | None = Field(None, ge=0, lt=1, description="Guardrail: relative loss that is still bearable.")
    better: float | None = Field(None, gt=0, lt=10, description="Guardrail: relative gain that is still bearable.")
    direction: Literal["up", "down"] | None = Field(None, description="Which way is good, where not as named.")


class PlanFile(BaseModel):
    """A test as it was planned."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    question: str = Field("", description="What is to be decided, in words.")
    control: str = Field("control", description="Name of the control arm in the log.")
    treatments: list[str] = Field(["treatment"], min_length=1, description="Names of the treatment arms.")
    weights: dict[str, float] = Field({}, description="Planned share of the users in each arm; equal if empty.")
    combined: dict[str, list[str]] = Field({}, description="Treatments that are also judged together, by a name.")
    unit: list[str] = Field([], description="What was assigned, if not the user: [household], or [region, 2h].")
    washout_s: float = Field(0.0, ge=0, description="Switchback: seconds at the start of a period that are left out.")
    triggered: bool = Field(False, description="Whether exposed users alone are judged (analyze --exposures FILE).")
    crossovers: Literal["refuse", "drop", "first"] = Field(
        "refuse", description="Users found in two arms: refuse the log, drop them, or count them in their first arm."
    )
    primary: list[str | PlannedMetric] = Field(
        ["ACC", "ADT"],
        min_length=1,
        description="Metrics that decide, judged together: names, or {metric: ACC, null_lift: 0.01}.",
    )
    guardrails: list[str | PlannedMetric] = Field(
        [], description="Metrics that must not get worse: {metric: CTR, worse: 0.02}, with better: also not by more."
    )
    secondary: list[str] = Field([], description="Metrics that are looked at and never a reason to ship.")
    slices: list[str] = Field([], description="Columns known before exposure; every value is a slice.")
    metrics: dict[str, MetricConfig] = Field({}, description="Metrics of one's own by name, as in a metrics file.")
    estimator: Literal["welch", "cuped", "poststratified"] = Field(
        "welch", description="What the verdict, the looks and the power rest on."
    )
    covariates: list[str] | None = Field(None, description="Columns from before exposure, for CUPED; null: all pre_*.")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="Rate of false alarms over all primary metrics together.")
    looks: Literal["final", "daily", "open"] = Field(
        "final", description="final: read once, at the end; daily: one planned look a day; open: any number of looks."
    )
    information: Literal["variance", "users"] = Field(
        "variance", description="How looks measure what has come in: variance of the metrics, or users alone."
    )
    planned_days: int = Field(7, ge=1, le=366, description="Length of the test in days.")
    planned_users: int | None = Field(None, ge=4, description="Users of all arms at the planned end.")
    planned_lift: float | None = Field(None, gt=0, lt=10, description="Lift that it is planned to find.")
    least_users: int | None = Field(None, ge=2, description="Fewest users (or units) of an arm for any verdict.")
    min_users: int = Field(100, ge=2, description="Fewest users per arm for a slice to be judged.")
    timezone: str = Field("UTC", description="Time zone in which a day begins.")
    prior: str | None = Field(
        None, description="Bayesian reading beside the verdict: flat, MEAN,SD, a file or folder of past tests."
    )
    equivalence: float | None = Field(
        None, gt=0, lt=10, description="Equivalence reading beside the verdict: largest lift that counts as none."
    )

    @model_validator(mode="after")
    def _levels(self) -> "PlanFile":
        entries = [one for one in self.primary if isinstance(one, PlannedMetric)]
        levels = [one.level for one in entries if one.level is not None]
        if levels and (len(levels) < len(self.primary) or abs(sum(levels) - self.alpha) > 1e-9):
            raise ValueError(f"primary: give every metric a level or none; they must sum to alpha, {self.alpha:g}")
        if any(one.worse is not None or one.better is not None for one in entries):
            raise ValueError("primary: worse and better are margins of guardrails")
        guards = [one for one in self.guardrails if isinstance(one, PlannedMetric)]
        if any(one.level is not None or one.null_lift for one in guards):
            raise ValueError("guardrails: level and null_lift are of primary metrics; a guardrail has margins")
        return self


def load_plan(path: Path) -> PlanFile:
    """The plan of a YAML file.

    Raises:
        MicrecError: All errors at once: unknown keys, values out of range, metrics that do not exist.
    """
    plan = validate(PlanFile, load_yaml(path), where=str(path))
    planned_metrics(plan, str(path))
    return plan


def planned_metrics(plan: PlanFile, where: str, named: Mapping[str, Metric] = MappingProxyType({})) -> list[Metric]:
    """The metrics of a plan with their roles, margins, nulls and levels; ``named`` are known beside the built-in ones.

    Raises:
        MicrecError: If a name is unknown or appears twice.
    """
    entries = {name: one for group in (plan.primary, plan.guardrails) for name, one in map(_entry, group)}
    data: dict[str, Any] = {
        "primary": [_entry(one)[0] for one in plan.primary],
        "guardrails": [_entry(one)[0] for one in plan.guardrails],
        "secondary": plan.secondary,
        "metrics": {name: one.model_dump(exclude_unset=True) for name, one in plan.metrics.items()},
    }
    found, _ = metrics_of(data, where, named)
    return [_as_planned(metric, entries.get(metric.name)) for metric in found]


def plan_settings(plan: PlanFile, where: str) -> dict[str, Any]:
    """What a plan fixes, by the names of the options of ``analyze``."""
    return {
        "control": plan.control,
        "treatment": plan.treatments,
        "weights": plan.weights,
        "combine": {name: tuple(arms) for name, arms in plan.combined.items()},
        "unit": tuple(plan.unit),
        "washout": plan.washout_s,
        "crossovers": plan.crossovers,
        "metrics": planned_metrics(plan, where),
        "slices": plan.slices,
        "estimator": plan.estimator,
        "covariates": plan.covariates,
        "alpha": plan.alpha,
        "looks": plan.looks,
        "information": plan.information,
        "planned_days": plan.planned_days,
        "planned_users": plan.planned_users,
        "planned_lift": plan.planned_lift,
        "least_users": plan.least_users,
        "min_users": plan.min_users,
        "timezone": plan.timezone,
        "prior": plan.prior,
        "equivalence": plan.equivalence,
    }


def with_plan(plan: PlanFile, given: Mapping[str, Any], *, where: str, exposures: bool) -> dict[str, Any]:
    """The settings of an analysis by a plan and what was given beside it.

    Args:
        plan: From ``load_plan``.
        given: Options that were given beside the plan, by name; ``metrics`` are Metrics, ``slices`` names.
        where: What the plan is called in messages.
        exposures: Whether an exposure table was given.

    Returns:
        Settings by option; metrics and slices that the plan does not name are added to its own, and the former are
        secondary and exploratory. ``exploratory_slices`` names the latter, ``exploratory_readings`` readings added.

    Raises:
        MicrecError: If something given contradicts the plan; all contradictions at once.
    """
    settings = plan_settings(plan, where)
    faults: list[str] = []
    readings: list[str] = []
    for name, value in given.items():
        if name in ("metrics", "slices") or name not in settings:
            continue
        if name in _READINGS and settings[name] is None:
            settings[name] = value
            readings.append(_READINGS[name])
            continue
        if _plain(value) != _plain(settings[name]):
            option = name.replace("_", "-")
            faults.append(
                f"--{option} {_shown(value)}: the plan says {_shown(settings[name])}: leave the option out, or analyse "
                "without the plan, which is then exploratory."
            )
    known = {metric.name: metric for metric in settings["metrics"]}
    for metric in given.get("metrics", ()):
        if metric.name in known:
            faults += _contradictions(metric, known[metric.name])
    if plan.triggered and not exposures:
        faults.append("triggered: the plan judges exposed users: give the exposure table with --exposures.")
    if exposures and not plan.triggered:
        faults.append("--exposures: the plan judges everybody assigned: leave it out, or analyse without the plan.")
    if faults:
        raise MicrecError.of(where, faults)
    more = [m._replace(role="secondary", exploratory=True) for m in given.get("metrics", ()) if m.name not in known]
    slices = [name for name in given.get("slices", ()) if name not in plan.slices]
    settings["metrics"] = [*settings["metrics"], *more]
    settings["slices"] = [*plan.slices, *slices]
    settings["exploratory_slices"] = tuple(slices)
    settings["exploratory_readings"] = tuple(readings)
    return settings


def plan_text(plan: PlanFile, *, command: str = "") -> str:
    """The plan as YAML, each key below what it means."""
    head = "# Plan of a test. Write it before the test, keep it unchanged, and judge the log by it:\n"
    head += "#   micrec analyze LOG --plan THIS_FILE\n" + (f"# Written by: {command}\n" if command else "")
    data = plan.model_dump(exclude_unset=False)
    data["primary"] = [_short(one) for one in plan.primary]
    data["guardrails"] = [_short(one) for one in plan.guardrails]
    data["metrics"] = {name: one.model_dump(exclude_unset=True) for name, one in plan.metrics.items()}
    parts = [head]
    for name, field in PlanFile.model_fields.items():
        value = yaml.safe_dump(data[name], default_flow_style=True, width=_WIDTH, sort_keys=False, allow_unicode=True)
        parts.append(f"\n# {field.description}\n{name}: {value.removesuffix('...' + chr(10)).strip()}\n")
    return "".join(parts)


def write_plan(path: Path, plan: PlanFile, *, command: str = "", force: bool = False) -> None:
    """Write a plan.

    Raises:
        MicrecError: If the file is there and ``force`` is not given, since a plan is not changed once the test runs; or
            if a folder is there.
    """
    if path.is_dir():
        raise MicrecError(f"--out {path}: exists and is a folder: give a file, such as {path / 'plan.yaml'}.")
    if path.exists() and not force:
        raise MicrecError(
            f"--out {path}: is there already, and a plan is fixed: use --force to replace it, or another name."
        )
    write_text(path, plan_text(plan, command=command))


def planned_entry(text: str, option: str) -> str | PlannedMetric:
    """A metric as an option holds it: ``ACC``, or ``"CTR worse=2% better=5%"``.

    Raises:
        MicrecError: If a part is no ``key=value`` of a metric, or its value no number.
    """
    name, *rest = text.replace(",", " ").split()
    if not rest:
        return name
    values: dict[str, Any] = {"metric": name}
    for part in rest:
        key, sign, value = part.partition("=")
        if not sign or key not in PlannedMetric.model_fields or key == "metric":
            known = ", ".join(key for key in PlannedMetric.model_fields if key != "metric")
            raise MicrecError(f"{option} {text!r}: {part!r} must be KEY=VALUE with one of {known}.")
        values[key] = value if key == "direction" else share_of(value, f"{option} {text!r}: {key}")
    return validate(PlannedMetric, values, where=option)


def share_of(text: str, where: str) -> float:
    """A share written as 0.02 or 2%.

    Raises:
        MicrecError: If it is neither.
    """
    number, scale = (text.strip()[:-1], 0.01) if text.strip().endswith("%") else (text, 1.0)
    try:
        return float(number) * scale
    except ValueError:
        raise MicrecError(f"{where} {text!r}: must be a share such as 0.02, or 2%.") from None


def _contradictions(given: Metric, planned: Metric) -> list[str]:
    """What a metrics file says of a planned metric that the plan says otherwise."""
    pairs = {
        "its role": (given.role, planned.role),
        "its good direction": (given.direction, planned.direction),
        "its definition": (_definition(given), _definition(planned)),
    }
    return [
        f"--metrics: {given.name}: {what} is {ours}, in the plan {theirs}: leave it out of the file, or analyse "
        "without the plan, which is then exploratory."
        for what, (ours, theirs) in pairs.items()
        if ours != theirs
    ]


def _definition(metric: Metric) -> str:
    over = f" / ({metric.per.text})" if metric.per is not None else ""
    among = f" of {metric.slice} users" if metric.slice != "all" else ""
    cap = "" if metric.cap is None else f", capped by {metric.cap.model_dump(exclude_unset=True)}"
    return f"{metric.value.text}{over}{among}{cap}"


def _entry(one: str | PlannedMetric) -> tuple[str, PlannedMetric | None]:
    return (one, None) if isinstance(one, str) else (one.metric, one)


def _as_planned(metric: Metric, entry: PlannedMetric | None) -> Metric:
    if entry is None:
        return metric
    return metric._replace(
        margin=metric.margin if entry.worse is None else entry.worse,
        upper_margin=entry.better,
        null=entry.null_lift,
        level_share=entry.level if entry.level is not None else 1.0,
        direction=entry.direction or metric.direction,
    )


def _short(one: str | PlannedMetric) -> Any:
    return one if isinstance(one, str) else one.model_dump(exclude_unset=True)


def _plain(value: Any) -> Any:
    """Lists and tuples alike, numbers as numbers."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{key}={_shown(inner)}" for key, inner in value.items()) or "nothing"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "nothing"
    return "nothing" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
