"""How numbers are written, the same in every form of the report. What is undefined reads "n/a"."""

from collections.abc import Sequence

UNDEFINED = "n/a"


def value(number: float | None) -> str:
    """A metric: four decimals, or thousands for what counts things."""
    if number is None:
        return UNDEFINED
    return f"{number:.4f}" if abs(number) < 100 else f"{number:,.0f}"


def mean_sd(mean: float | None, sd: float | None) -> str:
    """Mean and standard deviation over training seeds."""
    return value(mean) if sd is None else f"{value(mean)} ± {value(sd)}"


def seeds(numbers: Sequence[int]) -> str:
    """Training seeds in words: ``seed 3`` or ``seeds 0 to 4``."""
    return f"seed {numbers[0]}" if len(numbers) == 1 else f"seeds {numbers[0]} to {numbers[-1]}"


def percent(share: float | None) -> str:
    """A relative change with its sign."""
    return UNDEFINED if share is None else f"{share:+.2%}".replace("%", " %")


def percent_interval(interval: Sequence[float] | None) -> str:
    """An interval of shares, in per cent with signs."""
    if interval is None:
        return UNDEFINED
    low, high = interval
    return f"[{100 * low:+.2f}, {100 * high:+.2f}] %"


def difference(number: float | None, interval: Sequence[float] | None) -> str:
    """A difference in the metric's own unit, with its interval."""
    if number is None:
        return UNDEFINED
    digits = 4 if max([abs(number), *(abs(end) for end in interval or ())]) < 100 else 0
    if interval is None:
        return f"{number:+,.{digits}f}"
    return f"{number:+,.{digits}f} [{interval[0]:+,.{digits}f}, {interval[1]:+,.{digits}f}]"


def p_value(p: float | None) -> str:
    """Never 0: what is too small for a float says so."""
    if p is None:
        return UNDEFINED
    if p < 1e-300:
        return "<1e-300"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
