"""Opening the files of a public log; errors speak of the file."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from micrec.errors import MicrecError

Dtypes = Mapping[str, type[pl.DataType]]


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn any error in reading ``path`` into one MicrecError."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, UnicodeError) as fault:
        reason = (str(fault).strip() or type(fault).__name__).splitlines()[0]
        raise MicrecError(
            f"{path}: cannot be read ({reason}): check that the file is whole and has the layout of this reader; "
            "fetch it again if it was cut short."
        ) from fault


def existing(path: Path) -> Path:
    """``path`` itself, if there is such a file or folder."""
    if not path.exists():
        raise MicrecError(f"{path}: there is no such file or folder: check the path.")
    return path


def files_like(folder: Path, pattern: str) -> list[Path]:
    """Files of ``folder`` that match ``pattern``, sorted by name; empty if ``folder`` is not a folder."""
    return sorted(path for path in folder.glob(pattern) if path.is_file()) if folder.is_dir() else []


def needed_file(folder: Path, *names: str) -> Path:
    """The first of ``names`` that ``folder`` has."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise MicrecError(f"{folder}: the file {' or '.join(names)} is missing: put it beside the others.")


def require_columns(path: Path, have: Iterable[str], need: Iterable[str]) -> None:
    """Raise one MicrecError that names every column of ``need`` that ``have`` lacks."""
    have = list(have)
    missing = [name for name in need if name not in have]
    if missing:
        raise MicrecError(
            f"{path}: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing (it has "
            f"{', '.join(have) or 'none'}): give a file of this reader's layout, or use the reader 'table', "
            "which can rename columns."
        )


def scan_csv(path: Path, need: Dtypes, optional: Dtypes | None = None, *, separator: str = ",") -> pl.LazyFrame:
    """The columns ``need``, and those of ``optional`` that are there, of a CSV file, plain or gzipped.

    Raises:
        MicrecError: If a column of ``need`` is missing. Values of a wrong type show when the frame is collected:
            do that under ``readable``.
    """
    optional = optional or {}
    with readable(path):
        header = pl.scan_csv(path, separator=separator, infer_schema=False).collect_schema().names()
    require_columns(path, header, need)
    dtypes = {name: dtype for name, dtype in {**need, **optional}.items() if name in header}
    lazy = pl.scan_csv(path, separator=separator, infer_schema=False, schema_overrides=dtypes)
    return lazy.select(*dtypes)


def read_csv(path: Path, need: Dtypes, optional: Dtypes | None = None, *, separator: str = ",") -> pl.DataFrame:
    """As ``scan_csv``, collected."""
    lazy = scan_csv(path, need, optional, separator=separator)
    with readable(path):
        return lazy.collect()


def read_delimited(path: Path, columns: Dtypes, *, separator: str) -> pl.DataFrame:
    """A Latin-1 text file without header or quoting, its fields parted by ``separator`` of any length.

    Fields beyond the last of ``columns`` are left aside; empty lines are skipped.

    Raises:
        MicrecError: If a line has too few fields or a field does not fit its type; it names the first such lines.
    """
    with readable(path):
        lines = pl.read_csv(
            path, has_header=False, separator="\x01", quote_char=None, encoding="latin-1", schema={"line": pl.String}
        )
    fields = lines.drop_nulls().select(pl.col("line").str.split(separator))
    texts = fields.select(pl.col("line").list.get(i, null_on_oob=True).alias(name) for i, name in enumerate(columns))
    return cast_texts(path, texts, columns)


def cast_texts(path: Path, texts: pl.DataFrame, columns: Dtypes) -> pl.DataFrame:
    """Cast columns of text to their types.

    Raises:
        MicrecError: For every column with a null or a text that is not of its type, with the first such rows.
    """
    values = texts.select(pl.col(name).str.strip_chars().cast(dtype, strict=False) for name, dtype in columns.items())
    faults = []
    for name in columns:
        rows = values[name].is_null().arg_true()
        if len(rows):
            first = ", ".join(f"row {row + 1}: {texts[name][row]!r}" for row in rows.head(3).to_list())
            faults.append(f"{name}: {len(rows):,} values are not of type {values[name].dtype} ({first}): correct them.")
    if faults:
        raise MicrecError.of(str(path), faults)
    return values
