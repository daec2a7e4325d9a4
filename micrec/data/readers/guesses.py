"""Types and roles of fields from their names and values, where no schema file declares them."""

from collections.abc import Mapping

import polars as pl

from micrec.data.column_names import propose_by_name
from micrec.data.schema import FieldType, Roles

ISO_DATE = r"^\d{4}-\d{2}-\d{2}"
_LABELS = (
    "category",
    "subcategory",
    "sub_category",
    "provider",
    "author",
    "brand",
    "seller",
    "publisher",
    "channel",
    "artist",
    "creator",
    "shop",
    "store",
    "maker",
    "manufacturer",
    "language",
    "country",
    "region",
    "city",
    "gender",
    "type",
    "kind",
    "status",
    "colour",
    "color",
)
SEVERAL = (
    "tags",
    "tag_list",
    "genres",
    "genre",
    "categories",
    "keywords",
    "topics",
    "labels",
    "actors",
    "authors",
    "features",
)
_SEPARATORS = ("|", ";", ",")
_LEAST_SPLIT_SHARE = 0.05  # of the cells with a value hold a separator
_NO_TITLE = ("url", "uri", "link", "image", "img", "path", "thumbnail", "poster", "hash")


def guess_type(values: pl.Series, *, is_split: bool = False) -> FieldType:
    """The type of a field; ``is_split`` says that its text holds several values a cell."""
    dtype, name = values.dtype, values.name
    if isinstance(dtype, pl.List | pl.Array):
        return FieldType.VECTOR if dtype.inner.is_float() else FieldType.MULTI_CATEGORICAL
    if is_split:
        return FieldType.MULTI_CATEGORICAL
    if dtype in (pl.Datetime, pl.Date) or parses_everywhere(values, iso_dates(values)):
        return FieldType.TIMESTAMP
    is_text = dtype == pl.String
    is_integer = dtype.is_integer() or (is_text and parses_everywhere(values, values.cast(pl.Int64, strict=False)))
    is_number = dtype.is_numeric() or (is_text and parses_everywhere(values, values.cast(pl.Float64, strict=False)))
    if is_text and not is_number and propose_by_name("title", [name]):
        return FieldType.TEXT
    if (is_integer or not is_number) and (propose_by_name("category", [name]) or _is_label(name)):
        return FieldType.CATEGORICAL
    mostly_distinct = values.n_unique() > len(values) / 2
    if is_integer:
        return FieldType.NUMERIC if mostly_distinct else FieldType.CATEGORICAL
    if is_number:
        return FieldType.NUMERIC
    return FieldType.TEXT if mostly_distinct and is_text else FieldType.CATEGORICAL


def guess_separator(values: pl.Series) -> str | None:
    """What parts the values of a cell, for text fields whose name says that there are several; None if nothing does."""
    if values.dtype != pl.String or values.name.strip().lower() not in SEVERAL:
        return None
    holding = {mark: values.str.contains(mark, literal=True).sum() or 0 for mark in _SEPARATORS}
    best = max(_SEPARATORS, key=lambda mark: holding[mark])
    return best if holding[best] > _LEAST_SPLIT_SHARE * values.count() else None


def guess_roles(fields: Mapping[str, FieldType]) -> Roles:
    """Which item fields are the title, the category, the taxonomy, the content: by name, then by type."""

    def of(*types: FieldType) -> list[str]:
        return [name for name, kind in fields.items() if kind in types]

    titles = [name for name in of(FieldType.TEXT) if not any(part in name.lower() for part in _NO_TITLE)]
    categories, lists = of(FieldType.CATEGORICAL, FieldType.ID), of(FieldType.MULTI_CATEGORICAL)
    category = propose_by_name("category", categories)
    named = [name for name in lists if name.strip().lower() in SEVERAL]
    return Roles(
        title=propose_by_name("title", titles) or next(iter(titles), None),
        category=category,
        taxonomy=next(iter([*named, *lists]), None) or category,
        content=next(iter(of(FieldType.VECTOR)), None),
    )


def iso_dates(texts: pl.Series) -> pl.Series:
    """Datetimes in UTC from text; null where it is no ISO date."""
    if texts.dtype != pl.String:
        return pl.Series(texts.name, [None] * len(texts), dtype=pl.Datetime("ms", "UTC"))
    iso = texts.to_frame("text").select(pl.when(pl.col("text").str.contains(ISO_DATE)).then("text"))["text"]
    return iso.alias(texts.name).str.to_datetime(time_unit="ms", time_zone="UTC", strict=False)


def parses_everywhere(values: pl.Series, parsed: pl.Series) -> bool:
    """Whether text holds anything, and ``parsed`` has a value wherever it does."""
    return values.dtype == pl.String and 0 < values.count() == parsed.count()


def _is_label(name: str) -> bool:
    plain = name.strip().lower()
    return plain in _LABELS or any(plain in (f"{label}_id", f"{label}_name") for label in _LABELS)
