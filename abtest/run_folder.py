"""The run folder: everything a reader needs to understand, check and repeat a run, in files that appear whole.

::

    scenario.resolved.yaml   every key of the run; `micrec run` on it repeats the run
    trials/                  of kinds that train offline: by dataset one folder per model, see abtest.offline.trials
    world/                   the generated datasets, if the scenario named none
    worlds/                  days and measures of the simulated worlds, see abtest.online.simulate
    results.json             the numbers, for programs: abtest/schema/results.schema.json
    report.html  report.md  table.tex     the numbers, for people
    table.csv  trials.csv    tables only: means, and every trained model; figure.png and .pdf beside them
    journal.log  best.yaml   micrec tune only: the search, and the config it found; search/ holds its checkpoints
"""

import functools
import io
import json
import math
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import yaml
from numpy.typing import NDArray

from micrec.destination import check_destination, refuse_around
from micrec.errors import MicrecError
from micrec.folder_lock import lock, unlock
from micrec.version import __version__

SCENARIO_FILE = "scenario.resolved.yaml"
RESULTS_FILE = "results.json"
SCHEMA = "micrec-results/1"  # what RESULTS_FILE says of itself; see abtest/schema
REPORT_FILE = "report.md"
HTML_FILE = "report.html"
LATEX_FILE = "table.tex"
TABLE_FILES = ("table.csv", "trials.csv", "figure.png", "figure.pdf")  # of kinds that make a table
DIAGNOSIS_FILES = ("diagnosis.md", "diagnosis.csv", "diagnosis.png", "diagnosis.pdf")
DESIGN_FILE = "design.json"  # of micrec design
SEARCH_FILES = ("journal.log", "best.yaml")  # of micrec tune
SEARCH_FOLDER = "search"  # checkpoints of its trials
RUN_BYTES = 5_000_000  # what the files of a small run take
TRIALS_FOLDER = "trials"
WORLD_FOLDER = "world"
WORLDS_FOLDER = "worlds"

Run = TypeVar("Run", bound=Callable[..., Any])
_TAKEN: dict[Path, int | None] = {}  # run folders that this process has to itself


def open_run(out: Path, *, force: bool) -> None:
    """Make the run folder ready: new, taken up where it was interrupted, or emptied of a former run with ``force``.

    Raises:
        MicrecError: If ``out`` is a file, holds a finished run and ``force`` is false, holds something else than a run
            (nothing is deleted then, not even with ``force``), or another process is at work in it.
    """
    try:
        check_run(out, force=force)
        out.mkdir(parents=True, exist_ok=True)
        _take(out)
        check_run(out, force=force)  # once more: another run may have ended in between
        if force:
            _remove_run(out)
    except OSError as fault:
        raise MicrecError(f"--out {out}: cannot be used ({fault.strerror}): choose another folder.") from None


def alone_in_folder(run: Run) -> Run:
    """Decorator of a function ``run(scenario, out, …)``: the folder that ``open_run`` took is free again at its end."""

    @functools.wraps(run)
    def wrapped(scenario: Any, out: Path, **given: Any) -> Any:
        try:
            return run(scenario, out, **given)
        finally:
            unlock(_TAKEN.pop(out.absolute(), None))

    return cast(Run, wrapped)


def _take(out: Path) -> None:
    if out.absolute() not in _TAKEN:
        _TAKEN[out.absolute()] = lock(out, told=Path(f"--out {out}"))


def check_run(out: Path, *, force: bool, data: Sequence[Path] = ()) -> None:
    """Refuse what ``open_run`` would refuse, before any work is done, and a folder in or around what is read.

    Args:
        out: The run folder.
        force: Replace a finished run.
        data: Dataset folders that the run reads.

    Raises:
        MicrecError: As ``open_run``; if ``out`` lies in a dataset or a dataset in ``out``; or if ``out`` cannot be
            written.
    """
    check_destination(out, *data, needs=RUN_BYTES, what="a run")
    refuse_around(out, *data)
    if out.exists() and not out.is_dir():
        raise MicrecError(f"--out {out}: is a file: give a folder.")
    if not out.exists() or all(path.name.endswith(".partial") for path in out.iterdir()):
        return
    if not (out / SCENARIO_FILE).exists():
        raise MicrecError(
            f"--out {out}: is not empty and holds no run ({SCENARIO_FILE} is missing): give a new folder."
        )
    if (out / RESULTS_FILE).exists() and not force:
        raise MicrecError(
            f"--out {out}: holds a finished run: use --force to replace it, or --out for another folder. "
            f"Its report is {out / HTML_FILE}."
        )


def versions() -> dict[str, str]:
    """What the numbers depend on beside the scenario: this package, its libraries, the machine's kind."""
    libraries = ("torch", "numpy", "scipy", "polars", "faiss-cpu")
    return {
        "micrec": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in libraries},
        "platform": platform.platform(),
        "cpu_count": str(os.cpu_count() or "unknown"),
    }


def write_scenario(out: Path, resolved: Mapping[str, Any]) -> None:
    """Write ``scenario.resolved.yaml``: every key of the run, so that running it repeats the run."""
    write_text(out / SCENARIO_FILE, yaml.safe_dump(dict(resolved), sort_keys=False, allow_unicode=True, width=120))


def finish_run(out: Path, results: dict[str, Any], *writers: Callable[[Path, dict[str, Any]], None]) -> dict[str, Any]:
    """Write the reports and then results.json, with which a run is finished; returns the results."""
    for write in writers:
        write(out, results)
    write_json(out / RESULTS_FILE, results)
    return results


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write strict JSON; see ``jsonable`` for what it has no word for."""
    write_text(path, json_text(data) + "\n")


def json_text(data: Mapping[str, Any]) -> str:
    """Strict JSON of two spaces a level, as results.json has it."""
    return json.dumps(jsonable(data), indent=2, ensure_ascii=False, allow_nan=False)


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays as one .npz without pickled objects."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getbuffer())


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write beside the target, sync, rename: a kill or a full disk leaves the former file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as fault:
        raise MicrecError(
            f"{path}: cannot be written ({fault.strerror}): free space or choose another --out."
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def jsonable(value: Any) -> Any:
    """Plain JSON values: NumPy scalars unpacked, tuples as lists, NaN as null, infinity as text."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(inner) for inner in value]
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, float):
        return None if math.isnan(value) else str(value) if math.isinf(value) else value
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _remove_run(out: Path) -> None:
    """Delete the parts of a former run and nothing else that lies there.

    Results go first and the scenario last, so that what a kill leaves is still known as an unfinished run.
    """
    for name in (
        RESULTS_FILE,
        HTML_FILE,
        REPORT_FILE,
        LATEX_FILE,
        *TABLE_FILES,
        *DIAGNOSIS_FILES,
        *SEARCH_FILES,
        DESIGN_FILE,
        ".runtime_s",
    ):
        (out / name).unlink(missing_ok=True)
    for name in (TRIALS_FOLDER, WORLD_FOLDER, WORLDS_FOLDER, SEARCH_FOLDER):
        if (out / name).exists():
            shutil.rmtree(out / name)
    (out / SCENARIO_FILE).unlink(missing_ok=True)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown" if distribution.replace("-", "_") in sys.modules else "not installed"
