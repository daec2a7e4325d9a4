"""How many processors this process may use."""

import os


def cores() -> int:
    """Processors that the system lets this process use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
