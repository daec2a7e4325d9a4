"""Tables that callers hold in memory, whatever library made them, as Polars frames."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from micrec.errors import MicrecError


class ArrowTable(Protocol):
    """A table of another library that can hand its columns over, such as a pandas or PyArrow one."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The columns by the Arrow PyCapsule interface."""


Frame: TypeAlias = pl.DataFrame | pl.LazyFrame | ArrowTable | NDArray[Any] | Mapping[str, Sequence[Any] | NDArray[Any]]
"""A Polars or pandas frame, another Arrow table, columns by name as NumPy arrays or lists, or a structured array."""


def as_frame(table: Frame, what: str) -> pl.DataFrame:
    """A table in memory as a Polars frame.

    A pandas index is kept as columns where its levels have names, as after ``groupby(...).sum()``.

    Args:
        table: The table.
        what: What it is called in messages, such as ``clicks``.

    Raises:
        MicrecError: If it is no table, or its columns differ in length or hold what Polars has no type for.
    """
    if isinstance(table, pl.LazyFrame):
        table = table.collect()
    try:
        frame = table if isinstance(table, pl.DataFrame) else _converted(table)
    except (*_FAULTS, pl.exceptions.PolarsError, pl.exceptions.PanicException) as fault:
        reason = (str(fault).strip() or type(fault).__name__).splitlines()[0][:200]
        raise MicrecError(
            f"{what}: cannot be read as a table ({reason}): give columns of one length, each of one type."
        ) from fault
    if frame is None:
        raise MicrecError(
            f"{what}: is a {type(table).__name__}, where a table is needed: give a Polars or pandas frame, or a "
            "mapping of column names to NumPy arrays."
        )
    odd = {name: kind for name, kind in frame.schema.items() if isinstance(kind, _ODD)}
    if odd:
        cure = "turn it into numbers, text or times"
        raise MicrecError.of(what, [f"column {name!r} is of type {kind}: {cure}." for name, kind in odd.items()])
    return frame


_ODD = (pl.Object, *([pl.BaseExtension] if hasattr(pl, "BaseExtension") else []))  # such as pandas' periods
_FAULTS = (ImportError, TypeError, ValueError, OverflowError, NotImplementedError, LookupError, AttributeError)


def _converted(table: object) -> pl.DataFrame | None:
    """The table by the library it is of; None if it is none."""
    if isinstance(table, Mapping):
        return pl.DataFrame({name: _in_known_units(values) for name, values in table.items()})
    if isinstance(table, np.ndarray):
        names = table.dtype.names
        return None if names is None else pl.DataFrame({name: _in_known_units(table[name]) for name in names})
    if isinstance(table, pl.Series) or not hasattr(table, "__arrow_c_stream__"):
        return None
    if type(table).__module__.partition(".")[0] != "pandas":
        return pl.DataFrame(table)
    return _from_pandas(table) if hasattr(table, "columns") else None  # a pandas Series has none


def _from_pandas(table: Any) -> pl.DataFrame:
    named = any(name is not None for name in table.index.names)
    return pl.from_pandas(table, include_index=named)


def _in_known_units(values: Any) -> Any:
    """Times of NumPy in units that Polars lacks, such as whole seconds, as microseconds."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "mM":
        unit = np.datetime_data(values.dtype)[0]
        return values if unit in ("D", "ms", "us", "ns") else values.astype(f"{values.dtype.kind}8[us]")
    return values
