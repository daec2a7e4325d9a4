"""The command that searches settings for one log: ``micrec tune``."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from micrec.console import report_errors
from micrec.parallel.executor import EXECUTOR_HELP
from micrec.tracking.tracking import MLFLOW_HELP, TENSORBOARD_HELP, tracked

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


def _print_space(wanted: bool) -> None:
    if wanted:
        from micrec.tuning.search_space import SHIPPED_SPACE

        typer.echo(SHIPPED_SPACE.read_text(encoding="utf-8"), nl=False)
        raise typer.Exit


@app.command()
@report_errors()
def tune(
    data: Annotated[Path, typer.Argument(help="Dataset folder.")],
    minutes: Annotated[
        float | None, typer.Option(help="Minutes of search, over all workers and interruptions; the test comes after.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Number of trials, instead of minutes or beside them.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for best.yaml, the report and the journal.", show_default="runs/tune-DATA"),
    ] = None,
    metric: Annotated[str, typer.Option(help="Maximised on the validation clicks.")] = "hit@50",
    space: Annotated[
        Path | None, typer.Option(help="YAML file of the search space.", show_default="the shipped one")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Config key of every trial and tested model; repeatable."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trials side by side.", show_default="one per core; 1 on a GPU")
    ] = None,
    executor: Annotated[str, typer.Option(help=EXECUTOR_HELP)] = "processes",
    seed: Annotated[int, typer.Option(help="Of the search, and the first training seed.")] = 0,
    seeds: Annotated[int, typer.Option(help="Training seeds of each model that is tested.")] = 3,
    compare: Annotated[
        str, typer.Option(help="Presets tested beside the winner; none = no preset.")
    ] = "paper,modern,best",
    tensorboard: Annotated[Path | None, typer.Option(metavar="FOLDER", help=TENSORBOARD_HELP)] = None,
    mlflow: Annotated[str | None, typer.Option(metavar="URI", help=MLFLOW_HELP)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a finished or another search in the folder.")] = False,
    print_space: Annotated[
        bool,
        typer.Option("--print-space", callback=_print_space, is_eager=True, help="Print the shipped space and leave."),
    ] = False,
) -> None:
    """Search models and settings on validation clicks, then test the winner once. The same command resumes.

    For example: micrec tune data/shop --minutes 20 --out runs/tuned
    """
    from abtest.offline.tuned_table import TuneRequest, run_tuning
    from abtest.report.pages.tune_sections import print_tuned
    from abtest.run_folder import HTML_FILE
    from micrec.parallel import check_executor
    from micrec.progress import LineProgress
    from micrec.settings import validate

    check_executor(executor)
    folder = out or Path("runs") / f"tune-{data.resolve().name}"
    asked: dict[str, Any] = {
        "data": str(data),
        "minutes": minutes,
        "trials": trials,
        "metric": metric,
        "space": None if space is None else str(space),
        "sets": sets or [],
        "seed": seed,
        "seeds": seeds,
        "compare": [] if compare == "none" else compare.split(","),
    }
    request = validate(TuneRequest, asked, where="tune")
    try:
        with tracked(tensorboard, mlflow):
            results = run_tuning(
                request,
                folder,
                force=force,
                command=_command(asked, folder),
                workers=workers,
                executor=executor,
                progress=LineProgress(),
            )
    except KeyboardInterrupt:
        typer.echo(f"\ninterrupted: the same command goes on from {folder}", err=True)
        raise typer.Exit(130) from None
    print_tuned(results)
    typer.echo(f"\nreport: {folder / HTML_FILE}")
    typer.echo(f"next: micrec train {data} OUT --config {folder / 'best.yaml'}")


def _command(asked: dict[str, Any], folder: Path) -> str:
    parts = ["micrec", "tune", asked["data"]]
    for name in ("minutes", "trials", "metric", "space", "seed", "seeds"):
        if asked[name] is not None:
            parts += [f"--{name}", f"{asked[name]:g}" if name == "minutes" else str(asked[name])]
    for one in asked["sets"]:
        parts += ["--set", one]
    return shlex.join([*parts, "--compare", ",".join(asked["compare"]) or "none", "--out", str(folder)])
