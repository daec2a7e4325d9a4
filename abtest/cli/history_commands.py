"""The command on a folder of past tests: ``history``."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from micrec.console import report_errors

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.command()
@report_errors()
def history(
    folder: Annotated[Path, typer.Argument(help="Folder that holds the report folders of past tests, at any depth.")],
    prior: Annotated[
        Path | None,
        typer.Option(help="Write the lifts of the past as a prior for micrec analyze --prior.", show_default="none"),
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--html", help="Write the same as a page to this file.", show_default="none")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a page that is there.")] = False,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Take simulated experiments instead of analysed logs.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON and nothing else.")] = False,
) -> None:
    """Learn from past tests: decisions, what shipping gained, A/A record, metrics that never move, tests to come.

    For example: micrec history reports --html history.html --prior prior.yaml
    """
    from abtest.analysis.lift_prior import write_prior
    from abtest.analysis.past_page import check_page, write_page
    from abtest.analysis.past_tables import history_tables, summary_lines
    from abtest.analysis.past_tests import read_library
    from abtest.analysis.planning import tables_data
    from abtest.report.pages.experiment_terminal import print_tables
    from abtest.run_folder import json_text
    from micrec.destination import check_destination
    from micrec.errors import MicrecError

    if prior is not None:
        if prior.is_dir():
            raise MicrecError(f"--prior {prior}: is a folder: name the file to be written.")
        check_destination(prior.absolute(), what="the prior")
    if page is not None:
        check_page(page, force=force)
    library = read_library(folder, simulated=simulated)
    if prior is not None:
        priors = library.priors()
        if not priors:
            raise MicrecError(f"--prior {prior}: no metric has three past tests yet: nothing was written.")
        write_prior(prior, priors)
    if page is not None:
        write_page(page, library, str(folder), shlex.join(["micrec", *sys.argv[1:]]), force=force)
    tables = history_tables(library)
    if as_json:
        typer.echo(json_text(tables_data(tables, kind="history", command=shlex.join(["micrec", *sys.argv[1:]]))))
        return
    print_tables([table for table in tables if table.rows])
    for line in summary_lines(library):
        typer.echo(line)
    if prior is not None:
        typer.echo(f"prior: {prior}")
    if page is not None:
        typer.echo(f"page: {page}")
