"""Files of a log as one lazy table under our column names."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from abtest.analysis import expressions
from abtest.analysis.column_types import as_number, is_number, not_numbers
from micrec.errors import MicrecError

_PARQUET, _CSV = (".parquet", ".pq"), (".csv", ".csv.gz", ".csv.zst", ".tsv", ".tsv.gz")
_NAMES_ONLY = ("user_id", "arm", "day", "timestamp", "event", "cold")  # columns that are taken as they are


class Source(NamedTuple):
    """Where numbers come from.

    Attributes:
        name: File or folder as the user gave it.
        hash: First 16 digits of the hash of all files' contents.
    """

    name: str
    hash: str


def scan(path: Path) -> tuple[pl.LazyFrame, list[Path]]:
    """A Parquet or CSV file, or a folder of parts of one kind, lazily.

    Raises:
        MicrecError: If there is nothing to read, or parts of both kinds.
    """
    files = _files(path)
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1:
        raise MicrecError(f"{path}: holds both Parquet and CSV parts: keep one kind.")
    try:
        if kinds == {"parquet"}:
            rows = pl.scan_parquet(files)
        else:
            separator = "\t" if ".tsv" in files[0].name else ","
            rows = pl.scan_csv(files, separator=separator, infer_schema_length=10_000)
        rows.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as fault:
        raise MicrecError(f"{path}: cannot be read as {kinds.pop()} ({_first_line(fault)}): check the file.") from None
    return rows, files


def hash_files(files: Sequence[Path]) -> str:
    """Names do not count, contents and their order do."""
    digest = hashlib.blake2b()
    for file in files:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "blake2b").digest())
    return digest.hexdigest()[:16]


def hash_frame(frame: pl.DataFrame) -> str:
    """Of a table in memory: names, types and values, as CSV text."""
    digest = hashlib.blake2b(repr(frame.schema).encode())
    no_csv = (pl.Binary, pl.Object, pl.Duration)
    unwritable = [name for name, kind in frame.schema.items() if kind.is_nested() or kind.base_type() in no_csv]
    for part in frame.iter_slices(1_000_000):
        as_text = [pl.Series(name, [repr(value) for value in part[name].to_list()], pl.String) for name in unwritable]
        digest.update(part.with_columns(as_text).write_csv().encode())
    return digest.hexdigest()[:16]


def renamed(rows: pl.LazyFrame, columns: Mapping[str, str], where: str) -> pl.LazyFrame:
    """The table with our names added: each is a column of the file or an expression on its columns.

    Raises:
        MicrecError: All unknown columns and broken expressions at once.
    """
    schema = rows.collect_schema()
    there = schema.names()
    faults, new = [], []
    for ours, theirs in columns.items():
        if theirs in there:
            new.append(pl.col(theirs).alias(ours))
        elif ours in _NAMES_ONLY:
            faults.append(f"{ours}={theirs}: {no_column(theirs, there)}")
        else:
            try:
                expression = expressions.parse(theirs, lambda name: as_number(name, schema.get(name, pl.Float64())))
            except MicrecError as fault:
                faults.append(f"{ours}={theirs}: no such column, and {fault}")
                continue
            unknown = [column for column in expression.columns if column not in there]
            faults += [f"{ours}={theirs}: {no_column(column, there)}" for column in unknown]
            kinds = {column: schema[column] for column in expression.columns if column in there}
            wrong = [name for name, kind in kinds.items() if not (is_number(kind) or kind == pl.String)]
            faults += [f"{ours}={theirs}: {not_numbers(name, kinds[name])}" for name in wrong]
            new.append(expression.expr.alias(ours))
    if faults:
        raise MicrecError.of(f"{where}: columns", faults)
    return rows.with_columns(new) if new else rows


def no_column(name: str, there: Sequence[str]) -> str:
    """That a column is missing, with the nearest one there is."""
    import difflib

    close = difflib.get_close_matches(name, there, n=1)
    cure = f"did you mean {close[0]}?" if close else f"the columns are {', '.join(there[:20])}."
    return f"no column {name!r}, {cure}"


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise MicrecError(f"{path}: no such file or folder: check the path.")
    if path.is_file():
        if _kind(path) is None:
            raise MicrecError(f"{path}: is neither Parquet nor CSV: the name must end in .parquet, .csv or .csv.gz.")
        return [path]
    files = sorted(file for file in path.rglob("*") if file.is_file() and _kind(file) and file.name[0] not in "._")
    if not files:
        raise MicrecError(f"{path}: holds no .parquet, .csv or .csv.gz file: give the folder of the parts.")
    return files


def _kind(path: Path) -> str | None:
    name = path.name.lower()
    return "parquet" if name.endswith(_PARQUET) else "CSV" if name.endswith(_CSV) else None


def _first_line(fault: Exception) -> str:
    return str(fault).strip().splitlines()[0][:200] if str(fault).strip() else type(fault).__name__
