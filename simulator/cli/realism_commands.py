"""The commands ``micrec realism`` and ``micrec fit``. A command parses, calls and prints."""

from pathlib import Path
from typing import Annotated

import typer

from micrec.console import report_errors, show

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

Without = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Statistics or groups that the real log cannot support, such as sessions,returns. Groups: sessions, "
        "returns, activity, time, popularity, repetition, co_clicks, items, behaviour.",
    ),
]
Offset = Annotated[
    float,
    typer.Option("--utc-offset", min=-12.0, max=14.0, help="Hours by which the real users' clock is ahead of UTC."),
]


@app.command()
@report_errors()
def realism(
    real: Annotated[Path, typer.Argument(help="Dataset folder of a real log.")],
    world: Annotated[Path, typer.Argument(help="Dataset folder of the world to check.")],
    out: Annotated[Path | None, typer.Option(help="Folder for realism.json, realism.md and the plots.")] = None,
    without: Without = None,
    utc_offset: Offset = 0.0,
    users: Annotated[
        int, typer.Option(min=100, help="Most users that are read from each dataset, sampled by a hash of their ids.")
    ] = 20_000,
    ranking: Annotated[
        bool, typer.Option(help="Compare the order in which recommenders come; takes a minute or two.")
    ] = True,
    draws: Annotated[
        int,
        typer.Option(
            min=1,
            max=100,
            help="Draws of the world on which they are compared: WORLD, and its keys with the next seeds.",
        ),
    ] = 1,
    classifier: Annotated[bool, typer.Option(help="Train a classifier to distinguish the two logs.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier check in --out.")] = False,
) -> None:
    """Compare a world with a real log by 30 statistics, a classifier and the order in which recommenders come."""
    from micrec.destination import check_destination
    from micrec.progress import LineProgress
    from simulator.realism.check import check_realism, load_pair
    from simulator.realism.folder import refuse_taken
    from simulator.realism.realism_files import write_report
    from simulator.realism.report import READING, missing, statistics_table, summary, verdict_lines

    if out is not None:
        check_destination(out, real, world, replaced=True, what="the check")
        refuse_taken(out, overwrite=force)
    result = check_realism(
        load_pair(real, world, users=users, utc_offset_h=utc_offset),
        without=_names(without),
        classifier=classifier,
        ranking=ranking,
        draws=draws,
        progress=LineProgress(),
    )
    show(statistics_table(result.comparisons, f"{result.synthetic.name} against {result.real.name}"), READING)
    show(*missing(result.comparisons), *verdict_lines(result), summary(result))
    if out is not None:
        write_report(result, out, overwrite=force)
        show(f"report: {out / 'realism.md'}")


@app.command()
@report_errors()
def fit(
    real: Annotated[Path, typer.Argument(help="Dataset folder of a real log.")],
    out: Annotated[Path, typer.Option(help="World file to write.")],
    base: Annotated[
        Path | None,
        typer.Option(
            help="World whose keys are kept where the log has no evidence: a file, or a shipped one, such as video."
        ),
    ] = None,
    without: Without = None,
    utc_offset: Offset = 0.0,
    users: Annotated[
        int, typer.Option(min=100, help="Most users that are read, sampled by a hash of their ids.")
    ] = 20_000,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier file at --out.")] = False,
) -> None:
    """Fit a world to a real log: write the world file that matches its moments, and report how close it is."""
    from micrec.progress import LineProgress
    from simulator.fit.fit import fit_folder
    from simulator.realism.report import change_table

    base_name = base.name if base else "defaults"
    fitted = fit_folder(
        real,
        out,
        base=base,
        without=_names(without),
        utc_offset_h=utc_offset,
        users=users,
        overwrite=force,
        progress=LineProgress(),
    )
    show(change_table(fitted.before, fitted.after, base_name), *(f"note: {note}" for note in fitted.notes))
    show(f"{out}: {len(fitted.findings.found)} keys fitted; next: micrec world {out} --out data/fitted")


def _names(without: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (without or "").split(",") if name.strip())
