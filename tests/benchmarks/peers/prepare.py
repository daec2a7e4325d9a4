"""Write what the peers may see of a dataset folder: the clicks before the test period, and whom to answer for.

python tests/benchmarks/peers/prepare.py data/retail EXCHANGE
"""

import argparse
import json
from pathlib import Path

import numpy as np

from micrec.config import EvalConfig, SplitConfig
from micrec.data.dataset import Dataset
from micrec.data.schema import FieldType
from micrec.data.split import temporal_split
from micrec.data.store import read_dataset
from micrec.evaluation import evaluation_task

SPLIT, EVALUATION = SplitConfig(), EvalConfig()


def prepare(dataset: Dataset, folder: Path) -> None:
    """Fill ``folder``, in the form that ``peer.Exchange`` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    split = temporal_split(dataset.clicks, SPLIT, dataset.schema.days)
    before = dataset.clicks[split.fit]
    columns = {name: c for name, c in dataset.users.columns.items() if c.type is FieldType.CATEGORICAL}
    codes = [np.asarray(column.codes) for column in columns.values()]
    arrays = {
        "users": before.user_ids,
        "items": before.item_ids,
        "time_ms": before.time_ms,
        "user_fields": np.stack(codes, axis=1) if codes else np.zeros((len(dataset.users), 0), dtype=np.int32),
        "valid_users": evaluation_task(dataset, split, EVALUATION, "valid").user_ids,
        "test_users": evaluation_task(dataset, split, EVALUATION, "test").user_ids,
    }
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    meta = {
        "name": dataset.schema.name,
        "data": str(dataset.folder and dataset.folder.resolve()),
        "n_users": len(dataset.users),
        "n_items": len(dataset.items),
        "n_train": split.n_train,
        "n_fit": split.n_fit,
        "user_fields": list(columns),
        "user_field_sizes": [column.size for column in columns.values()],
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="dataset folder")
    parser.add_argument("exchange", type=Path, help="folder to write")
    options = parser.parse_args()
    prepare(read_dataset(options.data), options.exchange)


if __name__ == "__main__":
    main()
