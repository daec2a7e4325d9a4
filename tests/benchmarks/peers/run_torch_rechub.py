"""torch-rechub: YoutubeDNN with sampled negatives, DSSM with negatives from the batch.

Both read user id, user fields and the last 20 clicks; items are their ids. The data go in as arrays, since the
library's own sample generator loops in Python. Negatives are drawn anew every epoch.
"""

import contextlib
import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peer import TOP, AfterEpoch, Answer, Clicks, Exchange, Model, history_before, latest_history, main, threads
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.matching import DSSM, YoutubeDNN
from torch_rechub.serving.faiss import FaissBuilder
from torch_rechub.trainers import MatchTrainer
from torch_rechub.utils.data import MatchDataGenerator

DIM, LENGTH, BATCH = 64, 20, 4096


class ScaledDSSM(DSSM):
    """DSSM whose logits are divided by a temperature, which the library leaves out on the in-batch path."""

    def user_tower(self, x: Any) -> Any:
        emb = super().user_tower(x)
        return emb if emb is None or self.mode is not None else emb * 10.0


class RecHub:
    """Either model."""

    epochs = 25
    packages = ("torch-rechub", "torch", "numpy")

    def __init__(self, data: Exchange, settings: dict[str, Any], seed: int) -> None:
        torch.set_num_threads(threads())
        torch.manual_seed(seed)
        self.data, self.settings = data, settings
        self.rng = np.random.default_rng(seed)
        n_items, sizes = data.meta["n_items"] + 1, data.meta["user_field_sizes"]
        fields = [SparseFeature("user_id", data.meta["n_users"], DIM)]
        fields += [SparseFeature(f"field{i}", size, DIM) for i, size in enumerate(sizes)]
        fields += [SequenceFeature("history", n_items, DIM, "mean", "item", padding_idx=0)]
        item = [SparseFeature("item", n_items, DIM, padding_idx=0)]
        dims = {"dims": [128, 64, 64]}
        if settings["model"] == "youtube_dnn":
            negatives = [SequenceFeature("negatives", n_items, DIM, "concat", "item", padding_idx=0)]
            self.model = YoutubeDNN(fields, item, negatives, dims, temperature=0.1)
            how: dict[str, Any] = {"mode": 2}
        else:
            self.model = (ScaledDSSM if settings["scaled"] else DSSM)(fields, item, dims, dims)
            how = {"mode": 0, "in_batch_neg": True, "in_batch_neg_ratio": settings["negatives"], "sampler_seed": seed}
        adam = {"lr": 1e-3, "weight_decay": 0.0}
        self.trainer = MatchTrainer(self.model, optimizer_params=adam, device="cpu", **how)
        self.clicks = data.clicks

    def user_features(self, users: NDArray[np.int32], history: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        fields = {f"field{i}": column[users] for i, column in enumerate(self.data.user_fields.T)}
        return {"user_id": users, **fields, "history": history}

    def fit(self, clicks: Clicks, epochs: int, after_epoch: AfterEpoch) -> None:
        self.clicks = clicks
        x = self.user_features(clicks.users, history_before(clicks, LENGTH)) | {"item": clicks.items + 1}
        known = np.unique(clicks.items) + 1
        labels = np.zeros(len(clicks.items), dtype=np.int64)
        for _ in range(epochs):
            if self.settings["model"] == "youtube_dnn":
                x["negatives"] = self.rng.choice(known, (len(labels), 20))
            loader = MatchDataGenerator(x, labels).generate_dataloader({"item": known}, {"item": known}, BATCH, 0)[0]
            self.model.mode = None
            with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
                self.trainer.train_one_epoch(loader)
            if after_epoch(len(labels)):
                return

    def embed(self, mode: str, x: dict[str, NDArray[Any]]) -> torch.Tensor:
        """As ``MatchTrainer.inference_embedding``, without the detour over a file."""
        self.model.mode = mode
        self.model.eval()
        loader = MatchDataGenerator(x).generate_dataloader(x, x, BATCH, 0)[1]
        with torch.no_grad():
            return torch.cat([self.model(batch) for batch in loader])

    def answer(self, users: NDArray[np.int32]) -> Answer:
        user_emb = self.embed("user", self.user_features(users, latest_history(self.clicks, users, LENGTH)))
        item_emb = self.embed("item", {"item": np.arange(1, self.data.meta["n_items"] + 1)})
        known = np.bincount(self.clicks.items, minlength=len(item_emb)) > 0
        return Answer(user_emb.numpy(), item_emb.numpy() * known[:, None].astype(np.float32))

    def search_top(self, users: NDArray[np.int32]) -> None:
        user_emb = self.embed("user", self.user_features(users, latest_history(self.clicks, users, LENGTH)))
        item_emb = self.embed("item", {"item": np.unique(self.clicks.items) + 1})
        with FaissBuilder("Flat", "IP").from_embeddings(item_emb) as index:
            index.query(user_emb, TOP)


if __name__ == "__main__":
    main(
        {
            "youtube_dnn": Model(RecHub, ({"model": "youtube_dnn"},)),
            "dssm_shipped": Model(RecHub, ({"model": "dssm", "scaled": False, "negatives": 20},)),
            "dssm": Model(RecHub, ({"model": "dssm", "scaled": True, "negatives": 20},)),
            "dssm_batch": Model(RecHub, ({"model": "dssm", "scaled": True, "negatives": None},)),
        }
    )
