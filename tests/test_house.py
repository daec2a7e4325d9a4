"""The house rules, as tests: style, types, layers, sizes."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("micrec", "simulator", "abtest")
MOST_LINES = 400


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
    """micrec <- simulator <- abtest, as declared in pyproject.toml."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kept, 0 broken" in done.stdout


def test_modules_stay_small():
    """A module that grows past this is several nouns in one."""
    modules = [path for package in (*PACKAGES, "tests") for path in (ROOT / package).rglob("*.py")]
    assert len(modules) > 50
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in modules}
    assert {name: n for name, n in lengths.items() if n > MOST_LINES} == {}


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
