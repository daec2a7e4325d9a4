"""From the options of ``micrec plan`` to a plan, and from a log of the past to the users that its lift needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abtest.analysis.metrics import MetricsFile
from abtest.analysis.plan import AnalysisPlan, listed, plan_from_text, read_shares
from abtest.analysis.plan_file import PlanFile, planned_entry, planned_metrics
from abtest.analysis.plan_size import PlannedSize, size_of
from abtest.analysis.planning import read_history
from micrec.errors import MicrecError
from micrec.settings import load_yaml, validate
from micrec.shipped import find_file

_LISTS = ("secondary", "slices", "covariates", "unit")
_SAME = (
    "question",
    "control",
    "estimator",
    "alpha",
    "looks",
    "planned_days",
    "planned_users",
    "least_users",
    "min_users",
    "crossovers",
)


def plan_of_options(
    options: Mapping[str, Any], reading: Mapping[str, Any], *, log: str | None, lift: float | None, power: float
) -> tuple[PlanFile, list[str]]:
    """The plan, and what its size rests on, in words.

    Args:
        options: Options of the command that are keys of the plan; None or empty where not given.
        reading: How the log is read, keywords of ``plan_from_text``.
        log: A log of the past, None without.
        lift: Lift that the test should find.
        power: Chance to find it.

    Raises:
        MicrecError: If an option or the log breaks a rule; a lift without a log, or a log without a lift.
    """
    data: dict[str, Any] = {key: options[key] for key in _SAME if options.get(key) is not None}
    data |= {key: list(listed(options[key])) for key in _LISTS if options.get(key)}
    if options.get("treatment"):
        data["treatments"] = list(options["treatment"])
    for option, key in (("primary", "primary"), ("guardrail", "guardrails")):
        if options.get(option):
            entries = [planned_entry(text, f"--{option}") for text in options[option]]
            data[key] = [one if isinstance(one, str) else one.model_dump(exclude_unset=True) for one in entries]
    if options.get("weights"):
        data["weights"], faults = read_shares(options["weights"])
        if faults:
            raise MicrecError.of("plan", faults)
    if options.get("triggered"):
        data["triggered"] = True
    if options.get("metrics") is not None:
        data = _of_metrics_file(options["metrics"], data)
    if reading.get("timezone", "UTC") != "UTC":
        data["timezone"] = reading["timezone"]
    if lift is not None:
        data["planned_lift"] = lift
    plan = validate(PlanFile, data, where="plan")
    planned_metrics(plan, "plan")
    if log is None:
        return plan, []
    if plan.unit:
        raise MicrecError(
            "--unit: users of one unit are alike, so a log without units assigned does not tell how many are needed: "
            "leave out the log, and give --planned-users."
        )
    if lift is None:
        raise MicrecError("--lift: a log is read to plan the users that a lift needs: give the lift, such as 2%.")
    sizes = _sizes(plan, log, reading, lift, power)
    most = max(one.users for one in sizes)
    if plan.planned_users is None:
        plan = validate(PlanFile, {**data, "planned_users": most}, where="plan")
    return plan, [_line(one, plan, lift, power) for one in sizes]


def _sizes(plan: PlanFile, log: str, reading: Mapping[str, Any], lift: float, power: float) -> list[PlannedSize]:
    asked: AnalysisPlan = plan_from_text(
        control="A",
        treatments=["B"],
        metrics=tuple(planned_metrics(plan, "plan")),
        slices=plan.slices,
        covariates=plan.covariates,
        **reading,
    )
    return size_of(plan, read_history(log, asked), lift=lift, power=power)


def _line(one: PlannedSize, plan: PlanFile, lift: float, power: float) -> str:
    days = f", {one.days:,} days" if one.days is not None else ""
    left = (
        f", {100 * one.unexplained:.0f} % of the variance left by {plan.estimator}" if plan.estimator != "welch" else ""
    )
    return (
        f"{one.metric}: {one.users:,} users of all arms{days} find {100 * lift:+.3g} % {100 * power:.0f} % of the time "
        f"(level {one.level:.3g}{left})"
    )


def _of_metrics_file(path: Path, data: dict[str, Any]) -> dict[str, Any]:
    """The lists and definitions of a metrics file, under what the options say."""
    found = find_file(path)
    file = validate(MetricsFile, load_yaml(found), where=str(found))
    lists = {key: getattr(file, key) for key in ("primary", "guardrails", "secondary", "slices")}
    data = {**lists, **data}
    named = {one if isinstance(one, str) else one["metric"] for key in ("primary", "guardrails") for one in data[key]}
    named |= set(data["secondary"])
    own = {name: one.model_dump(exclude_unset=True) for name, one in file.metrics.items() if name in named}
    return {**data, "metrics": own}
