"""The commands before and after a test: ``plan`` writes its plan, ``cumulative`` adds up what was shipped."""

import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from abtest.cli.log_options import LogOptions, with_log_options, with_options
from micrec.console import report_errors

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@dataclass(frozen=True)
class PlanOptions:
    """Keys of a plan file as the command line holds them; None where the file's default stands."""

    question: Annotated[str | None, typer.Option(help="What is to be decided, in words.")] = None
    control: Annotated[str | None, typer.Option(help="Name of the control arm.", show_default="control")] = None
    treatment: Annotated[list[str] | None, typer.Option(help="Name of a treatment arm; repeatable.")] = None
    primary: Annotated[
        list[str] | None,
        typer.Option(
            help='A metric that decides; repeatable: ACC, or "ACC null_lift=1% level=0.04".', show_default="ACC, ADT"
        ),
    ] = None
    guardrail: Annotated[
        list[str] | None,
        typer.Option(help='A metric that must not get worse; repeatable: "CTR worse=2% better=5%".'),
    ] = None
    secondary: Annotated[
        list[str] | None, typer.Option(metavar="METRIC,...", help="Metrics that are looked at and decide nothing.")
    ] = None
    metrics: Annotated[Path | None, typer.Option(help="YAML file whose metrics are copied into the plan.")] = None
    slices: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN,...", help="Columns that are known before exposure.")
    ] = None
    covariates: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN,...", help="Columns from before exposure.", show_default="all pre_*"),
    ] = None
    weights: Annotated[
        list[str] | None, typer.Option(metavar="ARM=SHARE,...", help="Planned share of the users in each arm.")
    ] = None
    estimator: Annotated[
        str | None,
        typer.Option(help="What the verdict rests on: welch, cuped or poststratified.", show_default="welch"),
    ] = None
    alpha: Annotated[
        float | None, typer.Option(help="Rate of false alarms over all primary metrics.", show_default="0.05")
    ] = None
    looks: Annotated[str | None, typer.Option(help="final, daily or open.", show_default="final")] = None
    planned_days: Annotated[int | None, typer.Option(help="Length of the test in days.", show_default="7")] = None
    planned_users: Annotated[
        int | None,
        typer.Option(help="Users of all arms at the planned end.", show_default="what --lift needs in LOG"),
    ] = None
    least_users: Annotated[
        int | None, typer.Option(help="Fewest users of an arm for any verdict.", show_default="30")
    ] = None
    min_users: Annotated[
        int | None, typer.Option(help="Fewest users per arm for a slice to be judged.", show_default="100")
    ] = None
    unit: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN,...", help="What was assigned, if not the user.")
    ] = None
    crossovers: Annotated[
        str | None, typer.Option(help="Users in two arms: refuse, drop or first.", show_default="refuse")
    ] = None
    triggered: Annotated[bool, typer.Option("--triggered", help="Exposed users alone will be judged.")] = False


@app.command("plan")
@report_errors()
@with_options("keys", PlanOptions)
@with_log_options
def write_plan_file(
    reading: LogOptions,
    keys: PlanOptions,
    log: Annotated[
        str | None, typer.Argument(help="A log of earlier days, from which the users that --lift needs are planned.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File that the plan is written to.")] = Path("plan.yaml"),
    lift: Annotated[str | None, typer.Option(help="True lift that the test should find, as 0.02 or 2%.")] = None,
    power: Annotated[float, typer.Option(help="Probability of finding it.")] = 0.8,
    force: Annotated[bool, typer.Option("--force", help="Replace a plan that is there.")] = False,
) -> None:
    """Write the plan of a test, by which micrec analyze LOG --plan judges it; without options a template to fill in.

    For example: micrec plan old_log.parquet --lift 2% --control A --treatment B --primary ACC --estimator cuped
    """
    from abtest.analysis.plan_file import share_of, write_plan
    from abtest.analysis.plan_options import plan_of_options
    from micrec.data.locations import is_address
    from micrec.destination import check_destination

    check_destination(out, *([Path(log)] if log is not None and not is_address(log) else []), what="the plan")
    wanted = share_of(lift, "--lift") if lift is not None else None
    plan, lines = plan_of_options(asdict(keys), reading.for_plan(), log=log, lift=wanted, power=power)
    write_plan(out, plan, command=shlex.join(["micrec", *sys.argv[1:]]), force=force)
    for line in lines:
        typer.echo(line)
    typer.echo(f"plan: {out}")


@app.command()
@report_errors()
def cumulative(
    folder: Annotated[Path, typer.Argument(help="Folder with the results of past tests, at any depth.")],
    holdout: Annotated[
        Path | None,
        typer.Option(help="Results of a long-term holdout, analysed with the arm without launches as control."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON and nothing else.")] = False,
) -> None:
    """Add up the lifts of shipped tests, shrunken for luck, and compare them with a long-term holdout.

    For example: micrec cumulative reports --holdout reports/holdout
    """
    from abtest.analysis.cumulative import cumulative_lift, cumulative_tables
    from abtest.analysis.planning import tables_data
    from abtest.report.pages.experiment_terminal import print_tables
    from abtest.run_folder import json_text

    tables = cumulative_tables(cumulative_lift(folder, holdout))
    if as_json:
        typer.echo(json_text(tables_data(tables, kind="cumulative", command=shlex.join(["micrec", *sys.argv[1:]]))))
    else:
        print_tables(tables)
