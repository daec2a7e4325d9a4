"""Columns of a log by their type: what can be added up, what names a user, an arm or a slice, and what is refused.

Numbers become 64-bit floats before anything is summed, multiplied or compared with a sum: polars keeps the width of
an integer column in its sums, so that an Int32 column wraps around beyond 2^31, and an Int64 one beyond 2^63.
"""

from collections.abc import Iterable, Iterator

import polars as pl

_TICKS_PER_S = {"ms": 1e3, "us": 1e6, "ns": 1e9}
_NUMBERS_CURE = {
    "text": "correct the values that are not numbers",
    "times": "make a number of them first, such as seconds since a start",
    "lists": "give one number a row, such as the sum or the length of the list",
    "other": "give a column of numbers",
}


def is_number(kind: pl.DataType) -> bool:
    """Whether ``as_number`` can read a column of this type; a column without any value is one of empty numbers."""
    return kind.is_numeric() or kind in (pl.Boolean, pl.Null) or isinstance(kind, pl.Duration)


def as_number(name: str, kind: pl.DataType) -> pl.Expr:
    """A column as a 64-bit float: true is 1 and false 0, durations are in seconds.

    Args:
        name: The column.
        kind: Its type, one of which ``is_number`` holds.
    """
    column = pl.col(name)
    if isinstance(kind, pl.Duration):
        return column.cast(pl.Int64).cast(pl.Float64) / _TICKS_PER_S[kind.time_unit]
    return column.cast(pl.Float64)


def not_numbers(name: str, kind: pl.DataType) -> str:
    """Error message that a column holds no numbers, with the cure."""
    what = "lists" if kind.is_nested() else "times" if kind.is_temporal() else "text" if _is_text(kind) else "other"
    return f"{name}: holds {kind}, must hold numbers: {_NUMBERS_CURE[what]}."


def as_id(kind: pl.DataType) -> pl.Expr:
    """``user_id`` in a type in which ids can be joined and hashed: integers of 64 bits or less, else text."""
    column = pl.col("user_id")
    if (kind.is_integer() and kind not in (pl.Int128, pl.UInt128)) or kind in (pl.String, pl.Null):
        return column
    return column.bin.encode("hex") if kind == pl.Binary else column.cast(pl.String)


def wrong_ids(schema: pl.Schema) -> Iterator[str]:
    """Columns that cannot name users, arms or events, with reason and cure."""
    kind = schema["user_id"]
    if kind.is_nested() or kind.is_temporal() or kind in (pl.Boolean, pl.Object):
        yield f"user_id: holds {kind}, which names no user: write ids as integers or text."
    yield from wrong_labels(schema, ("arm", "event"))


def wrong_labels(schema: pl.Schema, names: Iterable[str]) -> Iterator[str]:
    """Those of the columns that hold no labels, with reason and cure; columns that are not there are passed over."""
    for name in names:
        kind = schema.get(name, pl.String())
        if kind.is_nested() or kind in (pl.Binary, pl.Object) or isinstance(kind, pl.Duration):
            yield f"{name}: holds {kind}, must hold one label a row: write it as text or a whole number."


def _is_text(kind: pl.DataType) -> bool:
    return kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum)
