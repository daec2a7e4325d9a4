"""The commands around one model: train, evaluate, index, recommend. Heavy imports wait until a command runs."""

import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from micrec.console import report_errors, show
from micrec.tracking.tracking import MLFLOW_HELP, TENSORBOARD_HELP

if TYPE_CHECKING:
    from rich.table import Table

    from micrec.config import Config
    from micrec.retrieval import IndexReport, Recommendation
    from micrec.retrieval.item_files import FileOptions

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

MODEL, CHECKPOINT = "model", "checkpoint"  # folders in the one that train writes
LOW_RECALL = 0.95  # below it, micrec index names the exact index

Choice = TypeVar("Choice", bound=str)


@app.command()
@report_errors()
def train(
    data: Annotated[Path, typer.Argument(help="Dataset folder.")],
    out: Annotated[Path, typer.Argument(help="Folder for the model and its checkpoint.")],
    preset: Annotated[
        str | None,
        typer.Option(
            help="Defaults to start from: paper, modern or best.", show_default="that of --config, else paper"
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of config keys, laid over the preset.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one config key; repeatable.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda; short for --set train.device=DEVICE.")] = None,
    start_from: Annotated[
        Path | None,
        typer.Option("--from", metavar="MODEL", help="Folder of an earlier model to start from, as train wrote it."),
    ] = None,
    tensorboard: Annotated[Path | None, typer.Option(metavar="FOLDER", help=TENSORBOARD_HELP)] = None,
    mlflow: Annotated[str | None, typer.Option(metavar="URI", help=MLFLOW_HELP)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a finished model.")] = False,
) -> None:
    """Train one model. The same command resumes an interrupted training.

    Several processes train it together under torchrun: torchrun --nproc-per-node 2 -m micrec train DATA OUT
    """
    from micrec.api import check_model_folder
    from micrec.api import train as run
    from micrec.progress import LineProgress, NoProgress
    from micrec.sharded.rank_group import joined

    with joined() as group:
        resolved = _config(preset, config, [*(sets or []), *([f"train.device={device}"] if device else [])])
        inputs = [path for path in (data, config, start_from) if path is not None]
        group.by_first(lambda: check_model_folder(out, *inputs, overwrite=force))
        given: dict[str, Any] = {"config": resolved, "start_from": start_from, "overwrite": force}
        given |= {"tensorboard": tensorboard, "mlflow": mlflow}
        try:
            model = run(data, out, **given, progress=LineProgress() if group.is_first else NoProgress())
        except KeyboardInterrupt:
            if group.is_first:
                typer.echo(f"\ninterrupted: the same command goes on from {out}", err=True)
            raise typer.Exit(130) from None
        if group.is_first:
            told = (f"{key}: {value}" for key, value in model.to_dict().items())
            show(*told, f"next: micrec evaluate {out} {data}")


@app.command()
@report_errors()
def evaluate(
    folder: Annotated[Path, typer.Argument(help="Folder that micrec train wrote.")],
    data: Annotated[Path, typer.Argument(help="The dataset folder it was trained on.")],
    part: Annotated[str, typer.Option(help="Clicks to rank for: test or valid.")] = "test",
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Evaluation key, e.g. history=rolling.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    everything: Annotated[bool, typer.Option("--all", help="Print every metric, and HIT by slice.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all results as one JSON object instead of tables.")
    ] = False,
) -> None:
    """Rank the whole catalogue for every test user: HIT beside its highest possible value and simple baselines.

    Under torchrun each process ranks a part of the users; the numbers are the same.
    """
    from micrec import comparison
    from micrec.api import evaluate as run
    from micrec.api import load_model
    from micrec.config import EvalConfig
    from micrec.evaluation.task import Part
    from micrec.settings import apply_overrides, validate
    from micrec.sharded.rank_group import joined

    with joined() as group:
        chosen: Part = _choice("--part", part, ("test", "valid"))
        model = load_model(folder, data, device=device)
        keys = [text.removeprefix("evaluation.") for text in sets or []]  # as notes and configs spell them
        given = apply_overrides(model.config.evaluation.model_dump(), keys)
        settings = validate(EvalConfig, given, where="--set")
        found = run(model, part=chosen, settings=settings)
    if not group.is_first:
        return
    results = dict(found.models)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
        return
    left = sum(map(len, comparison.other_metrics(results).values()))
    more = comparison.everything(results) if everything else [f"--all prints {left} more metrics and HIT by slice."]
    show(
        f"{found.dataset}, {part} part",
        *comparison.summary(results, chosen),
        *comparison.left_out_lines(model.dataset, settings),
        *more,
        found.switches,
        f"next: micrec index {folder} {data} BUNDLE",
    )


@app.command()
@report_errors()
def index(
    folder: Annotated[Path, typer.Argument(help="Folder that micrec train wrote.")],
    data: Annotated[Path, typer.Argument(help="The dataset folder it was trained on.")],
    out: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    kind: Annotated[str, typer.Option(help="flat (exact), ivf, ivfpq, hnsw or tree.")] = "flat",
    catalogue: Annotated[str, typer.Option(help="train: items with training clicks; all: every item.")] = "train",
    k: Annotated[
        int | None,
        typer.Option(
            "--k",
            "-k",
            min=1,
            max=10_000,
            help="One more list length at which recall is measured, e.g. the served one.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle in OUT.")] = False,
) -> None:
    """Build a serving bundle and print its recall against exact search, for lists of 10, 50, 100 and 500."""
    from micrec.artifact import refuse_taken
    from micrec.data.store import read_dataset
    from micrec.destination import check_destination, check_room
    from micrec.model_folder import load_model
    from micrec.retrieval import CATALOGUES, DEPTHS, INDEX_KINDS, Retriever, bundle_bytes

    chosen_kind = _choice("--kind", kind, INDEX_KINDS)
    chosen_catalogue = _choice("--catalogue", catalogue, CATALOGUES)
    check_destination(out, data, folder, replaced=True, what="the bundle")
    refuse_taken(out, "bundle", overwrite=force)
    dataset = read_dataset(data)
    fitted = load_model(_model_folder(folder), dataset, device="cpu")
    check_room(out, bundle_bytes(fitted, dataset, chosen_catalogue), "the bundle")
    retriever = Retriever.build(fitted, dataset, kind=chosen_kind, catalogue=chosen_catalogue, k=k)
    retriever.save(out, overwrite=force)
    asked = DEPTHS if k is None else (*DEPTHS, k)
    show(*_recall_lines(retriever.report, asked), f"next: micrec recommend {out} --user {dataset.users.ids[0]}")


@app.command()
@report_errors()
def recommend(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder that micrec index wrote.")],
    user: Annotated[str | None, typer.Option(help="A user of the dataset.")] = None,
    field: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Field of an unseen user; repeatable.")
    ] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID,...",
            help="Fresh clicks, oldest first; repeatable. An id with a comma in it goes alone into one.",
        ),
    ] = None,
    history_file: Annotated[
        Path | None, typer.Option(help="Fresh clicks before those: one id a line, or a table with item_id.")
    ] = None,
    new_items: Annotated[
        Path | None,
        typer.Option(help="Items to add, by their fields alone: a table with item_id and any item field."),
    ] = None,
    remove_item: Annotated[list[str] | None, typer.Option(metavar="ID", help="Item to take out; repeatable.")] = None,
    remove_items: Annotated[
        Path | None, typer.Option(help="Items to take out: one id a line, or a table with item_id.")
    ] = None,
    new_clicks: Annotated[
        Path | None,
        typer.Option(help="Clicks made since the bundle was built: a table with user_id, item_id, timestamp."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=THEIRS,...", help="Files' columns by our names: item_id=sku,category=kind."),
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help="Between the cells of a CSV line.", show_default="recognised")
    ] = None,
    ids: Annotated[
        str, typer.Option(help="Ids in files: as_written, number (007 is 7) or lower (A7 is a7).")
    ] = "as_written",
    save: Annotated[bool, typer.Option("--save", help="Keep what was added and taken out in BUNDLE.")] = False,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Length of the list.")] = 10,
    hide_seen: Annotated[bool, typer.Option("--hide-seen", help="Leave out what the user has clicked.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Top items for a known user, or for an unseen one from fields and fresh clicks.

    For example: micrec recommend BUNDLE --field country=uk --history i12,i7

    With --new-items, --remove-item or --remove-items the list is that of the changed catalogue, with --new-clicks that
    of the longer histories; --save keeps the change for everybody who reads the bundle from then on.
    """
    from micrec.errors import MicrecError
    from micrec.retrieval import Retriever
    from micrec.retrieval.serving_request import Change, Request

    files = _file_options(separator, columns or [], ids)
    request = Request(user, _fields(field or []), history or [], history_file, k, hide_seen, files)
    if user is not None and not request.is_empty_but_for_user:
        raise MicrecError("--user: goes without --field and --history, which are for unseen users: leave one out.")
    change = Change(new_items, remove_item or [], remove_items, files, new_clicks)
    if save and change.is_empty:
        raise MicrecError(
            "--save: there is nothing to keep: give --new-items, --remove-item, --remove-items or --new-clicks."
        )
    with Retriever.changing(bundle) if save else nullcontext(Retriever.load(bundle)) as retriever:
        done = change.apply(retriever)  # saved when the block ends without an error
        answer = None if save and request.is_empty else request.ask(retriever)
    notes = [*done.notes, *(answer.notes if answer else [])]
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    if save:
        typer.echo(
            f"{bundle}: {done.added:,} items added, {done.removed:,} taken out, {done.listed:,} listed", err=True
        )
    if answer is None:
        if as_json:
            typer.echo(json.dumps({"added": done.added, "removed": done.removed, "listed": done.listed}))
    elif as_json:
        typer.echo(json.dumps(answer.found._asdict()))
    else:
        show(_list_table(answer.found))


def _file_options(separator: str | None, columns: list[str], ids: str) -> "FileOptions":
    from micrec.data.column_names import parse_pairs
    from micrec.errors import MicrecError
    from micrec.retrieval.item_files import FileOptions

    pairs, faults = parse_pairs("--columns", columns)
    if faults:
        raise MicrecError.of("recommend", faults)
    spelling = _choice("--ids", ids, ("as_written", "number", "lower"))
    return FileOptions(separator, pairs, cast(Any, spelling))


def _fields(texts: list[str]) -> dict[str, str]:
    from micrec.errors import MicrecError

    fields: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise MicrecError(f"--field: {text}: must read NAME=VALUE, such as country=uk.")
        if name in fields:
            raise MicrecError(f"--field: {name}: appears twice: keep one; several values have | between them.")
        fields[name] = value
    return fields


def _recall_lines(report: "IndexReport", asked: Sequence[int]) -> list[str]:
    """Recall at each depth, cut off and not rounded, so that 1.0000 is said of nothing less than 1."""
    held = _count(report.items, "item")
    lines = [f"{report.kind} index of {held}" + (f" in {_count(report.cells, 'cell')}" if report.cells else "")]
    if report.depths:
        lines.append(f"recall against exact search, {_count(report.queries, 'user')}:")
    for depth in report.depths:
        looked = {
            "flat": "compares every item",
            "hnsw": f"search width {depth.width}",
            "tree": f"looks into {depth.width} nodes of each level",
        }
        how = looked.get(report.kind, f"searches {depth.width} of {report.cells} cells")
        lines.append(f"  recall@{depth.k}: {math.floor(depth.recall * 10_000 + 1e-6) / 10_000:.4f}  ({how})")
    beyond = sorted(k for k in set(asked) if k >= report.items)
    if beyond:
        depths = ", ".join(f"{k}" for k in beyond)
        lines.append(f"not measured at {depths}: the index holds {held}: every item is returned")
    low = [depth for depth in report.depths if depth.recall < LOW_RECALL]
    if low:
        worst = min(low, key=lambda depth: depth.recall)
        lines.append(
            f"note: lists of {worst.k} lack {1 - worst.recall:.1%} of the true best {worst.k}: "
            "--kind flat lacks nothing, at the cost of comparing every item."
        )
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _model_folder(folder: Path) -> Path:
    from micrec.errors import MicrecError

    if (folder / MODEL).is_dir():
        return folder / MODEL
    if (folder / CHECKPOINT).is_dir():
        raise MicrecError(f"{folder}: its training is unfinished: give the same micrec train command again.")
    raise MicrecError(f"{folder}: holds no trained model: give the folder that micrec train wrote.")


def _choice(option: str, value: str, choices: tuple[Choice, ...]) -> Choice:
    from micrec.errors import MicrecError

    if value not in choices:
        raise MicrecError(f"{option}: must be one of {', '.join(choices)}, got {value}.")
    return cast(Choice, value)


def _config(preset: str | None, file: Path | None, sets: list[str]) -> "Config":
    from micrec.settings import apply_overrides, build_config, load_yaml

    keys = apply_overrides(load_yaml(file) if file else {}, sets)
    return build_config(preset or str(keys.get("preset", "paper")), keys)


def _list_table(answer: "Recommendation") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    table.add_column("rank", justify="right")
    table.add_column("item_id")
    if answer.titles is not None:
        table.add_column("title")
    table.add_column("score", justify="right")
    for rank, (item, score) in enumerate(zip(answer.item_ids, answer.scores, strict=True), start=1):
        title = [] if answer.titles is None else [escape(answer.titles[rank - 1] or "")]
        table.add_row(str(rank), escape(str(item)), *title, f"{score:.4f}")
    return table
