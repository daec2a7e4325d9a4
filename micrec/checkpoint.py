"""Checkpoints: tensors as safetensors, the rest as JSON, no pickle; whole or not there at all.

A checkpoint is a folder that holds ``manifest.json`` and the tensor file it names. The tensor file is written first,
under a name of its own; replacing the manifest is the one moment at which the new checkpoint takes the place of the
old. A process killed before that leaves the old one, and at most a stray file that the next save removes.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from micrec.errors import MicrecError
from micrec.version import __version__

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_TENSORS = re.compile(r"tensors-[0-9a-f]{16}\.safetensors")
_TEMPORARY = (".tensors.tmp", ".manifest.tmp")
_STRAY = re.compile(r"\.tmp[A-Za-z0-9]{6}|\.(tensors|manifest)\.tmp")  # the first is what safetensors itself writes to
_CURE = "delete the folder and train anew, or restore it from a copy."


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
    """Write a checkpoint; a kill at any point leaves the previous one loadable.

    Args:
        folder: Where to write; made if needed. Only checkpoint files in it are touched.
        tensors: Dense tensors on any device, views and shared memory allowed; all are stored as their own copies.
        manifest: What else to keep, as JSON (floats may be infinite). The key ``checkpoint`` is replaced by the header:
            format, versions, and the tensor file with its size and SHA-256.

    Raises:
        MicrecError: If the folder cannot be written or the disk is full.
        ValueError: If the manifest is not JSON, or a tensor is sparse.
    """
    _to_json(manifest)  # before anything is written
    separate = _separate(tensors)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        header = _write_tensors(folder, separate)
        _replace(folder / ".manifest.tmp", folder / MANIFEST, _to_json({**manifest, "checkpoint": header}))
    except (OSError, SafetensorError) as fault:
        _remove_temporary(folder)
        raise MicrecError(
            f"{folder}: cannot save the checkpoint ({fault}): free some space or choose another folder. "
            "A checkpoint saved here before is still good."
        ) from fault
    _remove_strays(folder, keep=header["file"])


def load_checkpoint(folder: Path, *, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and manifest of a checkpoint, checked against the recorded size and hash.

    Returns:
        The tensors, on ``device``, and the manifest as saved plus the header under ``checkpoint``.

    Raises:
        MicrecError: If there is no checkpoint, it is damaged, or another version of the format.
    """
    failed_on = None
    while True:  # another process may replace the checkpoint between two of our reads: then read the new one
        manifest = _read_manifest(folder / MANIFEST)
        try:
            return _load_tensors(folder, manifest["checkpoint"], device), manifest
        except (MicrecError, OSError, SafetensorError) as fault:
            if manifest["checkpoint"] != failed_on:
                failed_on = manifest["checkpoint"]
            elif isinstance(fault, MicrecError):
                raise
            else:
                raise MicrecError(f"{folder}: cannot be read ({fault}): {_CURE}") from fault


def _load_tensors(folder: Path, header: Mapping[str, Any], device: torch.device | str) -> dict[str, Tensor]:
    path = folder / header["file"]
    if not path.is_file():
        raise MicrecError(f"{path}: missing, though {MANIFEST} names it: {_CURE}")
    size = path.stat().st_size
    if size != header["bytes"]:
        raise MicrecError(f"{path}: truncated or changed, {size} bytes instead of {header['bytes']}: {_CURE}")
    digest = _sha256(path)
    if digest != header["sha256"]:
        raise MicrecError(
            f"{path}: damaged, its SHA-256 is {digest[:16]}… instead of {header['sha256'][:16]}…: {_CURE}"
        )
    return load_file(path, device=str(device))


def remove_checkpoint(folder: Path) -> None:
    """Delete a checkpoint, and its folder if nothing else is in it; no checkpoint, no effect."""
    if not folder.is_dir():
        return
    (folder / MANIFEST).unlink(missing_ok=True)
    _remove_strays(folder, keep=None)
    if not any(folder.iterdir()):
        folder.rmdir()


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes that tensors take in a file, but for a header of some kilobytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def pack_rng(generators: Mapping[str, torch.Generator]) -> dict[str, Tensor]:
    """States of random generators, by name, uint8."""
    return {name: generator.get_state() for name, generator in generators.items()}


def restore_rng(generators: Mapping[str, torch.Generator], states: Mapping[str, Tensor]) -> None:
    """Put the states that ``pack_rng`` gave back into generators of the same names and devices.

    Raises:
        ValueError: If the names differ.
    """
    if generators.keys() != states.keys():
        raise ValueError(f"random states {sorted(states)} do not fit generators {sorted(generators)}.")
    for name, generator in generators.items():
        generator.set_state(states[name].cpu())


def flatten_state(state: Any, *, prefix: str = "") -> tuple[dict[str, Tensor], Any]:
    """Split nested dicts, lists and tuples into their tensors and a JSON skeleton.

    Args:
        state: Dicts with string or integer keys, lists, tuples, tensors, and JSON scalars, nested.
        prefix: Put before every tensor name.

    Returns:
        Tensors named by their path, as in ``state.0.exp_avg``, and the skeleton for ``unflatten_state``.

    Raises:
        ValueError: If something else is in it, or two paths have one name.
    """
    tensors: dict[str, Tensor] = {}

    def split(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            if path in tensors:
                raise ValueError(f"two tensors are named {path!r}: rename one key.")
            tensors[path] = value
            return {"tensor": path}
        if isinstance(value, dict):
            if not all(type(key) in (str, int) for key in value):
                raise ValueError(f"{path or 'state'}: keys must be strings or integers, got {list(value)}.")
            return {"dict": [[key, split(child, _join(path, key))] for key, child in value.items()]}
        if isinstance(value, list | tuple):
            children = [split(child, _join(path, i)) for i, child in enumerate(value)]
            return {"list": children} if isinstance(value, list) else {"tuple": children}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise ValueError(
            f"{path}: cannot store a {type(value).__name__} without pickle: convert it to a tensor or JSON."
        )

    skeleton = split(state, prefix)
    return tensors, skeleton


def unflatten_state(tensors: Mapping[str, Tensor], skeleton: Any) -> Any:
    """The state that ``flatten_state`` split.

    Raises:
        ValueError: If a tensor is missing.
    """
    if not isinstance(skeleton, dict):
        return skeleton
    ((kind, content),) = skeleton.items()
    if kind == "tensor":
        if content not in tensors:
            raise ValueError(f"tensor {content!r} is missing from the checkpoint.")
        return tensors[content]
    if kind == "dict":
        return {key: unflatten_state(tensors, child) for key, child in content}
    children = [unflatten_state(tensors, child) for child in content]
    return children if kind == "list" else tuple(children)


# -- files ---------------------------------------------------------------------------------------------------------


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors, no two in the same memory."""
    separate: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided:
            raise ValueError(f"tensor {name!r} is sparse: store its indices and values.")
        plain = tensor.detach().cpu().contiguous()
        whole = plain.untyped_storage().nbytes() == plain.numel() * plain.element_size()
        if not whole or plain.untyped_storage().data_ptr() in seen:
            plain = plain.clone()
        seen.add(plain.untyped_storage().data_ptr())
        separate[name] = plain
    return separate


def _write_tensors(folder: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Write the tensor file and return the header that describes it."""
    temporary = folder / ".tensors.tmp"
    temporary.touch()  # as the umask has it; safetensors would let nobody else read the file
    mode = stat.S_IMODE(temporary.stat().st_mode)
    save_file(tensors, temporary)
    temporary.chmod(mode)
    digest = _sha256(temporary)
    name = f"tensors-{digest[:16]}.safetensors"
    size = temporary.stat().st_size
    _sync(temporary)
    os.replace(temporary, folder / name)
    _sync(folder)
    return {
        "format": FORMAT_VERSION,
        "micrec": __version__,
        "torch": torch.__version__,
        "file": name,
        "bytes": size,
        "sha256": digest,
    }


def _replace(temporary: Path, path: Path, content: str) -> None:
    temporary.write_text(content, encoding="utf-8")
    _sync(temporary)
    os.replace(temporary, path)
    _sync(path.parent)


def _remove_strays(folder: Path, *, keep: str | None) -> None:
    for path in folder.iterdir():
        if path.name != keep and (_STRAY.fullmatch(path.name) or _TENSORS.fullmatch(path.name)):
            path.unlink(missing_ok=True)


def _remove_temporary(folder: Path) -> None:
    with suppress(OSError):
        for name in _TEMPORARY:
            (folder / name).unlink(missing_ok=True)


def _to_json(manifest: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(manifest), indent=1)
    except TypeError as fault:
        raise ValueError(f"the manifest is not JSON: {fault}.") from fault


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MicrecError(f"{path}: no checkpoint here: check the path, or train first.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise MicrecError(f"{path}: not a checkpoint manifest ({fault}): {_CURE}") from fault
    header = manifest.get("checkpoint") if isinstance(manifest, dict) else None
    if not isinstance(header, dict):
        got = f", got {json.dumps(header)[:60]}" if isinstance(manifest, dict) and "checkpoint" in manifest else ""
        raise MicrecError(f"{path}: not a checkpoint manifest (checkpoint: must be a mapping of keys{got}): {_CURE}")
    faults = _header_faults(header)
    if faults:
        raise MicrecError.of(str(path), [f"{fault}: {_CURE}" for fault in faults])
    if header["format"] != FORMAT_VERSION:
        raise MicrecError(
            f"{path}: checkpoint format {header['format']}, written by micrec {header['micrec']}; micrec "
            f"{__version__} reads format {FORMAT_VERSION}: use that version of micrec, or train anew."
        )
    return dict(manifest)


def _header_faults(header: Mapping[str, Any]) -> list[str]:
    """What is wrong with the keys of the header; those of another format are for its own version to judge."""
    rules = {"format": ("an integer", type(header.get("format")) is int)}
    rules |= {key: ("text", isinstance(header.get(key), str)) for key in ("micrec", "torch")}
    if header.get("format") == FORMAT_VERSION:
        rules |= {
            "file": ("the name of a tensor file beside it", _TENSORS.fullmatch(str(header.get("file"))) is not None),
            "bytes": ("an integer", type(header.get("bytes")) is int),
            "sha256": ("64 hex digits", re.fullmatch("[0-9a-f]{64}", str(header.get("sha256"))) is not None),
        }
    return [
        f"checkpoint.{key} must be {rule}, got {json.dumps(header.get(key))[:60]}"
        for key, (rule, is_right) in rules.items()
        if not is_right
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _join(path: str, key: str | int) -> str:
    return f"{path}.{key}" if path else str(key)
