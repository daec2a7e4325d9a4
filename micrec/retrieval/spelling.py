"""Known ids that are similar to an unknown one, for error messages."""

import difflib
from collections.abc import Iterable

import polars as pl

from micrec.data.ids import canonical_text

MOST_COMPARED = 5_000  # ids that are compared letter by letter
EXAMPLES = 5  # most unknown ids that a message names


def near_spellings(wanted: str, ids: pl.Series, *, most: int = 3) -> list[str]:
    """Known ids that ``wanted`` may stand for, nearest first.

    Those that differ by upper case, leading zeros, ``.0`` or white space alone go before those that share its first
    two or last two letters and most of the rest.
    """
    texts = pl.DataFrame({"id": ids.cast(pl.String), "plain": ids.cast(pl.String)}).lazy()
    texts = texts.with_columns(canonical_text(pl.col("plain")))
    plain = pl.select(canonical_text(pl.lit(wanted))).item() or ""
    alike = texts.filter(pl.col("plain") == plain).head(most).collect()["id"].to_list()
    if alike:
        return alike
    lengths = pl.col("plain").str.len_chars()
    ends = pl.col("plain").str.starts_with(plain[:2]) | pl.col("plain").str.ends_with(plain[-2:])
    near = texts.filter(lengths.is_between(len(plain) - 2, len(plain) + 2) & ends).head(MOST_COMPARED).collect()
    spelt = dict(zip(near["plain"].to_list(), near["id"].to_list(), strict=True))
    found = difflib.get_close_matches(plain, spelt, n=most, cutoff=0.7)
    return [spelt[text] for text in found]


def listed(ids: Iterable[object]) -> str:
    """The first few distinct ids for a message."""
    shown = list(dict.fromkeys(map(str, ids)))
    return ", ".join(shown[:EXAMPLES]) + (f" and {len(shown) - EXAMPLES:,} more" if len(shown) > EXAMPLES else "")


def listed_with_near(unknown: Iterable[object], ids: pl.Series) -> str:
    """The first few distinct unknown ids for a message, each with known ones that it may stand for."""
    distinct = list(dict.fromkeys(map(str, unknown)))
    shown = []
    for text in distinct[:EXAMPLES]:
        near = near_spellings(text, ids)
        shown.append(f"{text} (did you mean {' or '.join(near)}?)" if near else text)
    return ", ".join(shown) + (f" and {len(distinct) - EXAMPLES:,} more" if len(distinct) > EXAMPLES else "")
