"""A training that starts from an earlier model: what is known of ids and values is carried over, the rest is fresh.

Rows of embedding tables follow their ids and labels, so that the new dataset may have more users, items and values, in
any order. What a training fits to its log before the first epoch (gates, popularity, graphs) is fitted to the new one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from micrec.artifact import load_artifact
from micrec.config import Config
from micrec.data.dataset import Dataset, EntityTable
from micrec.data.split import Split
from micrec.errors import MicrecError
from micrec.models.two_tower import TwoTower

VOCABULARY = "vocabulary"  # name of the tensor that holds it
_PREFIX, _WEIGHT = "model.", ".weight"


def packed_vocabulary(model: TwoTower, dataset: Dataset, until_ms: int) -> Tensor:
    """The label of every row of every embedding table but the unknown one, as bytes of JSON, uint8.

    Args:
        model: The towers.
        dataset: What they were trained on.
        until_ms: Moment of the last click that they were trained on.
    """
    content = json.dumps({"until_ms": until_ms, "labels": _labels(model, dataset)}, ensure_ascii=False)
    return torch.frombuffer(bytearray(content.encode()), dtype=torch.uint8)


@dataclass(frozen=True)
class EarlierModel:
    """What a new training takes from a folder that ``micrec train`` wrote.

    Attributes:
        folder: The folder.
        base: Its ``model.name``.
        until_ms: Moment of the last click that it was trained on.
        parameters: By name.
        labels: By name of a table's parameter, the label of each row but the first.
        mark: Of its content.
    """

    folder: Path
    base: str
    until_ms: int
    parameters: Mapping[str, Tensor]
    labels: Mapping[str, list[str]]
    mark: str

    @classmethod
    def read(cls, folder: Path) -> "EarlierModel":
        """Read a model that ``save_model`` wrote.

        Raises:
            MicrecError: If there is none, or it was written before models kept the ids that they know.
        """
        tensors, manifest = load_artifact(folder, "model")
        if VOCABULARY not in tensors:
            raise MicrecError(
                f"{folder}: was written by a version whose models do not keep their ids: train it anew, then go on."
            )
        vocabulary = json.loads(tensors[VOCABULARY].numpy().tobytes())
        return cls(
            folder=folder,
            base=str(manifest["config"]["model"].get("name", Config().model.name)),
            until_ms=vocabulary["until_ms"],
            parameters={key.removeprefix(_PREFIX): one for key, one in tensors.items() if key.startswith(_PREFIX)},
            labels=vocabulary["labels"],
            mark=str(manifest["checkpoint"]["sha256"])[:16],
        )

    def check(self, dataset: Dataset, split: Split, config: Config) -> None:
        """Refuse a model that cannot be gone on from, or that knows clicks by which the new one is judged.

        Raises:
            MicrecError: Naming what does not fit.
        """
        if self.base != config.model.name:
            raise MicrecError(
                f"--from {self.folder}: is a {self.base}, and model.name is {config.model.name}: "
                f"set model.name={self.base}, or train without --from."
            )
        part, first = ("validation", split.train.stop) if config.split.valid_fraction else ("test", split.fit.stop)
        begins_ms = int(dataset.clicks.time_ms[first])
        if self.until_ms > begins_ms:
            raise MicrecError(
                f"--from {self.folder}: was trained on clicks until {_moment(self.until_ms)}, and the {part} clicks "
                f"begin at {_moment(begins_ms)}: it knows what the new model is judged by: choose later days for it "
                "(split.test_days, split.valid_fraction=0), or an earlier model."
            )

    @torch.no_grad()
    def carry_into(self, model: TwoTower, dataset: Dataset) -> list[str]:
        """Overwrite start values by what this model learned.

        Returns:
            What was carried and what is fresh, a line each.
        """
        tables, told, dense, fresh = _labels(model, dataset), [], 0, []
        for name, parameter in model.named_parameters():
            known = self.parameters.get(name)
            if known is None or known.shape[1:] != parameter.shape[1:] or _starts_anew(model, name):
                fresh.append(name)
            elif name in tables:
                carried = _copy_rows(parameter, tables[name], known, self.labels.get(name, []))
                what = name.removesuffix(_WEIGHT).replace("_fields.tables.", " field ")
                told.append(f"{what}: {carried:,} rows carried, {len(tables[name]) - carried:,} fresh")
            elif known.shape == parameter.shape:
                parameter.copy_(known)
                dense += 1
            else:
                fresh.append(name)
        told.append(f"{dense} dense parameters carried; fresh: {', '.join([*fresh, 'the optimiser'])}")
        return [f"from {self.folder}: {line}" for line in told]


def _copy_rows(parameter: nn.Parameter, labels: list[str], known: Tensor, known_labels: list[str]) -> int:
    """Rows of labels that are known, and the row of the unknown; how many labels those were."""
    places = {label: row for row, label in enumerate(known_labels, start=1)}
    found = [(row, places[label]) for row, label in enumerate(labels, start=1) if label in places]
    rows = torch.tensor([(0, 0), *found])
    parameter[rows[:, 0].to(parameter.device)] = known[rows[:, 1]].to(parameter)
    return len(found)


def _starts_anew(model: TwoTower, name: str) -> bool:
    """Item vectors that start from a factorisation of the log have its axes, which an earlier log does not share.

    The vectors of users' fields are multiplied by them.
    """
    return name.startswith(("item_fields.", "user_fields.")) and getattr(model.options, "start", None) == "ease"


def _labels(model: TwoTower, dataset: Dataset) -> dict[str, list[str]]:
    """By name of a table's parameter, the label of each row but the first."""
    found: dict[str, list[str]] = {}
    parameters = {name for name, _ in model.named_parameters()}
    sides: tuple[tuple[str, Any, EntityTable], ...] = (
        ("user_fields", model.user_fields, dataset.users),
        ("item_fields", model.item_fields, dataset.items),
    )
    for side, fields, table in sides:
        for spec in fields.specs:
            name = f"{side}.tables.{spec.name}{_WEIGHT}"
            if name in parameters:
                found[name] = _texts(table) if spec.own_id else [str(one) for one in table.columns[spec.name].labels]
    if "prior.bias.weight" in parameters:
        found["prior.bias.weight"] = _texts(dataset.items)
    return found


def _texts(table: EntityTable) -> list[str]:
    return [str(one) for one in table.ids]


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
