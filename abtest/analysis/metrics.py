"""Metrics by name: what is counted, per what, which way is good, and what a verdict may be built on.

A mean metric is one number per user, averaged over users. A ratio metric is a sum over users divided by another sum
over the same users (CTR: clicks over impressions); its unit is still the user.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from abtest.analysis import expressions
from abtest.analysis.expressions import Expression, quoted
from abtest.analysis.user_columns import (
    UserColumn,
    UserColumnConfig,
    conversion_columns,
    retention_columns,
    user_column,
)
from micrec.errors import MicrecError
from micrec.registry import Registry
from micrec.settings import load_yaml, validate
from micrec.shipped import find_file

Role = Literal["primary", "secondary", "guardrail"]
ALL = "all"
COLD = "cold"


class CapConfig(BaseModel):
    """Values beyond a quantile of all arms' users together count as that quantile."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    lower: float | None = Field(None, gt=0, lt=1, description="Values below this quantile are raised to it.")
    upper: float | None = Field(None, gt=0, lt=1, description="Values above this quantile are cut to it.")
    among: Literal["all", "nonzero"] = Field(
        "all", description="Whose quantiles: of all users, or of those whose value is not 0, as for sparse revenue."
    )
    side: Literal["both", "numerator", "denominator"] = Field(
        "both", description="Ratio metric: which of its sides is capped, each at its own quantile."
    )

    @model_validator(mode="after")
    def _ends(self) -> "CapConfig":
        if self.lower is None and self.upper is None:
            raise ValueError("give upper, lower or both")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError("lower must be below upper")
        return self


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
        made: Columns of users that it reads and that are made of finer rows.
        cap: How its values are capped; ``value`` and ``per`` are then those before, until the log is read.
        uncapped: Once the log is read: ``value`` and ``per`` before they were capped.
        components: What its change is broken down by, from the widest: clicks, then dwell_s is per click.
        quantiles: Quantiles that are compared beside it.
        quantiles_of: Their values, one per row of the log; None for the metric's own, one per user.
        upper_margin: Guardrails: the relative gain that is still bearable; None for any.
        null: Lift that its p is for: 0 for "no difference", 0.01 for "no more than one per cent better".
        level_share: Its part of the level among the primary metrics, in any unit.
        exploratory: Whether the plan of the test did not name it.
    """

    name: str
    label: str
    value: Expression
    per: Expression | None = None
    direction: str = "up"
    role: str = "secondary"
    slice: str = ALL
    margin: float = 0.0
    made: tuple[UserColumn, ...] = ()
    cap: CapConfig | None = None
    uncapped: tuple[Expression, Expression | None] | None = None
    components: tuple[Expression, ...] = ()
    quantiles: tuple[float, ...] = ()
    quantiles_of: Expression | None = None
    upper_margin: float | None = None
    null: float = 0.0
    level_share: float = 1.0
    exploratory: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column of users that it reads."""
        read = (self.value, self.per, *self.components)
        return tuple(dict.fromkeys(column for one in read if one is not None for column in one.columns))


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
    retention: int | None = Field(
        None, ge=1, le=61, description="Share of users who were there so many days after their first day."
    )
    conversion: str | None = Field(None, description="Share of users who had this event within_h hours of exposure.")
    within_h: float | None = Field(None, gt=0, description="Conversion: hours after exposure.")
    exposure: str | None = Field(None, description="Conversion: event of the exposure; the first row if empty.")
    direction: Literal["up", "down"] = Field("up", description="Which way is good.")
    slice: str = Field(ALL, description="The slice it is about: all, cold, or country=NO.")
    margin: float = Field(0.0, ge=0, lt=1, description="Guardrail: the relative loss still bearable, as a share.")
    cap: CapConfig | None = Field(None, description="Cap extreme users' values; the uncapped metric is shown beside.")
    components: list[str] = Field(
        [], description="Expressions that its change is broken down by, from the widest, such as [impressions, clicks]."
    )
    quantiles: list[float] = Field([], description="Quantiles that are compared beside it, such as [0.5, 0.9].")
    quantiles_of: str | None = Field(
        None, description="Quantiles of this column or expression over the rows of the log, users as clusters."
    )

    @model_validator(mode="after")
    def _one_form(self) -> "MetricConfig":
        ratio = (self.numerator is not None, self.denominator is not None)
        forms = (self.value is not None, any(ratio), self.retention is not None, self.conversion is not None)
        if sum(forms) != 1 or any(ratio) != all(ratio):
            raise ValueError("give either value, or numerator and denominator, or retention, or conversion")
        if (self.conversion is None) != (self.within_h is None) or (self.exposure and self.conversion is None):
            raise ValueError("conversion and within_h go together, and exposure goes with them")
        if any(not 0 < q < 1 for q in self.quantiles) or (self.quantiles_of and not self.quantiles):
            raise ValueError("quantiles lie between 0 and 1, and quantiles_of goes with them")
        if self.quantiles and self.quantiles_of is None and self.value is None:
            raise ValueError("quantiles of a ratio need quantiles_of: a user has no ratio of their own to rank by")
        if self.components and self.value is None:
            raise ValueError("components are for a metric that is a value per user")
        if self.cap is not None and (self.retention is not None or self.conversion is not None):
            raise ValueError("cap is for values and ratios: a share of users has no extreme ones")
        return self


class MetricsFile(BaseModel):
    """Which metrics a verdict is built on; see scenarios/metrics.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    primary: list[str] = Field(["ACC", "ADT"], min_length=1, description="Judged together, Holm-adjusted.")
    secondary: list[str] = Field([], description="Looked at, never a reason to ship.")
    guardrails: list[str] = Field([], description="Must not get worse by more than their margin.")
    slices: list[str] = Field([], description="Columns known before exposure; every value is a slice.")
    metrics: dict[str, MetricConfig] = Field({}, description="Metrics of one's own by name.")
    user_columns: dict[str, UserColumnConfig] = Field(
        {}, description="Columns of users made of a finer log's rows, for use in metrics, by name."
    )


RETENTION_DAYS = (1, 7, 28)  # known by name: retention-1, retention-7, retention-28


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


def metrics_of(
    data: Mapping[str, Any], where: str, named: Mapping[str, Metric] = MappingProxyType({})
) -> tuple[list[Metric], list[str]]:
    """The same from the keys of such a file.

    Args:
        data: The keys of a :class:`MetricsFile`.
        where: What they are called in messages.
        named: Metrics that are known by name beside the built-in ones.

    Raises:
        MicrecError: As ``load_metrics``.
    """
    file = validate(MetricsFile, data, where=where)
    known = {**BUILTIN, **named, **{f"retention-{day}": retention(day) for day in RETENTION_DAYS}}
    faults: list[str] = []
    made: dict[str, UserColumn] = {}
    for name, column in file.user_columns.items():
        try:
            made[name] = user_column(name, column)
        except MicrecError as fault:
            faults.append(f"user_columns.{name}: {fault}")
    for name, spec in file.metrics.items():
        try:
            known[name] = _built(name, spec, made)
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


def retention(day: int) -> Metric:
    """Share of users who were there ``day`` days after their first day, of those for whom that day lies in the log."""
    retained, observed = retention_columns(day)
    return Metric(
        f"retention-{day}",
        f"share of users who came back {day} day{'s' if day > 1 else ''} after their first day",
        expressions.parse(quoted(retained.name)),
        expressions.parse(quoted(observed.name)),
        made=(retained, observed),
    )


def _conversion(event: str, within_h: float, exposure: str | None) -> Metric:
    """Share of users who had an event within hours of exposure, of those whose hours lie in the log."""
    had, observed = conversion_columns(event, within_h, exposure)
    return Metric(
        event,
        f"share of users with {event} within {within_h:g} h of {exposure or 'their first row'}",
        expressions.parse(f"{quoted(had.name)} * {quoted(observed.name)}"),
        expressions.parse(quoted(observed.name)),
        made=(had, observed),
    )


def _built(name: str, spec: MetricConfig, made: Mapping[str, UserColumn]) -> Metric:
    if spec.retention is not None:
        base = retention(spec.retention)
    elif spec.conversion is not None and spec.within_h is not None:
        base = _conversion(spec.conversion, spec.within_h, spec.exposure)
    else:
        value = spec.value if spec.value is not None else spec.numerator
        assert value is not None
        per = expressions.parse(spec.denominator) if spec.denominator is not None else None
        base = Metric(name, name, expressions.parse(value), per)
    metric = base._replace(
        name=name,
        label=spec.label or base.label,
        direction=spec.direction,
        slice=spec.slice,
        margin=spec.margin,
        cap=spec.cap,
        components=tuple(expressions.parse(text) for text in spec.components),
        quantiles=tuple(spec.quantiles),
        quantiles_of=expressions.parse(spec.quantiles_of) if spec.quantiles_of is not None else None,
    )
    used = tuple(made[column] for column in metric.columns if column in made)
    return metric._replace(made=(*base.made, *used))


def _known_as(column: str) -> str:
    return "days" if column in (STAYS, ELIGIBLE) else column


def describe(metric: Metric) -> dict[str, Any]:
    """Plain values for results.json; of what only plan files set, what is set."""
    planned = {"upper_margin": metric.upper_margin, "null": metric.null or None, "exploratory": metric.exploratory}
    planned["level_share"] = metric.level_share if metric.level_share != 1.0 else None
    return {
        "metric": metric.name,
        "label": metric.label,
        "role": metric.role,
        "slice": metric.slice,
        "direction": metric.direction,
        "value": metric.value.text,
        "per": metric.per.text if metric.per else None,
        "margin": metric.margin,
        **({"cap": metric.cap.model_dump()} if metric.cap is not None else {}),
        **({"components": [one.text for one in metric.components]} if metric.components else {}),
        **{key: value for key, value in planned.items() if value},
    }
