"""The plan of an analysis: what was to be compared, when, and how strictly. Fixed before any effect is read."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from abtest.analysis.design import Design
from abtest.analysis.metrics import Metric
from micrec.data.column_names import parse_pairs
from micrec.data.table_options import TableOptions
from micrec.data.times import Implausible, check_timezone
from micrec.errors import MicrecError

Looks = Literal["final", "daily", "open"]
RowKind = Literal["auto", "users", "days", "parts", "events"]
LOOKS: tuple[Looks, ...] = ("final", "daily", "open")
ROW_KINDS: tuple[RowKind, ...] = ("auto", "users", "days", "parts", "events")


def plan_from_text(
    *,
    treatments: Sequence[str],
    slices: Sequence[str] = (),
    covariates: Sequence[str] | None = None,
    columns: Sequence[str] = (),
    weights: Sequence[str] | Mapping[str, float] = (),
    ignored_arms: Sequence[str] = (),
    dedupe: Sequence[str] = (),
    null_values: Sequence[str] = (),
    dtype: Sequence[str] = (),
    **more: Any,
) -> "AnalysisPlan":
    """A plan from what the command line holds: lists with commas, and ``name=value`` pairs.

    Raises:
        MicrecError: If a pair has no ``=``, a share is no number, or the plan is invalid.
    """
    shares, faults = read_shares(weights)
    mapping, more_faults = parse_pairs("--columns", columns)
    types, wrong_types = parse_pairs("--dtype", dtype)
    if faults := faults + more_faults + wrong_types:
        raise MicrecError.of("plan", faults)
    return AnalysisPlan(
        treatments=tuple(treatments),
        slices=listed(slices),
        covariates=listed(covariates) if covariates is not None else None,
        columns=mapping,
        weights=shares,
        ignored_arms=tuple(ignored_arms),
        dedupe=listed(dedupe),
        null_values=listed(null_values),
        dtype=types,
        **more,
    )


def plan_of(
    settings: Mapping[str, Any], design: Design, build: "Callable[..., AnalysisPlan]" = plan_from_text, **more: Any
) -> "AnalysisPlan":
    """A plan from settings by the names of options, and the rest as ``build`` takes it.

    Args:
        settings: What a plan file may fix.
        design: Made from the same settings.
        build: ``plan_from_text``, or ``AnalysisPlan`` where the rest is no text.
        more: Further keywords of ``build``.

    Raises:
        MicrecError: As ``plan_from_text``.
    """
    names = ("control", "slices", "covariates", "weights", "alpha", "planned_days", "planned_users", "looks")
    metrics, same = settings["metrics"], {name: settings[name] for name in (*names, "min_users", "timezone")}
    for name in ("slices", "covariates"):
        same[name] = None if same[name] is None else tuple(same[name])
    return build(
        treatments=tuple(settings["treatment"]),
        metrics=tuple(metrics) if metrics is not None else None,
        design=design,
        **{**more, **same},
    )


def read_shares(weights: Sequence[str] | Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """Share by arm from ``ARM=SHARE`` texts, or as it is, and what cannot be read."""
    if isinstance(weights, Mapping):
        return dict(weights), []
    shares: dict[str, float] = {}
    by_arm, faults = parse_pairs("--weights", weights)
    for arm, share in by_arm.items():
        try:
            shares[arm] = float(share)
        except ValueError:
            faults.append(f"--weights {arm}={share}: the share must be a number.")
    return shares, faults


def listed(texts: Sequence[str]) -> tuple[str, ...]:
    """Names of texts with commas, each once."""
    return tuple(dict.fromkeys(name.strip() for text in texts for name in text.split(",") if name.strip()))


@dataclass(frozen=True)
class AnalysisPlan:
    """What an analysis needs to know beside the log.

    Attributes:
        control: Name of the control arm in the log.
        treatments: Names of the treatment arms; each is compared with control.
        metrics: What is measured; None for the named metrics whose columns the log has.
        slices: Per-user columns known before exposure; ``cold`` is always one if the log has it.
        covariates: Per-user columns from before exposure, for CUPED and balance; None for all ``pre_*``.
        alpha: Share of false alarms allowed over the primary metrics together.
        planned_days: Length the test was planned for.
        planned_users: Users of all arms together at the planned end, where they were planned; looks before the end
            then know what is still to come.
        looks: "final": one look at the planned end; "daily": a planned look a day, with group-sequential bounds;
            "open": any number of looks, with a confidence sequence.
        weights: Planned share of users by arm, up to a factor; equal if empty.
        srm_alpha: A sample-ratio mismatch below this p is an alarm.
        min_users: Fewest users an arm of a slice must have for its effects to be read.
        ignored_arms: Arms of the log left out on purpose.
        columns: Our column names by what they are in the file: a column or an expression, ``clicks="n_click"``.
        rows: What one row of the log is; "auto" recognises it by the columns.
        dedupe: Columns whose equal values make rows repeats of each other; the first is kept.
        split_salt: Makes an A/A of any log: users are split by a hash with this salt into control and treatment.
        checks: Whether quantiles, bootstrap and ranks are computed, which look at every user's value.
        seed: Random seed of the bootstrap.
        command: What repeats the analysis, for the report.
        timezone: Zone in which days are cut, and of times that name no zone; an IANA name.
        implausible_times: "drop" leaves out rows with a time before 1990 or in the future; "refuse" stops at them.
        separator: Between the cells of a CSV file; None = recognised.
        decimal: Decimal mark of a CSV file, comma or point; None = recognised.
        null_values: Cells of a CSV file that mean no value.
        dtype: Types of columns of the file, see ``TableOptions.types``.
        population: Users that the effect is scaled to in reports; None = those of the test.
        query: DuckDB query whose result is the log; None = the log as it is.
        design: Units, exposures, crossovers, estimator and further readings.
    """

    control: str
    treatments: tuple[str, ...]
    metrics: tuple[Metric, ...] | None = None
    slices: tuple[str, ...] = ()
    covariates: tuple[str, ...] | None = None
    alpha: float = 0.05
    planned_days: int = 7
    planned_users: int | None = None
    looks: Looks = "final"
    weights: Mapping[str, float] = field(default_factory=dict)
    srm_alpha: float = 0.001
    min_users: int = 100
    ignored_arms: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    rows: RowKind = "auto"
    dedupe: tuple[str, ...] = ()
    split_salt: str | None = None
    checks: bool = True
    seed: int = 1
    command: str = ""
    timezone: str = "UTC"
    implausible_times: Implausible = "refuse"
    separator: str | None = None
    decimal: str | None = None
    null_values: tuple[str, ...] = ()
    dtype: Mapping[str, str] = field(default_factory=dict)
    query: str | None = None
    design: Design = field(default_factory=Design)
    population: int | None = None

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise MicrecError.of("plan", faults)

    @property
    def arms(self) -> tuple[str, ...]:
        """Control first."""
        return (self.control, *self.treatments)

    @property
    def table(self) -> TableOptions:
        """How the cells of the log's files are read."""
        return TableOptions(self.separator, self.decimal, self.null_values, self.dtype)

    def weight(self, arm: str) -> float:
        return float(self.weights.get(arm, 1.0))

    def _faults(self) -> list[str]:
        faults = []
        if not self.treatments:
            faults.append("treatment: give at least one arm to compare with control.")
        repeated = [arm for arm in dict.fromkeys(self.arms) if self.arms.count(arm) > 1]
        faults += [f"arm {arm!r} is named {self.arms.count(arm)} times: each arm has one part." for arm in repeated]
        faults += [f"arm {arm!r} is compared and ignored: choose." for arm in self.arms if arm in self.ignored_arms]
        for name in ("alpha", "srm_alpha"):
            if not 0.0 < getattr(self, name) < 0.5:
                faults.append(f"{name}: must lie within (0, 0.5), got {getattr(self, name)}.")
        if not 1 <= self.planned_days <= 366:
            faults.append(f"planned-days: must lie within 1 and 366, got {self.planned_days}.")
        if self.planned_users is not None and self.planned_users < 2 * len(self.arms):
            faults.append(f"planned-users: must be at least 2 per arm, got {self.planned_users}.")
        if self.looks not in LOOKS:
            faults.append(f"looks: must be one of {', '.join(LOOKS)}, got {self.looks!r}.")
        if self.rows not in ROW_KINDS:
            faults.append(f"rows: must be one of {', '.join(ROW_KINDS)}, got {self.rows!r}.")
        if self.implausible_times not in ("refuse", "drop"):
            faults.append(f"implausible-times: must be refuse or drop, got {self.implausible_times!r}.")
        try:
            check_timezone(self.timezone)
        except MicrecError as fault:
            faults.append(str(fault))
        if self.population is not None and self.population < 1:
            faults.append(f"population: must be at least 1, got {self.population}.")
        faults += self.table.faults()
        if self.min_users < 2:
            faults.append(f"min-users: must be >= 2, got {self.min_users}.")
        faults += [f"weight of {arm!r}: no such arm in this test." for arm in self.weights if arm not in self.arms]
        if self.weights:
            missing = [arm for arm in self.arms if arm not in self.weights]
            faults += [f"weight of {arm!r} is missing: give all arms a weight or none." for arm in missing]
        faults += self.design.faults(self.arms, self.looks, self.planned_users)
        if self.split_salt is not None and self.design.unit:
            faults.append("split-by-hash: splits users, not units above them: leave out unit, or name arms of the log.")
        bad = [arm for arm, weight in self.weights.items() if not (math.isfinite(weight) and weight > 0)]
        return faults + [f"weight of {arm!r}: must be > 0, got {self.weights[arm]}." for arm in bad]
