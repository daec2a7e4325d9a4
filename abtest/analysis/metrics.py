"""Metrics by name: what is counted, per what, which way is good, and what a verdict may be built on.

A mean metric is one number per user, averaged over users. A ratio metric is a sum over users divided by another sum
over the same users (CTR: clicks over impressions); its unit is still the user.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from abtest.analysis import expressions
from abtest.analysis.expressions import Expression
from micrec.errors import MicrecError
from micrec.registry import Registry
from micrec.settings import load_yaml, validate
from micrec.shipped import find_file

Role = Literal["primary", "secondary", "guardrail"]
ALL = "all"
COLD = "cold"


class Metric(NamedTuple):
    """One question asked of every treatment.

    Attributes:
        name: Short name, as in the paper's tables.
        label: In words.
        value: Per-user number of a mean metric, or the numerator of a ratio.
        per: The denominator of a ratio; None for a mean.
        direction: "up" if more is better, "down" if less is.
        role: What the verdict makes of it.
        slice: The slice it is about: "all", or one such as "cold".
        margin: Guardrails: the relative loss that is still bearable, as a share.
    """

    name: str
    label: str
    value: Expression
    per: Expression | None = None
    direction: str = "up"
    role: str = "secondary"
    slice: str = ALL
    margin: float = 0.0

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column it reads."""
        return tuple(dict.fromkeys((*self.value.columns, *(self.per.columns if self.per else ()))))


def _mean(name: str, label: str, value: str, role: str, slice_: str = ALL) -> Metric:
    return Metric(name, label, expressions.parse(value), role=role, slice=slice_)


def _ratio(name: str, label: str, value: str, per: str, slice_: str = ALL) -> Metric:
    return Metric(name, label, expressions.parse(value), expressions.parse(per), slice=slice_)


STAYS, ELIGIBLE = "next_day_stays", "next_day_eligible"  # columns that the roll-up of days adds

_PAPER = (  # its Table 3 (5.5.1) and its text; dwell in seconds
    _mean("ACC", "average click count per capita", "clicks", "primary"),
    _mean("ADT", "average dwell time per capita, s", "dwell_s", "primary"),
    _mean("ALR", "average like count per capita", "likes", "secondary"),
    _mean("AFR", "average follow count per capita", "follows", "secondary"),
    _mean("ACC-c", "average click count of cold-start users", "clicks", "secondary", COLD),
    _mean("ADT-c", "average dwell time of cold-start users, s", "dwell_s", "secondary", COLD),
    _ratio("stay", "next-day stay rate", STAYS, ELIGIBLE),
    _ratio("stay-c", "next-day stay rate of cold-start users", STAYS, ELIGIBLE, COLD),
    _ratio("CTR", "click-through rate", "clicks", "impressions"),
)
BUILTIN: Registry[Metric] = Registry("metric", "metrics", {metric.name: metric for metric in _PAPER})
"""Metrics by name. One more is a line above, or from another package a call of ``BUILTIN.register`` or an entry point
of the group ``micrec.metrics``; it is measured wherever a log has its columns."""


class MetricConfig(BaseModel):
    """A metric of the user's own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    label: str = Field("", description="In words; the name if empty.")
    value: str | None = Field(None, description="Mean metric: expression on the columns of one user.")
    numerator: str | None = Field(None, description="Ratio metric: expression summed over users.")
    denominator: str | None = Field(None, description="Ratio metric: what that sum is divided by.")
    direction: Literal["up", "down"] = Field("up", description="Which way is good.")
    slice: str = Field(ALL, description="The slice it is about: all, cold, or country=NO.")
    margin: float = Field(0.0, ge=0, lt=1, description="Guardrail: the relative loss still bearable, as a share.")

    @model_validator(mode="after")
    def _one_form(self) -> "MetricConfig":
        mean, ratio = self.value is not None, (self.numerator is not None, self.denominator is not None)
        if mean == any(ratio) or any(ratio) != all(ratio):
            raise ValueError("give either value, or numerator and denominator")
        return self


class MetricsFile(BaseModel):
    """Which metrics a verdict is built on; see scenarios/metrics.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    primary: list[str] = Field(["ACC", "ADT"], min_length=1, description="Judged together, Holm-adjusted.")
    secondary: list[str] = Field([], description="Looked at, never a reason to ship.")
    guardrails: list[str] = Field([], description="Must not get worse by more than their margin.")
    slices: list[str] = Field([], description="Columns known before exposure; every value is a slice.")
    metrics: dict[str, MetricConfig] = Field({}, description="Metrics of one's own by name.")


def default_metrics(columns: set[str]) -> tuple[list[Metric], list[str]]:
    """The named metrics whose columns are there, and one line on those that are left out, if any."""
    found, left_out = [], []
    for metric in BUILTIN.values():
        needed = [*metric.columns, *([metric.slice] if metric.slice != ALL else [])]
        missing = dict.fromkeys(_known_as(column) for column in needed if column not in columns)
        if missing:
            left_out.append(f"{metric.name} ({', '.join(missing)})")
        else:
            found.append(metric)
    return found, [f"Not measured, because their columns are missing: {', '.join(left_out)}."] if left_out else []


def load_metrics(path: Path) -> tuple[list[Metric], list[str]]:
    """Metrics and slice columns of a YAML file.

    Raises:
        MicrecError: All errors at once: unknown keys, expressions that do not parse, names that no metric has.
    """
    path = find_file(path)
    return metrics_of(load_yaml(path), str(path))


def metrics_of(data: Mapping[str, Any], where: str) -> tuple[list[Metric], list[str]]:
    """The same from the keys of such a file.

    Args:
        data: The keys of a :class:`MetricsFile`.
        where: What they are called in messages.

    Raises:
        MicrecError: As ``load_metrics``.
    """
    file = validate(MetricsFile, data, where=where)
    known, faults = dict(BUILTIN), []
    for name, spec in file.metrics.items():
        try:
            known[name] = _built(name, spec)
        except MicrecError as fault:
            faults.append(f"metrics.{name}: {fault}")
            known[name] = BUILTIN["ACC"]
    metrics: dict[str, Metric] = {}
    groups: Mapping[str, tuple[Role, list[str]]] = {
        "primary": ("primary", file.primary),
        "guardrails": ("guardrail", file.guardrails),
        "secondary": ("secondary", file.secondary),
    }
    for key, (role, names) in groups.items():
        for name in names:
            if name not in known:
                faults.append(f"{key}: no metric {name!r}: the names are {', '.join(known)}.")
            elif name in metrics:
                faults.append(f"{key}: {name!r} appears twice: a metric has one role.")
            else:
                metrics[name] = known[name]._replace(role=role)
    unused = [name for name in file.metrics if name not in metrics]
    faults += [
        f"metrics.{name}: defined and in no list: add it to primary, secondary or guardrails." for name in unused
    ]
    if faults:
        raise MicrecError.of(where, faults)
    return list(metrics.values()), file.slices


def _built(name: str, spec: MetricConfig) -> Metric:
    value = spec.value if spec.value is not None else spec.numerator
    assert value is not None
    return Metric(
        name=name,
        label=spec.label or name,
        value=expressions.parse(value),
        per=expressions.parse(spec.denominator) if spec.denominator is not None else None,
        direction=spec.direction,
        slice=spec.slice,
        margin=spec.margin,
    )


def _known_as(column: str) -> str:
    return "days" if column in (STAYS, ELIGIBLE) else column


def describe(metric: Metric) -> dict[str, Any]:
    """Plain values for results.json."""
    return {
        "metric": metric.name,
        "label": metric.label,
        "role": metric.role,
        "slice": metric.slice,
        "direction": metric.direction,
        "value": metric.value.text,
        "per": metric.per.text if metric.per else None,
        "margin": metric.margin,
    }
