"""Files of a log as one lazy table under our column names."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from abtest.analysis import expressions
from abtest.analysis.column_types import as_number, is_number, not_numbers
from micrec.data.column_names import match_column, propose_column
from micrec.errors import MicrecError

_NAMES_ONLY = ("user_id", "arm", "day", "timestamp", "event", "cold")  # columns that are taken as they are
_OURS = (*_NAMES_ONLY, "active", "clicks", "dwell_s", "likes", "follows", "impressions")


class LogSource(NamedTuple):
    """Where numbers come from.

    Attributes:
        name: File or folder as the user gave it.
        hash: First 16 digits of the hash of all files' contents.
        keep: What must live as long as rows are read from it.
    """

    name: str
    hash: str
    keep: object = None


def hash_files(files: Sequence[Path]) -> str:
    """Names do not count, contents and their order do."""
    digest = hashlib.blake2b()
    for file in files:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "blake2b").digest())
    return digest.hexdigest()[:16]


def hash_frame(frame: pl.DataFrame) -> str:
    """Hash of a table in memory: of its names, types and values as CSV text."""
    digest = hashlib.blake2b(repr(frame.schema).encode())
    no_csv = (pl.Binary, pl.Object, pl.Duration)
    unwritable = [name for name, kind in frame.schema.items() if kind.is_nested() or kind.base_type() in no_csv]
    for part in frame.iter_slices(1_000_000):
        as_text = [pl.Series(name, [repr(value) for value in part[name].to_list()], pl.String) for name in unwritable]
        digest.update(part.with_columns(as_text).write_csv().encode())
    return digest.hexdigest()[:16]


def renamed(rows: pl.LazyFrame, columns: Mapping[str, str], where: str) -> tuple[pl.LazyFrame, list[str]]:
    """The table with our names added: each is a column of the file or an expression on its columns.

    A column that is called as ours but for upper case and spaces, such as ``User_ID``, is ours too.

    Returns:
        The rows, and which columns were recognised, in words.

    Raises:
        MicrecError: All unknown columns and broken expressions at once.
    """
    schema = rows.collect_schema()
    there = schema.names()
    faults, new, notes = [], [], []
    for ours in _OURS:
        theirs = None if ours in columns else match_column(ours, there)
        if theirs is not None and theirs != ours:
            new.append(pl.col(theirs).alias(ours))
            notes.append(f"The column {theirs!r} is read as {ours}.")
    for ours, named in columns.items():
        theirs = match_column(named, there) or named
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
    return rows.with_columns(new) if new else rows, notes


def no_column(name: str, there: Sequence[str]) -> str:
    """Error message that a column is missing, with the column that is probably meant."""
    proposed = propose_column(name, there)
    cure = f"did you mean {proposed}?" if proposed else f"the columns are {', '.join(there[:20])}."
    return f"no column {name!r}, {cure}"
