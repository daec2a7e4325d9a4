"""What a baseline is given: the task, everything of the dataset before the task's period, and the models' config."""

import dataclasses
from dataclasses import dataclass

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
    """

    task: EvalTask
    dataset: Dataset
    config: Config

    @classmethod
    def of(cls, task: EvalTask, dataset: Dataset, config: Config) -> "BaselineInputs":
        """Inputs for a task of a dataset, from which the clicks of the task's period and later are taken out."""
        before = int(task.train_clicks.sum())
        return cls(task, dataclasses.replace(dataset, clicks=dataset.clicks[:before]), config)

    @property
    def train(self) -> Clicks:
        """The clicks before the task's period, in time order."""
        return self.dataset.clicks
