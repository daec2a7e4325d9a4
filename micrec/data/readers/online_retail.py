"""Online Retail: the invoice lines of a UK gift wholesaler, December 2010 to December 2011 (UCI id 352)."""

from pathlib import Path

import polars as pl
from pydantic import Field

from micrec.bounds import Length, Rows
from micrec.config import Frozen
from micrec.data.readers import DatasetFrames, Reader
from micrec.data.readers.files import cast_texts, existing, files_like, readable, require_columns
from micrec.data.readers.title_words import title_words
from micrec.data.schema import DatasetSchema, FieldType, Roles
from micrec.errors import MicrecError

COLUMNS = {
    "InvoiceNo": pl.String,
    "StockCode": pl.String,
    "Description": pl.String,
    "Quantity": pl.Int64,
    "InvoiceDate": pl.Datetime,
    "UnitPrice": pl.Float64,
    "CustomerID": pl.Float64,
    "Country": pl.String,
}
RENAMED = {"Invoice": "InvoiceNo", "Price": "UnitPrice", "Customer ID": "CustomerID"}  # as Online Retail II has them
DATE_FORMATS = ("%m/%d/%Y %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M")
SOURCE = (
    "UCI Machine Learning Repository, Online Retail. Chen D., Sain S.L., Guo K. (2012), Data mining for the online "
    "retail industry, Journal of Database Marketing & Customer Strategy Management 19(3):197-208."
)


class OnlineRetailConfig(Frozen):
    """Options of the reader."""

    price_bands: Length = Field(10, description="Quantile bands of the items' median unit prices.")
    min_word_items: Rows = Field(5, description="Items that must share a title word for it to be a tag.")


def read_online_retail(path: Path, options: OnlineRetailConfig) -> DatasetFrames:
    """Read the invoice lines as a click log: Parquet or CSV with the columns of the UCI sheet, or a folder with it.

    A click is an invoice line with a customer and a positive quantity: user = CustomerID, item = StockCode,
    timestamp = InvoiceDate, taken as UTC. Every other line is dropped and counted under the first of these reasons
    that holds: no customer; a cancellation (InvoiceNo starts with C); any other quantity of zero or less. Repeated
    lines of one invoice are kept, as are postage, manual and bank-charge lines.

    Order: the clock has minutes, and all lines of an invoice carry the same one, so the order within an invoice is
    unknown. Lines of one minute keep the order of the file.

    Fields, all from kept lines:

    - Items: ``title`` (most frequent description, first seen among equals), ``price_band`` (quantile band of the median
      positive unit price), ``words`` and ``category`` (see ``title_words``), ``design`` (digits of the stock code: the
      variants 85123A and 85123B are one design).
    - Users: ``country`` (most frequent, first seen among equals).

    All of these are computed over the whole file, the later test period included. They are facts of the catalogue and
    of the customer that a shop knows beforehand (name, list price, address), not counts of behaviour; no field tells
    how often, when or with what an item sold.

    Raises:
        MicrecError: If the file cannot be read, lacks a column, holds a date or number that is none, or no click.
    """
    path = _invoice_file(path)
    lines = _read_lines(path)
    clicks, dropped = _clicks(lines)
    if clicks.is_empty():
        raise MicrecError(f"{path}: none of its {len(lines):,} lines has a customer and a positive quantity.")
    items = _items(clicks, options)
    users = _most_frequent(clicks, "user_id", "Country").rename({"Country": "country"})
    return DatasetFrames(
        schema=_schema(path, len(lines), dropped, options),
        users=users.sort("user_id"),
        items=items.sort("item_id"),
        clicks=clicks.select("user_id", "item_id", "timestamp"),
        dropped=dropped,
    )


def is_online_retail(path: Path) -> bool:
    """Whether ``path`` is a Parquet or CSV file with the columns of the invoice lines, or a folder with just that."""
    files = _invoice_files(path)
    if len(files) != 1:
        return False
    try:
        is_parquet = files[0].suffix.lower() == ".parquet"
        scan = pl.scan_parquet(files[0]) if is_parquet else pl.scan_csv(files[0], infer_schema=False)
        names = scan.collect_schema().names()
    except pl.exceptions.PolarsError:
        return False
    return set(COLUMNS) <= {RENAMED.get(name, name) for name in names}


def _invoice_files(path: Path) -> list[Path]:
    """``path`` itself, or the Parquet and CSV files of a folder."""
    files = [path] if path.is_file() else files_like(path, "*")
    return [file for file in files if file.suffix.lower() in (".parquet", ".csv")]


def _invoice_file(path: Path) -> Path:
    files = _invoice_files(existing(path))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise MicrecError(
            f"{path}: needs exactly one .parquet or .csv file, found {names}: give the path of the one to read."
        )
    return files[0]


def _read_lines(path: Path) -> pl.DataFrame:
    """All invoice lines with the types of ``COLUMNS``, in file order."""
    if path.suffix.lower() == ".parquet":
        with readable(path):
            lines = pl.read_parquet(path)
    else:
        lines = _read_csv(path)
    lines = lines.rename({old: new for old, new in RENAMED.items() if old in lines.columns})
    require_columns(path, lines.columns, COLUMNS)
    with readable(path):
        return _typed(path, lines.select(*COLUMNS))


def _read_csv(path: Path) -> pl.DataFrame:
    """The CSV as text; pound signs in descriptions are Latin-1 in some copies."""
    with readable(path):
        try:
            return pl.read_csv(path, infer_schema=False)
        except pl.exceptions.ComputeError as fault:
            if "utf-8" not in str(fault):
                raise
            return pl.read_csv(path, infer_schema=False, encoding="latin-1")


def _typed(path: Path, lines: pl.DataFrame) -> pl.DataFrame:
    """Cast text columns; a missing customer stays null, and a customer's 17850.0 becomes 17850."""
    texts = [name for name in ("Quantity", "UnitPrice") if lines.schema[name] == pl.String]
    if texts:
        lines = lines.with_columns(cast_texts(path, lines.select(texts), {name: COLUMNS[name] for name in texts}))
    if lines.schema["InvoiceDate"] == pl.String:
        lines = lines.with_columns(_dates(path, lines["InvoiceDate"]))
    if lines["InvoiceDate"].null_count():
        raise MicrecError(f"{path}: InvoiceDate is empty in {lines['InvoiceDate'].null_count():,} lines: fill it in.")
    text = pl.col("StockCode", "InvoiceNo", "Description", "Country").cast(pl.String).str.strip_chars()
    return lines.with_columns(
        text,
        pl.col("CustomerID").cast(pl.String).replace(["", "nan", "NaN"], None).cast(pl.Float64).cast(pl.Int64),
        pl.col("InvoiceDate").cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"),
    )


def _dates(path: Path, texts: pl.Series) -> pl.Series:
    """Parse dates by the first format that fits every line; a format that fits only some would swap day and month."""
    for pattern in DATE_FORMATS:
        dates = texts.str.to_datetime(pattern, strict=False)
        if dates.null_count() == texts.null_count():
            return dates
    raise MicrecError(
        f"{path}: InvoiceDate is not written in one way in all lines (first: {texts[0]!r}): "
        f"use one of {', '.join(DATE_FORMATS)}."
    )


def _clicks(lines: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Kept lines in time order, ties in file order, and the count of the others by reason, the first that holds."""
    reason = (
        pl.when(pl.col("CustomerID").is_null())
        .then(pl.lit("lines without a customer"))
        .when(pl.col("InvoiceNo").str.starts_with("C"))
        .then(pl.lit("cancelled lines (InvoiceNo starts with C)"))
        .when(~(pl.col("Quantity") > 0).fill_null(False))
        .then(pl.lit("other lines with a quantity of zero or less"))
    )
    lines = lines.with_columns(reason=reason)
    counts = lines.drop_nulls("reason").group_by("reason", maintain_order=True).len()
    clicks = lines.filter(pl.col("reason").is_null()).rename({"CustomerID": "user_id", "StockCode": "item_id"})
    clicks = clicks.with_columns(timestamp=pl.col("InvoiceDate")).sort("timestamp", maintain_order=True)
    return clicks, dict(counts.sort("len", descending=True).iter_rows())


def _items(clicks: pl.DataFrame, options: OnlineRetailConfig) -> pl.DataFrame:
    """One row per item with the derived fields."""
    titles = _most_frequent(clicks, "item_id", "Description").rename({"Description": "title"})
    words = title_words(titles, min_items=options.min_word_items)
    return (
        titles.join(words, on="item_id", maintain_order="left")
        .join(_price_bands(clicks, options.price_bands), on="item_id", how="left", maintain_order="left")
        .with_columns(design=pl.col("item_id").str.extract(r"^(\d+)"))
    )


def _most_frequent(clicks: pl.DataFrame, key: str, value: str) -> pl.DataFrame:
    """(``key``, ``value``): the most frequent non-empty value of each key, the first seen among equals, else null."""
    known = pl.col(value).is_not_null() & ~pl.col(value).is_in(["", "nan"])
    counts = clicks.filter(known).group_by(key, value, maintain_order=True).len()
    best = counts.sort("len", descending=True, maintain_order=True).unique(key, keep="first", maintain_order=True)
    return clicks.select(pl.col(key).unique(maintain_order=True)).join(
        best.select(key, value), on=key, how="left", maintain_order="left"
    )


def _price_bands(clicks: pl.DataFrame, n_bands: int) -> pl.DataFrame:
    """(``item_id``, ``price_band``); a band is named by its prices, so fewer than ``n_bands`` if prices repeat."""
    prices = clicks.filter(pl.col("UnitPrice") > 0).group_by("item_id").agg(price=pl.col("UnitPrice").median())
    bounds = prices["price"].quantile([i / n_bands for i in range(1, n_bands)], "lower") if n_bands > 1 else []
    bands = pl.DataFrame({"upper": pl.Series(bounds, dtype=pl.Float64).unique().sort()}).with_columns(
        price_band=pl.format("up to {}", pl.col("upper").round(3))
    )
    return (
        prices.sort("price")
        .join_asof(bands.sort("upper"), left_on="price", right_on="upper", strategy="forward")
        .select("item_id", pl.col("price_band").fill_null(f"above {bands['upper'][-1]}" if len(bands) else "any"))
    )


def _schema(path: Path, n_lines: int, dropped: dict[str, int], options: OnlineRetailConfig) -> DatasetSchema:
    return DatasetSchema(
        name="online-retail",
        licence="CC BY 4.0",
        source=SOURCE,
        time_unit="datetime",
        users={"country": FieldType.CATEGORICAL},
        items={
            "title": FieldType.TEXT,
            "category": FieldType.CATEGORICAL,
            "words": FieldType.MULTI_CATEGORICAL,
            "price_band": FieldType.CATEGORICAL,
            "design": FieldType.CATEGORICAL,
        },
        roles=Roles(title="title", category="category", taxonomy="words"),
        provenance={
            "reader": "online-retail",
            "files": [path.name],
            "options": options.model_dump(),
            "rows": n_lines,
            "dropped": dropped,
            "ties": "all lines of an invoice share one minute and keep the order of the file; the true one is unknown",
            "derived": "title, category, words, price_band, design and country come from the whole file: "
            "facts of catalogue and customer, no counts of behaviour",
        },
    )


ONLINE_RETAIL = Reader(
    "Online Retail: the invoice lines as a .parquet or .csv file",
    OnlineRetailConfig,
    read_online_retail,
    is_online_retail,
)
