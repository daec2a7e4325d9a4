"""The commands around one model: train, evaluate, index, recommend. Heavy imports wait until a command runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from micrec.console import report_errors, show

if TYPE_CHECKING:
    from micrec.config import Config
    from micrec.evaluation import EvalResult
    from micrec.retrieval import Recommendation, Retriever

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one config key; repeatable.")]
MODEL = "model"


@app.command()
@report_errors()
def train(
    data: Annotated[Path, typer.Argument(help="Dataset folder.")],
    out: Annotated[Path, typer.Argument(help="Folder for the model and its checkpoint.")],
    preset: Annotated[str, typer.Option(help="paper or modern.")] = "paper",
    config: Annotated[Path | None, typer.Option(help="YAML file with config keys.")] = None,
    sets: Sets = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda …; short for --set train.device=…")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a finished model.")] = False,
) -> None:
    """Train one model; an interrupted training in OUT goes on where it stopped."""
    from micrec.checkpoint import remove_checkpoint
    from micrec.data.store import read_dataset
    from micrec.errors import MicrecError
    from micrec.experiment import training_info
    from micrec.fitting import fit
    from micrec.model_folder import save_model
    from micrec.progress import LineProgress

    resolved = _config(preset, config, [*(sets or []), *([f"train.device={device}"] if device else [])])
    if (out / MODEL).exists() and not force:
        raise MicrecError(f"{out / MODEL}: holds a finished model: choose another folder, or give --force.")
    dataset = read_dataset(data)
    fitted = fit(dataset, resolved, folder=out, progress=LineProgress())
    save_model(fitted, dataset, out / MODEL)
    remove_checkpoint(out / "checkpoint")
    info = {key: value for key, value in training_info(fitted).items() if key != "log"}
    show("\n".join(f"{key}: {value}" for key, value in info.items()), f"next: micrec evaluate {out} {data}")


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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Rank the whole catalogue for every test user and print all metrics, beside the floors."""
    from micrec.config import EvalConfig
    from micrec.data.split import temporal_split
    from micrec.data.store import read_dataset
    from micrec.errors import MicrecError
    from micrec.evaluation import evaluation_task
    from micrec.experiment import FLOORS, evaluate_floor
    from micrec.model_folder import load_model
    from micrec.settings import apply_overrides, validate

    if part not in ("test", "valid"):
        raise MicrecError(f"--part: {part!r}: choose test or valid.")
    dataset = read_dataset(data)
    fitted = load_model(folder / MODEL, dataset, device=device)
    given = apply_overrides(fitted.config.evaluation.model_dump(mode="json"), sets or [])
    fitted = fitted.with_evaluation(validate(EvalConfig, given, where="--set"))
    split = temporal_split(dataset.clicks, fitted.config.split)
    task = evaluation_task(dataset, split, fitted.config.evaluation, "test" if part == "test" else "valid")
    results = {fitted.config.model.name: fitted.evaluate(task)}
    clicks = dataset.clicks[split.fit if part == "test" else split.train]
    results |= {name: evaluate_floor(name, task, clicks, fitted.config) for name in FLOORS}
    if as_json:
        typer.echo(json.dumps({n: {"metrics": r.metrics, "slices": r.slices} for n, r in results.items()}, indent=2))
    else:
        show(_metrics_table(results))


@app.command()
@report_errors()
def index(
    folder: Annotated[Path, typer.Argument(help="Folder that micrec train wrote.")],
    data: Annotated[Path, typer.Argument(help="The dataset folder it was trained on.")],
    out: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    kind: Annotated[str, typer.Option(help="flat (exact), ivf or hnsw.")] = "flat",
    catalogue: Annotated[str, typer.Option(help="train: items with training clicks; all: every item.")] = "train",
    k: Annotated[int, typer.Option(help="List length at which recall is measured.")] = 500,
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle in OUT.")] = False,
) -> None:
    """Build a FAISS serving bundle and print its recall against exact search."""
    from micrec.data.store import read_dataset
    from micrec.errors import MicrecError
    from micrec.model_folder import load_model
    from micrec.retrieval import Retriever

    if kind not in ("flat", "ivf", "hnsw"):
        raise MicrecError(f"--kind: {kind!r}: choose flat, ivf or hnsw.")
    if catalogue not in ("train", "all"):
        raise MicrecError(f"--catalogue: {catalogue!r}: choose train or all.")
    if out.exists() and not force:
        raise MicrecError(f"{out}: exists already: choose another folder, or give --force.")
    dataset = read_dataset(data)
    fitted = load_model(folder / MODEL, dataset, device="cpu")
    retriever, report = Retriever.build(fitted, dataset, kind=kind, catalogue=catalogue, k=k)  # type: ignore[arg-type]
    retriever.save(out)
    show(
        f"{report.kind} index of {report.items:,} items",
        f"recall@{report.k} against exact search, {report.queries:,} users: {report.recall:.4f}",
        f"next: micrec recommend {out} --user {dataset.users.ids[0]}",
    )


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
    k: Annotated[int, typer.Option(help="Length of the list.")] = 10,
    hide_seen: Annotated[bool, typer.Option("--hide-seen", help="Leave out the clicks of the history.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Top items for a known user, or for an unseen one from fields and fresh clicks."""
    from micrec.retrieval import Retriever

    retriever = Retriever.load(bundle)
    if new_items is not None:
        retriever.add_items(_read_items(new_items))
    answer = _ask(retriever, user, field or [], history, k, hide_seen)
    if as_json:
        typer.echo(json.dumps(answer._asdict()))
    else:
        show(_list_table(answer, retriever))


def _ask(
    retriever: "Retriever", user: str | None, field: list[str], history: str | None, k: int, hide_seen: bool
) -> "Recommendation":
    from micrec.errors import MicrecError

    if k < 1:
        raise MicrecError(f"-k: must be at least 1, got {k}.")
    if user is not None:
        if field or history is not None:
            raise MicrecError("--user: goes without --field and --history, which are for unseen users.")
        return retriever.recommend(user, k, seen=not hide_seen)
    fields = dict(_pair(text) for text in field)
    clicks = [item.strip() for item in history.split(",") if item.strip()] if history else []
    return retriever.recommend_unseen(fields, clicks, k, seen=not hide_seen)


def _pair(text: str) -> tuple[str, str]:
    from micrec.errors import MicrecError

    name, sign, value = text.partition("=")
    if not sign:
        raise MicrecError(f"--field: {text!r} is not NAME=VALUE.")
    return name, value


def _read_items(path: Path) -> list[dict[str, Any]]:
    import polars as pl

    from micrec.errors import MicrecError

    if not path.is_file():
        raise MicrecError(f"{path}: there is no such file: give a CSV with item_id and item fields.")
    try:
        frame = pl.read_csv(path, infer_schema=False)
    except pl.exceptions.PolarsError as fault:
        raise MicrecError(f"{path}: cannot be read as CSV ({fault}).") from fault
    return [{name: value for name, value in row.items() if value is not None} for row in frame.to_dicts()]


def _config(preset: str, file: Path | None, sets: list[str]) -> "Config":
    from micrec.settings import apply_overrides, build_config, load_yaml

    return build_config(preset, apply_overrides(load_yaml(file) if file else {}, sets))


def _metrics_table(results: "dict[str, EvalResult]") -> Any:
    from rich.table import Table

    table = Table(title="HIT@N = share of test clicks whose item is in the user's top N of the whole catalogue")
    table.add_column("metric")
    for name in results:
        table.add_column(name, justify="right")
    names = list(dict.fromkeys(metric for result in results.values() for metric in result.metrics))
    for metric in names:
        values = [result.metrics.get(metric) for result in results.values()]
        table.add_row(metric, *("" if value is None else f"{value:.4f}" for value in values))
    return table


def _list_table(answer: "Recommendation", retriever: "Retriever") -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    table.add_column("rank", justify="right")
    table.add_column("item_id")
    titled = bool(retriever.titles)
    if titled:
        table.add_column("title")
    table.add_column("score", justify="right")
    for rank, (item, score) in enumerate(zip(answer.item_ids, answer.scores, strict=True), start=1):
        title = [escape(retriever.titles.get(item, ""))] if titled else []
        table.add_row(str(rank), escape(str(item)), *title, f"{score:.4f}")
    return table
