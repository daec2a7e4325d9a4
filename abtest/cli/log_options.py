"""The options that say how a log is read, the same for every command that reads one.

A command takes them as one parameter ``reading``; ``with_log_options`` puts the single options in its place, as
``with_options`` does with any other set of options.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from abtest.analysis.plan import AnalysisPlan

LogPath = Annotated[
    str,
    typer.Argument(
        metavar="LOG",
        help="Parquet, CSV or DuckDB file, a folder of part files, or an address such as s3://bucket/log/*.parquet, "
        "with a row per user, per user and day, or per event.",
    ),
]


@dataclass(frozen=True)
class LogOptions:
    """How a log is read, as the command line holds it; every field is an option."""

    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OURS=THEIRS,...",
            help="Which column of the file is one of ours, or an expression on its columns, such as dwell_s=ms/1000.",
        ),
    ] = None
    rows: Annotated[
        str,
        typer.Option(help="What a row of the log is: users, days, parts (to be summed) or events; auto recognises it."),
    ] = "auto"
    dedupe: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN,...", help="Rows that are equal in these columns are repeats; the first one is kept."
        ),
    ] = None
    timezone: Annotated[
        str,
        typer.Option(
            metavar="ZONE", help="Time zone in which a day begins, and of times without a zone, such as Europe/Oslo."
        ),
    ] = "UTC"
    query: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="Read what this query of DuckDB gives: on the tables of a DuckDB file, or on the log as a table log.",
        ),
    ] = None
    separator: Annotated[
        str | None,
        typer.Option(
            help="Separator of the cells of a CSV file: one character, or the word tab.", show_default="recognised"
        ),
    ] = None
    decimal: Annotated[
        str | None,
        typer.Option(
            help="Decimal mark of the numbers of a CSV file: comma or point; the other one parts thousands.",
            show_default="recognised",
        ),
    ] = None
    null_values: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT,...", help="Cells of a CSV file that mean no value, such as -999 or missing."),
    ] = None
    dtype: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=TYPE,...",
            help="Type of a column of the file: text, integer, number or boolean.",
            show_default="recognised",
        ),
    ] = None
    implausible_times: Annotated[
        str,
        typer.Option(
            help="What to do with times before 1990 or in the future: refuse the log, or drop these rows and count "
            "them."
        ),
    ] = "refuse"

    def for_plan(self) -> dict[str, Any]:
        """The same as keywords of ``plan_from_text``."""
        return {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "columns": self.columns or [],
            "dedupe": self.dedupe or [],
            "null_values": self.null_values or [],
            "dtype": self.dtype or [],
        }

    def of_history(self, metrics: "str | None") -> "AnalysisPlan":
        """A plan for a log without arms: an A/A of all users."""
        from pathlib import Path

        from abtest.analysis.metrics import load_metrics
        from abtest.analysis.plan import plan_from_text

        chosen = tuple(load_metrics(Path(metrics))[0]) if metrics else None
        return plan_from_text(control="A", treatments=["B"], metrics=chosen, **self.for_plan())


def with_options(parameter: str, kind: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that puts the options of a dataclass in place of a command's parameter.

    Args:
        parameter: Name of the parameter, which holds the dataclass.
        kind: The dataclass; every field is an option, annotated as typer wants it.
    """
    hints = get_type_hints(kind, include_extras=True)
    options = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(kind)
    ]
    names = {option.name for option in options}

    def decorator(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        own = [
            one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for one in signature.parameters.values()
            if one.name != parameter
        ]

        @functools.wraps(command)
        def wrapped(**given: Any) -> None:
            chosen = kind(**{name: given.pop(name) for name in names})
            command(**given, **{parameter: chosen})

        wrapped.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
        wrapped.__annotations__ = {one.name: one.annotation for one in (*own, *options)}
        return wrapped

    return decorator


with_log_options = with_options("reading", LogOptions)
"""A command with the options of ``LogOptions`` in place of its parameter ``reading``."""
