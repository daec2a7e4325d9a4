"""The folder of a realism check: realism.json, realism.md and the picture, whole or not at all."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from micrec.errors import MicrecError

JSON_FILE, MARKDOWN_FILE = "realism.json", "realism.md"


def refuse_taken(folder: Path, *, overwrite: bool) -> None:
    """Stop before long work if its result could not be written.

    Raises:
        MicrecError: If ``folder`` is a file, holds something else, or a check and ``overwrite`` is not set.
    """
    if folder.exists() and not folder.is_dir():
        raise MicrecError(f"--out {folder}: is a file: give a folder.")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / JSON_FILE).is_file():
        raise MicrecError(f"--out {folder}: is not empty and holds no realism check: give a new folder.")
    if not overwrite:
        raise MicrecError(f"--out {folder}: holds a realism check: name another folder, or replace it with --force.")


def write_folder(folder: Path, files: Mapping[str, bytes], *, overwrite: bool = False) -> None:
    """Write ``files`` by name; what ``folder`` held before stays until they are all there.

    Raises:
        MicrecError: If the folder is taken, or cannot be written.
    """
    refuse_taken(folder, overwrite=overwrite)
    folder = folder.resolve()
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, content in files.items():
            (partial / name).write_bytes(content)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
    except OSError as fault:
        raise MicrecError(f"--out {folder}: cannot be written ({fault.strerror}): choose another folder.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def json_bytes(data: Mapping[str, object]) -> bytes:
    """Strict JSON, the same bytes for the same data."""
    return (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
