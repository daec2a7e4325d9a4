"""RecBole atomic files: ``NAME.inter``, ``NAME.user``, ``NAME.item``, tab-separated, headed by ``column:type``."""

from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field

from micrec.data.readers import DatasetFrames, Reader
from micrec.data.readers.catalogue import CatalogueConfig, choose_catalogue
from micrec.data.readers.files import existing, files_like, readable
from micrec.data.schema import DatasetSchema, FieldType, Roles
from micrec.errors import MicrecError

FIELD_TYPES = {
    "token": FieldType.CATEGORICAL,
    "token_seq": FieldType.MULTI_CATEGORICAL,
    "float": FieldType.NUMERIC,
    "float_seq": FieldType.VECTOR,
}
LATEST_S = 100_000_000_000  # a time beyond the year 5000 in seconds is meant in milliseconds


class RecBoleConfig(CatalogueConfig):
    """Options of the reader; the defaults are the column names of RecBole's own datasets."""

    min_rating: float | None = Field(None, description="Interactions rated below it are not clicks; null takes all.")
    user: str = Field("user_id", description="Column of the user.")
    item: str = Field("item_id", description="Column of the item.")
    time: str = Field("timestamp", description="Column of the time, in seconds or milliseconds.")
    rating: str = Field("rating", description="Column of the rating; asked for only with min_rating.")
    title: str | None = Field(None, description="Item column with the title; null: the first with title or name in it.")
    taxonomy: str | None = Field(
        None, description="Item column of the taxonomy; null: the first token_seq but the title."
    )


def read_recbole(path: Path, options: RecBoleConfig) -> DatasetFrames:
    """Read atomic files; ``path`` is their folder or the ``.inter`` file. ``.user`` and ``.item`` may be missing.

    Every interaction is a click, those below ``options.min_rating`` excepted, which are counted. Other columns of the
    interactions are left aside and named in the provenance. Clicks come out in time order, ties in file order.

    Types: token is categorical, token_seq multi-valued (parted by spaces), float numeric, float_seq a vector. The
    title column becomes text. If the taxonomy is multi-valued, ``category`` is its first value, else itself. Ids stay
    strings, as tokens are.

    Raises:
        MicrecError: If a file or column is missing, a header is not ``column:type``, or a file cannot be read.
    """
    inter = _inter_file(existing(path))
    clicks, n_rows, low, ignored = _clicks(inter, options)
    users, user_types = _entities(inter.with_suffix(".user"), options.user, "user_id", clicks)
    items, item_types = _entities(inter.with_suffix(".item"), options.item, "item_id", clicks)
    items, item_types, roles = _with_roles(inter.with_suffix(".item"), items, item_types, options)
    users, items, left_out = choose_catalogue(users, items, clicks, options)
    dropped = low | left_out
    files = [inter.with_suffix(suffix) for suffix in (".inter", ".user", ".item")]
    schema = DatasetSchema(
        name=inter.stem,
        time_unit=_time_unit(clicks),
        users=user_types,
        items=item_types,
        roles=roles,
        provenance={
            "reader": "recbole",
            "files": [file.name for file in files if file.is_file()],
            "options": options.model_dump(),
            "rows": n_rows,
            "dropped": dropped,
            "columns left aside": ignored,
        },
    )
    return DatasetFrames(schema=schema, users=users, items=items, clicks=clicks, dropped=dropped)


def is_recbole(path: Path) -> bool:
    """Whether ``path`` is an ``.inter`` file or a folder with one."""
    return (path.is_file() and path.suffix == ".inter") or bool(files_like(path, "*.inter"))


def _inter_file(path: Path) -> Path:
    """The one ``.inter`` file that ``path`` names or holds."""
    if path.is_file() and path.suffix == ".inter":
        return path
    found = files_like(path, "*.inter")
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise MicrecError(f"{path}: needs exactly one .inter file, found {names}: give the path of the one to read.")
    return found[0]


def _scan(path: Path) -> tuple[pl.LazyFrame, dict[str, str]]:
    """The file as text columns, and the RecBole type of each column.

    Raises:
        MicrecError: If a column of the header is not ``name:type`` with a known type.
    """
    with readable(path):
        lazy = pl.scan_csv(path, separator="\t", quote_char=None, infer_schema=False)
        header = lazy.collect_schema().names()
    parts = {name: name.rpartition(":") for name in header}
    faults = [
        f"header {name!r} is not column:type: write one of {', '.join(FIELD_TYPES)} after the colon."
        for name, (column, _, kind) in parts.items()
        if not column or kind not in FIELD_TYPES
    ]
    if faults:
        raise MicrecError.of(str(path), faults)
    return lazy.rename({name: column for name, (column, _, _) in parts.items()}), {
        column: kind for column, _, kind in parts.values()
    }


def _clicks(path: Path, options: RecBoleConfig) -> tuple[pl.DataFrame, int, dict[str, int], list[str]]:
    """Clicks in time order, the number of interactions, those dropped by reason, and the columns left aside."""
    lazy, kinds = _scan(path)
    rated = options.min_rating is not None
    need = [options.user, options.item, options.time, *([options.rating] if rated else [])]
    _require(path, kinds, need)
    keep = pl.col(options.rating).cast(pl.Float64) >= options.min_rating if rated else pl.lit(True)
    with readable(path):
        n_rows, clicks = pl.collect_all(
            [
                lazy.select(pl.len()),
                lazy.filter(keep).select(
                    user_id=pl.col(options.user),
                    item_id=pl.col(options.item),
                    timestamp=pl.col(options.time).cast(pl.Float64),
                ),
            ]
        )
    if clicks.is_empty():
        raise MicrecError(f"{path}: none of its {n_rows.item():,} interactions is a click: lower min_rating.")
    low = {f"interactions rated below {options.min_rating:g}": n_rows.item() - len(clicks)} if rated else {}
    ignored = [name for name in kinds if name not in need]
    return clicks.sort("timestamp", maintain_order=True), n_rows.item(), low, ignored


def _require(path: Path, kinds: dict[str, str], need: list[str]) -> None:
    missing = [name for name in need if name not in kinds]
    if missing:
        raise MicrecError(
            f"{path}: column {', '.join(missing)} missing (it has {', '.join(kinds)}): "
            "name the right one with --set user=, item=, time= or rating=."
        )


def _time_unit(clicks: pl.DataFrame) -> Literal["s", "ms"]:
    return "ms" if clicks["timestamp"].abs().max() > LATEST_S else "s"  # type: ignore[operator]


def _entities(path: Path, key: str, name: str, clicks: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, FieldType]]:
    """The user or item table with its field types; the bare ids of the clicks if there is no such file."""
    if not path.is_file():
        return clicks.select(pl.col(name).unique(maintain_order=True)), {}
    lazy, kinds = _scan(path)
    _require(path, kinds, [key])
    columns = [_typed(column, kind) for column, kind in kinds.items() if column != key]
    with readable(path):
        table = lazy.select(pl.col(key).alias(name), *columns).collect()
    return table, {column: FIELD_TYPES[kind] for column, kind in kinds.items() if column != key}


def _typed(column: str, kind: str) -> pl.Expr:
    text = pl.col(column)
    if kind == "float":
        return text.cast(pl.Float64)
    if kind == "token":
        return text
    values = text.str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
    return values.cast(pl.List(pl.Float32)) if kind == "float_seq" else values


def _with_roles(
    path: Path, items: pl.DataFrame, types: dict[str, FieldType], options: RecBoleConfig
) -> tuple[pl.DataFrame, dict[str, FieldType], Roles]:
    """Turn the title into text, add ``category`` from a multi-valued taxonomy, and give both their roles."""
    _require_fields(path, types, [options.title, options.taxonomy])
    title = options.title or next((name for name in types if "title" in name or "name" in name), None)
    multi = [name for name, kind in types.items() if kind is FieldType.MULTI_CATEGORICAL and name != title]
    taxonomy = options.taxonomy or next(iter(multi), None)
    category = taxonomy
    types = dict(types)
    if title is not None:
        if isinstance(items.schema[title], pl.List):
            items = items.with_columns(pl.col(title).list.join(" "))
        types[title] = FieldType.TEXT
    if taxonomy in multi:
        category = "category" if "category" not in types else f"{taxonomy}_first"
        items = items.with_columns(pl.col(taxonomy).list.first().alias(category))
        types[category] = FieldType.CATEGORICAL
    return items, types, Roles(title=title, category=category, taxonomy=taxonomy)


def _require_fields(path: Path, types: dict[str, FieldType], names: list[str | None]) -> None:
    missing = [name for name in names if name is not None and name not in types]
    if missing:
        raise MicrecError(f"{path}: no item column {', '.join(missing)} (it has {', '.join(types) or 'none'}).")


RECBOLE = Reader(
    "RecBole: a folder of NAME.inter, NAME.user, NAME.item, or the .inter file", RecBoleConfig, read_recbole, is_recbole
)
