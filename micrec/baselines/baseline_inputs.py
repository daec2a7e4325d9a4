"""What a baseline is given: the task, everything of the dataset before the task's period, and the models' config."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from micrec.config import Config
from micrec.data.dataset import Clicks, Dataset
from micrec.evaluation.task import EvalTask


@dataclass(frozen=True)
class BaselineInputs:
    """Inputs of one baseline on one task.

    Attributes:
        task: What is asked: queries, histories, candidates.
        dataset: Users, items (encoded fields in ``items.columns``; titles, vectors and all else in ``items.frame``),
            the schema with the roles of fields, the folder, and as ``clicks`` those before the task's period alone.
        config: That of the models beside it.
        settings: Settings that were chosen before, such as on another dataset, by the names of
            ``BaselineScores.settings``; where they are all there, nothing is chosen here.
    """

    task: EvalTask
    dataset: Dataset
    config: Config
    settings: Mapping[str, float | str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, task: EvalTask, dataset: Dataset, config: Config, settings: Mapping[str, float | str] | None = None
    ) -> "BaselineInputs":
        """Inputs for a task of a dataset, from which the clicks of the task's period and later are taken out."""
        before = int(task.train_clicks.sum())
        return cls(task, dataclasses.replace(dataset, clicks=dataset.clicks[:before]), config, settings or {})

    @property
    def train(self) -> Clicks:
        """The clicks before the task's period, in time order."""
        return self.dataset.clicks
