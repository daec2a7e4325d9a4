"""A trained model on disk: safetensors and a JSON manifest, no pickle, nothing of the losses that trained it."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, FiniteFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from micrec.artifact import load_artifact, save_artifact, whole_artifact
from micrec.checkpoint import MANIFEST
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.schema import FieldType
from micrec.earlier_configs import as_written_today
from micrec.errors import MicrecError
from micrec.fitting import Fitted, RunState
from micrec.manifest import ManifestPart, StateEntry
from micrec.models import make_model
from micrec.models.columns import FieldSpec
from micrec.models.two_tower import TwoTower
from micrec.settings import check
from micrec.train_data import load_fields
from micrec.training import resolve_device
from micrec.warm_start import VOCABULARY, packed_vocabulary

PREFIX = "model."


class SpecEntry(ManifestPart):
    """One field that a tower embeds, see ``FieldSpec``."""

    name: str
    type: FieldType
    size: NonNegativeInt
    mean: FiniteFloat
    std: PositiveFloat
    own_id: bool
    embedded: bool = True
    counted: bool = False


class ModelManifest(ManifestPart):
    """What ``model_manifest`` writes, but for the config, which is checked as a ``Config``."""

    state: StateEntry
    dataset: str
    dataset_name: str
    trained_clicks: NonNegativeInt
    vocabulary: str
    interests: PositiveInt | None
    user_specs: list[SpecEntry]
    item_specs: list[SpecEntry]


def save_model(fitted: Fitted, dataset: Dataset, folder: Path, *, overwrite: bool = False) -> None:
    """Write parameters and manifest (config, fields, vocabulary, id-map hash, versions) as one folder.

    Raises:
        MicrecError: If the folder is taken or cannot be written.
    """
    until_ms = int(dataset.clicks.time_ms[fitted.trained_clicks - 1])
    tensors = {**model_tensors(fitted.model), VOCABULARY: packed_vocabulary(fitted.model, dataset, until_ms)}
    save_artifact(folder, "model", tensors, model_manifest(fitted, dataset), overwrite=overwrite)


def load_model(folder: Path, dataset: Dataset, *, device: str = "auto") -> Fitted:
    """Read a model back for the dataset it was trained on.

    Raises:
        MicrecError: If the folder holds no model, is damaged, or belongs to a dataset with other ids or field values.
    """
    tensors, manifest = load_artifact(folder, "model")
    config = checked_config(folder, manifest, ModelManifest)
    with whole_artifact(folder, "model"):
        if manifest["dataset"] != dataset.fingerprint:
            raise MicrecError(
                f"{folder}: trained on dataset {manifest['dataset_name']!r} with other user or item ids than "
                f"{dataset.name!r}: use the dataset folder it was trained on, or train anew."
            )
        target = resolve_device(device)
        trained = manifest["trained_clicks"]
        fields = load_fields(dataset, config, dataset.clicks[:trained], target)
        if manifest["vocabulary"] != vocabulary_hash(dataset, fields.user_specs, fields.item_specs):
            raise MicrecError(
                f"{folder}: the user or item fields of {dataset.name!r} have other values than at the training, so "
                "that the embedding rows no longer fit: use the dataset as it was, or train anew."
            )
        model = restore_model(config, manifest, tensors).to(target)
        return Fitted(model, fields, config, RunState(**manifest["state"]), trained_clicks=trained)


def model_tensors(model: TwoTower) -> dict[str, Tensor]:
    """The model's parameters, names prefixed by ``model.``."""
    return {f"{PREFIX}{name}": tensor.detach().cpu() for name, tensor in model.state_dict().items()}


def model_manifest(fitted: Fitted, dataset: Dataset) -> dict[str, Any]:
    """What is needed to rebuild the model, as JSON."""
    user_specs, item_specs = fitted.fields.user_specs, fitted.fields.item_specs
    return {
        "config": fitted.config.model_dump(mode="json"),
        "state": vars(fitted.state),
        "dataset": dataset.fingerprint,
        "dataset_name": dataset.name,
        "trained_clicks": fitted.trained_clicks,
        "vocabulary": vocabulary_hash(dataset, user_specs, item_specs),
        "interests": fitted.model.interests,
        "user_specs": [spec.as_dict() for spec in user_specs],
        "item_specs": [spec.as_dict() for spec in item_specs],
    }


def vocabulary_hash(dataset: Dataset, user_specs: Sequence[FieldSpec], item_specs: Sequence[FieldSpec]) -> str:
    """Hash of the fields and of which value has which embedding row: a model fits only the rows it was trained on."""
    digest = hashlib.sha256()
    for table, specs in ((dataset.users, user_specs), (dataset.items, item_specs)):
        for spec in specs:
            labels = () if spec.own_id else table.columns[spec.name].labels
            digest.update("\x1f".join([json.dumps(spec.as_dict()), *labels]).encode() + b"\x1e")
    return digest.hexdigest()[:16]


def checked_config(folder: Path, manifest: dict[str, Any], schema: type[BaseModel]) -> Config:
    """The config that the manifest of ``folder`` holds, once all its keys have the types that they must have.

    Raises:
        MicrecError: Every key that has not, as after an edit by hand, with its value and the rule.
    """
    given = manifest.get("config")
    config, faults = check(Config, as_written_today(given), at="config") if isinstance(given, dict) else (None, [])
    if not isinstance(given, dict):
        faults = [f"config: must be a mapping of keys, got {json.dumps(given)[:60]}"]
    faults += check(schema, manifest)[1]
    if config is None or faults:
        raise MicrecError.of(f"{folder / MANIFEST}", faults)
    return config


def restore_model(config: Config, manifest: dict[str, Any], tensors: dict[str, Tensor]) -> TwoTower:
    """The model that ``model_tensors`` and ``model_manifest`` described, on the CPU, ready to serve."""
    model = make_model(
        config.model,
        read_specs(manifest["user_specs"]),
        read_specs(manifest["item_specs"]),
        sparse=False,
        generator=torch.Generator().manual_seed(0),
    )
    model.load_state_dict({k.removeprefix(PREFIX): v for k, v in tensors.items() if k.startswith(PREFIX)})
    return model.eval()


def read_specs(entries: list[dict[str, Any]]) -> list[FieldSpec]:
    """Field specs from a manifest."""
    return [FieldSpec(**{**entry, "type": FieldType(entry["type"])}) for entry in entries]
