"""Relative changes and their intervals, as reports show them."""

from abtest.report.figures import Tone


def tone(interval: tuple[float, float] | None) -> Tone:
    """Which side of 0 an interval lies on."""
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "even"
    return "gain" if interval[0] > 0 else "loss"


def percent(value: float | None) -> str:
    """A relative change."""
    return "–" if value is None else f"{100 * value:+.2f} %"


def bounds(interval: tuple[float, float] | None) -> str:
    """An interval of relative changes."""
    return "" if interval is None else f"[{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}]"
