"""RePlay: TwoTower, with its default full softmax and with 20 uniform negatives that the whole batch shares.

It has no user features. Each user's clicks come in blocks of 21 that share one click, since the library trains on one
window of a sequence only.
"""

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from peer import TOP, AfterEpoch, Answer, Clicks, Exchange, Model, blocks, latest_history, main, threads
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.lightning.callback import PandasTopItemsCallback
from replay.nn.loss import CESampled
from replay.nn.sequential.twotower import FeaturesReader, TwoTower
from replay.nn.transform import UniformNegativeSamplingTransform
from replay.nn.transform.template import make_default_twotower_transforms

DIM, LENGTH, NEGATIVES = 64, 20, 20
SEQUENCES = 205  # per step: about 4,100 targets


class EveryEpoch(lightning.Callback):
    """Tells the harness after each epoch, and stops when it says so."""

    def __init__(self, samples: int, after_epoch: AfterEpoch) -> None:
        self.samples, self.after_epoch = samples, after_epoch

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.after_epoch(self.samples):
            trainer.should_stop = True
        pl_module.train()


def quiet_trainer(**more: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        **more,
    )


class TwoTowers:
    epochs = 25
    packages = ("replay-rec", "torch", "lightning", "numpy")

    def __init__(self, data: Exchange, settings: dict[str, Any], seed: int) -> None:
        warnings.simplefilter("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        torch.set_num_threads(threads())
        lightning.seed_everything(seed, verbose=False)
        self.data, self.sampled = data, bool(settings["sampled"])
        self.folder = Path(tempfile.mkdtemp())
        self.module: Any = None
        self.clicks, self.known = data.clicks, np.unique(data.clicks.items)
        self.transforms: dict[str, Any] = {}

    def write(self, name: str, sequences: pd.Series) -> str:
        path = self.folder / f"{name}.parquet"
        pd.DataFrame({"query_id": np.arange(len(sequences)), "item_id": sequences.to_numpy()}).to_parquet(path)
        return str(path)

    def fit(self, clicks: Clicks, epochs: int, after_epoch: AfterEpoch) -> None:
        self.clicks, self.known = clicks, np.unique(clicks.items)
        n_items, cut = len(self.known), blocks(clicks, LENGTH)
        item = TensorFeatureInfo(
            "item_id",
            FeatureType.CATEGORICAL,
            is_seq=True,
            feature_hint=FeatureHint.ITEM_ID,
            feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id", "item_id")],
            cardinality=n_items,
            padding_value=n_items,
            embedding_dim=DIM,
        )
        schema = TensorSchema([item])
        catalogue = self.folder / "items.parquet"
        pd.DataFrame({"item_id": np.arange(n_items)}).to_parquet(catalogue)
        reader = FeaturesReader(schema, {"item_id": {}}, str(catalogue))
        model = TwoTower.from_params(schema, reader, embedding_dim=DIM, max_sequence_length=LENGTH)
        self.transforms = make_default_twotower_transforms(schema)
        if self.sampled:
            model.loss = CESampled(ignore_index=n_items)
            model.loss.logits_callback = model.get_logits
            self.transforms["train"].append(UniformNegativeSamplingTransform(n_items, NEGATIVES))
        self.module = LightningModule(model)
        codes = pd.Series(np.searchsorted(self.known, cut.items))
        loader = ParquetModule(
            batch_size=SEQUENCES,
            metadata={"train": {"item_id": {"shape": LENGTH + 1, "padding": n_items}}},
            transforms=self.transforms,
            train_path=self.write("train", codes.groupby(cut.number).apply(list)),
        )
        quiet_trainer(max_epochs=epochs, callbacks=[EveryEpoch(cut.targets, after_epoch)]).fit(self.module, loader)

    def histories(self, users: NDArray[np.int32]) -> NDArray[np.int64]:
        """Codes of the latest clicks, shape (Q, LENGTH), padded in front."""
        latest = latest_history(self.clicks, users, LENGTH) - 1
        return np.where(latest >= 0, np.searchsorted(self.known, latest), len(self.known))

    def answer(self, users: NDArray[np.int32]) -> Answer:
        model = self.module.model.eval()
        codes = torch.from_numpy(self.histories(users))
        with torch.no_grad():
            found = model({"item_id": codes}, codes != len(self.known))
            items = model.body.item_tower()
        item_emb = np.zeros((self.data.meta["n_items"], DIM), dtype=np.float32)
        item_emb[self.known] = items.numpy()
        return Answer(found["hidden_states"][-1][:, -1].numpy(), item_emb)

    def search_top(self, users: NDArray[np.int32]) -> None:
        """Its prediction loop and its callback, with the data frame at the end."""
        padding = len(self.known)
        sequences = pd.Series([row[row != padding].tolist() for row in self.histories(users)])
        loader = ParquetModule(
            batch_size=256,
            metadata={"predict": {"query_id": {}, "item_id": {"shape": LENGTH, "padding": padding}}},
            transforms=self.transforms,
            predict_path=self.write("predict", sequences),
        )
        top = PandasTopItemsCallback(min(TOP, padding), "query_id", "item_id")
        quiet_trainer(callbacks=[top]).predict(self.module, loader, return_predictions=False)
        top.get_result()


if __name__ == "__main__":
    main(
        {
            "two_tower": Model(TwoTowers, ({"sampled": False},)),
            "two_tower_sampled": Model(TwoTowers, ({"sampled": True},)),
        }
    )
