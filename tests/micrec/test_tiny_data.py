"""Logs of a handful of clicks: they train, or are refused with a reason."""

import numpy as np
import polars as pl
import pytest

from micrec.config import Config
from micrec.data.schema import DatasetSchema
from micrec.data.store import read_dataset, write_dataset
from micrec.errors import MicrecError
from micrec.fitting import fit
from micrec.settings import merge

DAY = 86_400
LOGS = {
    "five clicks": ([1, 1, 2, 2, 1], [1, 2, 1, 3, 3]),
    "one item": ([1, 2, 3, 4, 5, 6], [1] * 6),
    "one user": ([1] * 8, [1, 2, 3, 1, 2, 3, 1, 2]),
    "two clicks": ([1, 2], [1, 2]),
    "one click": ([1], [1]),
    "everybody once": (list(range(12)), [1, 2, 3] * 4),
}
SMALL = {"model": {"embedding_dim": 8, "hidden": [8]}, "train": {"epochs": 1, "device": "cpu"}}


def dataset_of(folder, users, items):
    clicks = pl.DataFrame(
        {"user_id": users, "item_id": items, "timestamp": np.arange(len(users)) * DAY + 1_700_000_000}
    )
    schema = DatasetSchema(name="tiny", time_unit="s")
    tables = [pl.DataFrame({key: sorted(set(clicks[key]))}) for key in ("user_id", "item_id")]
    write_dataset(folder, schema, *tables, clicks)
    return read_dataset(folder)


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"name": name}, "softmax": {"negatives": negatives}}
        for name, negatives in [
            ("ican", "uniform"),
            ("fm", "full"),
            ("youtube_dnn", "in_batch"),
            ("deepfm", "popularity"),
            ("autoint", "shared"),
            ("mind", "mixed"),
            ("sasrec", "uniform"),
            ("bert4rec", "uniform"),
            ("comirec_sa", "uniform"),
        ]
    ],
    ids=lambda changes: changes["model"]["name"],
)
def test_tiny_logs_train_or_are_refused_with_a_reason(tmp_path, log, changes):
    dataset = dataset_of(tmp_path / "data", *LOGS[log])
    off = {"contrast": {"semantic": {"weight": 0.0}}}  # there are no titles
    try:
        fitted = fit(dataset, Config.model_validate(merge(merge(SMALL, off), changes)))
    except MicrecError as fault:
        assert ":" in str(fault)  # noqa: PT017
        assert log != "five clicks"
    else:
        assert all(
            weight.isfinite().all() for weight in fitted.model.state_dict().values() if weight.is_floating_point()
        )
