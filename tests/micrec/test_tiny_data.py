"""Logs of a handful of clicks: they train, or are refused with a reason."""

import numpy as np
import polars as pl
import pytest

from micrec.config import Config
from micrec.data.schema import DatasetSchema
from micrec.data.store import read_dataset, write_dataset
from micrec.errors import MicrecError
from micrec.fitting import fit
from micrec.presets import PRESETS
from micrec.settings import build_config, merge

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


KINDS = ("uniform", "popularity", "in_batch", "shared", "mixed", "full")
MORE_LOGS = LOGS | {
    "two users, an item each": ([1, 2, 1, 2, 1, 2], [1, 2, 1, 2, 1, 2]),
    "everybody has clicked everything": ([1, 1, 2, 2] * 3, [1, 2, 1, 2] * 3),
}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    home = tmp_path_factory.mktemp("tiny")
    return {name: dataset_of(home / str(number), *log) for number, (name, log) in enumerate(MORE_LOGS.items())}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("negatives", KINDS)
@pytest.mark.parametrize(("number", "batch_size"), [(1, 128), (1000, 1)])
@pytest.mark.parametrize("options", [{}, {"logq": "standard", "denominator": "negatives_only"}], ids=["plain", "logq"])
def test_any_preset_with_any_negatives_trains_on_tiny_logs(datasets, preset, negatives, number, batch_size, options):
    """More negatives than items, no item that a user has not clicked, batches of one: every loss is a number.

    Without a validation part all logs train but the one of a single click, which is left for the test.
    """
    changes = {
        "softmax": {"negatives": negatives, "num_negatives": number, **options},
        "train": {"batch_size": batch_size},
        "split": {"valid_fraction": 0.0},
        "contrast": {"semantic": {"weight": 0.0}},  # there are no titles
    }
    config = build_config(preset, merge(SMALL, changes))
    for name, dataset in datasets.items():
        if name == "one click":
            with pytest.raises(MicrecError, match=r"split: the train part is empty .1 clicks; 0 train.*: lower"):
                fit(dataset, config)
            continue
        fitted = fit(dataset, config)
        assert len(fitted.state.log) == 1, name
        losses = fitted.state.log[0]["losses"]
        assert set(losses) == ({"matching"} if preset == "best" else {"matching", "feature", "session"}), name
        assert np.isfinite(list(losses.values())).all(), (name, losses)
        weights = [tensor for tensor in fitted.model.state_dict().values() if tensor.is_floating_point()]
        assert all(tensor.isfinite().all() for tensor in weights), name


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("negatives", KINDS)
def test_tiny_logs_with_a_validation_part_train_or_are_refused_with_a_reason(datasets, preset, negatives):
    config = build_config(preset, merge(SMALL, {"softmax": {"negatives": negatives}}))
    reasons = ("split: the train part is empty", "evaluation: none of the", "title needs roles.title")
    refused = 0
    for name, dataset in datasets.items():
        try:
            losses = fit(dataset, config).state.log[0]["losses"]
        except MicrecError as fault:
            told = str(fault)
            refused += 1
        else:
            assert np.isfinite(list(losses.values())).all(), (name, losses)
            continue
        assert told.startswith(reasons), (name, told)
        assert told.count(": ") >= 2, (name, told)  # the rule and the cure
    assert 0 < refused < len(datasets)
