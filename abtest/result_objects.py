"""What the calls of ``abtest`` return: frozen results with frames for programs, text and HTML for people.

Each is a view of the contents of a ``results.json`` or of the tables that a command prints, so that what a notebook
shows, a command prints and a file holds cannot differ.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import polars as pl

from abtest.report.tables import Table
from abtest.run_folder import HTML_FILE
from micrec.errors import MicrecError
from micrec.notebook import Displayed, ResultTable

if TYPE_CHECKING:
    from abtest.analysis.lift_prior import LiftPrior
    from abtest.analysis.past_tests import PastTests

Data = Mapping[str, Any]

_EFFECT_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("family", "metric", "slice", "treatment"), pl.String),
    "control_n": pl.Int64,
    "control_mean": pl.Float64,
    "treatment_n": pl.Int64,
    "treatment_mean": pl.Float64,
    **dict.fromkeys(("difference", "difference_low", "difference_high", "lift", "lift_low", "lift_high"), pl.Float64),
    "p": pl.Float64,
    "p_adjusted": pl.Float64,
    "significant": pl.Boolean,
    "outcome": pl.String,
    "valid": pl.Boolean,
    "reason": pl.String,
    "true_lift": pl.Float64,
    "true_lift_se": pl.Float64,
}


_MOST_OPEN = 3  # tables of an offline comparison that are shown: models, primary and secondary metrics
_FIRST = ("dataset", "model", "arm", "seed")  # columns that say whose row it is


class Decision(NamedTuple):
    """The verdict on one treatment.

    Attributes:
        arm: The treatment.
        decision: ``ship``, ``hold`` or ``stop``.
        headline: One sentence.
        reasons: Sentences, the strongest first.
    """

    arm: str
    decision: str
    headline: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class AnalysisResult(Displayed):
    """A judged experiment: validity first, then effects, then the verdict.

    Attributes:
        results: Contents of ``results.json``, as its schema describes them; not to be changed.
    """

    results: Data = field(repr=False)

    @property
    def valid(self) -> bool:
        """Whether the comparison as a whole is valid; a sample-ratio mismatch makes it invalid."""
        return bool(self.results["valid"])

    @property
    def verdicts(self) -> tuple[Decision, ...]:
        """The decision on each treatment, in the order of the plan."""
        return tuple(_decision(verdict) for verdict in self.results["verdicts"])

    @property
    def decision(self) -> str:
        """The decision, where there is one treatment.

        Raises:
            MicrecError: If there are several: ``verdicts`` has one for each.
        """
        if len(self.verdicts) != 1:
            raise MicrecError(f"decision: there are {len(self.verdicts)} treatments: read verdicts, one for each.")
        return self.verdicts[0].decision

    @property
    def alarms(self) -> tuple[str, ...]:
        """What makes the comparison or a part of it invalid, as sentences."""
        return tuple(self.results["alarms"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or assumed, as sentences."""
        return tuple(self.results["notes"])

    @property
    def srm(self) -> pl.DataFrame:
        """Sample ratios: ``scope`` (all, slice, day), ``slice``, ``day``, ``p``, ``alarm``, and users by arm."""
        rows = [
            {
                **{key: check[key] for key in ("scope", "slice", "day", "p", "alarm")},
                **{f"users_{arm}": count for arm, count in check["counts"].items()},
            }
            for check in self.results["srm"]
        ]
        texts = dict.fromkeys(("scope", "slice", "day"), pl.String)
        return pl.DataFrame(rows, schema_overrides=texts, infer_schema_length=None)

    def to_frame(self) -> pl.DataFrame:
        """One row per effect: metric, slice and treatment against control.

        Returns:
            ``family`` (primary, guardrail, secondary, slice), ``metric``, ``slice``, ``treatment``; users and means of
            both arms; ``difference`` (treatment - control, in the metric's unit) and ``lift`` (a share of the control's
            mean) with their intervals ``…_low`` and ``…_high``; ``p``, ``p_adjusted``, ``significant``, ``outcome``,
            ``valid``, ``reason``; ``true_lift`` and its standard error where a simulator knows them. Undefined is null.
        """
        return effects_frame(self.results["effects"])

    def to_dict(self) -> dict[str, Any]:
        """The contents of ``results.json``, a copy."""
        return copy.deepcopy(dict(self.results))

    def save(self, folder: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write ``results.json``, ``report.html``, ``report.md`` and ``table.tex``.

        Args:
            folder: Where to; made if it is not there.
            overwrite: Replace a finished analysis that lies there.

        Returns:
            The path of the HTML report.

        Raises:
            MicrecError: If the folder holds something else or a finished analysis, or cannot be written.
        """
        from abtest.analysis.output import check_out, write_results

        check_out(Path(folder), force=overwrite)
        write_results(self.results, Path(folder))
        return Path(folder) / HTML_FILE

    def _lines(self) -> list[str]:
        return experiment_lines(self.results)

    def _tables(self) -> list[ResultTable]:
        return experiment_tables(self.results)


@dataclass(frozen=True, repr=False)
class PowerResult(Displayed):
    """A planned test: what each lift needs, and the smallest lift that given users find.

    Attributes:
        tables: As ``micrec power`` prints them: users needed, then, if users are known, the smallest lift.
    """

    tables: Sequence[Table] = field(repr=False)

    @property
    def smallest_lift(self) -> pl.DataFrame:
        """``metric``, ``users`` of both arms, ``lift`` found with the asked power, ``reason``; empty without users."""
        rows = self.tables[1].data if len(self.tables) > 1 else ()
        schema = {"metric": pl.String, "users": pl.Int64, "lift": pl.Float64, "reason": pl.String}
        return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)

    def to_frame(self) -> pl.DataFrame:
        """One row per metric and lift.

        Returns:
            ``metric``, ``lift``, ``power``, ``alpha`` (two-sided level of this metric), ``n_control``, ``n_treatment``
            (users), ``days``, ``reason`` of what is null.
        """
        schema = {
            "metric": pl.String,
            "lift": pl.Float64,
            "power": pl.Float64,
            "alpha": pl.Float64,
            "n_control": pl.Int64,
            "n_treatment": pl.Int64,
            "days": pl.Int64,
            "reason": pl.String,
        }
        return pl.DataFrame(list(self.tables[0].data), schema=schema)

    def to_dict(self) -> dict[str, Any]:
        """What ``micrec power --json`` prints, without the command."""
        return _tables_dict(self.tables, "power")

    def _lines(self) -> list[str]:
        return []

    def _tables(self) -> list[ResultTable]:
        return [_shown(table) for table in self.tables]


@dataclass(frozen=True, repr=False)
class AaResult(Displayed):
    """Thousands of A/A splits of a log: false alarms of its metrics and coverage of their intervals.

    Attributes:
        table: As ``micrec aa`` prints it.
    """

    table: Table = field(repr=False)

    @property
    def sound(self) -> bool:
        """Whether the rate of false alarms of every metric is the level, up to the noise of the splits."""
        return all(row["sound"] for row in self.table.data)

    def to_frame(self) -> pl.DataFrame:
        """One row per metric and planted lift.

        Returns:
            ``metric``, ``users``, ``alpha``, ``rate`` of false alarms with its 99 % interval ``rate_low``,
            ``rate_high``, ``uniform_p`` (Kolmogorov's), ``sound``, ``reason``; and for each planted ``lift`` the
            ``coverage`` of its interval and the ``power`` to find it.
        """
        rows = []
        for row in self.table.data:
            low, high = row["rate_ci"] or (None, None)
            found = {"rate": row["rate"], "rate_low": low, "rate_high": high, "uniform_p": row["ks_p"]}
            head = {name: row[name] for name in ("metric", "users", "alpha")} | found
            head |= {"sound": row["sound"], "reason": row["reason"]}
            known = row["planted"] or [{"lift": None, "coverage": None, "power": None}]
            rows += [head | {name: planted[name] for name in ("lift", "coverage", "power")} for planted in known]
        return pl.DataFrame(rows, schema_overrides={"reason": pl.String}, infer_schema_length=None)

    def to_dict(self) -> dict[str, Any]:
        """What ``micrec aa --json`` prints, without the command."""
        return _tables_dict([self.table], "aa")

    def _lines(self) -> list[str]:
        return ["sound" if self.sound else "NOT SOUND, or not testable: see the verdict of each metric"]

    def _tables(self) -> list[ResultTable]:
        return [_shown(self.table)]


@dataclass(frozen=True, repr=False)
class HistoryResult(Displayed):
    """What past tests together teach.

    Attributes:
        tables: As ``micrec history`` prints them.
        counts: Treatments by decision: ship, hold, stop, invalid; A/A tests aside.
        priors: Normal distribution of each metric's true lifts, as shares.
        library: All tests and metrics, as they were read.
        folder: Where from.
    """

    tables: Sequence[Table] = field(repr=False)
    counts: Mapping[str, int]
    priors: Mapping[str, "LiftPrior"]
    library: "PastTests" = field(repr=False)
    folder: str

    def to_frame(self, part: Literal["metrics", "tests", "to come"] = "metrics") -> pl.DataFrame:
        """A table of the library.

        Args:
            part: ``metrics``: one row per metric, with mean and spread of its true lifts and what shipped, as measured
                and shrunken; ``tests``: one row per treatment of a past test; ``to come``: what tests of some sizes
                will bring.
        """
        titles = {"metrics": "Metrics", "tests": "Past tests", "to come": "Tests to come"}
        if part not in titles:
            raise MicrecError(f"to_frame: there is no part {part!r}: choose from {', '.join(titles)}.")
        table = next(table for table in self.tables if table.title == titles[part])
        rows = [{key: value for key, value in row.items() if not isinstance(value, Mapping)} for row in table.data]
        return pl.DataFrame(rows, infer_schema_length=None)

    def to_dict(self) -> dict[str, Any]:
        """What ``micrec history --json`` prints, without the command."""
        return _tables_dict(self.tables, "history")

    def save_page(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the page that ``micrec history --html`` writes."""
        from abtest.analysis.past_page import write_page

        write_page(Path(path), self.library, self.folder, force=overwrite)
        return Path(path)

    def save_prior(self, path: str | PathLike[str]) -> Path:
        """Write the priors, for ``analyze(..., design={"prior": path})``."""
        from abtest.analysis.lift_prior import write_prior

        write_prior(Path(path), self.priors)
        return Path(path)

    def _lines(self) -> list[str]:
        return [
            f"{sum(self.counts.values())} treatments: {', '.join(f'{n} {name}' for name, n in self.counts.items())}"
        ]

    def _tables(self) -> list[ResultTable]:
        return [_shown(table) for table in self.tables]


@dataclass(frozen=True, repr=False)
class ScenarioResult(Displayed):
    """What a scenario of any kind found.

    Attributes:
        results: Contents of ``results.json``, as its schema describes them; not to be changed.
        folder: The run folder, with the report and every trained model's metrics.
        temporary: Whether the folder goes with this object.
    """

    results: Data = field(repr=False)
    folder: Path
    temporary: bool = field(default=False, compare=False)

    @property
    def kind(self) -> str:
        """Kind of the scenario, such as ``offline_ab``, ``table`` or ``online_ab``."""
        return str(self.results["kind"])

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self.results["scenario"]["name"])

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / HTML_FILE

    @property
    def verdicts(self) -> tuple[str, ...]:
        """What was found, as sentences: verdicts of an experiment, answered claims of a table."""
        return tuple(_verdict_lines(self.results))

    @property
    def parts(self) -> tuple[str, ...]:
        """What ``to_frame`` can give of this run, its default first."""
        return tuple(part for part in ("effects", "models", "datasets") if self.results.get(part))

    def to_frame(self, part: str | None = None) -> pl.DataFrame:
        """A part of the results as a table.

        Args:
            part: ``effects``: one row per tested pair, metric and slice; ``models``: one row per trained model or
                baseline, with all its metrics; ``datasets``: one row per dataset, with its counts. None: the first of
                ``parts``.

        Returns:
            For experiments on a platform ``effects`` is as in ``AnalysisResult.to_frame``. Otherwise the columns
            are the keys of ``results.json``, levels joined by dots, such as ``treatment.mean`` or ``tail.hit@50``, and
            an interval is two columns, ``…_low`` and ``…_high``.

        Raises:
            MicrecError: If the run has no such part.
        """
        chosen = self.parts[0] if part is None else part
        if chosen not in self.parts:
            raise MicrecError(
                f"to_frame: a run of kind {self.kind} has no {part}: choose from {', '.join(self.parts)}."
            )
        rows = self.results[chosen]
        if chosen == "effects" and _is_experiment(self.results):
            return effects_frame(rows)
        if chosen == "datasets":
            rows = [{"dataset": name, **facts} for name, facts in rows.items()]
        flat = [_flat(row) for row in rows]
        names = dict.fromkeys([*_FIRST, *(name for row in flat for name in row)])
        there = {name for row in flat for name in row}
        parted = {name.partition(".")[0] for name in there if "." in name}  # null where other rows have levels below
        columns = [name for name in names if name in there and name not in parted]
        return pl.DataFrame([{name: row.get(name) for name in columns} for row in flat], infer_schema_length=None)

    def to_dict(self) -> dict[str, Any]:
        """The contents of ``results.json``, a copy."""
        return copy.deepcopy(dict(self.results))

    def _lines(self) -> list[str]:
        title = str(self.results["scenario"].get("title") or f"{self.name} ({self.kind})")
        return [title, *self.verdicts, *([] if self.temporary else [f"report: {self.report}"])]

    def _tables(self) -> list[ResultTable]:
        return _scenario_tables(self.results)


def effects_frame(effects: Iterable[Data]) -> pl.DataFrame:
    """Effects of an experiment's ``results.json``, one row each; see ``AnalysisResult.to_frame``."""
    return pl.DataFrame([_effect(effect) for effect in effects], schema=_EFFECT_SCHEMA)


def experiment_lines(results: Data) -> list[str]:
    """Alarms, then each verdict with its reasons, then notes."""
    lines = [f"NOT VALID: {alarm}" for alarm in results["alarms"]]
    for verdict in results["verdicts"]:
        lines += [f"{verdict['decision'].upper()}: {verdict['headline']}", *verdict["reasons"]]
    return [*lines, *(f"note: {note}" for note in results["notes"])]


def experiment_tables(results: Data) -> list[ResultTable]:
    """Sample ratios, balance, and effects by family."""
    from abtest.report.pages import experiment_tables as tables

    families = [tables.effect_table(results, family) for family in tables.FAMILIES]
    found = tables.filled([tables.srm_table(results), tables.balance_table(results), *families])
    return [_shown(table) for table in found]


def _is_experiment(results: Data) -> bool:
    """Whether users were in arms, on a platform or in a log."""
    return "verdicts" in results


def _verdict_lines(results: Data) -> list[str]:
    if _is_experiment(results):
        return experiment_lines(results)
    if "orderings" in results:
        return [_claim_line(one) for one in results["orderings"]]
    if results["kind"] == "offline_ab":
        from abtest.report.pages.two_arm_verdict import verdict

        return verdict(results)
    return []


def _claim_line(ordering: Data) -> str:
    counts = ordering["counts"]
    steps = f"{counts['holds']} for, {counts['does not hold']} against, {counts['not shown']} open"
    return f"{ordering['claim']}: {ordering['verdict']} ({steps})"


def _scenario_tables(results: Data) -> list[ResultTable]:
    if _is_experiment(results):
        from abtest.report.sections import section_of

        sections = [section_of(data) for data in results["sections"]]
        lead = [table for section in sections[:1] for table in section.tables if not table.folded]
        return [*(_shown(table) for table in lead), *experiment_tables(results)]
    if "orderings" in results:
        from abtest.report.pages.table_layout import effect_table, main_table

        names = results["datasets"]
        found = [make(results, name) for name in names for make in (main_table, effect_table)]
    elif results["kind"] == "offline_ab":
        from abtest.report.tables import report_tables

        found = [table._replace(folded=place >= _MOST_OPEN) for place, table in enumerate(report_tables(results))]
    elif "squares" in results:
        from abtest.report.pages.gain_map_page import square_tables

        found = square_tables(results)
    elif results["kind"] == "statistics":
        from abtest.offline.dataset_statistics import count_table, shape_table

        found = [count_table(results), shape_table(results)]
    else:  # a kind of another package, whose parts to_frame gives
        found = []
    return [_shown(table) for table in found if table.rows]


def _decision(verdict: Data) -> Decision:
    return Decision(verdict["arm"], verdict["decision"], verdict["headline"], tuple(verdict["reasons"]))


def _effect(effect: Data) -> dict[str, Any]:
    control, treatment, truth = effect["control"], effect["treatment"], effect["truth"] or {}
    difference, lift = effect["difference_ci"] or (None, None), effect["lift_ci"] or (None, None)
    values = (
        *(effect["family"], effect["metric"], effect["slice"], treatment["arm"]),
        *(control["n"], control["mean"], treatment["n"], treatment["mean"]),
        *(effect["difference"], *difference, effect["lift"], *lift),
        *(effect["p"], effect["p_adjusted"], effect["significant"], effect["outcome"]),
        *(effect["valid"], effect["reason"], truth.get("lift"), truth.get("se")),
    )
    return dict(zip(_EFFECT_SCHEMA, map(_number, values), strict=True))


def _number(value: Any) -> Any:
    """Infinity is text in JSON."""
    return float(value) if value in ("inf", "-inf") else value


def _flat(row: Data, prefix: str = "") -> dict[str, Any]:
    """Levels joined by dots; intervals as two columns, slices without the word; other lists are left out."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= _flat(value, "" if key == "slices" else f"{name}.")
        elif key.endswith("_ci"):
            low, high = value or (None, None)
            flat |= {f"{name[:-3]}_low": _number(low), f"{name[:-3]}_high": _number(high)}
        elif not isinstance(value, list | tuple):
            flat[name] = _number(value)
    return flat


def _tables_dict(tables: Sequence[Table], kind: str) -> dict[str, Any]:
    from abtest.analysis.planning import tables_data
    from abtest.run_folder import jsonable

    found = jsonable(tables_data(tables, kind=kind, command=""))
    del found["command"]
    assert isinstance(found, dict)
    return found


def _shown(table: Table) -> ResultTable:
    return ResultTable(table.title, tuple(table.header), table.rows, table.notes, table.folded)
