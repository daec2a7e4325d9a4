"""``micrec scenario``: read about scenarios, list and copy those that are shipped, check one's own."""

import re
from pathlib import Path
from typing import Annotated

import typer

from micrec.console import report_errors, show

app = typer.Typer(help="List, copy, explain and check scenarios.", no_args_is_help=True)

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one key of the file; repeatable.")
]
Scenario = Annotated[
    Path, typer.Argument(metavar="SCENARIO", help="YAML file, or the name of a shipped one: micrec scenario list")
]


@app.command("list")
@report_errors()
def list_shipped() -> None:
    """List the scenarios, worlds and metric files that come with micrec."""
    from rich.markup import escape
    from rich.table import Table

    from micrec.shipped import shipped_files

    table = Table("name", "kind", "what it asks", box=None, pad_edge=False)
    for name, path in sorted(shipped_files().items(), key=lambda one: ("/" in one[0], one[0])):
        text = path.read_text(encoding="utf-8")
        table.add_row(name, escape(_kind(path)), escape(_first_sentence(text)))
    show(
        table,
        "run one: micrec run NAME, or micrec world NAME --out FOLDER; copy one to change it: micrec scenario copy",
    )


@app.command()
@report_errors()
def copy(
    name: Annotated[str, typer.Argument(help="Name of a shipped scenario, world or metric file.")],
    file: Annotated[Path | None, typer.Argument(help="File to write.", show_default="NAME.yaml, here")] = None,
) -> None:
    """Copy a shipped file, to change it and run it. A file that it extends stays in the package."""
    from micrec.errors import MicrecError
    from micrec.shipped import find_file, shipped_files

    found = find_file(name, below="worlds")
    if found not in shipped_files().values():
        raise MicrecError(f"{name}: is a file of yours: copy it by other means.")
    target = file or Path(f"{found.stem}.yaml")
    if target.is_dir():
        target = target / found.name
    beside = "worlds/" if found.parent.name == "worlds" else ""
    text = re.sub(
        r"(?m)(\bextends: )([\w/]+)\.yaml\b",
        lambda part: part[1] + beside + part[2],
        found.read_text(encoding="utf-8"),
    )
    try:
        with target.open("x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError:
        raise MicrecError(f"{target}: exists already: name another file, micrec scenario copy {name} FILE.") from None
    except OSError as fault:
        raise MicrecError(f"{target}: cannot be written ({fault.strerror}): name another file.") from None
    verb = f"micrec world {target} --out FOLDER" if found.parent.name == "worlds" else f"micrec run {target}"
    show(str(target), f"next: micrec scenario check {target}" if "run" in verb else f"next: {verb}")


@app.command()
@report_errors()
def explain(
    key: Annotated[
        str | None,
        typer.Argument(help="A kind, e.g. online_ab, or the start of a key, e.g. base.train; default: all keys."),
    ] = None,
) -> None:
    """Explain every scenario key: its type, its default and its meaning."""
    from abtest.scenario_files import explain_scenario

    for setting in explain_scenario(key):
        typer.echo(f"{setting.key}: {setting.type}; default {setting.default}\n    {setting.description}")


@app.command()
@report_errors()
def check(scenario: Scenario, overrides: Overrides = None) -> None:
    """Check a scenario, a world or a metric file without running it. A valid file runs."""
    from abtest.scenario_files import check_inputs, is_world, load_scenario
    from abtest.scenario_kinds import SCENARIO_KINDS
    from simulator.world.files import load_world

    if is_world(scenario):
        world = load_world(scenario, overrides or [])
        typer.echo(f"{scenario}: valid: world of {world.users.count:,} users, {world.items.count:,} items")
        return
    loaded, _ = load_scenario(scenario, overrides or [])
    check_inputs(loaded)
    kind = SCENARIO_KINDS[loaded.kind]
    typer.echo(f"{scenario}: valid: {loaded.kind}, {kind.describe(loaded)}")
    for note in kind.notes(loaded):
        typer.echo(f"note: {note}")


def _first_sentence(text: str) -> str:
    """What the comment at the head of a file asks, without its later sentences."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#") or not line.strip("# "):
            break
        lines.append(line.strip("# "))
    return re.split(r"(?<=[.?!:]) (?=[A-Z])", " ".join(lines))[0]


def _kind(path: Path) -> str:
    from micrec.extending import read_extended

    if path.parent.name == "worlds":
        return "world"
    return str(read_extended(path).get("kind", "metrics"))
