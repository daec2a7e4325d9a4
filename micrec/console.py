"""How commands speak to people: results to stdout, errors to stderr with exit code 2."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console, RenderableType

from micrec.errors import MicrecError

PLAIN_WIDTH = 120  # columns where no terminal tells


@contextmanager
def report_errors() -> Iterator[None]:
    """Print a MicrecError to stderr and exit with code 2; use it as a decorator below ``@app.command()``.

    Anything else is a bug and keeps its traceback.
    """
    try:
        yield
    except MicrecError as fault:
        typer.echo(f"error: {fault}", err=True)
        raise typer.Exit(2) from None


def show(*parts: RenderableType) -> None:
    """Print tables and plain text to stdout. Text is never read as markup; the cells of a table are: escape them."""
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    for part in parts:
        is_text = isinstance(part, str)
        console.print(part, markup=not is_text, soft_wrap=is_text)
