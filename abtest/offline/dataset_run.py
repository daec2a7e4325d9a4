"""The datasets of a run: folders read and checked before anything is written, logs converted and worlds drawn after."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from abtest.offline.run_options import RunOptions
from abtest.offline.table_scenario import Chosen, DatasetConfig, LogConfig
from abtest.offline.trials import TrialStore, hash_dataset
from abtest.run_folder import (
    TRIALS_FOLDER,
    WORLD_FOLDER,
    check_run,
    open_run,
    versions,
    write_json,
    write_scenario,
)
from micrec.data.dataset import Dataset
from micrec.destination import bytes_of
from micrec.errors import MicrecError
from micrec.progress import Progress
from micrec.settings import load_yaml, nested
from simulator.world.world_config import WorldConfig

Read = Callable[[Path], Dataset]
Check = Callable[[str, Dataset], None]


class DatasetRun(NamedTuple):
    """What all trials on one dataset share."""

    dataset: Dataset
    data_hash: str
    versions: dict[str, str]
    store: TrialStore
    progress: Progress

    def facts(self) -> dict[str, Any]:
        """The dataset in a few figures, for results.json."""
        return {
            "name": self.dataset.name,
            "hash": self.data_hash,
            "users": len(self.dataset.users),
            "items": len(self.dataset.items),
            "clicks": len(self.dataset.clicks),
        }


def open_datasets(chosen: Sequence[Chosen], out: Path, options: RunOptions, check: Check) -> dict[str, DatasetRun]:
    """Make the run folder ready and have its datasets, in order.

    Args:
        chosen: The datasets; trials and worlds lie in a folder per dataset, under its name.
        out: The run folder, see ``abtest.run_folder``.
        options: How it is run.
        check: Raises what is wrong with a dataset, given its name.

    Raises:
        MicrecError: If the folder holds a finished run or no run at all, or a dataset is invalid; of datasets that lie
            in folders before anything is written.
    """
    check_run(out, force=options.force, data=[path for _, keys in chosen for path in _read_by(keys)])
    read = options.read or default_read()
    given = read_given(chosen, read, check)
    open_run(out, force=options.force)
    write_scenario(out, options.resolved)
    runs = {}
    for name, keys in chosen:
        if name not in given:
            given[name] = read(made_dataset(keys, out / WORLD_FOLDER / name, options.reporter))
            check(name, given[name])
        store = TrialStore(out / TRIALS_FOLDER / name)
        runs[name] = DatasetRun(given[name], hash_dataset(given[name]), versions(), store, options.reporter)
    return runs


def read_given(chosen: Sequence[Chosen], read: Read, check: Check) -> dict[str, Dataset]:
    """The datasets that lie in folders, read and checked.

    Raises:
        MicrecError: What is wrong with any of them.
    """
    given, faults = {}, []
    for name, keys in chosen:
        if keys.data is not None:
            try:
                given[name] = read(keys.data)
                check(name, given[name])
            except MicrecError as fault:
                faults.append(str(fault))
    if faults:
        raise MicrecError(faults[0]) if len(faults) == 1 else MicrecError.of("datasets", faults)
    return given


def made_dataset(keys: DatasetConfig, folder: Path, progress: Progress) -> Path:
    """A dataset folder that the run makes itself: of a raw log, or of a world."""
    return generated_world(keys.world_config(), folder, progress) if keys.log is None else converted(keys.log, folder)


def converted(log: LogConfig, folder: Path) -> Path:
    """A raw log's dataset folder, converted unless the same log lies there as it was read before.

    Raises:
        MicrecError: If no reader knows the log, or it is invalid.
    """
    from micrec.data.convert import convert

    note = folder.with_name(f"{folder.name}.log.json")
    wanted = {**log.model_dump(mode="json"), "bytes": bytes_of(log.path)}
    if folder.exists() and note.exists() and load_yaml(note) == wanted:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    convert(log.reader, log.path, folder, options=nested(log.settings), overwrite=True)
    write_json(note, wanted)
    return folder


def _read_by(keys: DatasetConfig) -> list[Path]:
    """What a dataset is made from, beside a world."""
    return [path for path in (keys.data, keys.log.path if keys.log else None) if path is not None]


def generated_world(world: WorldConfig, folder: Path, progress: Progress) -> Path:
    """A world's dataset folder, drawn unless the very same one lies there."""
    from simulator.world.generate import generate_world

    wanted = world.model_dump(mode="json")
    schema = folder / "dataset.yaml"
    if schema.exists() and load_yaml(schema).get("provenance", {}).get("config") == wanted:
        return folder
    progress.say("no data given: drawing a world")
    return generate_world(world, folder, overwrite=True, progress=progress).folder


def default_read() -> Read:
    """``micrec.data.store.read_dataset``, imported when it is needed."""
    from micrec.data.store import read_dataset

    return read_dataset
