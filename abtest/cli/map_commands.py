"""The command that draws where models put the items."""

from pathlib import Path
from typing import Annotated

import typer

from micrec.console import report_errors, show

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.command("map")
@report_errors()
def item_map(
    models: Annotated[list[Path], typer.Argument(help="Folders that micrec train wrote, such as ICAN and MicRec.")],
    data: Annotated[Path, typer.Argument(help="The dataset folder they were trained on.")],
    out: Annotated[Path, typer.Option(help="Folder for map.png, map.pdf and map.csv.")],
    method: Annotated[str, typer.Option(help="pca, tsne or both.")] = "pca",
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Show the first model before training as well.")
    ] = False,
    items: Annotated[int, typer.Option(help="Most items that are drawn, an even sample.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Random seed of t-SNE.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace the map in OUT.")] = False,
) -> None:
    """Draw the item embeddings of models side by side: colour is category, size is popularity, lines are links.

    For example: micrec map runs/ican runs/micrec data/shop --out map --untrained
    """
    from abtest.offline.item_map import draw_map
    from abtest.offline.projections import METHODS
    from micrec.cli.model_commands import MODEL
    from micrec.data.store import read_dataset
    from micrec.destination import check_destination
    from micrec.errors import MicrecError
    from micrec.model_folder import load_model

    chosen = METHODS if method == "both" else tuple(one for one in METHODS if one == method)
    if not chosen:
        raise MicrecError(f"--method: must be one of {', '.join(METHODS)}, both, got {method}.")
    check_destination(out, data, *models, what="the map")
    dataset = read_dataset(data)
    fitted = [load_model(folder / MODEL, dataset, device=device) for folder in models]
    options = {"methods": chosen, "untrained": untrained, "items": items, "seed": seed, "force": force}
    show(*(str(path) for path in draw_map(fitted, dataset, out, **options)))  # type: ignore[arg-type]
