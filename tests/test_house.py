"""The house rules, as tests: style, types, layers."""

import ast
import subprocess
import sys
from collections import Counter

import pytest

from tests.structure import PACKAGES, ROOT, circles, functions, imports, modules

LONGEST_FUNCTION = 100  # lines without the docstring: the options of a command take one each


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
    ],
    ids=["ruff check", "ruff format", "mypy"],
)
def test_tool_finds_nothing(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_layers():
    """micrec <- simulator <- abtest, and the layers inside each, as declared in pyproject.toml."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_no_pickle_and_no_eval():
    """Checkpoints and configs must not run code."""
    found = []
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            found += [
                f"{path.name}: {word}"
                for word in ("import pickle", "torch.load(", " eval(", "yaml.load(")
                if word in text
            ]
    assert [entry for entry in found if entry != "settings.py: yaml.load("] == []


def test_no_modules_import_each_other():
    known = modules(ROOT)
    assert circles({name: imports(name, path, known) for name, path in known.items()}) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_of_a_module_stands_once_in_a_package(package):
    names = Counter(path.name for path in (ROOT / package).rglob("*.py") if not path.name.startswith("__"))
    assert {name: count for name, count in names.items() if count > 1} == {}


def test_a_name_of_a_class_stands_once_in_the_project():
    names = Counter(
        node.name
        for path in modules(ROOT).values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert {name: count for name, count in names.items() if count > 1} == {}


def test_no_function_is_so_long_that_nobody_reads_it():
    long = {
        f"{path.name}: {name}": length
        for path in modules(ROOT).values()
        for name, length in functions(path)
        if length > LONGEST_FUNCTION
    }
    assert long == {}


def test_every_module_says_what_it_holds_and_every_public_function_what_it_does():
    silent = []
    for name, path in modules(ROOT).items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        silent += [] if ast.get_docstring(tree) else [name]
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            silent += [f"{name}.{node.name}"] if public and not ast.get_docstring(node) else []
    assert silent == []
