"""implicit: ALS, BPR and item-kNN on the counts of (user, item) pairs."""

import os
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the library asks

import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender
from numpy.typing import NDArray
from peer import TOP, AfterEpoch, Answer, Clicks, Exchange, Model, main, threads
from scipy.sparse import coo_matrix, csr_matrix


class Implicit:
    """Any of the library's models; it is tuned by settings, and trains all its iterations as one epoch."""

    epochs = 1
    packages = ("implicit", "numpy", "scipy")

    def __init__(self, data: Exchange, settings: dict[str, Any], seed: int) -> None:
        kind, how = settings["model"], {k: v for k, v in settings.items() if k != "model"}
        common = {"num_threads": threads()}
        if kind == "als":
            self.model = AlternatingLeastSquares(factors=64, random_state=seed, iterations=15, **how, **common)
        elif kind == "bpr":
            self.model = BayesianPersonalizedRanking(factors=64, random_state=seed, **how, **common)
        else:
            self.model = {"cosine": CosineRecommender, "bm25": BM25Recommender}[kind](**how, **common)
        self.shape = (data.meta["n_users"], data.meta["n_items"])
        self.counts = csr_matrix(self.shape)
        self.iterations = getattr(self.model, "iterations", 1)

    def fit(self, clicks: Clicks, epochs: int, after_epoch: AfterEpoch) -> None:
        ones = np.ones(len(clicks.users), dtype=np.float32)
        self.counts = coo_matrix((ones, (clicks.users, clicks.items)), self.shape).tocsr()
        self.model.fit(self.counts, show_progress=False)
        after_epoch(self.counts.nnz * self.iterations)

    def top(self, users: NDArray[np.int32]) -> NDArray[np.int32]:
        known = np.flatnonzero(np.bincount(self.counts.indices, minlength=self.shape[1]))
        k = min(TOP, len(known))
        ids, _ = self.model.recommend(users, self.counts[users], N=k, filter_already_liked_items=False)
        return ids

    def answer(self, users: NDArray[np.int32]) -> Answer:
        return Answer(top=self.top(users))

    def search_top(self, users: NDArray[np.int32]) -> None:
        self.top(users)


ALS = [(alpha, reg) for alpha in (1.0, 2.0, 5.0, 20.0) for reg in (1.0, 10.0, 30.0)]

if __name__ == "__main__":
    main(
        {
            "als": Model(Implicit, tuple({"model": "als", "alpha": a, "regularization": r} for a, r in ALS)),
            "bpr": Model(
                Implicit,
                tuple({"model": "bpr", "learning_rate": r, "iterations": n} for r in (0.02, 0.05) for n in (30, 100)),
            ),
            "item_knn": Model(
                Implicit,
                tuple({"model": kind, "K": k} for kind in ("cosine", "bm25") for k in (50, 200, 1000)),
            ),
        }
    )
