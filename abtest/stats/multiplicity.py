"""Many p-values at once: Holm for primary metrics, Benjamini-Hochberg for slices; undefined ones stay None."""

from collections.abc import Sequence
from typing import Literal


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted so that the chance of any false rejection in the family stays below alpha (Holm 1979)."""
    return adjusted(p_values, "holm")


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted so that the expected share of false rejections stays below alpha (Benjamini, Hochberg 1995)."""
    return adjusted(p_values, "fdr_bh")


def adjusted(p_values: Sequence[float | None], method: Literal["holm", "fdr_bh"]) -> list[float | None]:
    """The p-values that exist, adjusted by statsmodels; undefined ones stay None and do not count."""
    known = [p for p in p_values if p is not None]
    if not known:
        return list(p_values)
    if any(not 0.0 <= p <= 1.0 for p in known):
        raise ValueError(f"p-values must lie within [0, 1], got {min(known)} to {max(known)}.")
    from statsmodels.stats.multitest import multipletests

    values = iter(multipletests(known, method=method)[1].tolist())
    return [None if p is None else float(next(values)) for p in p_values]
