"""Requests of ``micrec recommend``: changes of the catalogue, then one list."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from micrec.errors import MicrecError
from micrec.field_encoder import FieldEncoder
from micrec.retrieval.item_files import FileOptions, read_clicks, read_item_ids, read_items
from micrec.retrieval.retriever import Recommendation, Retriever

NAMED = 5  # most unknown values that a note lists


class Changed(NamedTuple):
    """Result of a change of the catalogue."""

    added: int
    removed: int
    listed: int  # items in the index now
    notes: list[str]


class Change(NamedTuple):
    """Items to add, and to take out, and clicks made since; what is taken out goes first, clicks come last.

    Attributes:
        new_items: File of items with their fields.
        remove: Ids.
        remove_file: File of ids.
        files: How the files are written.
        new_clicks: File of clicks.
    """

    new_items: Path | None
    remove: Sequence[str]
    remove_file: Path | None
    files: FileOptions
    new_clicks: Path | None = None

    @property
    def is_empty(self) -> bool:
        return self.new_items is None and not self.remove and self.remove_file is None and self.new_clicks is None

    def apply(self, retriever: Retriever) -> Changed:
        """Change the catalogue of a retriever.

        Raises:
            MicrecError: If a file is invalid, or items cannot be added or taken out.
        """
        gone = [*self.remove, *(read_item_ids(self.remove_file, self.files) if self.remove_file else [])]
        notes: list[str] = []
        if gone:
            retriever.remove_items(gone)
        added = 0
        if self.new_items is not None:
            before = retriever.bundle
            frame, told = read_items(self.new_items, before, self.files)
            retriever.add_items(frame)
            after, added = retriever.bundle, len(frame)
            notes += [*told, *unknown_notes(after.item_encoder, frame)]
            if again := added - (len(after.item_ids) - len(before.item_ids)):
                notes.append(f"{again:,} of the items were known, and are listed again; fields not given stay as known")
        if self.new_clicks is not None:
            clicks = read_clicks(self.new_clicks, self.files)
            retriever.add_clicks(clicks)
            notes.append(f"{len(clicks):,} clicks taken in")
        return Changed(added, len(set(gone)), len(retriever.bundle.candidates), notes)


class Answer(NamedTuple):
    """A list, and the notes to print beside it."""

    found: Recommendation
    notes: list[str]


class Request(NamedTuple):
    """A list that is asked for.

    Attributes:
        user: A user of the dataset, or None for an unseen one.
        fields: Fields of an unseen user, as text.
        history: Clicks of an unseen user, oldest first: each an id, or several with commas between them.
        history_file: File of clicks before those.
        k: Length of the list.
        hide_seen: Leave out what the user has clicked.
        files: How the file is written.
    """

    user: str | None
    fields: Mapping[str, str]
    history: Sequence[str]
    history_file: Path | None
    k: int
    hide_seen: bool
    files: FileOptions

    @property
    def is_empty_but_for_user(self) -> bool:
        return not self.fields and not self.history and self.history_file is None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said of the user."""
        return self.user is None and self.is_empty_but_for_user

    def ask(self, retriever: Retriever) -> Answer:
        """The list, with notes on values that the model does not know and on seen items at its top.

        Raises:
            MicrecError: If the user, a field or a click is unknown.
        """
        if self.user is not None:
            found = retriever.recommend(self.user, self.k, hide_seen=self.hide_seen)
            return Answer(found, self._seen_notes(found, retriever.clicked_by(self.user)))
        clicks, notes = self._clicks(retriever)
        try:
            found = retriever.recommend_unseen(self.fields, clicks, self.k, hide_seen=self.hide_seen)
        except MicrecError as fault:
            if any("," in text for text in self.history) and str(fault).startswith("history: "):
                raise MicrecError(f"{fault} An id that holds a comma goes alone into a --history of its own.") from None
            raise
        encoder = retriever.bundle.user_encoder
        notes += unknown_notes(encoder, encoder.row(self.fields))
        return Answer(found, [*notes, *self._seen_notes(found, clicks)])

    def _clicks(self, retriever: Retriever) -> tuple[list[str], list[str]]:
        """Ids of the clicks, oldest first, and notes; a text that is itself an id is one, commas and all."""
        clicks = read_item_ids(self.history_file, self.files) if self.history_file else []
        notes = []
        for text in self.history:
            parts = [part.strip() for part in text.split(",") if part.strip()]
            if len(parts) > 1 and retriever.knows_item(text):
                clicks.append(text)
                if all(retriever.knows_item(part) for part in parts):
                    notes.append(f"--history {text}: is read as one item; for several write one --history each")
            else:
                clicks += parts
        return clicks, notes

    def _seen_notes(self, found: Recommendation, clicks: Sequence[object]) -> list[str]:
        seen = {str(item) for item in clicks}
        places = [rank for rank, item in enumerate(found.item_ids, start=1) if str(item) in seen]
        if self.hide_seen or not places or places[0] != 1:
            return []
        return [
            f"{len(places):,} of the {len(found.item_ids):,} items were clicked before, the first among them; "
            "--hide-seen leaves them out"
        ]


def unknown_notes(encoder: FieldEncoder, frame: pl.DataFrame) -> list[str]:
    """Tells of values that are read as missing, as a slip of the pen would be."""
    notes = []
    for name, values in encoder.unknown_values(frame).items():
        shown = ", ".join(values[:NAMED]) + (" …" if len(values) > NAMED else "")
        notes.append(f"{encoder.entity} field {name}: {shown}: unknown to the model, read as missing")
    return notes
