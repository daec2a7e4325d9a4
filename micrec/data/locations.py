"""Tables wherever they lie: local files and folders, DuckDB files and queries, Parquet at an address such as ``s3://…``.

What a query gives is copied once to a temporary Parquet file by DuckDB, in a stream, so that the passes after it read a
file of known types and no more than they need. What lies at an address is read by Polars where it lies, with the keys
and regions that the environment holds (``AWS_ACCESS_KEY_ID``, ``AWS_REGION``, ``AZURE_STORAGE_ACCOUNT_NAME``,
``GOOGLE_APPLICATION_CREDENTIALS`` …), and only the columns that are needed travel.
"""

import hashlib
import re
import shutil
import tempfile
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import Any

import polars as pl

from micrec.data.table_files import TableFiles, kind_of, open_table, readable_as
from micrec.data.table_options import TableOptions, given_types, typed
from micrec.errors import MicrecError

DUCKDB_ENDINGS = (".duckdb", ".ddb", ".db")
_TABLE = "log"  # what the files beside --query are called in it
_ADDRESS = re.compile(r"[a-z][a-z0-9+]+://", re.IGNORECASE)


def is_address(location: str) -> bool:
    """Whether a text is an address such as ``s3://bucket/log.parquet`` and no path."""
    return _ADDRESS.match(location) is not None


def local_paths(location: str | Path) -> list[Path]:
    """The path that a location is, none if it is an address."""
    return [] if is_address(str(location)) else [Path(location)]


def open_location(
    location: str, options: TableOptions, *, query: str | None = None, spelled: Collection[str] = ()
) -> TableFiles:
    """Open a table for reading.

    Args:
        location: A path, or an address.
        options: How cells are read, see ``TableOptions``.
        query: A query of DuckDB whose result is the table: on the tables of a DuckDB file, or on files as table log.
        spelled: As for ``open_table``.

    Raises:
        MicrecError: If there is nothing to read, DuckDB is needed and not installed, or the query fails.
    """
    if faults := options.faults():
        raise MicrecError("\n".join(faults))
    if query is not None or location.lower().endswith(DUCKDB_ENDINGS):
        return _queried(location, query, options)
    if is_address(location):
        return _at_address(location, options)
    return open_table(Path(location), options=options, spelled=spelled)


def _at_address(address: str, options: TableOptions) -> TableFiles:
    """Parquet on an object store; a folder's parts with the columns that its folders name."""
    if options != TableOptions(types=options.types):
        raise MicrecError(
            f"{address}: --separator, --decimal and --null-values are for CSV files, and Parquet alone is read at an "
            "address: fetch the file first."
        )
    if (kind := kind_of(Path(address.split("?")[0]))) == "CSV":
        raise MicrecError(
            f"{address}: Parquet alone is read at an address: write the log as Parquet, or fetch the {kind} file first."
        )
    with readable_as(address, "Parquet"):
        rows = pl.scan_parquet(address, missing_columns="insert", extra_columns="ignore")
        schema = rows.collect_schema()
        count = rows.select(pl.len()).collect(engine="streaming").item()
        rows = typed(rows, given_types(schema.names(), options.types, address), address)
    digest = hashlib.blake2b(repr((address, schema, count)).encode()).hexdigest()[:16]
    note = f"The log was read at {address}: its hash is that of address, columns and number of rows, not of contents."
    return TableFiles(Path(address), (), "Parquet", rows, (note,), fingerprint=digest)


def _queried(location: str, query: str | None, options: TableOptions) -> TableFiles:
    """The result of a query, copied to a temporary Parquet file."""
    if options != TableOptions(types=options.types):
        raise MicrecError(
            f"{location}: --separator, --decimal and --null-values are not for queries: say it in the query, as in "
            "read_csv('log.csv', delim = ';', decimal_separator = ',')."
        )
    duckdb = _duckdb(location)
    folder = _Folder()
    file = folder.path / "log.parquet"
    try:
        with _connected(duckdb, location) as connection:
            sql = (query or _only_table(connection, location)).strip().rstrip(";")
            connection.execute(f"COPY ({sql}) TO '{_quoted(str(file))}' (FORMAT parquet, COMPRESSION zstd)")
    except duckdb.Error as fault:
        reason = str(fault).strip().splitlines()[0][:300]
        raise MicrecError(f"{location}: DuckDB cannot read it ({reason}): correct the path or the --query.") from None
    table = open_table(file, options=TableOptions(types=options.types))
    note = f"The log is the result of a DuckDB query, and its hash that of the result: {sql}"
    return table._replace(path=Path(location), notes=(*table.notes, note), keep=folder)


class _Folder:
    """A temporary folder that goes when nothing holds this object any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="micrec-query-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _connected(duckdb: Any, location: str) -> Any:
    """A DuckDB file opened for reading, or a database in memory that has the log's files as a table."""
    if location.lower().endswith(DUCKDB_ENDINGS):
        if not is_address(location) and not Path(location).is_file():
            raise MicrecError(f"{location}: there is no such file: check the path.")
        return duckdb.connect(location, read_only=True)
    connection = duckdb.connect()
    reader, path = _reader(location)
    connection.execute(f"CREATE VIEW {_TABLE} AS SELECT * FROM {reader}('{_quoted(path)}'{_hive(location)})")
    return connection


def _reader(location: str) -> tuple[str, str]:
    """DuckDB's function that reads these files, and the path it is given."""
    if is_address(location):
        return ("read_csv" if kind_of(Path(location)) == "CSV" else "read_parquet"), location
    path = Path(location)
    if not path.exists():
        raise MicrecError(f"{location}: there is no such file or folder: check the path.")
    if not path.is_dir():
        return ("read_csv" if kind_of(path) == "CSV" else "read_parquet"), location
    names = [file.name for file in path.rglob("*") if kind_of(file)]
    if not names:
        raise MicrecError(f"{location}: holds no Parquet or CSV file: give the folder of the part files.")
    ending = "".join(Path(names[0]).suffixes[-2:]) if kind_of(Path(names[0])) == "CSV" else Path(names[0]).suffix
    return ("read_csv" if kind_of(Path(names[0])) == "CSV" else "read_parquet"), f"{location}/**/*{ending}"


def _hive(location: str) -> str:
    return ", union_by_name = true" if not is_address(location) and Path(location).is_dir() else ""


def _only_table(connection: Any, location: str) -> str:
    """The query of a DuckDB file's one table."""
    names = [row[0] for row in connection.execute("SELECT table_name FROM information_schema.tables").fetchall()]
    if len(names) != 1:
        tables = f"its tables are {', '.join(sorted(names))}" if names else "it holds no table"
        raise MicrecError(f"{location}: say what is read with --query 'SELECT … FROM …': {tables}.")
    name = names[0].replace('"', '""')
    return f'SELECT * FROM "{name}"'


def _duckdb(location: str) -> Any:
    try:
        import duckdb
    except ImportError:
        raise MicrecError(f'{location}: queries need DuckDB: pip install "micrec[duckdb]".') from None
    return duckdb


def _quoted(text: str) -> str:
    return text.replace("'", "''")
