"""A trained model on disk: safetensors and a JSON manifest, no pickle."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from micrec.checkpoint import load_checkpoint, save_checkpoint
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.schema import FieldType
from micrec.errors import MicrecError
from micrec.fitting import Fitted, RunState
from micrec.models import make_model
from micrec.models.columns import FieldSpec
from micrec.models.two_tower import TwoTower
from micrec.settings import validate
from micrec.train_data import load_fields
from micrec.training import resolve_device

KIND = "micrec-model"


def save_model(fitted: Fitted, dataset: Dataset, folder: Path) -> None:
    """Write parameters and manifest (config, fields, vocabulary sizes, id-map hash, versions) as one folder."""
    save_checkpoint(folder, model_tensors(fitted.model), {"kind": KIND, **model_manifest(fitted, dataset)})


def load_model(folder: Path, dataset: Dataset, *, device: str = "auto") -> Fitted:
    """Read a model back for the dataset it was trained on.

    Raises:
        MicrecError: If the folder holds no model, is damaged, or belongs to a dataset with other ids.
    """
    tensors, manifest = load_checkpoint(folder)
    if manifest.get("kind") != KIND:
        raise MicrecError(f"{folder}: holds {manifest.get('kind', 'something else')}, not a model: give the folder that `micrec train` wrote.")
    if manifest["dataset"] != dataset.fingerprint:
        raise MicrecError(
            f"{folder}: trained on dataset {manifest['dataset_name']!r} with other user or item ids than "
            f"{dataset.name!r}: use the dataset folder it was trained on, or train anew."
        )
    config = validate(Config, manifest["config"], where=f"{folder}/manifest.json")
    target = resolve_device(device)
    model = restore_model(config, manifest, tensors).to(target)
    trained = int(manifest["trained_clicks"])
    fields = load_fields(dataset, config, dataset.clicks[:trained], target)
    state = RunState(**manifest["state"])
    return Fitted(model, fields, config, state, trained_clicks=trained)


def model_tensors(model: TwoTower) -> dict[str, torch.Tensor]:
    """The model's parameters, names prefixed by ``model.``."""
    return {f"model.{name}": tensor.detach().cpu() for name, tensor in model.state_dict().items()}


def model_manifest(fitted: Fitted, dataset: Dataset) -> dict[str, Any]:
    """What is needed to rebuild the model, as JSON."""
    return {
        "config": fitted.config.model_dump(mode="json"),
        "state": vars(fitted.state),
        "dataset": dataset.fingerprint,
        "dataset_name": dataset.name,
        "trained_clicks": fitted.trained_clicks,
        "user_specs": [asdict(spec) for spec in fitted.fields.user_specs],
        "item_specs": [asdict(spec) for spec in fitted.fields.item_specs],
    }


def restore_model(config: Config, manifest: dict[str, Any], tensors: dict[str, torch.Tensor]) -> TwoTower:
    """The model that ``model_tensors`` and ``model_manifest`` described, on the CPU, ready to serve."""
    model = make_model(
        config.model,
        read_specs(manifest["user_specs"]),
        read_specs(manifest["item_specs"]),
        sparse=False,
        generator=torch.Generator().manual_seed(0),
    )
    prefix = "model."
    model.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    return model.eval()


def read_specs(entries: list[dict[str, Any]]) -> list[FieldSpec]:
    """Field specs from a manifest."""
    return [FieldSpec(**{**entry, "type": FieldType(entry["type"])}) for entry in entries]
