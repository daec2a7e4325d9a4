"""A trained model with its dataset, as one object."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from micrec.api.arguments import Part, Settings, StrPath
from micrec.api.evaluation_result import Evaluation, evaluate_fitted
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.notebook import Displayed

if TYPE_CHECKING:
    from micrec.fitting import Fitted
    from micrec.retrieval import Catalogue, IndexKind, Retriever

MODEL, CHECKPOINT = "model", "checkpoint"  # folders in the one that ``train`` writes


@dataclass(frozen=True, repr=False)
class TrainedModel(Displayed):
    """A trained two-tower model and the dataset it belongs to.

    Attributes:
        fitted: The towers, the encoded fields and the config, for the functions of the package.
        dataset: What it was trained on.
        folder: Where it lies on disk; None if it is in memory only.
    """

    fitted: "Fitted"
    dataset: Dataset
    folder: Path | None = None

    @property
    def config(self) -> Config:
        """Every switch of the training; losses that the data rule out are off in it."""
        return self.fitted.config

    def to_frame(self) -> pl.DataFrame:
        """The training epoch by epoch.

        Returns:
            ``phase`` (search or refit), ``epoch``, ``samples``, ``seconds``, ``validation`` (the value of
            ``train.metric``, null in a refit), and a column ``loss_…`` (nats) for each loss that was on.
        """
        rows = [
            {
                **{key: epoch[key] for key in ("phase", "epoch", "samples", "seconds")},
                "validation": epoch["metric"],
                **{f"loss_{name}": value for name, value in epoch["losses"].items()},
            }
            for epoch in self.fitted.state.log
        ]
        return pl.DataFrame(rows, infer_schema_length=None)

    def to_dict(self) -> dict[str, Any]:
        """The model's name, the switches that differ from its preset, and what the training cost."""
        from micrec.comparison import switches
        from micrec.config import model_label
        from micrec.experiment import training_info

        info = {key: value for key, value in training_info(self.fitted).items() if key != "log"}
        return {"model": model_label(self.config), "switches": switches(self.config), **info}

    def save(self, folder: StrPath, *, overwrite: bool = False) -> "TrainedModel":
        """Write the model to a folder that ``micrec evaluate``, ``micrec index`` and ``load_model`` read.

        Args:
            folder: Where to; it appears whole or not at all.
            overwrite: Replace a model that lies there.

        Returns:
            The same model, with its folder.

        Raises:
            MicrecError: If the folder is taken or cannot be written.
        """
        from micrec.model_folder import save_model

        save_model(self.fitted, self.dataset, Path(folder) / MODEL, overwrite=overwrite)
        return TrainedModel(self.fitted, self.dataset, Path(folder))

    def evaluate(self, *, part: Part = "test", settings: Settings | None = None) -> Evaluation:
        """As ``evaluate`` of this model on its dataset."""
        return evaluate_fitted(self.fitted, self.dataset, part, settings)

    def retriever(
        self, *, kind: "IndexKind" = "flat", catalogue: "Catalogue" = "train", k: int | None = None
    ) -> "Retriever":
        """Index the items for serving, as ``micrec index`` does.

        Args:
            kind: ``flat`` searches exactly, ``ivf``, ``ivfpq``, ``hnsw`` and ``tree`` approximately.
            catalogue: ``train``: items with training clicks; ``all``: every item.
            k: One more list length at which agreement with exact search is measured, beside 10, 50, 100 and 500.

        Returns:
            A ``Retriever``; its ``save`` writes a bundle.
        """
        from micrec.retrieval import Retriever

        return Retriever.build(self.fitted, self.dataset, kind=kind, catalogue=catalogue, k=k)

    def _lines(self) -> list[str]:
        told = self.to_dict()
        where = f", in {self.folder}" if self.folder is not None else ""
        head = f"{told['model']} on {self.dataset.name}{where}: {told['parameters']:,} parameters"
        return [head, told["switches"], f"best epoch {told['best_epoch']}, {told['train_s']:.1f} s of training"]
