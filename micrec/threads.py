"""Threads of one process: as many as asked for, as far as the machine bears it."""

import os

import torch

MOST_PER_CORE = 8  # more only take memory, and a system may refuse to start them


def use_threads(count: int) -> None:
    """Let torch compute with ``count`` threads, at most eight a core."""
    torch.set_num_threads(min(count, MOST_PER_CORE * (os.cpu_count() or 1)))
