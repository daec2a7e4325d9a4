"""A table in one file or in a folder of part files, Parquet or CSV, as one lazy frame.

CSV columns get the narrowest type that every row of every part fits. Parts whose columns differ in type are read with
the type that holds all of them; ``day=2026-11-01/`` folders become a column.
"""

import csv
import gzip
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import polars as pl

from micrec.data.column_names import match_column
from micrec.data.table_options import TableOptions, given_types, typed, with_point
from micrec.errors import MicrecError

PARQUET_ENDINGS = (".parquet", ".pq")
CSV_ENDINGS = tuple(f".{kind}{packed}" for kind in ("csv", "tsv", "txt") for packed in ("", ".gz", ".zst"))
SEPARATORS = (",", ";", "\t", "|")
ROWS_GUESSED = 10_000  # rows after which a column of text needs no further look
_SNIFFED_LINES = 100
_DECIMAL_COMMA = r"^[+-]?\d+,(\d{1,2}|\d{4,})$"
_NO_VALUE = ("\\N", "NULL", "null", "NA", "N/A", "n/a", "<NA>", "None", "none", "#N/A", "-")  # in a column of numbers
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


class TableFiles(NamedTuple):
    """An opened table.

    Attributes:
        path: File or folder as the user gave it.
        files: Its files, by path.
        kind: "Parquet" or "CSV".
        rows: The table; nothing but headers and types has been read from it.
        notes: What was assumed or changed in reading, as sentences.
        has_commas_between: Whether cells of a CSV file are separated by commas in some part.
        fingerprint: Hash of what is no local file: of the query's result, or of address, columns and number of rows.
        keep: What must live as long as the rows are read, such as a temporary folder.
    """

    path: Path
    files: tuple[Path, ...]
    kind: str
    rows: pl.LazyFrame
    notes: tuple[str, ...]
    has_commas_between: bool = False
    fingerprint: str | None = None
    keep: object = None


class _Part(NamedTuple):
    """Files that are alike: header, types, separator and hive values."""

    files: list[Path]
    schema: dict[str, pl.DataType]  # by the names of the file
    separator: str
    hive: tuple[tuple[str, str | None], ...]


def open_table(
    path: Path,
    *,
    separator: str | None = None,
    as_text: bool = False,
    spelled: Collection[str] = (),
    options: TableOptions | None = None,
) -> TableFiles:
    """Open a table for reading.

    Args:
        path: A ``.parquet`` or ``.csv`` file (also ``.tsv``, ``.txt``, ``.gz``, ``.zst``), or a folder of such parts.
        separator: Between the cells of a CSV line, a character or tab, comma, semicolon, pipe; None = recognised.
        as_text: Leave CSV columns as text. Cells are stripped and empty ones null either way.
        spelled: Columns whose spelling counts, such as ids: ``007`` stays text in them, as in any ``..._id``, and text
            is not stripped.
        options: The separator and more, in place of ``separator``.

    Raises:
        MicrecError: If an option is wrong, there is nothing to read, parts are of two kinds, or a column has types that
            no type holds.
    """
    options = options or TableOptions(separator)
    if faults := options.faults():
        raise MicrecError("\n".join(faults))
    files = table_files(path)
    kinds = {kind_of(file) for file in files}
    if len(kinds) > 1:
        raise MicrecError(f"{path}: holds both Parquet and CSV parts: keep one kind.")
    kind = str(kinds.pop())
    notes: list[str] = []
    with readable_as(path, kind, files):
        if kind == "Parquet":
            rows = _open_parquet(path, files, spelled, notes)
        else:
            rows = _open_csv(path, files, options, as_text, spelled, notes)
        types = given_types(rows.collect_schema().names(), options.types, str(path))
        rows = typed(rows, types, str(path))
    known = options.separator_character
    has_commas = kind == "CSV" and any((known or _sniffed(file)) == "," for file in files)
    return TableFiles(path, tuple(files), kind, rows, tuple(notes), has_commas)


def holds_decimal_commas(cells: pl.Series) -> bool:
    """Whether all cells of a text column are numbers and some have a decimal comma that is no mark of thousands."""
    return bool(cells.to_frame("cells").select(decimal_commas("cells")).item())


def decimal_commas(name: str) -> pl.Expr:
    """``holds_decimal_commas`` of a text column of a table."""
    cell = pl.col(name).drop_nulls()
    are_numbers = cell.str.contains(r"^[+-]?\d+(,\d+)?$").all()
    return (are_numbers & cell.str.contains(_DECIMAL_COMMA).any()).alias(name)


def table_files(path: Path) -> list[Path]:
    """The files of a table, sorted; hidden files and those of ``_temporary`` folders are left out.

    Raises:
        MicrecError: If there is none.
    """
    if not path.exists():
        raise MicrecError(f"{path}: there is no such file or folder: check the path.")
    endings = ".csv, .tsv (or with .gz, .zst), or .parquet"
    if not path.is_dir():
        if kind_of(path) is None:
            raise MicrecError(f"{path}: the ending tells no format: name it {endings}.")
        return [path]
    found = [file for file in path.rglob("*") if kind_of(file) and file.is_file()]
    files = sorted(file for file in found if not any(p[0] in "._" for p in file.relative_to(path).parts))
    if not files:
        raise MicrecError(f"{path}: holds no file named {endings}: give the folder of the part files.")
    return files


def kind_of(path: Path) -> str | None:
    """ "Parquet" or "CSV" by the ending of a file's name, else None."""
    name = path.name.lower()
    return "Parquet" if name.endswith(PARQUET_ENDINGS) else "CSV" if name.endswith(CSV_ENDINGS) else None


@contextmanager
def readable_as(path: Path | str, kind: str, files: Sequence[Path] = ()) -> Iterator[None]:
    """Turn any error in reading a table into one MicrecError."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, UnicodeError) as fault:
        reason = (str(fault).strip() or type(fault).__name__).splitlines()[0][:200]
        cure = _long_row(files) if "more fields" in reason and kind == "CSV" else None
        if "utf-8" in reason.lower() or "utf8" in reason.lower():
            cure = "save the file as UTF-8 (iconv -f LATIN1 -t UTF-8 old.csv > new.csv)"
        cure = cure or "check that the file is whole; fetch it again if it was cut short"
        raise MicrecError(f"{path}: cannot be read ({reason}): {cure}.") from fault


def _long_row(files: Sequence[Path]) -> str | None:
    """Names the first CSV row with more cells than the header; None if it is not found quickly."""
    for file in files:
        if file.name.lower().endswith(".zst"):
            continue
        opener = gzip.open if file.name.lower().endswith(".gz") else open
        with opener(file, "rt", encoding="utf-8-sig", errors="replace", newline="") as text:
            rows = csv.reader(text, delimiter=_sniffed(file))
            header = next(rows, [])
            for row in rows:
                if len(row) > len(header):
                    return (
                        f"line {rows.line_num} of {file.name} has {len(row)} cells and the header {len(header)}: put "
                        "cells that hold the separator into double quotes"
                    )
    return None


# CSV


def _open_csv(
    path: Path,
    files: list[Path],
    options: TableOptions,
    as_text: bool,
    spelled: Collection[str],
    notes: list[str],
) -> pl.LazyFrame:
    parts: dict[object, _Part] = {}
    separator, empty = options.separator_character, list(options.null_values) or None
    for file in files:
        _refuse_utf16(file)
        sep = separator or _sniffed(file)
        if separator is None and sep != _usual_separator(file):
            _once(notes, f"Cells are separated by {_shown(sep)} in {file.name}.")
        header = pl.scan_csv(file, separator=sep, infer_schema=False, glob=False).collect_schema()
        _refuse_twins(file, header.names())
        hive = _hive(path, file)
        key = (tuple(header), sep, hive)
        parts.setdefault(key, _Part([], dict(header), sep, hive)).files.append(file)
    _missing_columns(list(parts.values()), notes)
    texts = _joined([_scan_csv(part, {}, empty) for part in parts.values()], parts.values(), notes)
    names = [name for name, dtype in texts.collect_schema().items() if dtype == pl.String]  # not those of folders
    given = given_types(texts.collect_schema().names(), options.types, str(path))
    names = [name for name in names if name not in given or given[name] != pl.String]
    mark = options.decimal_mark
    if mark:
        texts = texts.with_columns(with_point(name, mark) for name in names if not _is_named(name, spelled))
    if as_text:
        return texts.with_columns(_cell(name) for name in names if not _is_named(name, spelled))
    names = [name for name in names if name not in given]
    types, clean = _narrow_types(texts, names, spelled, notes)
    native = {} if mark else {name: dtype for name, dtype in types.items() if name in clean}
    rows = texts if mark else _joined([_scan_csv(part, native, empty) for part in parts.values()], parts.values(), [])
    narrowed = (name for name in names if name not in native or types[name] == pl.String)
    raw = {name for name in names if types[name] == pl.String and _is_named(name, spelled)}
    return rows.with_columns(_narrowed(name, types[name]) for name in narrowed if name not in raw)


def _scan_csv(part: _Part, types: Mapping[str, pl.DataType], empty: list[str] | None) -> pl.LazyFrame:
    wanted = {raw: types[_clean_name(raw)] for raw in part.schema if _clean_name(raw) in types}
    return pl.scan_csv(
        part.files,
        separator=part.separator,
        infer_schema=False,
        schema_overrides=wanted,
        null_values=empty,
        glob=False,
    )


def _usual_separator(file: Path) -> str:
    return "\t" if ".tsv" in file.name.lower() else ","


def _sniffed(file: Path) -> str:
    """The separator that gives the first lines the same number of cells, more than one; the usual one if in doubt."""
    usual = _usual_separator(file)
    try:
        lines = pl.read_csv(
            file,
            has_header=False,
            separator="\x01",
            quote_char=None,
            n_rows=_SNIFFED_LINES,
            encoding="utf8-lossy",
            infer_schema=False,
            glob=False,
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):  # told when the rows are read
        return usual
    text = "\n".join(line or "" for line in lines.to_series(0).to_list())
    best, most = usual, 1
    for separator in sorted(SEPARATORS, key=lambda candidate: candidate != usual):
        try:
            sizes = [len(row) for row in csv.reader(text.splitlines(), delimiter=separator) if row]
        except csv.Error:  # noise, or cells beyond all measure
            continue
        if sizes and sizes[0] > most and sum(size == sizes[0] for size in sizes) >= 0.9 * len(sizes):
            best, most = separator, sizes[0]
    return best


def _shown(separator: str) -> str:
    return "tabs" if separator == "\t" else f"{separator!r}"


def _refuse_utf16(file: Path) -> None:
    with file.open("rb") as content:
        start = content.read(2)
    if start in (b"\xff\xfe", b"\xfe\xff"):
        raise MicrecError(
            f"{file}: is written in UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8 {file.name} > new.csv)."
        )


def _refuse_twins(file: Path, names: Sequence[str]) -> None:
    twins = [name for name in names if "_duplicated_" in name and name.split("_duplicated_")[0] in names]
    if twins:
        name = twins[0].split("_duplicated_")[0]
        raise MicrecError(f"{file}: two columns are called {name!r}: rename or remove one.")


def _is_named(name: str, names: Collection[str]) -> bool:
    return match_column(name, names) is not None


def _cell(name: str) -> pl.Expr:
    """A text cell without the white space around it; null where nothing is left."""
    text = pl.col(name).str.strip_chars()
    return pl.when(text != "").then(text).alias(name)


def _number_cell(name: str) -> pl.Expr:
    """A text cell as ``_cell``, null too where it holds a word for no value."""
    cell = _cell(name)
    return pl.when(~cell.is_in(_NO_VALUE)).then(cell)


def _narrow_types(
    texts: pl.LazyFrame, names: list[str], spelled: Collection[str], notes: list[str]
) -> tuple[dict[str, pl.DataType], set[str]]:
    """The narrowest type of each text column over all rows, and the columns that can be parsed without stripping."""
    head = texts.head(ROWS_GUESSED).collect()
    counts = _counts(head.lazy(), names)
    if len(head) == ROWS_GUESSED:
        long = [
            name for name in names if counts[f"digits {name}"] == counts[f"n {name}"]
        ]  # text, or fractions later on
        open_ = [name for name in names if _type_of(name, counts, spelled) != pl.String or name in long]
        counts |= _counts_as_guessed(texts, {name: _type_of(name, counts, spelled) for name in open_})
        open_ = [name for name in open_ if counts[f"raw {name}"] < counts[f"n {name}"] or not counts[f"n {name}"]]
        counts |= _counts(texts, open_) if open_ else {}
    types = {name: _type_of(name, counts, spelled) for name in names}
    notes += [
        f"{name}: the numbers are written with a decimal comma: 1,5 is read as 1.5."
        for name in names
        if isinstance(types[name], _DecimalComma)
    ]
    kept = [
        name
        for name in names
        if types[name] == pl.String and counts[f"n {name}"] == counts[f"comma {name}"] and counts[f"commas {name}"]
    ]
    notes += [
        f"{name}: holds numbers with a comma that may be a decimal comma or part thousands, so it stays text: write a "
        "decimal point and no marks for thousands."
        for name in kept
    ]
    clean = {name for name in names if types[name] == pl.String or counts[f"cells {name}"] == counts[f"raw {name}"]}
    words = ", ".join(_NO_VALUE[:4])
    notes += [
        f"{name}: {empty:,} cells such as {words} are read as empty."
        for name in names
        if types[name] != pl.String and (empty := counts[f"cells {name}"] - counts[f"n {name}"])
    ]
    return types, clean


class _DecimalComma(pl.Float64):
    """Numbers such as ``1,5``."""


_WHAT = ("n", "int", "float", "digits", "zeros", "bool", "comma", "commas", "decimal", "many commas", "raw")


def _counts(rows: pl.LazyFrame, names: Sequence[str]) -> dict[str, int]:
    """How many cells of each column are there (n) and can be read as what."""
    tests: list[pl.Expr] = []
    for name in names:
        cell = _number_cell(name)
        integer, number = cell.cast(pl.Int64, strict=False), cell.cast(pl.Float64, strict=False)
        tests += [
            cell.count().alias(f"n {name}"),
            _cell(name).count().alias(f"cells {name}"),
            integer.count().alias(f"int {name}"),
            number.count().alias(f"float {name}"),
            cell.str.contains(r"^[+-]?\d+$").sum().alias(f"digits {name}"),
            cell.str.contains(r"^[+-]?0\d").sum().alias(f"zeros {name}"),
            cell.str.to_lowercase().is_in(["true", "false"]).sum().alias(f"bool {name}"),
            cell.str.contains(r"^[+-]?\d+(,\d+)*$").sum().alias(f"comma {name}"),
            cell.str.contains(",", literal=True).sum().alias(f"commas {name}"),
            cell.str.contains(_DECIMAL_COMMA).sum().alias(f"decimal {name}"),
            cell.str.contains(r",.*,").sum().alias(f"many commas {name}"),
            pl.col(name).cast(pl.Float64, strict=False).count().alias(f"raw {name}"),
        ]
    return rows.select(tests).collect(engine="streaming").row(0, named=True)


def _counts_as_guessed(rows: pl.LazyFrame, types: Mapping[str, pl.DataType]) -> dict[str, int]:
    """``_counts`` of columns whose cells all have the type that the first ones have; of others ``raw`` is below ``n``.

    A cast alone is several times as fast as all of ``_counts``, and settles most columns.
    """
    guessed = {name: dtype for name, dtype in types.items() if dtype in (pl.Int64, pl.Float64)}
    tests: list[pl.Expr] = []
    for name, dtype in guessed.items():
        raw = pl.col(name).cast(dtype, strict=False)
        zeros = pl.col(name).str.contains(r"^[+-]?0\d").sum()
        tests += [pl.col(name).count().alias(f"n {name}"), raw.count().alias(f"raw {name}")]
        tests += [zeros.alias(f"zeros {name}")] if dtype == pl.Int64 else []
    counts = dict.fromkeys((f"{what} {name}" for name in types for what in _WHAT), 0)
    counts |= {f"n {name}": 1 for name in types}  # and raw 0: not settled
    counts |= rows.select(tests).collect(engine="streaming").row(0, named=True) if tests else {}
    for name, dtype in guessed.items():
        counts[f"{'int' if dtype == pl.Int64 else 'float'} {name}"] = counts[f"raw {name}"]
        counts[f"cells {name}"] = counts[f"n {name}"]
    return counts


def _type_of(name: str, counts: Mapping[str, int], spelled: Collection[str]) -> pl.DataType:
    n = counts[f"n {name}"]
    if n == 0:
        return pl.String()
    if counts[f"int {name}"] == n:
        is_spelled = _is_named(name, spelled) or name.lower().endswith("id")
        return pl.String() if is_spelled and counts[f"zeros {name}"] else pl.Int64()
    if counts[f"digits {name}"] == n:  # beyond 64 bits
        return pl.String()
    if counts[f"float {name}"] == n:
        return pl.Float64()
    if counts[f"bool {name}"] == n:
        return pl.Boolean()
    if counts[f"comma {name}"] == n and counts[f"decimal {name}"] and not counts[f"many commas {name}"]:
        return _DecimalComma()
    return pl.String()


def _narrowed(name: str, dtype: pl.DataType) -> pl.Expr:
    """A text column with the type that all its cells fit."""
    if dtype == pl.String and not isinstance(dtype, _DecimalComma):
        return _cell(name)
    cell = _number_cell(name)
    if isinstance(dtype, _DecimalComma):
        return cell.str.replace(",", ".", literal=True).cast(pl.Float64)
    if dtype == pl.Boolean:
        return cell.str.to_lowercase() == "true"
    return cell.cast(dtype)


# Parquet


def _open_parquet(path: Path, files: list[Path], spelled: Collection[str], notes: list[str]) -> pl.LazyFrame:
    parts: dict[object, _Part] = {}
    for file in files:
        with readable_as(file, "Parquet"):
            schema = pl.read_parquet_schema(file)
        hive = _hive(path, file)
        key = (tuple(schema.items()), hive)
        parts.setdefault(key, _Part([], dict(schema), "", hive)).files.append(file)
    _missing_columns(list(parts.values()), notes)
    targets, texts = _common_types(path, list(parts.values()), notes)
    frames = []
    for part in parts.values():
        scan = pl.scan_parquet(part.files, glob=False, hive_partitioning=False)
        there = [name for name in targets if name in part.schema and part.schema[name] != targets[name]]
        frames.append(scan.with_columns(_cast(name, part.schema[name], targets[name]) for name in there))
    rows = _joined(frames, parts.values(), notes)
    if texts:
        types, _ = _narrow_types(rows.select(texts), texts, spelled, notes)
        rows = rows.with_columns(_narrowed(name, types[name]) for name in texts)
    return rows


def _common_types(path: Path, parts: list[_Part], notes: list[str]) -> tuple[dict[str, pl.DataType], list[str]]:
    """The type that holds every part's values, for columns whose types differ; and those that become text for it."""
    found: dict[str, dict[pl.DataType, Path]] = {}
    for part in parts:
        for name, dtype in part.schema.items():
            found.setdefault(name, {}).setdefault(dtype, part.files[0])
    targets, texts, faults = {}, [], []
    for name, types in found.items():
        kinds = [dtype for dtype in types if dtype != pl.Null]
        if len(kinds) < 2:
            if len(types) > 1:
                targets[name] = kinds[0]
            continue
        target = _supertype(kinds)
        seen = ", ".join(f"{dtype} in {file.relative_to(path)}" for dtype, file in types.items())
        if target is None:
            faults.append(f"{name}: is {seen}, and no type holds both: write all parts with one of them.")
            continue
        targets[name] = target
        is_mixed_text = target == pl.String and any(d not in (pl.String, pl.Categorical, pl.Enum) for d in kinds)
        notes.append(f"{name}: is {seen}; all parts are read as {'text' if is_mixed_text else target}.")
        if is_mixed_text:
            texts.append(name)
    if faults:
        raise MicrecError.of(str(path), faults)
    return targets, texts


def _supertype(types: Sequence[pl.DataType]) -> pl.DataType | None:
    if all(dtype.is_integer() or dtype == pl.Boolean for dtype in types):
        return pl.Int64()
    if all(dtype.is_numeric() or dtype == pl.Boolean for dtype in types):
        return pl.Float64()
    if all(dtype == pl.Date or isinstance(dtype, pl.Datetime) for dtype in types):
        zones = {dtype.time_zone for dtype in types if isinstance(dtype, pl.Datetime)}
        if len(zones) == 1 and (pl.Date() not in types or zones <= {None, "UTC"}):
            return pl.Datetime("us", zones.pop())
        return pl.Datetime("us", "UTC") if None not in zones and pl.Date() not in types else None
    if any(dtype.is_nested() for dtype in types):
        inner = {dtype.inner for dtype in types if isinstance(dtype, pl.List | pl.Array)}
        return pl.List(inner.pop()) if len(inner) == 1 and all(d.is_nested() for d in types) else None
    return pl.String()


def _cast(name: str, have: pl.DataType, want: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if want != pl.String:
        return column.cast(want)
    if isinstance(have, pl.Datetime):
        if have.time_zone is not None:
            column = column.dt.convert_time_zone("UTC")
        return column.dt.strftime("%Y-%m-%dT%H:%M:%S%.6f" + ("Z" if have.time_zone is not None else "")).alias(name)
    return column.cast(pl.String)


# Both


def _hive(root: Path, file: Path) -> tuple[tuple[str, str | None], ...]:
    """Columns that the folders between ``root`` and the file name, as ``day=2026-11-01``."""
    pairs = []
    for folder in file.relative_to(root).parts[:-1] if root.is_dir() else ():
        name, sign, value = folder.partition("=")
        if sign and name:
            pairs.append((unquote(name), None if value == _HIVE_NULL else unquote(value)))
    return tuple(pairs)


def _joined(frames: Sequence[pl.LazyFrame], parts: Collection[_Part], notes: list[str]) -> pl.LazyFrame:
    """The parts below each other, under stripped names, with the columns of their folders."""
    hive_names = dict.fromkeys(name for part in parts for name, _ in part.hive)
    named = []
    for frame, part in zip(frames, parts, strict=True):
        clean = {raw: _clean_name(raw) for raw in part.schema}
        if len(set(clean.values())) < len(clean):
            clean = {raw: raw for raw in part.schema}
        changed = {raw: name for raw, name in clean.items() if raw != name}
        for raw, name in changed.items():
            _once(notes, f"The column {raw!r} is read as {name!r}.")
        values = dict(part.hive)
        added = {name: values.get(name) for name in hive_names if name not in clean.values()}
        literals = [pl.lit(value, _hive_type(name, parts)).alias(name) for name, value in _typed_hive(added, parts)]
        named.append(frame.rename(changed).with_columns(literals) if changed or literals else frame)
    return named[0] if len(named) == 1 else pl.concat(named, how="diagonal")


def _hive_type(name: str, parts: Collection[_Part]) -> pl.DataType:
    """Integers where every folder's value is spelt as one; else text."""
    values = [value for part in parts for key, value in part.hive if key == name and value is not None]
    return pl.Int64() if all(value.isdecimal() and str(int(value)) == value for value in values) else pl.String()


def _typed_hive(added: Mapping[str, str | None], parts: Collection[_Part]) -> Iterator[tuple[str, int | str | None]]:
    for name, value in added.items():
        is_integer = value is not None and _hive_type(name, parts) == pl.Int64
        yield name, int(str(value)) if is_integer else value


def _missing_columns(parts: list[_Part], notes: list[str]) -> None:
    """Tell which parts lack a column that others have; it is null there."""
    names = dict.fromkeys(_clean_name(name) for part in parts for name in part.schema)
    for name in names:
        lacking = [part for part in parts if name not in map(_clean_name, part.schema)]
        count = sum(len(part.files) for part in lacking)
        if lacking and not all(name in dict(part.hive) for part in lacking):
            lack = "files lack" if count > 1 else "file lacks"
            first = lacking[0].files[0].name
            notes.append(f"{name}: {count:,} part {lack} the column, {first} first: it is empty there.")


def _clean_name(name: str) -> str:
    return name.strip().strip("\ufeff").strip("\"'").strip() or name


def _once(notes: list[str], note: str) -> None:
    if note not in notes:
        notes.append(note)
