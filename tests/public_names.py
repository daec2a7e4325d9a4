"""What every package's public names are held to, and their examples as tests."""

import doctest
import importlib
import inspect
import subprocess
import sys
import types
from typing import Any

HEAVY = ("torch", "faiss", "polars", "pandas", "scipy", "sklearn", "matplotlib", "pydantic", "numpy")


def loaded_after(code: str) -> set[str]:
    """Heavy libraries in ``sys.modules`` after ``code`` ran in a fresh interpreter."""
    script = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def undocumented(package: types.ModuleType) -> list[str]:
    """Public names, and public attributes of public classes of the project, that lack a docstring or annotations."""
    faults = []
    for name in package.__all__:
        found = getattr(package, name)
        faults += [f"{name}: no docstring"] if not inspect.getdoc(found) else []
        if inspect.isfunction(found):
            faults += _unannotated(name, found)
        if inspect.isclass(found) and found.__module__.split(".")[0] == package.__name__:
            for attribute, value in vars(found).items():
                if not attribute.startswith("_"):
                    faults += _attribute_faults(f"{name}.{attribute}", value, inspect.getdoc(getattr(found, attribute)))
    return faults


def _attribute_faults(name: str, value: Any, doc: str | None) -> list[str]:
    function = getattr(value, "fget", None) or getattr(value, "func", None) or getattr(value, "__func__", value)
    if not inspect.isfunction(function):
        return []
    faults = [] if doc else [f"{name}: no docstring"]
    return faults + _unannotated(name, function)


def _unannotated(name: str, function: types.FunctionType) -> list[str]:
    signature = inspect.signature(function)
    bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")]
    faults = [f"{name}: parameter {parameter} has no annotation" for parameter in bare]
    return faults + ([f"{name}: no return annotation"] if signature.return_annotation is signature.empty else [])


def without_example(module: str, names: list[str]) -> list[str]:
    """Those of the names in ``module`` whose docstring has no example."""
    found = importlib.import_module(module)
    return [name for name in names if ">>>" not in (inspect.getdoc(getattr(found, name)) or "")]


def failed_examples(*modules: str) -> int:
    """Run the examples in the docstrings of some modules, in the working directory; what fails is printed."""
    results = [
        doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        for name in modules
    ]
    assert sum(result.attempted for result in results) > 0
    return sum(result.failed for result in results)
