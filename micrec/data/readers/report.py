"""What a reader assumed and left out on the way, in words."""


class ReadingReport:
    """Notes, and counts of what was dropped, by reason."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.dropped: dict[str, int] = {}

    def note(self, file: str, text: str) -> None:
        """Add a sentence on a file."""
        self.notes.append(f"{file}: {text}")

    def drop(self, reason: str, count: int) -> None:
        """Count what was left out."""
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count
