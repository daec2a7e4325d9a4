"""The commands of the simulator. A command parses, calls and prints; heavy imports wait until it runs."""

from pathlib import Path
from typing import Annotated

import typer

from micrec.console import report_errors, show

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.callback()
def main() -> None:
    """Worlds whose hidden truth is known."""


@app.command("world-simple")
@report_errors()
def world_simple(
    out: Annotated[Path, typer.Argument(help="Dataset folder to write.")],
    config: Annotated[Path | None, typer.Option(help="YAML of world keys, as scenarios/worlds/simple.yaml.")] = None,
    users: Annotated[int | None, typer.Option(help="Users.")] = None,
    items: Annotated[int | None, typer.Option(help="Items.")] = None,
    days: Annotated[int | None, typer.Option(help="Days the log covers.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every draw.")] = None,
    link_strength: Annotated[
        float | None, typer.Option(help="Chance that a linked item is followed by its partner.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other key; may be repeated.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the dataset in OUT.")] = False,
) -> None:
    """Generate a small dataset with planted links between items; the hidden truth goes to OUT/oracle."""
    from micrec.settings import apply_overrides
    from simulator.world.simple import load_simple_world, make_simple_world

    options = {"users": users, "items": items, "days": days, "seed": seed, "link_strength": link_strength}
    given = {key: value for key, value in options.items() if value is not None}
    world = load_simple_world(config, apply_overrides(given, overrides or []))
    folder = make_simple_world(world, out, overwrite=force)
    show(f"{folder}: {world.users:,} users, {world.items:,} items, {world.days} days, seed {world.seed}")
