"""The memory that a run is going to take, in named parts, and what to do where there is not so much."""

from collections.abc import Mapping
from dataclasses import dataclass

from micrec.estimates.machine import free_bytes, in_words, resident_bytes
from micrec.progress import Progress

LIBRARIES = 430_000_000  # interpreter, torch, Polars, FAISS and SciPy as they are loaded; measured on Linux, x86-64
TOLD_PARTS = 3  # parts that are named in the line
PROCESSES = "processes"  # among the cures: how there come to be fewer processes at a time


@dataclass(frozen=True)
class MemoryEstimate:
    """What a process holds at its peak.

    Attributes:
        parts: Bytes by part, in words, such as ``tables and optimiser``.
        cures: What makes a part smaller, by its name.
        device: What the parts lie in: memory of the machine, or of a CUDA device.
    """

    parts: Mapping[str, int]
    cures: Mapping[str, str]
    device: str = "cpu"

    @property
    def bytes(self) -> int:
        """All parts together."""
        return sum(self.parts.values())

    def line(self) -> str:
        """``needs about 3.1 GB (tables and optimiser 2.3 GB, clicks 300 MB, libraries 430 MB)``."""
        largest = sorted(self.parts, key=lambda name: -self.parts[name])[:TOLD_PARTS]
        told = ", ".join(f"{name} {in_words(self.parts[name])}" for name in largest)
        return f"needs about {in_words(self.bytes)} of memory ({told})"

    def warning(self, *, processes: int = 1, free: int | None = None) -> str | None:
        """What to change where the machine has not so much left; None where it has, or does not tell.

        Args:
            processes: Processes of this size at a time.
            free: Bytes that are left; None = ask the machine.
        """
        held = 0
        if free is None:
            free = self._free()
            held = resident_bytes() if processes == 1 and self.device == "cpu" else 0
        wanted = self.bytes * processes - held
        if free is None or wanted <= free:
            return None
        cures = [
            self.cures[name] for name in sorted(self.parts, key=lambda one: -self.parts[one]) if name in self.cures
        ]
        each = f"{processes} times {in_words(self.bytes)}" if processes > 1 else in_words(wanted)
        fewer = [self.cures.get(PROCESSES, "fewer --workers")] if processes > 1 else []
        return (
            f"warning: {each} more are needed and {in_words(free)} are free, so that the system may stop the run: "
            f"{'; or '.join([*fewer, *cures[:2]])}."
        )

    def _free(self) -> int | None:
        if self.device == "cpu":
            return free_bytes()
        import torch

        return int(torch.cuda.mem_get_info(self.device)[0])


def say_memory(progress: Progress, estimate: MemoryEstimate, *, processes: int = 1, each: str = "") -> None:
    """One line of what is needed, and a warning where it is not there.

    Args:
        progress: Where to.
        estimate: Of one process.
        processes: Such processes at a time.
        each: What one of several is, for the line: ``each of 6 models``.
    """
    where = f"{each} " if each else ""
    side_by_side = f", {processes} at a time" if processes > 1 else ""
    progress.say(f"{where}{estimate.line()}{side_by_side}")
    if (warning := estimate.warning(processes=processes)) is not None:
        progress.say(warning)
