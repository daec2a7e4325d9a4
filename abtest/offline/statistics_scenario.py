"""The scenario of Table 1: which datasets are counted, and the paper's counts beside them."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from abtest.offline.table_scenario import Chosen, DatasetConfig, Name, chosen_datasets, plain
from micrec.config import Frozen, SessionsConfig, SplitConfig


class PaperCounts(Frozen):
    """A dataset of the paper's Table 1."""

    label: str = Field(description="Name of the dataset in the paper.")
    counts: dict[Literal["users", "items", "sessions", "clicks", "train", "test", "fields"], int] = Field(
        description="The paper's counts."
    )


class StatisticsScenario(Frozen):
    """Count datasets as the paper's Table 1 does; nothing is trained."""

    kind: Literal["statistics"] = Field(description="The question.")
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")] = Field(description="Name of the run; default: the file's name.")
    title: str = Field("Statistics of the datasets", description="Heading of the report and caption of the table.")
    datasets: dict[Name, DatasetConfig] = Field(min_length=1, description="The datasets, by name.")
    data: Path | None = Field(None, description="One dataset folder in place of all datasets; null = the datasets.")
    split: SplitConfig = Field(
        default_factory=SplitConfig, description="Split into training, validation and test clicks."
    )
    sessions: SessionsConfig = Field(default_factory=SessionsConfig, description="Definition of a session.")
    paper: dict[str, PaperCounts] = Field(default_factory=dict, description="The paper's datasets, shown beside ours.")

    def chosen(self) -> list[Chosen]:
        """The datasets in use: ``data`` alone where it is given."""
        return chosen_datasets(self.data, self.datasets, {})

    def work(self) -> str:
        """What a run does, in a line."""
        return f"datasets {', '.join(name for name, _ in self.chosen())}: nothing is trained"

    def resolved(self) -> dict[str, Any]:
        """Plain data in which every key is explicit."""
        return plain(self.model_dump())
