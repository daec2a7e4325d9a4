"""Sections that a caller adds to a report: text, tables and figures, as plain values for results.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from abtest.report.figures import Figure, from_data, to_data
from abtest.report.tables import Table

Block = Table | Figure


@dataclass(frozen=True)
class Section:
    """One part of a report under its own heading.

    Attributes:
        title: The heading.
        text: Paragraphs before the rest.
        blocks: Tables and figures, in order.
        lead: Whether it stands right behind the verdict, as the answer of a study does, and not at the end.
    """

    title: str
    text: Sequence[str] = ()
    blocks: Sequence[Block] = ()
    lead: bool = False

    @property
    def tables(self) -> list[Table]:
        return [block for block in self.blocks if isinstance(block, Table)]


def section_data(section: Section) -> dict[str, Any]:
    """Plain values for JSON; ``section_of`` gives the section back."""
    blocks = [
        {"kind": "table", **block._asdict()} if isinstance(block, Table) else to_data(block) for block in section.blocks
    ]
    return {"title": section.title, "text": list(section.text), "blocks": blocks, "lead": section.lead}


def section_of(data: Mapping[str, Any]) -> Section:
    """The section that ``section_data`` wrote."""
    return Section(data["title"], tuple(data["text"]), tuple(_block(block) for block in data["blocks"]), data["lead"])


def _block(data: Mapping[str, Any]) -> Block:
    if data["kind"] != "table":
        return from_data(data)
    return Table(
        data["title"],
        tuple(data["header"]),
        [tuple(row) for row in data["rows"]],
        list(data["notes"]),
        bool(data["folded"]),
    )
