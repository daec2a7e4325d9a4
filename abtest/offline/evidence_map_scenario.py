"""The scenario of an evidence map: a table whose rows add item losses to a base, on logs and worlds."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from abtest.offline.table_scenario import TableScenario


class EvidenceMapScenario(TableScenario):
    """Train a base model without and with each item loss on logs and worlds, beside a forecast of what it can gain."""

    kind: Literal["evidence_map"] = Field(description="The question.")  # type: ignore[assignment]

    def compared_rows(self) -> list[str]:
        """The rows that are compared with the reference row."""
        return [row for row in self.rows if row != self.reference_row]

    def forecast_loss(self, row: str) -> str | None:
        """The loss that a row adds, where it adds a single one: the forecasts are by loss."""
        losses = self.rows[row].losses
        return losses[0] if losses is not None and len(losses) == 1 else None

    def hit_metrics(self) -> list[str]:
        """Its metrics that have hits of single users, which the intervals need."""
        return [metric for metric in self.metrics if metric.startswith("hit@")]


def evidence_map_faults(scenario: EvidenceMapScenario) -> Iterator[str]:
    """What the keys cannot say one by one."""
    if not scenario.hit_metrics():
        yield "metrics: none is HIT, which the intervals over users need: name hit@50 or the like"
    if not scenario.compared_rows():
        yield "rows: there is one row alone: name the base and at least one row that adds a loss to it"
