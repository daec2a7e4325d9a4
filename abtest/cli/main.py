"""The one console command, ``micrec``: the commands of the three packages side by side.

Commands parse, call and print. Heavy libraries are imported inside the commands, so that help answers at once.
"""

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from abtest.cli.analysis_commands import app as analysis_commands
from abtest.cli.design_commands import app as design_commands
from abtest.cli.history_commands import app as history_commands
from abtest.cli.map_commands import app as map_commands
from abtest.cli.plan_commands import app as plan_commands
from abtest.cli.scenario_commands import Overrides, Scenario
from abtest.cli.scenario_commands import app as scenario_commands
from abtest.cli.tune_commands import app as tune_commands
from micrec.cli.data_commands import app as data_commands
from micrec.cli.model_commands import app as model_commands
from micrec.cli.serving_commands import app as serving_commands
from micrec.console import report_errors
from micrec.parallel.executor import EXECUTOR_HELP
from micrec.tracking.tracking import MLFLOW_HELP, TENSORBOARD_HELP, tracked
from micrec.version import __version__
from simulator.ceiling import register_ceilings
from simulator.cli.world_commands import app as world_commands

app = typer.Typer(
    name="micrec",
    help="Train matching models, simulate platforms, and judge experiments: which gains are real?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done; 2 a mistake in the command or in its files, which the message names; 130 interrupted; "
    "1 a bug in micrec.",
)
COMMANDS = (
    data_commands,
    model_commands,
    tune_commands,
    serving_commands,
    map_commands,
    design_commands,
    world_commands,
    plan_commands,
    analysis_commands,
    history_commands,
)
for package in COMMANDS:
    app.registered_commands += package.registered_commands
    app.registered_groups += package.registered_groups
app.add_typer(scenario_commands, name="scenario")
register_ceilings()


def main() -> None:
    """Entry point of the console script.

    OpenMP threads sleep while they wait: by default they spin, and on a machine whose cores are shared a training
    that spins was measured two to six times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"micrec {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


@app.command()
@report_errors()
def run(
    scenario: Scenario,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder that the run is written to.", show_default="runs/NAME")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of training seeds, short for --set seeds=N.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="How many models are trained side by side.", show_default="one per core; 1 on a GPU"),
    ] = None,
    executor: Annotated[str, typer.Option(help=EXECUTOR_HELP)] = "processes",
    tensorboard: Annotated[Path | None, typer.Option(metavar="FOLDER", help=TENSORBOARD_HELP)] = None,
    mlflow: Annotated[str | None, typer.Option(metavar="URI", help=MLFLOW_HELP)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a finished run.")] = False,
) -> None:
    """Run a scenario and write its report. The same command resumes an interrupted run."""
    from abtest.run_folder import HTML_FILE
    from abtest.scenario_files import load_scenario
    from abtest.scenario_kinds import SCENARIO_KINDS
    from micrec.parallel import check_executor
    from micrec.progress import LineProgress

    check_executor(executor)
    sets = [*(overrides or []), *([f"seeds={seeds}"] if seeds is not None else [])]
    loaded, resolved = load_scenario(scenario, sets)
    kind = SCENARIO_KINDS[loaded.kind]
    folder = out or Path("runs") / loaded.name
    given: dict[str, Any] = {
        "resolved": resolved,
        "force": force,
        "command": _command(scenario, sets, out),
        "workers": workers,
        "executor": executor,
    }
    try:
        with tracked(tensorboard, mlflow):
            results = kind.run(loaded, folder, **given, progress=LineProgress())
    except KeyboardInterrupt:
        typer.echo(f"\ninterrupted: the same command goes on from {folder}", err=True)
        raise typer.Exit(130) from None
    kind.show(results)
    typer.echo(f"\nreport: {folder / HTML_FILE}")


def _command(scenario: Path, sets: list[str], out: Path | None) -> str:
    parts = ["micrec", "run", str(scenario)]
    for override in sets:
        parts += ["--set", override]
    return shlex.join([*parts, *(["--out", str(out)] if out else [])])
