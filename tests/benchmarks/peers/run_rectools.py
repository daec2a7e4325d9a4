"""RecTools: SASRec with sampled softmax, and its DSSM with triplet loss.

SASRec reads each user's clicks in blocks of 21 that share one click, so that every click but a user's first is a target
once. DSSM reads one-hot user features and the whole profile, and draws one positive per user and epoch; items are their
ids, one-hot.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from peer import TOP, AfterEpoch, Answer, Clicks, Exchange, Model, blocks, main, threads
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import DSSMModel, SASRecModel
from rectools.models.nn.dssm import DSSM

DIM, LENGTH, NEGATIVES = 64, 20, 20
SEQUENCES = 205  # per step: about 4,100 targets


class EveryEpoch(Callback):
    """Tells the harness after each epoch, and stops when it says so."""

    def __init__(self, samples: int, after_epoch: AfterEpoch) -> None:
        self.samples, self.after_epoch = samples, after_epoch

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.after_epoch(self.samples):
            trainer.should_stop = True
        pl_module.train()

    def __deepcopy__(self, memo: dict[int, Any]) -> "EveryEpoch":
        return self  # the library copies its trainer before it fits


def quiet_trainer(epochs: int, callback: Callback) -> Trainer:
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[callback],
    )


def frame(users: NDArray[Any], clicks: Clicks) -> pd.DataFrame:
    columns = {Columns.User: users, Columns.Item: clicks.items, Columns.Weight: 1.0}
    return pd.DataFrame(columns | {Columns.Datetime: pd.to_datetime(clicks.time_ms, unit="ms")})


class Base:
    """What both models share."""

    packages = ("rectools", "torch", "pytorch-lightning", "numpy")

    def __init__(self, data: Exchange, settings: dict[str, Any], seed: int) -> None:
        warnings.simplefilter("ignore")
        torch.set_num_threads(threads())
        seed_everything(seed)
        self.data = data
        self.model: Any = None
        self.asked = Dataset.construct(frame(data.clicks.users[:1], data.clicks.first(1)))

    def answer(self, users: NDArray[np.int32]) -> Answer:
        k = min(TOP, self.data.meta["n_items"])
        found = self.model.recommend(users, self.asked, k=k, filter_viewed=False)
        top = np.full((len(users), TOP), -1, dtype=np.int32)
        row = pd.Series(np.arange(len(users)), index=users)[found[Columns.User]].to_numpy()
        top[row, found[Columns.Rank].to_numpy() - 1] = found[Columns.Item]
        return Answer(top=top)

    def search_top(self, users: NDArray[np.int32]) -> None:
        self.model.recommend(users, self.asked, k=TOP, filter_viewed=False)


class SASRec(Base):
    epochs = 60

    def fit(self, clicks: Clicks, epochs: int, after_epoch: AfterEpoch) -> None:
        cut = blocks(clicks, LENGTH)
        fed = Dataset.construct(frame(cut.number, Clicks(cut.number, cut.items, np.arange(len(cut.items)))))
        self.model = SASRecModel(
            n_factors=DIM,
            session_max_len=LENGTH,
            loss="sampled_softmax",
            n_negatives=NEGATIVES,
            lr=1e-3,
            batch_size=SEQUENCES,
            recommend_torch_device="cpu",
            get_trainer_func=lambda: quiet_trainer(epochs, EveryEpoch(cut.targets, after_epoch)),
        )
        order = np.argsort(clicks.users, kind="stable")
        left = np.searchsorted(clicks.users[order], clicks.users[order], side="right") - np.arange(len(order))
        recent = order[left <= LENGTH]
        self.asked = Dataset.construct(frame(clicks.users[recent], Clicks(*(part[recent] for part in clicks))))
        self.model.is_fitted = True  # validation asks in the middle of fitting
        self.model.fit(fed)


class Dssm(Base):
    epochs = 150

    def fit(self, clicks: Clicks, epochs: int, after_epoch: AfterEpoch) -> None:
        users, items = np.unique(clicks.users), np.unique(clicks.items)
        fields = self.data.meta["user_fields"]
        features = [
            pd.DataFrame({"id": users, "value": self.data.user_fields[users, i], "feature": name})
            for i, name in enumerate(fields)
        ]
        features.append(pd.DataFrame({"id": users, "value": 0, "feature": "all"}))
        self.asked = Dataset.construct(
            frame(clicks.users, clicks),
            user_features_df=pd.concat(features),
            cat_user_features=[*fields, "all"],
            item_features_df=pd.DataFrame({"id": items, "value": items, "feature": "item"}),
            cat_item_features=["item"],
        )
        assert self.asked.user_features is not None
        assert self.asked.item_features is not None
        self.model = DSSMModel(
            model=DSSM(
                n_factors_user=DIM,
                n_factors_item=DIM,
                dim_input_user=self.asked.user_features.get_sparse().shape[1],
                dim_input_item=self.asked.item_features.get_sparse().shape[1],
                dim_interactions=self.asked.get_user_item_matrix().shape[1],
                log_to_prog_bar=False,
            ),
            max_epochs=epochs,
            batch_size=128,
            trainer_accelerator="cpu",
            recommend_n_threads=threads(),
            loggers=False,
        )
        self.model._trainer = quiet_trainer(epochs, EveryEpoch(len(users), after_epoch))
        self.model.is_fitted = True  # validation asks in the middle of fitting
        self.model.fit(self.asked)


if __name__ == "__main__":
    main({"sasrec": Model(SASRec), "dssm": Model(Dssm)})
