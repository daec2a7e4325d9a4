"""Experiments as calls on plain objects: judging a log, planning a test, A/A splits, and whole scenarios.

The names of this module are those of the package: ``import abtest`` and call ``abtest.analyze(...)``. Logs are Polars
or pandas frames, columns by name as NumPy arrays, or paths. A mistake of the caller raises
``MicrecError``, whose message says what to change.
"""

import json
import time
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Unpack

import polars as pl

from abtest.result_objects import AaResult, AnalysisResult, HistoryResult, PowerResult, ScenarioResult
from abtest.run_folder import RESULTS_FILE, SCHEMA
from micrec.errors import MicrecError
from micrec.frames import Frame, as_frame
from micrec.parallel import ExecutorLike, check_executor
from micrec.progress import Progress
from micrec.settings import as_mapping, check_numbers, nested
from micrec.temporary import in_folder

if TYPE_CHECKING:
    from abtest.analysis.plan import AnalysisPlan, Looks, RowKind
    from micrec.data.times import Implausible

StrPath: TypeAlias = str | PathLike[str]
Settings: TypeAlias = Mapping[str, Any]
"""Keys with their values; dots part levels, as in ``{"base.train.epochs": 2}``."""
MetricsLike: TypeAlias = StrPath | Mapping[str, Any]
"""A YAML file of metrics, or its keys: ``{"primary": ["ACC"], "metrics": {...}}``."""


class LogReading(TypedDict, total=False):
    """How a log is read, as keywords of ``power`` and ``aa``; each as for ``analyze``."""

    columns: Mapping[str, str] | None
    rows: "RowKind"
    dedupe: Sequence[str]
    timezone: str
    query: str | None
    separator: str | None
    decimal: str | None
    null_values: Sequence[str]
    dtype: Mapping[str, str] | None
    implausible_times: "Implausible"


_DEFAULTS: tuple[Any, ...] = ("control", ("treatment",), None, (), None, {}, 0.05, 7, None, "final", 100, "UTC")


def analyze(
    log: Frame | StrPath,
    *,
    control: str = "control",
    treatment: str | Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    metrics: MetricsLike | None = None,
    slices: Sequence[str] = (),
    covariates: Sequence[str] | None = None,
    alpha: float = 0.05,
    planned_days: int = 7,
    planned_users: int | None = None,
    looks: "Looks" = "final",
    weights: Mapping[str, float] | None = None,
    ignore_arms: Sequence[str] = (),
    rows: "RowKind" = "auto",
    dedupe: Sequence[str] = (),
    timezone: str = "UTC",
    query: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    null_values: Sequence[str] = (),
    dtype: Mapping[str, str] | None = None,
    implausible_times: "Implausible" = "refuse",
    split_by_hash: str | None = None,
    min_users: int = 100,
    population: int | None = None,
    checks: bool = True,
    plan: StrPath | None = None,
    design: Mapping[str, Any] | None = None,
    out: StrPath | None = None,
    overwrite: bool = False,
) -> AnalysisResult:
    """Judge an experiment from its log: validity, effects, verdict.

    Args:
        log: A row per user, day, part or event: a frame, columns by name, or the path of a file or folder of parts.
            ``user_id``, ``arm``, and counts such as ``clicks`` and ``dwell_s`` (s); with ``day`` or ``timestamp`` also
            what happens day by day.
        control: Name of the control arm in the log.
        treatment: Name of the treatment arm, or of several; default ``treatment``.
        columns: Our column by the log's, or by an expression on its columns: ``{"dwell_s": "play_ms/1000"}``.
        metrics: What is measured; None: the named metrics whose columns the log has.
        slices: Columns known before exposure.
        covariates: Columns from before exposure, for CUPED; None: all ``pre_*``.
        alpha: False alarms allowed over all primary metrics together.
        planned_days: Length the test was planned for.
        planned_users: Users of all arms at the planned end, for looks before it.
        looks: ``final``: read once at the end; ``daily``: a planned look a day; ``open``: any number of looks.
        weights: Planned share of users by arm, up to a factor; None: equal.
        ignore_arms: Arms of the log to leave out.
        rows: What a row is: ``users``, ``days``, ``parts``, ``events``; ``auto`` tells by the columns.
        dedupe: Columns; rows alike in all of them are repeats, and the first is kept.
        timezone: Zone in which days are cut, and of times that name none.
        query: DuckDB query whose result is the log, on the tables of a DuckDB file or on files as table ``log``.
        separator: Between the cells of a CSV file; None: recognised.
        decimal: Decimal mark of a CSV file: ``comma`` or ``point``; None: recognised.
        null_values: Cells of a CSV file that mean no value.
        dtype: Types of columns of the file: ``text``, ``integer``, ``number``, ``boolean``; None: recognised.
        implausible_times: ``refuse`` or ``drop`` rows with a time before 1990 or in the future.
        split_by_hash: Make an A/A of any log: split its users by a hash with this salt.
        min_users: Fewest users per arm for a slice to be judged.
        population: Users that the reports scale the effect to; None: those of the test.
        checks: Quantiles, bootstrap and ranks: slower, they read every value.
        plan: Plan file of ``micrec plan``, which decides what it names; what contradicts it is refused.
        design: Units, crossovers, exposures, estimator and further readings by the names of the options of ``micrec
            analyze``: ``{"unit": ["household"]}``, ``{"crossovers": "drop", "prior": "0,0.02"}``.
        out: Folder for ``results.json`` and the reports; None: none is written.
        overwrite: Replace a finished analysis in ``out``.

    Returns:
        The verdicts, effects, sample ratios and notes; ``save(folder)`` writes the reports.

    Raises:
        MicrecError: If the log or the plan breaks a rule; all errors at once.

    Examples:
        >>> import abtest, numpy as np
        >>> rng, arm = np.random.default_rng(0), np.repeat(["A", "B"], 2000)
        >>> log = {"user_id": np.arange(4000), "arm": arm, "clicks": rng.poisson(np.where(arm == "B", 2.4, 2.0))}
        >>> abtest.analyze(log, control="A", treatment="B").decision
        'ship'
    """
    started_s = time.perf_counter()
    from abtest.analysis.analysis import analyse
    from abtest.analysis.output import check_out
    from abtest.analysis.plan import AnalysisPlan, plan_of
    from abtest.analysis.plan_settings import design_of, design_settings, settled
    from abtest.analysis.results import results_of
    from abtest.analysis.userlog import log_of, read_log
    from micrec.data.locations import local_paths
    from micrec.destination import check_destination

    check_numbers(alpha=alpha, planned_days=planned_days, planned_users=planned_users, min_users=min_users)
    check_numbers(population=population)
    shares = as_mapping("weights", weights)
    check_numbers(**{f"weights.{arm}": share for arm, share in shares.items()})
    source = _log(log)
    if out is not None:
        inputs = local_paths(source) if isinstance(source, str) else []
        check_destination(Path(out), *inputs, what="the report")
        check_out(Path(out), force=overwrite)
    chosen, more_slices = _metrics(metrics)
    settings: dict[str, Any] = {
        "control": control,
        "treatment": _treatments(treatment, split_by_hash),
        "metrics": chosen,
        "slices": tuple(dict.fromkeys([*more_slices, *_names("slices", slices)])),
        "covariates": None if covariates is None else _names("covariates", covariates),
        "weights": shares,
        "alpha": alpha,
        "planned_days": planned_days,
        "planned_users": planned_users,
        "looks": looks,
        "min_users": min_users,
        "timezone": timezone,
    }
    defaults = dict(zip(settings, _DEFAULTS, strict=True))
    designed = design_settings(design)
    exposures = designed.pop("exposures", None)
    given = {name for name in settings if settings[name] != defaults[name]} | set(design or ())
    settings = settled(
        settings | designed, None if plan is None else Path(plan), given, exposures=exposures is not None
    )
    asked = plan_of(
        settings,
        design_of(settings, exposures=exposures),
        AnalysisPlan,
        columns=as_mapping("columns", columns),
        ignored_arms=_names("ignore_arms", ignore_arms),
        rows=rows,
        dedupe=_names("dedupe", dedupe),
        separator=separator,
        decimal=decimal,
        null_values=_names("null_values", null_values),
        dtype=as_mapping("dtype", dtype),
        query=query,
        implausible_times=implausible_times,
        split_salt=split_by_hash,
        population=population,
        checks=checks,
    )
    read = log_of(source, asked, tell_unused=True) if isinstance(source, pl.DataFrame) else read_log(source, asked)
    result = AnalysisResult(results_of(analyse(read, asked, started_s=started_s)))
    if out is not None:
        result.save(out, overwrite=overwrite)
    return result


def power(
    log: Frame | StrPath | None = None,
    *,
    mean: float | None = None,
    sd: float | None = None,
    lifts: Sequence[float] = (0.01, 0.02, 0.05),
    power: float = 0.8,
    alpha: float = 0.05,
    treatment_share: float = 0.5,
    users: int | None = None,
    users_per_day: float | None = None,
    primaries: int | None = None,
    looks: Literal["final", "daily"] = "final",
    planned_days: int = 7,
    metrics: MetricsLike | None = None,
    **reading: Unpack[LogReading],
) -> PowerResult:
    """Plan a test: users and days for a lift, and the smallest lift that given users find.

    Args:
        log: A log of the past, with or without arms, as for ``analyze``; or give ``mean`` and ``sd``.
        mean: Mean of the metric per user, without a log.
        sd: Its standard deviation per user, without a log.
        lifts: True lifts to find, as shares of the mean: 0.02 is +2 %.
        power: Chance to find them.
        alpha: Two-sided level, over all primary metrics together.
        treatment_share: Share of the users in the treatment.
        users: Users of both arms, to tell the smallest lift they find; None: those of the log.
        users_per_day: New users of both arms a day, to tell days; None: those of the log, if it has days.
        primaries: Primary metrics that share the level; None: those of the log, else 1.
        looks: ``final``: read once at the end; ``daily``: a planned look on each of ``planned_days`` days.
        planned_days: Days of the test.
        metrics: What is measured; None: the named metrics whose columns the log has.
        **reading: How the log is read, as for ``analyze``: ``columns``, ``rows``, ``dedupe``, ``timezone``, ``query``,
            ``separator``, ``decimal``, ``null_values``, ``dtype`` and ``implausible_times``.

    Returns:
        ``to_frame()``: users and days for each metric and lift; ``smallest_lift``: what given users find.

    Raises:
        MicrecError: If a number is out of range or the log breaks a rule; all errors at once.

    Examples:
        >>> import abtest
        >>> plan = abtest.power(mean=2.5, sd=4, lifts=[0.02], users_per_day=20_000)
        >>> plan.to_frame().select("n_control", "days").row(0)
        (102496, 11)
    """
    from abtest.analysis.planning import PowerQuestion, plan_from_log, plan_from_numbers, read_history

    if looks not in ("final", "daily"):
        raise MicrecError(f"looks: must be final or daily, got {looks!r}.")
    lifts = _lifts(lifts)
    check_numbers(
        mean=mean, sd=sd, power=power, alpha=alpha, treatment_share=treatment_share, users_per_day=users_per_day
    )
    check_numbers(users=users, primaries=primaries, planned_days=planned_days)
    question = PowerQuestion(
        lifts=lifts,
        power=power,
        alpha=alpha,
        treatment_share=treatment_share,
        users=users,
        users_per_day=users_per_day,
        primaries=primaries,
        looks=planned_days if looks == "daily" else 1,
    )
    try:
        if log is not None:
            if mean is not None or sd is not None:
                raise MicrecError("mean and sd are for plans without a log: leave them out, or the log.")
            return PowerResult(tuple(plan_from_log(read_history(_log(log), _plan_of_past(metrics, reading)), question)))
        if metrics is not None:
            raise MicrecError("metrics: needs a log; without one give their number as primaries.")
        if mean is None or sd is None:
            raise MicrecError("give a log, or both mean and sd of the metric per user.")
        return PowerResult(tuple(plan_from_numbers(mean, sd, question)))
    except ValueError as fault:  # a number out of range
        raise MicrecError(str(fault)) from None


def aa(
    log: Frame | StrPath,
    *,
    splits: int = 10_000,
    alpha: float = 0.05,
    lifts: Sequence[float] = (0.02, 0.05),
    seed: int = 0,
    metrics: MetricsLike | None = None,
    **reading: Unpack[LogReading],
) -> AaResult:
    """Split a log's users at random thousands of times: false alarms of its metrics, coverage of their intervals.

    Args:
        log: As for ``analyze``, with or without arms.
        splits: Random A/A splits.
        alpha: Two-sided level of each test.
        lifts: Lifts to plant, as shares of the mean, for coverage and power.
        seed: Random seed of the splits.
        metrics: What is measured; None: the named metrics whose columns the log has.
        **reading: How the log is read, as for ``analyze``: ``columns``, ``rows``, ``dedupe``, ``timezone``, ``query``,
            ``separator``, ``decimal``, ``null_values``, ``dtype`` and ``implausible_times``.

    Returns:
        ``sound``: whether false alarms are as frequent as alpha; ``to_frame()`` has rates, coverage and power.

    Raises:
        MicrecError: If a number is out of range or the log breaks a rule; all errors at once.

    Examples:
        >>> import abtest, numpy as np
        >>> log = {"user_id": np.arange(2000), "clicks": np.random.default_rng(0).poisson(2.0, 2000)}
        >>> abtest.aa(log, splits=500).sound
        True
    """
    from abtest.analysis.planning import calibration_table, read_history

    if not (isinstance(splits, int) and splits >= 1):
        raise MicrecError(f"splits: must be a whole number >= 1, got {splits!r}.")
    check_numbers(alpha=alpha, seed=seed)
    lifts = _lifts(lifts)
    for planted in lifts:
        if not (-1.0 < planted < 1e6):
            raise MicrecError(f"lifts: {planted:g}: must be a number above -1 (-100 %).")
    history = read_history(_log(log), _plan_of_past(metrics, reading))
    try:
        return AaResult(calibration_table(history, splits=splits, alpha=alpha, lifts=lifts, seed=seed))
    except ValueError as fault:
        raise MicrecError(str(fault)) from None


def history(folder: StrPath, *, simulated: bool = False) -> HistoryResult:
    """What past tests together teach: decisions, what shipping gained, A/A record, tests to come.

    Args:
        folder: Folder with the report folders of past tests in it, at any depth.
        simulated: Take simulated experiments instead of analysed logs.

    Returns:
        ``to_frame()`` has one row per metric; ``save_prior(path)`` writes the lifts of the past for ``analyze``.

    Raises:
        MicrecError: If the folder holds no results of past tests.

    Examples:
        >>> import abtest, numpy as np
        >>> rng, arm = np.random.default_rng(0), np.repeat(["A", "B"], 2000)
        >>> for test in range(3):
        ...     clicks = rng.poisson(np.where(arm == "B", 2.0 + 0.2 * test, 2.0))
        ...     log = {"user_id": np.arange(4000), "arm": arm, "clicks": clicks}
        ...     _ = abtest.analyze(log, control="A", treatment="B", out=f"reports/{test}", checks=False)
        >>> past = abtest.history("reports")
        >>> past.counts["ship"], past.to_frame()["metric"].to_list()
        (2, ['ACC'])
    """
    from abtest.analysis.past_tables import history_tables
    from abtest.analysis.past_tests import read_library

    library = read_library(Path(folder), simulated=simulated)
    return HistoryResult(tuple(history_tables(library)), library.counts, library.priors(), library, fspath(folder))


def run_scenario(
    scenario: StrPath | Mapping[str, Any],
    settings: Settings | None = None,
    *,
    out: StrPath | None = None,
    workers: int | None = None,
    executor: ExecutorLike = "processes",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ScenarioResult:
    """Run a scenario of any kind: offline comparisons and tables of models, experiments on a simulated platform.

    Args:
        scenario: The name of a shipped scenario (``micrec scenario list``), the path of a YAML file, or a mapping of
            its keys, which may have ``extends``.
        settings: Keys laid over it: ``{"data": "data/retail", "seeds": 2, "base.train.epochs": 1}``.
        out: Run folder; an interrupted run found there goes on where it stopped. None takes a temporary folder, which
            lasts as long as the result.
        workers: Models or worlds at a time; None: one per core. Any number gives the same results.
        executor: Where they are trained or simulated: ``local`` (this process), ``processes``, ``dask://ADDRESS`` of a
            scheduler, or a ``concurrent.futures.Executor`` of processes. The results are the same.
        overwrite: Replace a finished run in ``out``.
        progress: Where to report; ``micrec.LineProgress()`` prints.

    Returns:
        Verdicts, effects and models; ``report`` is the path of the HTML report.

    Raises:
        MicrecError: If a key is invalid (all errors at once), ``out`` is taken, the data are invalid, or a training
            fails.

    Examples:
        >>> import abtest
        >>> counted = abtest.run_scenario("table1", {"datasets.video.scale": 0.0005, "datasets.news.scale": 0.001})
        >>> counted.to_frame()["dataset"].to_list()
        ['video', 'news']
    """
    from abtest.scenario_files import scenario_of
    from abtest.scenario_kinds import SCENARIO_KINDS

    if not isinstance(scenario, str | PathLike | Mapping):
        kind = type(scenario).__name__
        raise MicrecError(f"scenario: is a {kind}: give the name of a shipped one, a path, or a mapping of its keys.")
    check_executor(executor)
    loaded, resolved = scenario_of(scenario if isinstance(scenario, Mapping) else Path(scenario), settings)

    def run(folder: Path) -> ScenarioResult:
        given: dict[str, Any] = {
            "resolved": resolved,
            "force": overwrite,
            "workers": workers,
            "executor": executor,
            "progress": progress,
        }
        return ScenarioResult(SCENARIO_KINDS[loaded.kind].run(loaded, folder, **given), folder, temporary=out is None)

    return in_folder(None if out is None else Path(out), run)


def load_run(folder: StrPath) -> ScenarioResult:
    """The results of a finished run.

    Args:
        folder: A run folder, as ``micrec run`` and ``run_scenario`` write.

    Raises:
        MicrecError: If it holds no finished run.

    Examples:
        >>> import abtest
        >>> small = {"datasets.video.scale": 0.0005, "datasets.news.scale": 0.001}
        >>> made = abtest.run_scenario("table1", small, out="run")
        >>> abtest.load_run("run").to_dict() == made.to_dict()
        True
    """
    path = Path(folder) / RESULTS_FILE
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise MicrecError(f"{path}: cannot be read ({fault}): give the folder of a finished run.") from None
    if not isinstance(results, dict) or results.get("schema") != SCHEMA or "scenario" not in results:
        raise MicrecError(f"{path}: is not a results file of this version ({SCHEMA}): name a finished run.")
    return ScenarioResult(results, Path(folder))


def _log(log: Frame | StrPath) -> str | pl.DataFrame:
    """A path or address as text, else the table."""
    return str(fspath(log)) if isinstance(log, str | PathLike) else as_frame(log, "log")


def _lifts(lifts: Sequence[float] | float) -> tuple[float, ...]:
    """Lifts as shares; one number alone is one lift."""
    given = [lifts] if isinstance(lifts, int | float | str) else list(lifts)
    check_numbers(**{f"lifts.{place}": lift for place, lift in enumerate(given)})
    return tuple(map(float, given))


def _names(what: str, names: Sequence[str]) -> tuple[str, ...]:
    """Names without repeats; one name alone is one name, not its letters."""
    listed = [names] if isinstance(names, str) else list(names)
    if wrong := [name for name in listed if not isinstance(name, str)]:
        raise MicrecError(f"{what}: must be names, got {wrong[0]!r}.")
    return tuple(dict.fromkeys(listed))


def _treatments(treatment: str | Sequence[str] | None, split_by_hash: str | None) -> tuple[str, ...]:
    if treatment is None:
        return ("treatment",) if split_by_hash is None else ("A/A treatment",)
    return (treatment,) if isinstance(treatment, str) else tuple(treatment)


def _metrics(metrics: MetricsLike | None) -> tuple[Any, list[str]]:
    from abtest.analysis.metrics import load_metrics, metrics_of

    if metrics is None:
        return None, []
    if isinstance(metrics, Mapping):
        chosen, slices = metrics_of(nested(metrics, where="metrics"), "metrics")
    else:
        chosen, slices = load_metrics(Path(metrics))
    return tuple(chosen), slices


def _plan_of_past(metrics: MetricsLike | None, reading: LogReading) -> "AnalysisPlan":
    """A plan for a log of the past: an A/A of all users."""
    from abtest.analysis.plan import AnalysisPlan

    given: dict[str, Any] = dict(reading)
    if unknown := [name for name in given if name not in LogReading.__annotations__]:
        raise TypeError(f"unexpected keyword {unknown[0]!r}: a log is read by {', '.join(LogReading.__annotations__)}.")
    for name in ("dedupe", "null_values"):
        given[name] = _names(name, given.get(name, ()))
    for name in ("columns", "dtype"):
        given[name] = as_mapping(name, given.get(name))
    return AnalysisPlan(control="A", treatments=("B",), metrics=_metrics(metrics)[0], **given)
