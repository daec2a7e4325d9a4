"""Registries: what a scenario or a command may name, each kind of thing under its names, open to other packages."""

import difflib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from types import FrameType
from typing import Any, Generic, TypeVar

from micrec.errors import MicrecError

Thing = TypeVar("Thing")
_EXTENSIONS: dict[str, None] = {}  # modules that have registered something


class Registry(Mapping[str, Thing], Generic[Thing]):
    """Things of one kind by name, in the order in which they were registered.

    Another package adds its own by ``register``, or without being imported first by an entry point of the group
    ``micrec.<plural>``, such as ``micrec.channels``, whose name is the thing's and whose value is the thing.

    Args:
        what: What one of them is called in messages, such as "channel".
        plural: The same in the plural, and the end of the entry points' group.
        things: Those that come with micrec.
    """

    def __init__(self, what: str, plural: str, things: Mapping[str, Thing] | None = None) -> None:
        self.what, self.plural = what, plural
        self._things: dict[str, Thing] = dict(things or {})
        self._loaded = False

    def register(self, name: str, thing: Thing) -> Thing:
        """Add a thing under a name.

        Raises:
            ValueError: If the name is taken by another thing.
        """
        self._load()
        self._add(name, thing)
        _note_extension()
        return thing

    def decorator(self, name: str) -> Callable[[Thing], Thing]:
        """``register`` above a class or a function."""
        return lambda thing: self.register(name, thing)

    def remove(self, name: str) -> None:
        """Take a thing out again, as tests do."""
        del self._things[name]

    def get_named(self, name: str, *, where: str) -> Thing:
        """The thing of a name.

        Raises:
            MicrecError: If there is none; the error has the nearest names, or all.
        """
        if name in self:
            return self[name]
        near = difflib.get_close_matches(str(name), self, n=2)
        cure = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(self) or 'none'}."
        raise MicrecError(f"{where}: no {self.what} {name!r}: {cure}")

    def __getitem__(self, name: str) -> Thing:
        self._load()
        return self._things[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._things)

    def __len__(self) -> int:
        self._load()
        return len(self._things)

    def _add(self, name: str, thing: Thing) -> None:
        if self._things.get(name, thing) is not thing:
            raise ValueError(f"{self.what} {name!r} is registered already: choose another name.")
        self._things[name] = thing

    def _load(self) -> None:
        """Entry points of installed packages, looked up once, when a name is first asked for."""
        if self._loaded:
            return
        self._loaded = True
        for point in entry_points(group=f"micrec.{self.plural}"):
            try:
                thing = point.load()
            except (ImportError, AttributeError) as fault:
                self._loaded = False
                raise MicrecError(
                    f"entry point {point.name} of micrec.{self.plural}: {point.value} cannot be loaded ({fault}): "
                    "repair the package that declares it, or uninstall it."
                ) from fault
            self._add(point.name, thing)


def loaded(thing: Any) -> Any:
    """The thing itself, or what ``module:name`` names, imported only now."""
    if not isinstance(thing, str):
        return thing
    module, _, name = thing.partition(":")
    return getattr(import_module(module), name)


def extensions() -> tuple[str, ...]:
    """Names of the modules that called ``register``, for ``import_extensions`` in another process."""
    return tuple(_EXTENSIONS)


def import_extensions(modules: Sequence[str]) -> None:
    """Import modules that register what they add when they are imported; those that cannot be found are passed over.

    Worker processes start from nothing, and know of others' things only by entry points and by this.
    """
    for name in modules:
        try:
            import_module(name)
        except ModuleNotFoundError as fault:
            if fault.name is None or not name.startswith(fault.name):
                raise


def _note_extension() -> None:
    """Keep the name of the module from which ``register`` was called; a worker has the main module by itself."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    name = frame.f_globals.get("__name__") if frame is not None else None
    if name and name != "__main__":
        _EXTENSIONS[name] = None
