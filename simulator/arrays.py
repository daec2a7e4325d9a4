"""A version of a small model on disk: one npz of plain arrays and a manifest in JSON that holds its hash; no pickle."""

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micrec.errors import MicrecError

MANIFEST, ARRAYS = "manifest.json", "arrays.npz"
_CURE = "delete the folder and train this version anew."


def save_arrays(folder: Path, kind: str, arrays: Mapping[str, NDArray], facts: Mapping[str, Any]) -> None:
    """Write a folder; it appears whole or not at all. The same arrays and facts give the same bytes.

    Args:
        folder: Where to; an older version of the same kind found there is replaced.
        kind: What is stored, such as ``channel popular``.
        arrays: Arrays of numbers or fixed-width text by name.
        facts: What else to keep, as JSON.

    Raises:
        MicrecError: If something else is in the way, or the disk is full.
    """
    if folder.exists() and any(folder.iterdir()) and _read_manifest(folder).get("kind") != kind:
        raise MicrecError(f"{folder}: holds something else than a {kind}: name another folder.")
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **dict(arrays))
    content = packed.getvalue()
    manifest = {"kind": kind, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "facts": facts}
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of an attempt that was killed
    try:
        partial.mkdir(parents=True)
        _write(partial / ARRAYS, content)
        _write(partial / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except OSError as fault:
        raise MicrecError(f"{folder}: cannot be written ({fault}): free some space or name another folder.") from fault
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_arrays(folder: Path, kind: str) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Arrays and facts of a folder.

    Raises:
        MicrecError: If there is none, it is of another kind, or damaged.
    """
    manifest = _read_manifest(folder)
    if manifest.get("kind") != kind:
        raise MicrecError(f"{folder}: holds a {manifest.get('kind')}, not a {kind}: name the right folder.")
    try:
        content = (folder / ARRAYS).read_bytes()
    except OSError as fault:
        raise MicrecError(f"{folder / ARRAYS}: cannot be read ({fault.strerror}): {_CURE}") from fault
    if len(content) != manifest["bytes"]:
        expected = manifest["bytes"]
        raise MicrecError(f"{folder / ARRAYS}: cut short, {len(content)} bytes instead of {expected}: {_CURE}")
    if hashlib.sha256(content).hexdigest() != manifest["sha256"]:
        raise MicrecError(f"{folder / ARRAYS}: damaged, its SHA-256 is not the one of {MANIFEST}: {_CURE}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}, manifest["facts"]
    except (ValueError, zipfile.BadZipFile, KeyError) as fault:
        raise MicrecError(f"{folder / ARRAYS}: no npz of plain arrays ({fault}): {_CURE}") from fault


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise MicrecError(f"{path}: cannot be read ({fault.strerror}): check the path, or train first.") from fault
    except ValueError as fault:
        raise MicrecError(f"{path}: not a manifest ({fault}): {_CURE}") from fault
    if not isinstance(manifest, dict) or not {"kind", "bytes", "sha256", "facts"} <= manifest.keys():
        raise MicrecError(f"{path}: not a manifest, its keys are missing: {_CURE}")
    return manifest


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
