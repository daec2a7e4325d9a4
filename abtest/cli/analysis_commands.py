"""The commands on experiments' logs: ``analyze``, ``power``, ``aa``. A command parses, calls and prints."""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abtest.cli.design_options import DesignOptions, with_design_options
from abtest.cli.log_options import LogOptions, LogPath, with_log_options
from micrec.console import report_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from abtest.report.tables import Table

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

Metrics = Annotated[
    Path | None, typer.Option(help="YAML file of metrics; micrec scenario copy metrics writes an example.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON and nothing else.")]
Slices = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN,...", help="Columns that were known before exposure, to judge slices of users by."),
]
Covariates = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN,...", help="Columns measured before exposure, for CUPED.", show_default="all pre_*"),
]
PlannedUsers = Annotated[
    int | None,
    typer.Option(help="Users of all arms expected by the planned end, for looks before it.", show_default="none"),
]
Population = Annotated[
    int | None,
    typer.Option(
        help="Users of the whole population, to say what the effect adds up to there.", show_default="those of the test"
    ),
]
SplitByHash = Annotated[
    str | None,
    typer.Option(metavar="SALT", help="Make an A/A test of any log: split its users by a hash with this salt."),
]
Weights = Annotated[
    list[str] | None,
    typer.Option(metavar="ARM=SHARE,...", help="Planned share of the users in each arm.", show_default="equal"),
]
EXIT_CODES = {"ship": 0, "hold": 10, "stop": 11, "invalid": 12}


@app.command()
@report_errors()
@with_design_options
@with_log_options
def analyze(
    context: typer.Context,
    log: LogPath,
    reading: LogOptions,
    design: DesignOptions,
    control: Annotated[str, typer.Option(help="Name of the control arm in the log.")] = "control",
    treatment: Annotated[list[str] | None, typer.Option(help="Name of a treatment arm; repeatable.")] = None,
    metrics: Metrics = None,
    slices: Slices = None,
    covariates: Covariates = None,
    alpha: Annotated[
        float, typer.Option(help="Rate of false alarms allowed over all primary metrics together.")
    ] = 0.05,
    planned_days: Annotated[int, typer.Option(help="Number of days that the test was planned for.")] = 7,
    planned_users: PlannedUsers = None,
    looks: Annotated[
        str,
        typer.Option(help="final: read once, at the end; daily: one planned look a day; open: any number of looks."),
    ] = "final",
    weights: Weights = None,
    ignore_arm: Annotated[list[str] | None, typer.Option(help="An arm of the log to leave out; repeatable.")] = None,
    split_by_hash: SplitByHash = None,
    population: Population = None,
    min_users: Annotated[int, typer.Option(help="Fewest users per arm for a slice to be judged.")] = 100,
    checks: Annotated[
        bool, typer.Option(help="Add quantiles, bootstrap and rank tests; they read every value, so they take longer.")
    ] = True,
    out: Annotated[Path | None, typer.Option(help="Folder for results.json and reports.", show_default="none")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a finished analysis in --out.")] = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the verdicts alone.")] = False,
    exit_code: Annotated[
        bool,
        typer.Option(
            "--exit-code", help="Exit with 0 for SHIP, 10 for HOLD, 11 for STOP, 12 for a comparison that is not valid."
        ),
    ] = False,
) -> None:
    """Judge an experiment from its log: validity, effects, verdict.

    For example: micrec analyze log.parquet --control A --treatment B --out report

    Exit codes: 0 after any verdict, 2 for a mistake in the log or an option. With --exit-code, 0 means SHIP, 10 HOLD,
    11 STOP and 12 that the comparison is not valid; with several treatments the highest code counts.
    """
    started_s = time.perf_counter()
    from abtest.analysis.analysis import analyse
    from abtest.analysis.metrics import load_metrics
    from abtest.analysis.output import check_out, write_results
    from abtest.analysis.plan import listed, plan_of
    from abtest.analysis.plan_settings import settled
    from abtest.analysis.results import results_of
    from abtest.analysis.userlog import read_log
    from abtest.report.pages.experiment_terminal import print_analysis, print_verdicts
    from abtest.run_folder import HTML_FILE, json_text
    from micrec.data.locations import local_paths
    from micrec.destination import check_destination

    _one_form(as_json=as_json, quiet=quiet)
    if out is not None:
        check_destination(out, *local_paths(log), what="the report")
        check_out(out, force=force)
    chosen, more_slices = load_metrics(metrics) if metrics else (None, [])
    settings = {
        "control": control,
        "treatment": treatment or (["treatment"] if split_by_hash is None else ["A/A treatment"]),
        "metrics": chosen,
        "slices": listed([*more_slices, *(slices or [])]),
        "covariates": covariates if covariates is None else listed(covariates),
        "weights": weights or [],
        "alpha": alpha,
        "planned_days": planned_days,
        "planned_users": planned_users,
        "looks": looks,
        "min_users": min_users,
        "timezone": reading.timezone,
        **design.values(),
    }
    settings = settled(settings, design.plan, _given(context), exposures=design.exposures is not None)
    plan = plan_of(
        settings,
        design.for_plan(settings),
        ignored_arms=ignore_arm or [],
        split_salt=split_by_hash,
        population=population,
        checks=checks,
        command=shlex.join(["micrec", *sys.argv[1:]]),
        **reading.for_plan(),
    )
    results = results_of(analyse(read_log(log, plan), plan, started_s=started_s))
    if out is not None:
        write_results(results, out)
    if as_json:
        typer.echo(json_text(results))
    elif quiet:
        print_verdicts(results, reasons=False)
    else:
        print_analysis(results)
    if out is not None and not quiet:
        typer.echo(f"\nreport: {out / HTML_FILE}", err=as_json)
    if exit_code:
        decisions = [verdict["decision"] for verdict in results["verdicts"]]
        raise typer.Exit(max(EXIT_CODES[decision] for decision in (decisions if results["valid"] else ["invalid"])))


@app.command()
@report_errors()
@with_log_options
def power(
    reading: LogOptions,
    log: Annotated[str | None, typer.Argument(help="A log of earlier days, with or without arms.")] = None,
    mean: Annotated[float | None, typer.Option(help="Mean per user, where there is no log.")] = None,
    sd: Annotated[float | None, typer.Option(help="Standard deviation per user, where there is no log.")] = None,
    lift: Annotated[
        list[str] | None, typer.Option(help="True lift that the test should find, as 0.02 or 2%; repeatable.")
    ] = None,
    target: Annotated[float, typer.Option("--power", help="Probability of finding it.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Two-sided level of the test.")] = 0.05,
    treatment_share: Annotated[float, typer.Option(help="Share of the users in the treatment.")] = 0.5,
    users: Annotated[
        int | None,
        typer.Option(help="Users of both arms, to compute the smallest lift they can find.", show_default="the log's"),
    ] = None,
    users_per_day: Annotated[
        float | None, typer.Option(help="New users of both arms per day, to compute the number of days.")
    ] = None,
    looks: Annotated[str, typer.Option(help="final: read once, at the end; daily: one planned look a day.")] = "final",
    planned_days: Annotated[int, typer.Option(help="Days of the test, for --looks daily.")] = 7,
    metrics: Annotated[
        str | None, typer.Option(help="YAML file of metrics, or the number of primary metrics that share the level.")
    ] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the tables without notes.")] = False,
) -> None:
    """Plan a test: how many users and days a lift needs, and the smallest lift that given users can find.

    For example: micrec power log.parquet --lift 0.02; micrec power --mean 2.5 --sd 4 --lift 0.02 --users-per-day 20000
    """
    from abtest.analysis.planning import PowerQuestion, plan_from_log, plan_from_numbers, read_history
    from micrec.errors import MicrecError

    _one_form(as_json=as_json, quiet=quiet)
    if looks not in ("final", "daily"):
        raise MicrecError(f"--looks {looks}: must be final or daily.")
    count = _count(metrics)
    question = PowerQuestion(
        lifts=tuple(_lift(text) for text in lift) if lift else (0.01, 0.02, 0.05),
        power=target,
        alpha=alpha,
        treatment_share=treatment_share,
        users=users,
        users_per_day=users_per_day,
        primaries=count,
        looks=planned_days if looks == "daily" else 1,
        in_per_cent=tuple(_lift(text) for text in lift or () if text.strip().endswith("%")),
    )
    file = Path(metrics) if metrics is not None and count is None else None
    try:
        if log is not None:
            if mean is not None or sd is not None:
                raise MicrecError("--mean and --sd are for plans without a log: leave them out, or the log.")
            tables = plan_from_log(
                read_history(log, reading.of_history(metrics if count is None else None)),
                question,
            )
        elif file is not None:
            raise MicrecError(f"--metrics {file}: a file of metrics needs a log; without one give their number.")
        elif mean is None or sd is None:
            raise MicrecError("give a log, or both --mean and --sd of the metric per user.")
        else:
            tables = plan_from_numbers(mean, sd, question)
    except ValueError as fault:  # a number out of range
        raise MicrecError(str(fault)) from None
    _print_plain(tables, "power", as_json=as_json, quiet=quiet)


@app.command()
@report_errors()
@with_log_options
def aa(
    log: LogPath,
    reading: LogOptions,
    splits: Annotated[int, typer.Option(min=1, help="Number of random splits.")] = 10_000,
    alpha: Annotated[float, typer.Option(help="Level of each test.")] = 0.05,
    lift: Annotated[
        list[str] | None, typer.Option(help="Lift to plant, as 0.02 or 2%, to measure coverage and power; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the A/A splits.")] = 0,
    metrics: Metrics = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the table without notes.")] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 0 if every metric is sound, with 12 otherwise.")
    ] = False,
) -> None:
    """Split a log at random thousands of times: do its metrics raise false alarms, do intervals hold a planted lift?

    Exit codes: 0 after any result, 2 for a mistake in the log or an option; with --exit-code, 12 if a metric is not
    sound or could not be tested.
    """
    from abtest.analysis.planning import calibration_table, read_history
    from micrec.errors import MicrecError

    _one_form(as_json=as_json, quiet=quiet)
    lifts = tuple(_lift(text) for text in lift) if lift else (0.02, 0.05)
    for text, planted in zip(lift or (), lifts, strict=False):
        if not (-1.0 < planted < 1e6):
            raise MicrecError(f"--lift {planted:g}: must be a number above -1 (-100 %).")
        if planted >= 1.0 and not text.strip().endswith("%"):
            raise MicrecError(
                f"--lift {planted:g}: is +{100 * planted:g} %: for {planted:g} % write --lift {planted:g}%."
            )
    history = read_history(log, reading.of_history(str(metrics) if metrics else None))
    try:
        table = calibration_table(history, splits=splits, alpha=alpha, lifts=lifts, seed=seed)
    except ValueError as fault:
        raise MicrecError(str(fault)) from None
    _print_plain([table], "aa", as_json=as_json, quiet=quiet)
    if exit_code:
        raise typer.Exit(0 if all(row["sound"] for row in table.data) else EXIT_CODES["invalid"])


def _given(context: typer.Context) -> set[str]:
    """Options that stand on the command line, by the names of their parameters; --metrics and --slices give slices."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    return given | ({"slices"} if "metrics" in given else set())


def _lift(text: str) -> float:
    """A lift as a share (0.02) or in per cent (2%)."""
    from micrec.errors import MicrecError

    number, scale = (text[:-1], 0.01) if text.strip().endswith("%") else (text, 1.0)
    try:
        return float(number) * scale
    except ValueError:
        raise MicrecError(f"--lift {text}: must be a number such as 0.02, or 2%.") from None


def _count(metrics: str | None) -> int | None:
    """A number of primary metrics, where that is what --metrics says."""
    try:
        return None if metrics is None else int(metrics)
    except ValueError:
        return None


def _one_form(*, as_json: bool, quiet: bool) -> None:
    from micrec.errors import MicrecError

    if as_json and quiet:
        raise MicrecError("--json and --quiet: each says what is printed: choose one.")


def _print_plain(tables: "Sequence[Table]", kind: str, *, as_json: bool, quiet: bool) -> None:
    from abtest.analysis.planning import tables_data
    from abtest.report.pages.experiment_terminal import print_tables
    from abtest.run_folder import json_text

    if as_json:
        typer.echo(json_text(tables_data(tables, kind=kind, command=shlex.join(["micrec", *sys.argv[1:]]))))
    else:
        print_tables([table._replace(notes=[]) for table in tables] if quiet else tables)
