"""What a kind of scenario consists of: the schema of its file, and what checking, running and printing one means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from micrec.config import Frozen
from micrec.settings import check


class RunScenario(Protocol):
    """Runs a scenario into a folder; an interrupted run goes on where it stopped."""

    def __call__(self, scenario: Any, out: Path, **given: Any) -> dict[str, Any]:
        """Run a checked scenario.

        Args:
            scenario: What ``ScenarioKind.check`` made of the file.
            out: The run folder.
            **given: ``resolved`` (plain data with every key), ``force``, ``command``, ``workers``, ``executor`` and
                ``progress``, as described at ``abtest.offline.run_options.RunOptions``.

        Returns:
            The contents of ``results.json``.
        """


def check_keys(schema: type[Frozen], data: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """The scenario that plain data make, or None, and every fault of single keys."""
    return check(schema, data)


def needs_no_look(scenario: Any) -> None:
    """For kinds whose keys alone tell whether a run can start."""


def no_notes(scenario: Any) -> list[str]:
    """For kinds of which nothing is worth a note."""
    return []


@dataclass(frozen=True)
class ScenarioKind:
    """One kind of scenario; all commands about scenarios go through these six.

    Attributes:
        schema: The keys of its file: a frozen pydantic model with ``kind`` and ``name``, and with ``resolved()``, which
            gives plain data in which every key is explicit.
        run: Runs a scenario into a folder and returns the contents of ``results.json``.
        show: Prints these results on the terminal.
        describe: What a run will do, in one line.
        check: From the schema and plain data to the scenario (None if its keys are invalid) and all faults, each
            beginning with the key as the user wrote it.
        preflight: Looks at what a run would read, such as dataset folders; raises MicrecError where a run would stop.
        notes: What the user may have overlooked, as sentences.
    """

    schema: type[Frozen]
    run: RunScenario
    show: Callable[[dict[str, Any]], None]
    describe: Callable[[Any], str]
    check: Callable[[Any, Mapping[str, Any]], tuple[Any, list[str]]] = check_keys
    preflight: Callable[[Any], None] = needs_no_look
    notes: Callable[[Any], list[str]] = no_notes
