"""Our own models, held to the same contract as the peers; runs in the project's environment.

``youtube_dnn`` is torch-rechub's, like for like: user id, user fields, 20 clicks before the target, item ids alone, MLP
128-64-64 with ReLU, cosine at temperature 0.1, 20 uniform negatives per row, batch 4,096. Others are the ``modern``
preset, of MicRec, of ICAN, its base, and of FM; ``_full`` meets all items in every step, at a learning rate that falls,
``_no_id`` has no user id. ``best`` is that preset, ``best_64`` the same with 64 numbers and no titles; ``ease`` and
``ials`` are our baselines, which choose their settings on validation clicks.
"""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from peer import TOP, AfterEpoch, Answer, Clicks, Exchange, Model, main, threads
from prepare import EVALUATION, SPLIT

from micrec.baselines import BASELINES
from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.histories import Histories, group_by_user
from micrec.data.split import temporal_split
from micrec.data.store import read_dataset
from micrec.evaluation import EvalTask, ScoreBlock, evaluation_task
from micrec.fitting import Fitted, RunState
from micrec.inference import encode_items, encode_users, histories_of
from micrec.progress import NoProgress
from micrec.retrieval.index import build_index, search
from micrec.settings import build_config, merge
from micrec.training import Trainer

OFF: dict[str, Any] = {"contrast": {loss: {"weight": 0.0} for loss in ("feature", "semantic", "session")}}
LIKE_FOR_LIKE: dict[str, Any] = {
    "model": {
        "name": "youtube_dnn",
        "item_tower": "id",
        "item_fields": [],
        "user_id": True,
        "activation": "relu",
        "output_activation": "linear",
        "l2_normalize": True,
        "bias_init": 0.0,
    },
    "softmax": {"temperature": 0.1, "reject_clicked": False},
}


class Ours:
    """A config of ours."""

    packages = ("micrec", "torch", "numpy")

    def __init__(self, data: Exchange, settings: dict[str, Any], seed: int) -> None:
        torch.set_num_threads(threads())
        faiss.omp_set_num_threads(threads())
        self.data = data
        self.epochs = int(settings["epochs"])
        ours = {"train": {"device": "cpu", "seed": seed, "threads": threads()}}
        self.config: Config = build_config(settings["preset"], merge(settings["config"], ours))
        self.dataset = read_dataset(Path(data.meta["data"]))
        self.trainer: Trainer
        self.histories: Histories

    def fit(self, clicks: Clicks, epochs: int, after_epoch: AfterEpoch) -> None:
        log = self.dataset.clicks[: len(clicks.users)]
        self.histories = group_by_user(log, len(self.dataset.users))
        self.trainer = Trainer(self.dataset, log, self.config)
        self.trainer.planned_epochs = epochs
        for _ in range(epochs):
            if after_epoch(self.trainer.epoch(NoProgress()).samples):
                return

    def answer(self, users: NDArray[np.int32]) -> Answer:
        model, fields = self.trainer.model, self.trainer.data.fields
        item_fields, item_emb = encode_items(model, fields.items)
        bounds = self.histories.offsets
        length = self.config.model.history_length
        history = histories_of(self.histories.items, bounds[users], bounds[users + 1], length, self.trainer.device)
        chosen = fields.users.take(torch.from_numpy(users).long())
        return Answer(encode_users(model, chosen, history, item_fields).numpy(), item_emb.numpy())

    def search_top(self, users: NDArray[np.int32]) -> None:
        answer = self.answer(users)
        assert answer.user_emb is not None
        assert answer.item_emb is not None
        known = self.trainer.data.catalogue.numpy()
        search(build_index(np.ascontiguousarray(answer.item_emb[known]), "flat"), answer.user_emb, TOP)


class OursWithTerms(Ours):
    """A config whose scores are more than dot products: it answers with lists."""

    def answer(self, users: NDArray[np.int32]) -> Answer:
        task = task_of(self.dataset, len(self.trainer.data))
        assert np.array_equal(task.user_ids, users)
        self.trainer.model.eval()
        fitted = Fitted(self.trainer.model, self.trainer.data.fields, self.config, RunState(), len(self.trainer.data))
        return Answer(top=top_lists(fitted.scores(task), task))

    def search_top(self, users: NDArray[np.int32]) -> None:
        self.answer(users)


class OurBaseline:
    """A model without training; its lists are made once."""

    epochs = 1
    packages = ("micrec", "numpy")

    def __init__(self, data: Exchange, settings: dict[str, Any], seed: int) -> None:
        self.name = settings["baseline"]
        self.dataset = read_dataset(Path(data.meta["data"]))
        self.task: EvalTask
        self.scores: ScoreBlock

    def fit(self, clicks: Clicks, epochs: int, after_epoch: AfterEpoch) -> None:
        self.task = task_of(self.dataset, len(clicks.users))
        scores = BASELINES[self.name].load()(BaselineInputs.of(self.task, self.dataset, Config()))
        self.scores = scores.users
        after_epoch(len(clicks.users))

    def answer(self, users: NDArray[np.int32]) -> Answer:
        assert np.array_equal(self.task.user_ids, users)
        return Answer(top=top_lists(self.scores, self.task))

    def search_top(self, users: NDArray[np.int32]) -> None:
        self.answer(users)


def task_of(dataset: Dataset, clicks: int) -> EvalTask:
    """The question to a model that knows the first ``clicks`` of the log."""
    split = temporal_split(dataset.clicks, SPLIT, dataset.schema.days)
    return evaluation_task(dataset, split, EVALUATION, "valid" if clicks == split.n_train else "test")


def top_lists(scores: ScoreBlock, task: EvalTask) -> NDArray[np.int32]:
    """The best items of each query among the candidates, best first, shape (Q, TOP)."""
    outside = torch.from_numpy(~task.candidates)
    lists = []
    for start in range(0, len(task), 256):
        block = scores(start, min(start + 256, len(task))).masked_fill(outside, -torch.inf)
        lists.append(block.topk(min(TOP, block.shape[1]), dim=1).indices.int())
    return torch.cat(lists).numpy()


def model(preset: str, config: dict[str, Any], epochs: int) -> Model:
    return Model(Ours, ({"preset": preset, "config": config, "epochs": epochs},))


def with_terms(config: dict[str, Any], epochs: int) -> Model:
    return Model(OursWithTerms, ({"preset": "best", "config": config, "epochs": epochs},))


NO_ID: dict[str, Any] = {"model": {"user_id": False}}
FM: dict[str, Any] = {"model": {"name": "fm", "linear_skip": False}}
FM_NO_ID: dict[str, Any] = {"model": {**FM["model"], **NO_ID["model"]}}
FULL: dict[str, Any] = {"softmax": {"negatives": "full"}, "optim": {"learning_rate": 0.002, "schedule": "linear"}}

if __name__ == "__main__":
    main(
        {
            "youtube_dnn": model("paper", {**OFF, **LIKE_FOR_LIKE}, 25),
            "modern_fm": model("modern", {**OFF, **FM}, 6),
            "modern_fm_no_id": model("modern", {**OFF, **FM_NO_ID}, 6),
            "modern_fm_full": model("modern", {**OFF, **FM, **FULL}, 5),
            "modern_fm_full_no_id": model("modern", {**OFF, **FM_NO_ID, **FULL}, 5),
            "modern_ican": model("modern", OFF, 6),
            "modern_ican_no_id": model("modern", {**OFF, **NO_ID}, 6),
            "modern_micrec": model("modern", {}, 6),
            "modern_micrec_no_id": model("modern", NO_ID, 6),
            "best": with_terms({}, 10),
            "best_64": with_terms({"model": {"options": {"title_dim": 0}}}, 10),
            "ease": Model(OurBaseline, ({"baseline": "ease"},)),
            "ials": Model(OurBaseline, ({"baseline": "ials"},)),
        }
    )
