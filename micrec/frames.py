"""Tables that callers hold in memory, whatever library made them, as Polars frames."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeGuard

import polars as pl
from numpy.typing import NDArray

from micrec.errors import MicrecError


class ArrowTable(Protocol):
    """A table of another library that can hand its columns over, such as a pandas or PyArrow one."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The columns by the Arrow PyCapsule interface."""


Frame: TypeAlias = pl.DataFrame | pl.LazyFrame | ArrowTable | Mapping[str, Sequence[Any] | NDArray[Any]]
"""A Polars or pandas frame, another Arrow table, or columns by name as NumPy arrays or lists."""


def is_frame(value: object) -> TypeGuard[Frame]:
    """Whether a value is a table in memory and not a path."""
    return isinstance(value, pl.DataFrame | pl.LazyFrame | Mapping) or hasattr(value, "__arrow_c_stream__")


def as_frame(table: Frame, what: str) -> pl.DataFrame:
    """A table in memory as a Polars frame.

    A pandas index is kept as columns where its levels have names, as after ``groupby(...).sum()``.

    Args:
        table: The table.
        what: What it is called in messages, such as ``clicks``.

    Raises:
        MicrecError: If it is no table, or its columns differ in length or hold what Polars has no type for.
    """
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    if not is_frame(table):
        raise MicrecError(
            f"{what}: is a {type(table).__name__}, where a table is needed: give a Polars or pandas frame, or a "
            "mapping of column names to NumPy arrays."
        )
    try:
        if type(table).__module__.partition(".")[0] == "pandas":
            return _from_pandas(table)
        return pl.DataFrame(table)  # type: ignore[arg-type]  # any table with an Arrow stream
    except (pl.exceptions.PolarsError, ImportError, TypeError, ValueError, OverflowError) as fault:
        reason = (str(fault).strip() or type(fault).__name__).splitlines()[0][:200]
        raise MicrecError(
            f"{what}: cannot be read as a table ({reason}): give columns of one length, each of one type."
        ) from fault


def _from_pandas(table: Any) -> pl.DataFrame:
    named = any(name is not None for name in table.index.names)
    return pl.from_pandas(table, include_index=named)
