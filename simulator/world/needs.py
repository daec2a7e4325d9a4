"""What the generation of a world takes: memory counted from its keys, time by a pace that was measured once."""

from micrec.estimates.machine import time_in_words
from micrec.estimates.memory import MemoryEstimate, say_memory
from micrec.progress import Progress
from simulator.world.parts import expected_clicks_per_user
from simulator.world.world_config import WorldConfig

PROCESS = 200_000_000  # bytes: interpreter, Polars, NumPy and one part of the users
ITEM = 2_500  # bytes: its rows in the tables, what is drawn from, what links and tags are looked up in
CLICKS_PER_S = 1_000_000  # of one process on a quiet core: 2.33 million of two (tests/benchmarks/README.md)
STARTED_S = 5.0  # imports, the pilot of the calibration


def world_memory(config: WorldConfig) -> MemoryEstimate:
    """The peak of the process that writes the item tables; workers take less."""
    items = int(config.items.count * max(1.0, config.days / config.window_days))
    parts = {"a process": PROCESS, "items": items * (ITEM + 8 * config.content.dim)}
    return MemoryEstimate(parts, {"items": "lower --scale or items.count", "a process": "fewer --workers"})


def say_needs(config: WorldConfig, workers: int, progress: Progress) -> None:
    """Memory, and where it is worth a line the time."""
    say_memory(progress, world_memory(config), processes=workers, each="each process" if workers > 1 else "")
    clicks = config.users.count * expected_clicks_per_user(config)
    seconds = STARTED_S + clicks / CLICKS_PER_S / workers
    if seconds >= 2 * STARTED_S:
        progress.say(
            f"needs about {time_in_words(seconds)} on quiet cores ({clicks:,.0f} clicks, {CLICKS_PER_S:,} a second)"
        )
