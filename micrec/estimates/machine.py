"""Memory of this machine, what it can still give, and sizes in words."""

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def free_bytes() -> int | None:
    """Memory that a process may still take without swapping, bytes; None where the system does not tell.

    The limit of a container (cgroup version 2) counts where it is the tighter one.
    """
    found = [free for free in (_of_machine(), _of_container()) if free is not None]
    return min(found) if found else None


def memory_bytes() -> int:
    """Memory of the machine, or of the container, bytes; very much where the system does not tell."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 62
    try:
        limit = (CGROUP / "memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdigit() else whole


def resident_bytes() -> int:
    """Memory that this process holds now, bytes; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def in_words(size: float) -> str:
    """Bytes as people say them: ``3.1 GB``, ``850 MB``."""
    return f"{size / 1e9:,.1f} GB" if size >= 0.95e9 else f"{max(size, 1e6) / 1e6:,.0f} MB"


def time_in_words(seconds: float) -> str:
    """Seconds as people say them: ``45 s``, ``14 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _of_machine() -> int | None:
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _of_container() -> int | None:
    try:
        limit, used = ((CGROUP / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
        kinds = (line.split() for line in (CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        cached = sum(int(size) for kind, size in kinds if kind in ("inactive_file", "active_file"))
        return None if limit == "max" else max(0, int(limit) - int(used) + cached)
    except (OSError, ValueError, IndexError):
        return None
