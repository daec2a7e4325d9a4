"""Ids as text or whole numbers; ids that look the same are read as the same."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import polars as pl

Spelling = Literal["as_written", "number", "lower"]
_INVISIBLE = "[\u200b\u200c\u200d\u2060\ufeff\u00ad]"  # zero-width spaces and joiners, soft hyphens
_SURE_INT64 = 18  # characters, with a sign, that always fit 64 bits
_EXACT_FLOAT = float(2**53)


class Ids(NamedTuple):
    """A column of ids, cleaned.

    Attributes:
        value: The ids: Int64 or another integer, or text without white space around it.
        faults: Why the column cannot be used, as sentences.
        notes: What was changed or looks wrong, as sentences.
        changed: Rows whose spelling was cleaned.
    """

    value: pl.Expr
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    changed: int = 0


def read_ids(rows: pl.LazyFrame, name: str, *, spelling: Spelling = "as_written", warn_of_case: bool = True) -> Ids:
    """Read a column of ids; text and fractions are read once or twice, in a stream.

    Text loses white space around it, zero-width characters, and differences of Unicode composition. Floats and
    decimals that are whole numbers become integers. Ids that differ by upper case alone stay two, and a note says so.

    Args:
        rows: The table.
        name: Its column of ids.
        spelling: "number" reads ``007`` and ``7.0`` as 7, "lower" reads ``A7`` as ``a7``.
        warn_of_case: Whether ids that differ by upper case alone are looked for.
    """
    value, kind = pl.col(name), rows.collect_schema()[name]
    if isinstance(kind, pl.Categorical | pl.Enum):
        value, kind = value.cast(pl.String), pl.String()
    if kind == pl.String and spelling == "number":
        return _numbers(rows, name, value)
    if kind == pl.String:
        found = _text(rows, name, value, warn_of_case)
        return found._replace(value=found.value.str.to_lowercase()) if spelling == "lower" else found
    if kind.is_decimal():
        return _decimal(rows, name, value)
    if kind.is_float():
        return _whole(rows, name, value.cast(pl.Float64))
    return Ids(value)


def clean_text(value: pl.Expr) -> pl.Expr:
    """Text without white space around it and zero-width characters, composed alike; null where nothing is left."""
    text = value.str.replace_all(_INVISIBLE, "").str.strip_chars().str.normalize("NFC")
    return pl.when(text != "").then(text)


def canonical_text(value: pl.Expr) -> pl.Expr:
    """A spelling that ids share that a person may take for one: lower case, no leading zeros, no ``.0``."""
    text = clean_text(value.cast(pl.String)).str.to_lowercase()
    return text.str.replace(r"^([+-]?\d+)\.0+$", "$1").str.replace(r"^\+?0+(\d)", "$1")


def distinct(rows: pl.LazyFrame, value: pl.Expr) -> pl.DataFrame:
    """Every value once, in no order, in memory that grows with the values and not with the rows."""
    return rows.select(value).unique().collect(engine="streaming")


def _text(rows: pl.LazyFrame, name: str, value: pl.Expr, warn_of_case: bool) -> Ids:
    if _are_plain(rows, name, value):
        return Ids(value)
    everything, rows = rows, distinct(rows, value.alias(name)).lazy()  # few ids, many rows: each id is looked at once
    clean = clean_text(value)
    tests = {
        "n": clean.count(),
        "changed": (clean.fill_null("") != value).sum(),
        "blank": (clean.is_null() & value.is_not_null()).any(),
        "fractions": clean.str.contains(r"^[+-]?(0|[1-9]\d{0,15})\.0+$").sum(),
        "upper": clean.str.contains(r"\p{Lu}").any(),
        "lower": clean.str.contains(r"\p{Ll}").any(),
    }
    found = rows.select(**tests).collect(engine="streaming").row(0, named=True)
    if found["changed"]:
        found["changed"] = everything.select(tests["changed"]).collect(engine="streaming").item()
    changed, notes = int(found["changed"] or 0), []
    if changed:
        notes.append(f"{name}: {changed:,} ids were read without white space or invisible characters.")
    if 0 < found["n"] == found["fractions"]:
        notes.append(f"{name}: ids such as 1.0 are read as whole numbers, 1.")
        return Ids(clean.cast(pl.Float64).cast(pl.Int64), notes=tuple(notes), changed=changed)
    if warn_of_case and found["upper"] and found["lower"]:
        notes += _case_twins(rows, name, clean)
    return Ids(clean if changed or found["blank"] else value, notes=tuple(notes), changed=changed)


def _numbers(rows: pl.LazyFrame, name: str, value: pl.Expr) -> Ids:
    clean = canonical_text(value)
    number = clean.cast(pl.Int64, strict=False)
    broken = clean.is_not_null() & number.is_null()
    n, bad = rows.select(n=clean.count(), bad=broken.sum()).collect(engine="streaming").row(0)
    if bad == n:
        return _text(rows, name, value, warn_of_case=True)  # ids of another kind, such as names
    if bad:
        first = rows.select(value.alias(name), broken.alias("broken\x1f")).filter(pl.col("broken\x1f")).head(1)
        example = first.collect(engine="streaming")[name][0]
        fault = f"{name}: {bad:,} of {n:,} ids are not whole numbers, {example!r} first"
        return Ids(value, faults=(f"{fault}: leave the ids as they are written.",))
    return Ids(number)


def _are_plain(rows: pl.LazyFrame, name: str, value: pl.Expr) -> bool:
    """Whether all ids are visible ASCII of one case and not fractions: nothing to clean, nothing to tell."""
    first = rows.select(value.alias(name)).drop_nulls().head(1).collect(engine="streaming")
    if first.is_empty() or re.fullmatch(r"[+-]?\d+\.0+", first.item()):
        return False
    tests = [value.str.contains(pattern).all() for pattern in (r"^[!-@\[-~]+$", r"^[!-`{-~]+$")]
    return any(rows.select(low=tests[0], high=tests[1]).collect(engine="streaming").row(0))


def _case_twins(rows: pl.LazyFrame, name: str, clean: pl.Expr) -> Sequence[str]:
    distinct = rows.select(clean.alias("id")).drop_nulls().unique()
    twins = distinct.group_by(pl.col("id").str.to_lowercase().alias("lower")).agg(pl.col("id").sort().head(2), pl.len())
    twins = twins.filter(pl.col("len") > 1).sort("lower")
    first, count = pl.collect_all([twins.head(1), twins.select(pl.len())], engine="streaming")
    if not count.item():
        return ()
    one, two = first["id"][0]
    return (f"{name}: {count.item():,} ids differ from another by upper case alone, such as {one!r} and {two!r}.",)


def _decimal(rows: pl.LazyFrame, name: str, value: pl.Expr) -> Ids:
    """Decimals are exact: whole ones become integers, or text where they are longer than 64 bits."""
    text = value.cast(pl.String).str.replace(r"\.0*$", "")
    tests = {
        "n": text.count(),
        "broken": text.str.contains(".", literal=True).sum(),
        "long": (text.str.len_bytes() > _SURE_INT64).any(),
    }
    n, broken, long = rows.select(**tests).collect(engine="streaming").row(0)
    if broken:
        return Ids(value, faults=(f"{name}: {broken:,} of {n:,} ids are not whole numbers: write integers or text.",))
    return Ids(text if long else text.cast(pl.Int64))


def _whole(rows: pl.LazyFrame, name: str, value: pl.Expr) -> Ids:
    number = value.fill_nan(None)
    is_whole = (number == number.floor()) & (number.abs() < _EXACT_FLOAT)
    n, whole = rows.select(number.count().alias("n"), is_whole.sum().alias("w")).collect(engine="streaming").row(0)
    if n == whole:
        note = f"{name}: the ids are stored as fractions, and were read as the whole numbers that they are."
        return Ids(number.cast(pl.Int64), notes=(note,))
    return Ids(
        value,
        faults=(
            f"{name}: is a column of fractions, in which large ids run together ({n - whole:,} of {n:,} are not whole "
            "numbers below 2^53): write ids as integers or text.",
        ),
    )
