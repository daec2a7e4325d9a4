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
        help="Statistics or groups the real log is not to be trusted on, e.g. sessions,returns. Groups: sessions, "
        "returns, activity, time, popularity, repetition, co_clicks, items, behaviour.",
    ),
]
Offset = Annotated[
    float, typer.Option("--utc-offset", min=-12.0, max=14.0, help="Hours from UTC to the clock of the real users.")
]


@app.command()
@report_errors()
def realism(
    real: Annotated[Path, typer.Argument(help="Dataset folder of a real log.")],
    world: Annotated[Path, typer.Argument(help="Dataset folder of the world to check.")],
    out: Annotated[Path | None, typer.Option(help="Folder for realism.json, realism.md and the plots.")] = None,
    without: Without = None,
    utc_offset: Offset = 0.0,
    users: Annotated[int, typer.Option(min=100, help="Most users to read of each, drawn by a key.")] = 20_000,
    ranking: Annotated[bool, typer.Option(help="Compare the order of recommenders, a minute or two.")] = True,
    classifier: Annotated[bool, typer.Option(help="Let a classifier try to tell the two apart.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace the check in OUT.")] = False,
) -> None:
    """Compare a world with a real log: fixed statistics, a classifier that tries to tell them apart, and whether
    recommenders come in the same order."""
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
        typer.Option(help="World that gives what the log does not tell of: a file, or a shipped one, e.g. video."),
    ] = None,
    without: Without = None,
    utc_offset: Offset = 0.0,
    users: Annotated[int, typer.Option(min=100, help="Most users to read, drawn by a key.")] = 20_000,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.")] = False,
) -> None:
    """Write the world file whose moments are those of a real log, and say how near it is."""
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
