"""The commands that serve a bundle: over HTTP, and as files for other systems. Heavy imports wait until one runs."""

from pathlib import Path
from typing import Annotated

import typer

from micrec.console import report_errors, show

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.command()
@report_errors()
def serve(
    bundle: Annotated[Path, typer.Argument(help="Folder that micrec index wrote.")],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 for a free one.")] = 8000,
    watch: Annotated[
        float, typer.Option(min=0, help="Seconds between looks for a newer bundle in the folder; 0: when told.")
    ] = 10.0,
    batch: Annotated[int, typer.Option(min=1, max=4096, help="Most requests that one search answers.")] = 64,
) -> None:
    """Answer over HTTP, and take over new bundles without a dropped request. Needs pip install "micrec[serve]".

    For example: curl -s localhost:8000/recommend --json '{"user": "u7", "k": 3}'
    """
    from micrec.serving.server import serve as run

    run(bundle, host=host, port=port, watch_s=watch, most=batch)


@app.command()
@report_errors()
def export(
    bundle: Annotated[Path, typer.Argument(help="Folder that micrec index wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    format: Annotated[str, typer.Option("--format", help="parquet, qdrant or onnx.")] = "parquet",
    force: Annotated[bool, typer.Option("--force", help="Replace the vectors in OUT.")] = False,
) -> None:
    """Write vectors of items and users, or the towers themselves, for a system that runs without MicRec.

    For example: micrec export runs/bundle runs/vectors --format parquet
    """
    from micrec.destination import check_destination
    from micrec.errors import MicrecError
    from micrec.retrieval import load_bundle
    from micrec.retrieval.vector_files import VECTOR_FORMATS, export_vectors

    if format not in VECTOR_FORMATS:
        raise MicrecError(f"--format: must be one of {', '.join(VECTOR_FORMATS)}, got {format}.")
    check_destination(out, bundle, replaced=True, what="the vectors")
    done = export_vectors(load_bundle(bundle), out, format=format, overwrite=force)
    own = f", {done.own_items:,} own items" if done.own_items else ""
    show(f"{out}: {done.items:,} items and {done.users:,} users, vectors of {done.dim} numbers{own}")
