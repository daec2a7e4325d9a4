"""Judge a peer's answers by ``micrec.evaluation``, exactly as our own models are judged.

python tests/benchmarks/peers/score.py data/retail ANSWERS
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from prepare import EVALUATION, SPLIT
from torch import Tensor

from micrec.data.dataset import Dataset
from micrec.data.split import temporal_split
from micrec.data.store import read_dataset
from micrec.evaluation import EvalTask, ScoreBlock, embedding_scores, evaluate, evaluation_task


def list_scores(top: np.ndarray, n_items: int) -> ScoreBlock:
    """Scores that rank each user's list, shape (Q, K), -1 as padding, as it stands and all else together behind it."""
    places = torch.arange(top.shape[1], 0, -1, dtype=torch.float32)

    def block(start: int, stop: int) -> Tensor:
        items = torch.from_numpy(top[start:stop]).long()
        scores = torch.zeros(stop - start, n_items + 1)
        scores.scatter_(1, torch.where(items < 0, n_items, items), places.expand(items.shape))
        return scores[:, :n_items]

    return block


def answer_scores(folder: Path, task: EvalTask) -> ScoreBlock:
    """The answers in ``folder`` as scores."""
    if (folder / "top.npy").exists():
        return list_scores(np.load(folder / "top.npy", allow_pickle=False), len(task.candidates))
    user_emb, item_emb = (
        torch.from_numpy(np.load(folder / f"{name}.npy", allow_pickle=False)) for name in ("user_emb", "item_emb")
    )
    if len(user_emb) != len(task) or len(item_emb) != len(task.candidates):
        raise ValueError(f"{folder}: {len(user_emb)} users and {len(item_emb)} items do not fit the task.")
    return embedding_scores(user_emb, item_emb)


def test_task(dataset: Dataset) -> EvalTask:
    """The question that everybody answers."""
    return evaluation_task(dataset, temporal_split(dataset.clicks, SPLIT, dataset.schema.days), EVALUATION, "test")


def score(folder: Path, task: EvalTask) -> dict[str, float]:
    """HIT@N over lines and over pairs, and coverage, by full name; and how many users a second are judged."""
    scores = answer_scores(folder, task)
    at = time.perf_counter()
    metrics = evaluate(scores, task, EVALUATION).metrics
    judged = {"evaluated_users_per_s": len(task) / (time.perf_counter() - at)}
    return judged | {name: value for name, value in metrics.items() if name.startswith(("hit", "coverage"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="dataset folder")
    parser.add_argument("answers", type=Path, help="folder with user_emb.npy and item_emb.npy, or top.npy")
    options = parser.parse_args()
    print(json.dumps(score(options.answers, test_task(read_dataset(options.data))), indent=1))


if __name__ == "__main__":
    main()
