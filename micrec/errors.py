"""Errors that are for people: what is wrong, where, and what to do about it."""

from collections.abc import Sequence


class MicrecError(Exception):
    """A user's mistake or a broken input; the command line prints it to stderr and exits with code 2.

    The message names the file or key, the value, the rule it breaks, and the cure.
    """

    @classmethod
    def of(cls, heading: str, faults: Sequence[str]) -> "MicrecError":
        """One exception that lists every error in ``faults``, one line each, below ``heading``."""
        if len(faults) == 1:
            return cls(f"{heading}: {faults[0]}")
        return cls("\n".join([f"{heading}: {len(faults)} errors", *(f"  - {fault}" for fault in faults)]))
