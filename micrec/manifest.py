"""What manifests must hold: types are strict, so that the error after an edit by hand names its key."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt


class ManifestPart(BaseModel):
    """A part of a manifest: types are strict, keys of later versions do not disturb."""

    model_config = ConfigDict(frozen=True, strict=True)


class EpochEntry(ManifestPart):
    """One epoch of the training."""

    phase: Literal["search", "refit"]
    epoch: PositiveInt
    samples: NonNegativeInt
    seconds: float
    losses: dict[str, float]
    metric: float | None
    gradients: dict[str, float] | None


class StateEntry(ManifestPart):
    """Where the training stood, see ``RunState``."""

    phase: Literal["search", "refit", "done"]
    epoch: NonNegativeInt
    best_epoch: NonNegativeInt
    best_metric: float
    log: list[EpochEntry]
    estimate: dict[str, float] = {}


class IdentityEntry(ManifestPart):
    """What a training depends on, see ``run_identity``."""

    config: str
    dataset: str
    clicks: str


class CheckpointManifest(ManifestPart):
    """The manifest of an unfinished training."""

    identity: IdentityEntry
    state: StateEntry
    skeleton: dict[str, Any]
