"""The platform's log over days, a lazy table each."""

from pathlib import Path

import polars as pl


def scan(folders: list[Path], table: str) -> pl.LazyFrame:
    """A table of the platform's log over days."""
    below = "ground_truth/" if table == "ground_truth" else ""
    return pl.concat([pl.scan_parquet(folder / f"{below}{table}-*.parquet") for folder in folders])
