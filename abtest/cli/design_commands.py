"""The command that says how an experiment should be run."""

from pathlib import Path
from typing import Annotated

import typer

from abtest.cli.scenario_commands import Overrides, Scenario
from micrec.console import report_errors

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.command("design")
@report_errors()
def design(
    scenario: Scenario,
    out: Annotated[Path | None, typer.Option(help="Run folder.", show_default="runs/NAME-design")] = None,
    overrides: Overrides = None,
    replications: Annotated[int, typer.Option(help="Worlds by which the designs are scored, at least 2.")] = 4,
    fresh: Annotated[
        int, typer.Option(help="Further worlds in which the recommended design and the user split are tested.")
    ] = 0,
    lift: Annotated[
        str | None,
        typer.Option(help="Lift that a longer test should find, as 0.02 or 2%.", show_default="half of the true one"),
    ] = None,
    clusters: Annotated[
        str, typer.Option(metavar="FIELD,...", help="User fields whose values name the clusters.")
    ] = "region",
    only: Annotated[
        list[str] | None, typer.Option(help="A design to be scored beside the user split; repeatable; default: all.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worlds simulated at a time.", show_default="cores")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a finished run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the advice as JSON and nothing else.")] = False,
) -> None:
    """Say how an experiment should be run: score its designs in simulated worlds, where the truth is known.

    Scores user and clustered splits, switchbacks by hour and day, diverted and co-diverted data, and a holdout. For
    example: micrec design interference --fresh 4
    """
    from abtest.analysis.plan_file import share_of
    from abtest.online.design_run import advice_data, advise
    from abtest.online.design_tables import advice_tables, recommendation
    from abtest.online.online_scenario import OnlineScenario
    from abtest.report.pages.experiment_terminal import print_tables
    from abtest.run_folder import json_text
    from abtest.scenario_files import load_scenario
    from micrec.errors import MicrecError
    from micrec.progress import LineProgress

    loaded, _ = load_scenario(scenario, overrides or [])
    if not isinstance(loaded, OnlineScenario):
        raise MicrecError(
            f"{scenario}: kind: {loaded.kind} simulates no platform: name a scenario such as interference."
        )
    folder = out or Path("runs") / f"{loaded.name}-design"
    advice = advise(
        loaded,
        folder,
        replications=replications,
        fresh=fresh,
        wanted=share_of(lift, "--lift") if lift is not None else None,
        cluster_fields=[name for name in clusters.split(",") if name],
        only=only,
        force=force,
        workers=workers,
        progress=LineProgress(),
    )
    if as_json:
        typer.echo(json_text(advice_data(advice)))
        return
    print_tables(advice_tables(advice))
    typer.echo(f"\n{recommendation(advice)}\n\nadvice: {folder / 'design.json'}")
