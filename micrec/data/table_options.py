"""How the cells of a table are to be read where its writer's habits must be told: marks, empty words, types."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from micrec.data.column_names import match_column, propose_column
from micrec.errors import MicrecError

SEPARATOR_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
DECIMAL_NAMES = {"comma": ",", "point": ".", ",": ",", ".": "."}
TYPES: Mapping[str, pl.DataType] = {
    "text": pl.String(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
}
_TRUE, _FALSE = ("true", "t", "yes", "1"), ("false", "f", "no", "0")


class TableOptions(NamedTuple):
    """How a table is read; what is not given is recognised from the file.

    Attributes:
        separator: Between the cells of a CSV line: one character, or tab, comma, semicolon, pipe.
        decimal: Decimal mark of a CSV file's numbers: comma or point; the other one parts thousands.
        null_values: Cells of a CSV file that mean no value.
        types: Type of a column by its name: text, integer, number, boolean.
    """

    separator: str | None = None
    decimal: str | None = None
    null_values: tuple[str, ...] = ()
    types: Mapping[str, str] = {}  # never written to

    def faults(self) -> list[str]:
        """What is wrong with the options, each with its cure."""
        found = []
        if self.separator is not None and len(SEPARATOR_NAMES.get(self.separator, self.separator).encode()) != 1:
            found.append(f"--separator {self.separator!r}: must be one character, or tab, comma, semicolon, pipe.")
        if self.decimal is not None and self.decimal not in DECIMAL_NAMES:
            found.append(f"--decimal {self.decimal!r}: must be comma or point.")
        found += [
            f"--dtype {name}={kind}: must be one of {', '.join(TYPES)}."
            for name, kind in self.types.items()
            if kind not in TYPES
        ]
        return found

    @property
    def separator_character(self) -> str | None:
        """The character that parts cells, None if it is to be recognised."""
        return None if self.separator is None else SEPARATOR_NAMES.get(self.separator, self.separator)

    @property
    def decimal_mark(self) -> str | None:
        """The comma or the point, None if it is to be recognised."""
        return None if self.decimal is None else DECIMAL_NAMES[self.decimal]


def with_point(name: str, mark: str) -> pl.Expr:
    """A text column whose numbers have a decimal ``mark`` (and the other one between thousands), with a point alone."""
    other = "." if mark == "," else ","
    cell = pl.col(name)
    number = rf"^\s*[+-]?(\d+|\d{{1,3}}(\{other}\d{{3}})+)?(\{mark}\d*)?([eE][+-]?\d+)?\s*$"
    pointed = cell.str.replace_all(other, "", literal=True).str.replace(mark, ".", literal=True)
    return pl.when(cell.str.contains(number)).then(pointed).otherwise(cell).alias(name)


def given_types(names: Sequence[str], types: Mapping[str, str], where: str) -> dict[str, pl.DataType]:
    """The types by the columns' names in the table.

    Raises:
        MicrecError: If there is no such column.
    """
    found, faults = {}, []
    for asked, kind in types.items():
        name = match_column(asked, names)
        if name is None:
            proposed = propose_column(asked, names)
            cure = f"did you mean {proposed}?" if proposed else f"the columns are {', '.join(names[:20])}."
            faults.append(f"--dtype {asked}={kind}: no such column, {cure}")
        else:
            found[name] = TYPES[kind]
    if faults:
        raise MicrecError.of(where, faults)
    return found


def typed(rows: pl.LazyFrame, types: Mapping[str, pl.DataType], where: str) -> pl.LazyFrame:
    """The table with these columns in these types.

    Raises:
        MicrecError: If some cell cannot be read so; the message counts them and shows the first.
    """
    if not types:
        return rows
    schema = rows.collect_schema()
    cast = {name: _cast(name, schema[name], kind) for name, kind in types.items()}
    lost = {name: pl.col(name).is_not_null() & value.is_null() for name, value in cast.items()}
    counts = rows.select(**{name: broken.sum() for name, broken in lost.items()}).collect(engine="streaming")
    faults = []
    for name, count in counts.row(0, named=True).items():
        if count:
            first = rows.filter(lost[name]).select(pl.col(name).cast(pl.String)).head(1).collect().item()
            kind = next(word for word, kind in TYPES.items() if kind == types[name])
            faults.append(f"--dtype {name}={kind}: {count:,} cells are no {kind}, the first is {first!r}.")
    if faults:
        raise MicrecError.of(where, faults)
    return rows.with_columns(**cast)


def _cast(name: str, have: pl.DataType, want: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if have != pl.String:
        return column.cast(want, strict=False)
    text = column.str.strip_chars()
    if want == pl.String:
        return column
    text = pl.when(text != "").then(text)
    if want == pl.Boolean:
        word = text.str.to_lowercase()
        return pl.when(word.is_in(_TRUE)).then(True).when(word.is_in(_FALSE)).then(False)
    if want == pl.Int64:  # 3.0 is a whole number, 3.5 is not
        number = text.cast(pl.Float64, strict=False)
        return pl.coalesce(
            text.cast(pl.Int64, strict=False),
            pl.when(number == number.round()).then(number.cast(pl.Int64, strict=False)),
        )
    return text.cast(want, strict=False)
