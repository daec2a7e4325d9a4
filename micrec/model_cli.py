"""The commands around one model: train, evaluate, index, recommend. Heavy imports wait until a command runs."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar, cast

import typer

from micrec.console import report_errors, show

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from micrec.config import Config
    from micrec.field_encoder import FieldEncoder
    from micrec.retrieval import IndexReport, Recommendation, Retriever

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

MODEL, CHECKPOINT = "model", "checkpoint"  # folders in the one that train writes
NAMED = 5  # most unknown values that a note lists
LOW_RECALL = 0.95  # below it, micrec index names the exact index

Choice = TypeVar("Choice", bound=str)


@app.command()
@report_errors()
def train(
    data: Annotated[Path, typer.Argument(help="Dataset folder.")],
    out: Annotated[Path, typer.Argument(help="Folder for the model and its checkpoint.")],
    preset: Annotated[str, typer.Option(help="paper or modern.")] = "paper",
    config: Annotated[Path | None, typer.Option(help="YAML file with config keys.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one config key; repeatable.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda …; short for --set train.device=…")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a finished model.")] = False,
) -> None:
    """Train one model; an interrupted training in OUT goes on where it stopped."""
    from micrec.artifact import refuse_inside, refuse_taken
    from micrec.checkpoint import remove_checkpoint
    from micrec.comparison import model_label, switches
    from micrec.data.store import read_dataset
    from micrec.experiment import training_info
    from micrec.fitting import fit
    from micrec.model_folder import save_model
    from micrec.progress import LineProgress

    resolved = _config(preset, config, [*(sets or []), *([f"train.device={device}"] if device else [])])
    refuse_inside(out, data)
    refuse_taken(out / MODEL, "model", overwrite=force)
    progress = LineProgress()
    dataset = read_dataset(data, progress=progress)
    _use_threads(resolved)
    try:
        fitted = fit(dataset, resolved, folder=out, progress=progress)
    except KeyboardInterrupt:
        typer.echo(f"\ninterrupted: the same command goes on from {out}", err=True)
        raise typer.Exit(130) from None
    save_model(fitted, dataset, out / MODEL, overwrite=force)
    remove_checkpoint(out / CHECKPOINT)
    info = {"model": model_label(fitted.config), "switches": switches(fitted.config), **training_info(fitted)}
    lines = [f"{key}: {value}" for key, value in info.items() if key != "log"]
    show(*lines, f"next: micrec evaluate {out} {data}")


@app.command()
@report_errors()
def evaluate(
    folder: Annotated[Path, typer.Argument(help="Folder that micrec train wrote.")],
    data: Annotated[Path, typer.Argument(help="The dataset folder it was trained on.")],
    part: Annotated[str, typer.Option(help="test or valid.")] = "test",
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Evaluation key, e.g. history=rolling.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    everything: Annotated[bool, typer.Option("--all", help="Every metric, and HIT by slice.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with all there is, not tables.")] = False,
) -> None:
    """Rank the whole catalogue for every test user: HIT beside its ceiling and simple baselines, and what is judged."""
    from micrec import comparison
    from micrec.config import EvalConfig
    from micrec.data.store import read_dataset
    from micrec.evaluation.task import Part
    from micrec.model_folder import load_model
    from micrec.settings import apply_overrides, validate

    chosen: Part = _choice("--part", part, ("test", "valid"))
    dataset = read_dataset(data)
    fitted = load_model(_model_folder(folder), dataset, device=device)
    given = apply_overrides(fitted.config.evaluation.model_dump(), sets or [])
    fitted = fitted.with_evaluation(validate(EvalConfig, given, where="--set"))
    results = comparison.compare_with_floors(fitted, dataset, chosen)
    switches = comparison.switches(fitted.config)
    if as_json:
        head = {"dataset": dataset.name, "part": part, "switches": switches}
        typer.echo(json.dumps({**head, **comparison.results_as_dict(results, chosen)}, indent=2))
        return
    left = sum(map(len, comparison.other_metrics(results).values()))
    more = comparison.everything(results) if everything else [f"--all prints {left} more metrics and HIT by slice."]
    show(
        f"{dataset.name}, {part} part",
        *comparison.summary(results, chosen),
        *more,
        switches,
        f"next: micrec index {folder} {data} BUNDLE",
    )


@app.command()
@report_errors()
def index(
    folder: Annotated[Path, typer.Argument(help="Folder that micrec train wrote.")],
    data: Annotated[Path, typer.Argument(help="The dataset folder it was trained on.")],
    out: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    kind: Annotated[str, typer.Option(help="flat (exact), ivf or hnsw.")] = "flat",
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
    """Build a FAISS serving bundle and print its recall against exact search, for lists of 10, 50, 100 and 500."""
    from micrec.artifact import refuse_inside, refuse_taken
    from micrec.data.store import read_dataset
    from micrec.model_folder import load_model
    from micrec.retrieval import CATALOGUES, DEPTHS, INDEX_KINDS, Retriever

    chosen_kind = _choice("--kind", kind, INDEX_KINDS)
    chosen_catalogue = _choice("--catalogue", catalogue, CATALOGUES)
    refuse_taken(out, "bundle", overwrite=force)
    refuse_inside(out, data)
    dataset = read_dataset(data)
    fitted = load_model(_model_folder(folder), dataset, device="cpu")
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
    history: Annotated[str | None, typer.Option(help="Fresh clicks, oldest first, with commas between.")] = None,
    new_items: Annotated[
        Path | None, typer.Option(help="CSV of items to add, from their fields alone: item_id and any item field.")
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Length of the list.")] = 10,
    hide_seen: Annotated[bool, typer.Option("--hide-seen", help="Leave out what the user has clicked.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Top items for a known user, or for an unseen one from fields and fresh clicks.

    For example: micrec recommend BUNDLE --field country=uk --history i12,i7
    """
    from micrec.errors import MicrecError
    from micrec.retrieval import Retriever

    fields = dict(_pair(text) for text in field or [])
    if user is not None and (fields or history is not None):
        raise MicrecError("--user: goes without --field and --history, which are for unseen users: leave one out.")
    retriever = Retriever.load(bundle)
    if new_items is not None:
        _add_items(retriever, new_items)
    if user is not None:
        answer = retriever.recommend(user, k, hide_seen=hide_seen)
    else:
        clicks = [item.strip() for item in (history or "").split(",") if item.strip()]
        answer = _ask_unseen(retriever, fields, clicks, k, hide_seen)
    if as_json:
        typer.echo(json.dumps(answer._asdict()))
    else:
        show(_list_table(answer))


def _ask_unseen(
    retriever: "Retriever", fields: dict[str, str], clicks: list[str], k: int, hide_seen: bool
) -> "Recommendation":
    from micrec.retrieval import field_frame

    answer = retriever.recommend_unseen(fields, clicks, k, hide_seen=hide_seen)
    _note_unknown(retriever.bundle.user_encoder, field_frame(fields))
    return answer


def _add_items(retriever: "Retriever", path: Path) -> None:
    frame = _read_items(path)
    retriever.add_items(frame)
    _note_unknown(retriever.bundle.item_encoder, frame)


def _note_unknown(encoder: "FieldEncoder", frame: "pl.DataFrame") -> None:
    """Tell of values that are read as missing, as a slip of the pen would be."""
    for name, values in encoder.unknown_values(frame).items():
        shown = ", ".join(values[:NAMED]) + (" …" if len(values) > NAMED else "")
        typer.echo(f"note: {encoder.entity} field {name}: {shown}: unknown to the model, read as missing", err=True)


def _pair(text: str) -> tuple[str, str]:
    from micrec.errors import MicrecError

    name, sign, value = text.partition("=")
    if not sign or not name:
        raise MicrecError(f"--field: {text}: must read NAME=VALUE, such as country=uk.")
    return name, value


def _read_items(path: Path) -> "pl.DataFrame":
    import polars as pl

    from micrec.errors import MicrecError

    if not path.is_file():
        raise MicrecError(f"{path}: there is no such file: give a CSV with item_id and item fields.")
    try:
        frame = pl.read_csv(path, infer_schema=False)
    except pl.exceptions.PolarsError as fault:
        raise MicrecError(f"{path}: cannot be read as CSV ({str(fault).splitlines()[0]}): correct it.") from fault
    if frame.is_empty():
        raise MicrecError(f"{path}: holds no row below its header: write one per item.")
    return frame


def _recall_lines(report: "IndexReport", asked: Sequence[int]) -> list[str]:
    """Recall at each depth, cut off and not rounded, so that 1.0000 is said of nothing less than 1."""
    held = _count(report.items, "item")
    lines = [f"{report.kind} index of {held}" + (f" in {_count(report.cells, 'cell')}" if report.cells else "")]
    if report.depths:
        lines.append(f"recall against exact search, {_count(report.queries, 'user')}:")
    for depth in report.depths:
        looked = {"flat": "compares every item", "hnsw": f"search width {depth.width}"}
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


def _config(preset: str, file: Path | None, sets: list[str]) -> "Config":
    from micrec.settings import apply_overrides, build_config, load_yaml

    return build_config(preset, apply_overrides(load_yaml(file) if file else {}, sets))


def _use_threads(config: "Config") -> None:
    if config.train.threads is not None:
        from micrec.threads import use_threads

        use_threads(config.train.threads)


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
