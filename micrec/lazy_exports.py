"""Names that a package offers at its top, each imported when it is first asked for."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(
    package: str, exports: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """What a package assigns to ``__getattr__``, ``__dir__`` and ``__all__`` so that importing it stays cheap.

    Args:
        package: The package, its ``__name__``.
        exports: The module that holds each name.

    Returns:
        A function that imports a name on its first use, one that lists all names, and the exported names in order.
    """

    def load(name: str) -> Any:
        if name not in exports:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(exports[name]), name)
        setattr(sys.modules[package], name, found)  # so that the next use finds it at once
        return found

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *exports})

    return load, names, list(exports)
