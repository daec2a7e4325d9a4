"""Numbers to places on paper, and ticks where people expect them."""

import math
from typing import NamedTuple

_STEPS = (1.0, 2.0, 5.0, 10.0)


class Scale(NamedTuple):
    """A linear axis.

    Attributes:
        low: Number at the start.
        high: Number at the end.
        start: Place of ``low``.
        end: Place of ``high``.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, number: float) -> float:
        """Place of a number, in pixels."""
        share = (number - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


def span(low: float, high: float, *, pad: float = 0.04) -> tuple[float, float]:
    """A little more than low to high; never empty."""
    if not high > low:
        size = abs(low) or 1.0
        return low - 0.5 * size, high + 0.5 * size
    extra = pad * (high - low)
    return low - extra, high + extra


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within low to high, roughly ``about`` of them."""
    raw = (high - low) / max(about, 1)
    size = 10.0 ** math.floor(math.log10(raw))
    step = size * next(step for step in _STEPS if step * size >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) + 0.0 for k in range(first, last + 1)]


def tick_text(number: float, step: float, *, percent: bool, signed: bool = False) -> str:
    """A tick as text, with the digits that its step needs."""
    if percent:
        number, step = 100 * number, 100 * step
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 0
    text = f"{number:,.{digits}f}"
    if signed and number > 0:
        text = f"+{text}"
    return f"{text.replace('-', '−')} %" if percent else text.replace("-", "−")
