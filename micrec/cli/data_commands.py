"""The commands of the model library. A command parses, calls and prints; heavy imports wait until it runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from micrec.console import report_errors, show

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.callback()
def main() -> None:
    """MicRec: multi-granularity item-based contrastive learning for matching."""


def _list_readers(wanted: bool) -> None:
    if wanted:
        from micrec.data.convert import readers_table

        show(readers_table())
        raise typer.Exit


@app.command()
@report_errors()
def convert(
    reader: Annotated[
        str,
        typer.Argument(
            help="online-retail, kuairand, movielens, recbole, table or another of --list; "
            "or auto, recognised by the files."
        ),
    ],
    source: Annotated[Path, typer.Argument(help="File or folder of the log.")],
    out: Annotated[Path, typer.Argument(help="Dataset folder to write.")],
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one option of the reader; repeatable.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OURS=THEIRS,...",
            help="For the reader table: our columns by those of the files, such as user_id=CustomerID,item_id=sku.",
        ),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="For the reader table: time zone of times without one, such as Europe/Oslo."),
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option(help="For the reader table: separator of the cells of a CSV line.", show_default="recognised"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the dataset in OUT.")] = False,
    list_readers: Annotated[
        bool, typer.Option("--list", help="Print the readers and their options.", callback=_list_readers, is_eager=True)
    ] = False,
) -> None:
    """Turn a public log, or plain tables, into a dataset folder.

    For example: micrec convert table clicks.csv data/shop --set items=items.csv --columns user_id=CustomerID
    """
    from micrec.data.column_names import parse_pairs
    from micrec.data.convert import conversion_table
    from micrec.data.convert import convert as run
    from micrec.errors import MicrecError
    from micrec.progress import LineProgress
    from micrec.settings import apply_overrides, merge

    pairs, faults = parse_pairs("--columns", columns or [])
    if faults:
        raise MicrecError.of("convert", faults)
    given = {"columns": pairs or None, "timezone": timezone, "separator": separator}
    flags = {key: value for key, value in given.items() if value is not None}
    keys = merge(apply_overrides({}, options or []), flags)
    conversion = run(reader, source, out, options=keys, overwrite=force, progress=LineProgress())
    show(conversion_table(conversion), *(f"note: {note}" for note in conversion.notes), f"next: micrec describe {out}")


@app.command()
@report_errors()
def encode(
    folder: Annotated[Path, typer.Argument(help="Dataset folder.")],
) -> None:
    """Write the clicks of a dataset as encoded columns, so that they are mapped from disk and need not fit in memory.

    They lie in FOLDER/mapped, 16 to 22 bytes a click, and every command then reads them; remove that folder to read
    into memory again. For example: micrec encode data/big
    """
    from micrec.data.store import read_dataset
    from micrec.progress import LineProgress

    clicks = read_dataset(folder, mapped=True, progress=LineProgress()).clicks
    show(f"{len(clicks):,} clicks in {folder / 'mapped'}", f"next: micrec describe {folder}")


@app.command()
@report_errors()
def headroom(
    folder: Annotated[Path, typer.Argument(help="Dataset folder.")],
    test_fraction: Annotated[
        float | None, typer.Option(help="Last share of the clicks to predict; default 0.2.")
    ] = None,
    test_days: Annotated[int | None, typer.Option(help="Last whole days to predict, instead of a share.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample of users and of the items compared with.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """What a log holds for each loss, before anything is trained: do titles, tags, fields, sessions predict clicks?"""
    from micrec.api import headroom as run
    from micrec.progress import LineProgress
    from micrec.signals.headroom_result import shown

    found = run(folder, test_fraction=test_fraction, test_days=test_days, seed=seed, progress=LineProgress())
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        show(*shown(found))


@app.command()
@report_errors()
def describe(
    folder: Annotated[Path, typer.Argument(help="Dataset folder.")],
    test_fraction: Annotated[
        float | None, typer.Option(help="Share of the clicks, the latest ones, that is the test period; default 0.2.")
    ] = None,
    test_days: Annotated[
        int | None, typer.Option(help="Number of whole days at the end that are the test period, instead of a share.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Print the statistics of a dataset as in the paper's Table 1, and how its clicks are distributed."""
    from micrec.api import describe as run
    from micrec.data.describe import table
    from micrec.progress import LineProgress

    statistics = run(folder, test_fraction=test_fraction, test_days=test_days, progress=LineProgress())
    if as_json:
        typer.echo(json.dumps(statistics.to_dict(), indent=2))
    else:
        show(table(statistics), *(f"note: {note}" for note in statistics.notes))
