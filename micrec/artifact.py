"""Folders that hold one finished thing, a model or a serving bundle: written whole, and distinguished by their kind."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from micrec.checkpoint import MANIFEST, load_checkpoint, save_checkpoint
from micrec.errors import MicrecError
from micrec.folder_lock import waiting_for

Kind = Literal["model", "bundle"]
NAMES: dict[Kind, str] = {"model": "trained model", "bundle": "serving bundle"}
MAKERS: dict[Kind, str] = {"model": "micrec train", "bundle": "micrec index"}


def save_artifact(
    folder: Path, kind: Kind, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write a folder of the given kind. It appears whole or not at all; one it replaces stays until then.

    Threads and processes that write into one parent folder wait for each other.

    Raises:
        MicrecError: If the folder is taken (``refuse_taken``), or cannot be written.
    """
    refuse_taken(folder, kind, overwrite=overwrite)
    folder = folder.resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise MicrecError(f"{folder}: cannot be made ({fault.strerror}): name another folder.") from fault
    with waiting_for(folder.parent):
        refuse_taken(folder, kind, overwrite=overwrite)  # another may have written it meanwhile
        _write(folder, kind, tensors, {**manifest, "kind": kind})


def _write(folder: Path, kind: Kind, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
    if kind_of(folder) == kind:
        save_checkpoint(folder, tensors, manifest)  # whole or not at all within a folder
        return
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of an attempt that was killed
    try:
        save_checkpoint(partial, tensors, manifest)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_artifact(folder: Path, kind: Kind) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and manifest of a folder of the given kind.

    Raises:
        MicrecError: If there is no such folder, it is of another kind, or damaged.
    """
    cure = f"give a folder that {MAKERS[kind]} wrote"
    if not folder.is_dir():
        raise MicrecError(f"{folder}: there is no such folder: {cure}.")
    found = kind_of(folder)
    if found is not None and found != kind:
        raise MicrecError(f"{folder}: holds a {NAMES.get(found, found)}, not a {NAMES[kind]}: {cure}.")
    if found is None and not (folder / MANIFEST).is_file():
        raise MicrecError(f"{folder}: holds no {NAMES[kind]}: {cure}.")
    tensors, manifest = load_checkpoint(folder)
    if found is None and "kind" in manifest:
        raise MicrecError(
            f"{folder / MANIFEST}: kind: must be {' or '.join(NAMES)}, got {json.dumps(manifest['kind'])[:60]}: {cure}."
        )
    if found is None:
        raise MicrecError(f"{folder}: holds the checkpoint of an unfinished training, not a {NAMES[kind]}: {cure}.")
    return tensors, manifest


@contextmanager
def whole_artifact(folder: Path, kind: Kind | None = None) -> Iterator[None]:
    """Turn what a manifest or a tensor of the wrong type or shape leads to into one error that names the folder.

    Without a kind the folder holds the checkpoint of an unfinished training.
    """
    try:
        yield
    except MicrecError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RuntimeError) as fault:
        what = f"{type(fault).__name__}: {str(fault).splitlines()[0][:200]}" if str(fault) else type(fault).__name__
        name = NAMES[kind] if kind else "training"
        cure = f"make it again with {MAKERS[kind]}" if kind else "delete the folder and train anew"
        raise MicrecError(
            f"{folder}: {MANIFEST} or a tensor beside it does not describe a {name} ({what}): it was changed or "
            f"damaged; {cure}."
        ) from fault


def refuse_taken(folder: Path, kind: Kind, *, overwrite: bool) -> None:
    """Stop before long work if its result could not be written to ``folder``.

    Raises:
        MicrecError: If the folder holds anything but its kind, or its kind and ``overwrite`` is not set, or a file is
            in the way.
    """
    nearest = next((path for path in (folder, *folder.resolve().parents) if path.exists()), folder)
    if nearest.exists() and not nearest.is_dir():
        raise MicrecError(f"{nearest}: is a file, where a folder is needed: name another folder.")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if kind_of(folder) != kind:
        raise MicrecError(f"{folder}: exists and is no {NAMES[kind]}: name another folder, it will not be replaced.")
    if not overwrite:
        raise MicrecError(
            f"{folder}: holds a {NAMES[kind]}: name another folder, or replace it (overwrite=True, --force)."
        )


def kind_of(folder: Path) -> Kind | None:
    """What a folder holds by its manifest; None if it is neither."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    return kind if isinstance(kind, str) and kind in NAMES else None
