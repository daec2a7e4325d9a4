"""The commands of the simulator. A command parses, calls and prints; heavy imports wait until it runs."""

from pathlib import Path
from typing import Annotated

import typer

from micrec.console import report_errors, show
from micrec.parallel.executor import EXECUTOR_HELP
from simulator.cli.realism_commands import app as realism_commands

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
app.registered_commands += realism_commands.registered_commands


@app.callback()
def main() -> None:
    """Worlds whose hidden truth is known."""


@app.command()
@report_errors()
def world(
    file: Annotated[Path, typer.Argument(metavar="WORLD", help="YAML file, or the name of a shipped world, e.g. tiny")],
    out: Annotated[Path, typer.Option(help="Dataset folder to write.")],
    scale: Annotated[
        float, typer.Option(help="Factor on the numbers of users, items, tags and providers in the file.")
    ] = 1.0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Parts drawn at a time.", show_default="one per core")
    ] = None,
    executor: Annotated[str, typer.Option(help=EXECUTOR_HELP)] = "processes",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one key of the file; repeatable.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the dataset in OUT.")] = False,
) -> None:
    """Generate a dataset whose hidden truth is known. The same command resumes a run that was killed."""
    from micrec.destination import check_destination
    from micrec.parallel import check_executor
    from micrec.progress import LineProgress
    from simulator.world.files import load_world
    from simulator.world.generate import generate_world

    check_executor(executor)
    check_destination(
        out, *([file] if file.is_file() else []), replaced=True, needs=0
    )  # the room is asked for when the keys are known
    config = load_world(file, overrides or [], scale=scale)
    try:
        made = generate_world(config, out, workers=workers, executor=executor, overwrite=force, progress=LineProgress())
    except KeyboardInterrupt:
        typer.echo("\ninterrupted: the same command goes on where it stopped", err=True)
        raise typer.Exit(130) from None
    show(
        f"{made.folder}: {made.users:,} users, {made.items:,} items, {made.clicks:,} clicks, "
        f"{made.bytes / 1e6:,.1f} MB, in {made.seconds:.1f} s ({made.clicks_per_s:,.0f} clicks/s)",
        f"next: micrec describe {made.folder}",
    )
