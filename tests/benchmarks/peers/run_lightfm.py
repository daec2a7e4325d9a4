"""LightFM: matrix factorisation with the WARP loss on (user, item) pairs."""

from typing import Any

import numpy as np
from lightfm import LightFM
from numpy.typing import NDArray
from peer import TOP, AfterEpoch, Answer, Clicks, Exchange, Model, main, threads
from scipy.sparse import coo_matrix


class Warp:
    """Its biases go into the embeddings as two more numbers."""

    epochs = 40
    packages = ("lightfm", "numpy", "scipy")

    def __init__(self, data: Exchange, settings: dict[str, Any], seed: int) -> None:
        self.model = LightFM(64, loss="warp", learning_rate=0.05, random_state=seed)
        self.shape = (data.meta["n_users"], data.meta["n_items"])
        self.known = np.zeros(self.shape[1], dtype=bool)

    def fit(self, clicks: Clicks, epochs: int, after_epoch: AfterEpoch) -> None:
        keys = np.unique(clicks.users.astype(np.int64) * self.shape[1] + clicks.items)
        users, items = (part.astype(np.int32) for part in np.divmod(keys, self.shape[1]))
        pairs = coo_matrix((np.ones(len(keys), dtype=np.float32), (users, items)), self.shape)
        self.known = np.bincount(items, minlength=self.shape[1]) > 0
        for _ in range(epochs):
            self.model.fit_partial(pairs, epochs=1, num_threads=threads())
            if after_epoch(len(keys)):
                return

    def answer(self, users: NDArray[np.int32]) -> Answer:
        user_bias, user_emb = self.model.get_user_representations()
        item_bias, item_emb = self.model.get_item_representations()
        users_in = np.column_stack([user_emb, user_bias, np.ones_like(user_bias)])[users]
        items_in = np.column_stack([item_emb, np.ones_like(item_bias), item_bias])
        return Answer(users_in.astype(np.float32), items_in.astype(np.float32))

    def search_top(self, users: NDArray[np.int32]) -> None:
        """Its own ``predict``, user by user, and a sort."""
        items = np.flatnonzero(self.known).astype(np.int32)
        for user in users.tolist():
            scores = self.model.predict(user, items, num_threads=threads())
            items[np.argsort(-scores)[:TOP]]


if __name__ == "__main__":
    main({"warp": Model(Warp)})
